# SPDX-License-Identifier: Apache-2.0
"""Test cases: one containerd and one bed for a run, a leak check after every test."""
import itertools
import os
import unittest

from . import settings
from .containerd import Containerd
from .direct import Bed, Sandbox, oci_spec
from .leak import Snapshot

_shared = {}
_ids = itertools.count(1)


def shared(kind):
    """The run's containerd or bed; made when first needed."""
    if kind not in _shared:
        base = os.environ['LCOWTEST_DIR']
        _shared[kind] = Containerd(base + '/c') if kind == 'containerd' else Bed(base + '/d')
    return _shared[kind]


def close_shared():
    if 'containerd' in _shared:
        _shared['containerd'].stop()
    if 'bed' in _shared:
        _shared['bed'].close()
    _shared.clear()


def only_lcow(reason):
    return unittest.skipUnless(settings.IS_LCOW, 'only for lcow: ' + reason)


class Case(unittest.TestCase):
    """Every test ends with the leak check; one that shares a container takes it for the whole class."""

    def setUp(self):
        if settings.shim_binary() is None:
            self.skipTest('there is no shim of %s; build it, or set LCOW_BUILD' % settings.RUNTIME)
        self.prepare()
        self.before = self.snapshot()
        self.addCleanup(self._check_leaks)

    def prepare(self):
        """What a class needs before the first snapshot."""

    def snapshot(self):
        trees = []
        for name in ('containerd', 'bed'):
            if name in _shared:
                trees += [_shared[name].lcow.run_dir, _shared[name].lcow.scratch_dir]
        if 'bed' in _shared:
            trees += [_shared['bed'].dir + '/b/direct']
        if 'containerd' in _shared:
            trees += [_shared['containerd'].dir + '/state']
        return Snapshot(trees)

    def _check_leaks(self):
        left = self.before.difference(5 * settings.SLOW)
        if left:
            self.fail('left behind: ' + '; '.join(left[:20]))

    @staticmethod
    def new_id(word='t'):
        return '%s%d' % (word, next(_ids))


class CtrCase(Case):
    """A test that goes through containerd."""

    def prepare(self):
        self.cd = shared('containerd')

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

    command = ('sleep', '1000')
    box = None
    outer = None

    def prepare(self):
        super().prepare()
        cls = type(self)
        if cls.box is None:
            cls.outer = self.snapshot()
            container = self.new_id('c')
            cls.box = Sandbox(self.bed, container, oci_spec(container, *cls.command))
            cls.box.start_shim()
            cls.box.create()
            cls.box.call('Start', limit=cls.box.limit)

    @classmethod
    def tearDownClass(cls):
        if cls.box is not None:
            box, cls.box = cls.box, None
            box.close()
            left = cls.outer.difference(5 * settings.SLOW)
            if left:
                raise AssertionError('left behind by the container of the class: ' + '; '.join(left[:20]))
