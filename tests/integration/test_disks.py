# SPDX-License-Identifier: Apache-2.0
"""The disks of a VM: how many there are, and how much they do in a second."""
import contextlib
import os
import subprocess
import time

from lcowtest import ttrpc
from lcowtest.case import DirectCase, only_lcow
from lcowtest.direct import oci_spec
from lcowtest.sandbox import Member, SandboxVm
from lcowtest.shares import SharesCase

QOS = 'io.microsoft.virtualmachine.storageqos.'
MIB = 1 << 20
WRITE = 'dd if=/dev/zero of=/f bs=1M count=%d conv=fsync 2>/dev/null && rm /f'


@only_lcow("runc's containers have the disks of the host")
class Bandwidth(SharesCase):
    """One VM, of which the disks write and read 4 MiB a second."""

    annotations = {QOS + 'bandwidthmaximum': str(4 * MIB)}

    def seconds(self, container, script):
        begin = time.monotonic()
        self.out(container, script)
        return time.monotonic() - begin

    def test_what_is_written_to_scratch_takes_its_time_and_the_disk_can_be_detached(self):
        c = self.add()
        self.assertGreater(self.seconds(c, WRITE % 24), 24 / 4 - 1)
        self.pod.end(c)
        self.assertEqual(self.out(self.pod.look, 'ls /sys/block').count('sd'), 2)

    def test_the_kernel_does_not_fill_scratch_with_zeros(self):
        mounts = [line for line in self.out(self.pod.look, 'cat /proc/1/mounts').splitlines() if ' ext4 ' in line]
        self.assertGreaterEqual(len(mounts), 2)
        for line in mounts:
            self.assertIn('noinit_itable', line)

    def test_the_disks_share_the_limit(self):
        one, two = self.add(), self.add()
        begin = time.monotonic()
        self.out(one, '(%s; touch /done) > /dev/null 2>&1 &' % (WRITE % 12))
        self.out(two, WRITE % 12)
        self.out(one, 'until test -e /done; do sleep 0.1; done')
        self.assertGreater(time.monotonic() - begin, 24 / 4 - 1)


@only_lcow("runc's containers have the disks of the host")
class Limits(DirectCase):
    def seconds(self, script, annotations, mounts=(), **config):
        """How long a script takes in a VM with this configuration of the host's, and these annotations in its config.json."""
        vm = SandboxVm(self.bed, self.new_id('v'), {'annotations': annotations})
        name = self.new_id('m')
        spec = oci_spec(name, 'sleep', '1000')
        with contextlib.closing(vm):
            with self.bed.lcow.set(**config):
                vm.start_shim()
            vm.boot()
            with contextlib.closing(Member(vm, name, spec={**spec, 'mounts': [*spec['mounts'], *mounts]})) as box:
                box.create()
                box.call('Start', limit=box.limit)
                begin = time.monotonic()
                box.exec('w', 'sh', '-c', script)
                self.assertEqual(box.call('Wait', exec_id='w', limit=box.limit)['exit_status'], 0)
                return time.monotonic() - begin

    def test_a_limit_of_the_configuration_holds_unless_an_annotation_has_another(self):
        limited = self.seconds(WRITE % 24, {QOS + 'bandwidthmaximum': 'much'}, storage_bandwidth='4M')
        self.assertGreater(limited, 24 / 4 - 1)
        self.assertLess(self.seconds(WRITE % 24, {QOS + 'bandwidthmaximum': '0'}, storage_bandwidth='4M'), limited / 2)

    def test_requests_are_limited_whatever_their_size(self):
        image = os.path.join(self.bed.dir, self.new_id('disk'))
        with open(image, 'w') as f:
            f.truncate(MIB)
        self.addCleanup(os.unlink, image)
        mount = {'type': 'virtual-disk', 'source': image, 'destination': 'blockdev:///dev/xvda', 'options': []}
        script = 'dd if=/dev/xvda of=/dev/null bs=4k count=200 iflag=direct'
        self.assertGreater(self.seconds(script, {QOS + 'iopsmaximum': '40'}, [mount]), 200 / 40 - 1)


SLOTS = 256


@only_lcow('the stock shim knows no disks as mounts')
class Slots(SharesCase):
    """One VM, of which every slot is filled."""

    annotations = {'io.microsoft.virtualmachine.computetopology.memory.sizeinmb': '768'}

    def images(self, n):
        """So many of 1 MiB, each with a file that holds its number."""
        first = self.path('image')
        with open(first, 'w') as f:
            f.truncate(MIB)
        subprocess.run(['mkfs.ext4', '-q', '-O', '^has_journal', first], check=True, stdin=subprocess.DEVNULL)
        paths = [self.path('%d.img' % i) for i in range(n)]
        for path in paths:
            subprocess.run(['cp', '--sparse=always', first, path], check=True, stdin=subprocess.DEVNULL)
        return paths

    def mount(self, image, n):
        """Every other one is mounted, and the rest are devices."""
        at = '/m/%d' % n if n % 2 else 'blockdev:///dev/x%d' % n
        return {'type': 'virtual-disk', 'source': image, 'destination': at, 'options': []}

    def disks(self):
        return self.out(self.pod.look, 'ls /sys/block').count('sd')

    def fill(self, images):
        """Containers that take every slot; each has a scratch disk as well."""
        free, containers = SLOTS - self.disks(), []
        while free > 0:
            n = min(free - 1, 60)
            containers.append(self.add(*(self.mount(image, i) for i, image in enumerate(images[:n]))))
            images, free = images[n:], free - n - 1
        self.assertEqual(self.disks(), SLOTS)
        return containers

    def test_all_slots_are_filled_and_emptied_and_filled_again_and_one_more_is_refused(self):
        images, before = self.images(SLOTS), self.disks()
        for _ in range(2):
            containers = self.fill(images)
            for spec in (self.spec(), self.spec(self.mount(images[-1], 1))):
                e = self.pod.refused(spec)
                self.assertEqual(e.code, ttrpc.EXHAUSTED, e)
                self.assertIn('all 256 SCSI slots of the VM are taken', str(e))
            self.assertEqual(self.disks(), SLOTS)
            for c in containers:
                self.out(c, 'set -e; for d in /m/*; do echo %s > $d/f; done; for d in /dev/x*; do test -b $d; done' % c)
            self.out(containers[0], 'grep -q %s /m/1/f; head -c 512 /dev/x0 > /dev/null' % containers[0])
            for c in containers:
                self.pod.end(c)
            self.assertEqual(self.disks(), before)
