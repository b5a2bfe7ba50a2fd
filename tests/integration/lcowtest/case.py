# SPDX-License-Identifier: Apache-2.0
"""Test cases: one containerd of each version and one bed for a run, a leak check after every test."""
import itertools
import os
import unittest

from . import settings
from .containerd import Containerd
from .cri import CriContainerd
from .direct import Bed, Sandbox, oci_spec
from .leak import Snapshot

_shared = {}
_ids = itertools.count(1)


def shared(kind):
    """The run's bed, or its containerd of a version ("1.6", or "cri 1.6" with CRI); made when first needed."""
    if kind not in _shared:
        base = os.environ['LCOWTEST_DIR']
        if kind == 'bed':
            _shared[kind] = Bed(base + '/d')
        elif kind.startswith('cri '):
            _shared[kind] = CriContainerd(base + '/k' + kind[4:], kind[4:])
        else:
            # At this level the daemon tells which events were forwarded to it.
            _shared[kind] = Containerd(base + '/c' + kind, kind, level='trace')
    return _shared[kind]


def close_shared():
    for one in _shared.values():
        one.close()
    _shared.clear()


def only_lcow(reason):
    return unittest.skipUnless(settings.IS_LCOW, 'only for lcow: ' + reason)


class Case(unittest.TestCase):
    """Every test ends with the leak check, and so does a class whose tests share a container."""

    outer = None
    # Whether the tests of the class share what once() made: the runner keeps them together then.
    together = False

    def setUp(self):
        if settings.shim_binary() is None:
            self.skipTest('there is no shim of %s; build it, or set LCOW_BUILD' % settings.RUNTIME)
        self.prepare()
        self.before = self.snapshot()
        self.addCleanup(self._check_leaks)

    def prepare(self):
        """What a class needs before the first snapshot."""

    def snapshot(self):
        return Snapshot([tree for one in _shared.values() for tree in one.trees()])

    def _check_leaks(self):
        left = self.before.difference(5 * settings.SLOW)
        if left:
            self.fail('left behind: ' + '; '.join(left[:20]))

    def once(self, make, end):
        """Make what the tests of this class share; end() takes it away after the last one."""
        cls = type(self)
        if cls.outer is not None:
            return

        def close():
            before, cls.outer = cls.outer, None
            end()
            left = before.difference(5 * settings.SLOW)
            if left:
                raise AssertionError('left behind by what the class shared: ' + '; '.join(left[:20]))
        cls.outer = self.snapshot()
        cls.addClassCleanup(close)
        make()

    @staticmethod
    def new_id(word='t'):
        return '%s%d' % (word, next(_ids))


class CtrCase(Case):
    """A test that goes through containerd, of `version`."""

    version = '1.6'

    def prepare(self):
        self.cd = shared(self.version)

    def check(self, result, code=0):
        self.assertEqual(result.code, code, '%r\n--- containerd\n%s' % (result, self.cd.log()[-3000:]))
        return result

    def remove(self, container):
        """Remove a container whatever its state."""
        self.cd.ctr('task', 'rm', '-f', container)
        self.cd.ctr('container', 'rm', container)

    def detached(self, *command, options=(), word='d', events=None):
        """A container that runs in the background and is removed after the test."""
        container = self.new_id(word)
        self.addCleanup(self.remove, container)
        # ctr run -d without --null-io keeps nothing open: its FIFOs stay without a reader.
        self.check(self.cd.run(container, *command, options=('-d', '--null-io', *options)))
        return container


class SharedCtr(CtrCase):
    """Tests of one class share one running container, `self.name`."""

    together = True
    name = None

    def prepare(self):
        super().prepare()
        self.once(self._run, lambda: self.remove(type(self).name))

    def _run(self):
        type(self).name = self.new_id('c')
        # An init that reaps: children of a killed exec would stay with the next one.
        self.check(self.cd.run(self.name, 'sh', '-c', 'sleep 100000 & wait', options=('-d', '--null-io')))


class DirectCase(Case):
    """A test that drives the shim itself."""

    def prepare(self):
        self.bed = shared('bed')

    def sandbox(self, *args, spec=None, start=True, word='s', **options):
        container = self.new_id(word)
        if spec is None:
            spec = oci_spec(container, *(args or ('sleep', '1000')))
        box = Sandbox(self.bed, container, spec, **options)
        self.addCleanup(box.close)
        if start:
            box.start_shim()
        return box


class Shared(DirectCase):
    """Tests of one class share one running container, `self.box`: its `command` runs for the whole class."""

    together = True
    command = ('sleep', '1000')
    box = None

    def prepare(self):
        super().prepare()
        self.once(self._run, lambda: type(self).box.close())

    def _run(self):
        container = self.new_id('c')
        box = type(self).box = Sandbox(self.bed, container, oci_spec(container, *self.command))
        box.start_shim()
        box.create()
        box.call('Start', limit=box.limit)
