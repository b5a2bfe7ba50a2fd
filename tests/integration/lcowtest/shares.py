# SPDX-License-Identifier: Apache-2.0
"""Tests of one class that share a sandbox, with directories of the host in its containers."""
import os
import shutil

from .case import DirectCase
from .soak import Pod

# What a guest has of all that is shared with it, as the sandbox's `look` sees it.
ROOT = '/proc/1/root/run/lcow/shares'


def bind(source, destination, *options):
    return {'type': 'bind', 'source': source, 'destination': destination, 'options': ['rbind', *options]}


# The host's programs, for what the image lacks.
SYSTEM = [bind(os.path.realpath(d), d, 'ro') for d in ('/usr', '/lib', '/lib64')]


def write(path, text):
    with open(path, 'w') as f:
        f.write(text)


def read(path):
    with open(path) as f:
        return f.read()


class SharesCase(DirectCase):
    """Tests of one class share a sandbox, `self.pod`; each has a directory of the host, `self.dir`."""

    together = True
    pod = None
    annotations = {}

    def prepare(self):
        super().prepare()
        self.once(self._boot, self._end)

    def _boot(self):
        cls = type(self)
        cls.pod = Pod(self.bed, self.new_id('p'), annotations=self.annotations)
        cls.pod.start()

    def _end(self):
        self.pod.close()

    def setUp(self):
        super().setUp()
        self.dir = os.path.join(self.bed.dir, self.new_id('volume'))
        os.mkdir(self.dir)
        self.addCleanup(shutil.rmtree, self.dir)
        self.addCleanup(self._remove_members)
        self.assertEqual(self.shared(), 0)

    def _remove_members(self):
        for container in self.pod.members[1:]:
            self.pod.end(container)
        self.assertEqual(self.shared(), 0)

    def shared(self):
        """How many shares the guest sees beside those of root file systems, of which each container has one."""
        return len(self.out(self.pod.look, 'ls ' + ROOT).split()) - len(self.pod.members) - 1

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def spec(self, *mounts):
        spec = self.pod._spec('container', self.pod.box.id, 'c', 'sleep', '100000')
        return {**spec, 'mounts': [*spec['mounts'], *mounts]}

    def add(self, *mounts):
        return self.pod.add(spec=self.spec(*mounts))

    def out(self, container, script, **more):
        return self.pod.output(container, script, **more)
