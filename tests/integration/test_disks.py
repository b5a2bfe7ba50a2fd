# SPDX-License-Identifier: Apache-2.0
"""The disks of a VM: how much they do in a second."""
import contextlib
import os
import time

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
        for _ in range(2):
            c = self.add()
            self.assertGreater(self.seconds(c, WRITE % 24), 24 / 4 - 1)
            self.pod.end(c)
        self.assertEqual(self.out(self.pod.look, 'ls /sys/block').count('sd'), 2)

    def test_the_disks_share_the_limit(self):
        one, two = self.add(), self.add()
        self.assertGreater(self.seconds(one, '(%s) & exec true' % (WRITE % 12)) + self.seconds(two, WRITE % 12), 24 / 4 - 1)


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
