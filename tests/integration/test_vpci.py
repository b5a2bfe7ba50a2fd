# SPDX-License-Identifier: Apache-2.0
"""PCI devices of containers. Hosts of tests have no IOMMU: QEMU's own devices take the same way into the VM."""
import json
import os
import signal
import time

from lcowtest import proc, settings, ttrpc
from lcowtest.case import DirectCase, only_lcow
from lcowtest.soak import Pod

EDU, TESTDEV, NVME = '1234:11e8', '1b36:0005', '1b36:0010'
PORTS = 7
LIST = 'cd /sys/bus/pci/devices && for d in *; do read v < $d/vendor; read p < $d/device; echo ${v#0x}:${p#0x}; done'


@only_lcow('no VM')
class Vpci(DirectCase):
    def setUp(self):
        super().setUp()
        self.pod = Pod(self.bed, self.new_id('p'))
        self.addCleanup(self.pod.close)

    def start(self, **config):
        with self.bed.lcow.set(**{'emulated_devices': 'true', **config}):
            self.pod.start()

    def spec(self, *devices, args=('sleep', '100000'), kind='vpci-instance-id'):
        spec = self.pod._spec('container', self.pod.box.id, 'c', *args)
        spec['windows'] = {'devices': [{'id': d, 'idType': kind} for d in devices]}
        return spec

    def add(self, *devices, **options):
        return self.pod.add(spec=self.spec(*devices, **options))

    def seen(self, *wanted):
        """How many of each of these devices the guest has."""
        ids = self.pod.output(self.pod.look, LIST).split()
        return [ids.count(w) for w in wanted]

    def refused(self, *devices, kind='vpci-instance-id'):
        """The status of a Create that fails."""
        return self.pod.refused(self.spec(*devices, kind=kind))

    def test_devices_come_and_go_with_the_containers_that_name_them(self):
        self.start()
        self.assertEqual(self.seen(EDU, TESTDEV), [0, 0])
        one = self.add('emulated:edu', 'emulated:pci-testdev')
        self.assertEqual(self.seen(EDU, TESTDEV), [1, 1])
        two = self.add('emulated:edu', 'emulated:edu/1', kind='vpci')
        self.assertEqual(self.seen(EDU, TESTDEV), [2, 1])
        self.pod.end(one)
        self.assertEqual(self.seen(EDU, TESTDEV), [2, 0])
        self.pod.end(two)
        self.assertEqual(self.seen(EDU, TESTDEV), [0, 0])

    def test_an_annotation_names_devices_as_CDI_does(self):
        self.start()
        spec = self.spec()
        spec['annotations']['cdi.k8s.io/plugin_1'] = 'lcow.dev/pci=emulated:nvme,lcow.dev/pci=emulated:edu'
        container = self.pod.add(spec=spec)
        self.assertEqual(self.seen(EDU, NVME), [1, 1])
        self.pod.output(container, 'test -c /dev/nvme0')
        self.pod.end(container)
        self.assertEqual(self.seen(EDU, NVME), [0, 0])
        for names, text in (('lcow.dev/pci=emulated:edu,nvidia.com/gpu=0', 'nvidia.com/gpu=0: devices of kind lcow.dev/pci'),
                            ('lcow.dev/pci=gpu0', 'lcow.dev/pci=gpu0')):
            spec['annotations']['cdi.k8s.io/plugin_1'] = names
            e = self.pod.refused(spec)
            self.assertEqual(e.code, ttrpc.INVALID, e)
            self.assertIn(text, str(e))
        self.assertEqual(self.seen(EDU), [0])

    def test_every_port_can_be_used_again_and_the_device_beyond_is_ResourceExhausted(self):
        self.start()
        for _ in range(2):
            containers = [self.add('emulated:edu/%d' % n) for n in range(PORTS)]
            self.assertEqual(self.seen(EDU), [PORTS])
            e = self.refused('emulated:pci-testdev')
            self.assertEqual(e.code, ttrpc.EXHAUSTED, e)
            self.assertEqual(self.seen(EDU, TESTDEV), [PORTS, 0])
            for container in containers:
                self.pod.end(container)
            self.assertEqual(self.seen(EDU), [0])

    def test_a_container_gets_the_nodes_that_the_driver_of_its_device_made(self):
        self.start()
        container = self.add('emulated:nvme')
        self.assertEqual(self.pod.output(container, 'test -c /dev/nvme0 && cat /sys/class/nvme/nvme0/transport'), 'pcie\n')
        self.pod.output(container, 'exec 3< /dev/nvme0')
        other = self.add()
        self.pod.output(other, 'test ! -e /dev/nvme0')

    def test_devices_with_a_GiB_of_memory_get_their_addresses(self):
        self.start()
        self.add('emulated:pci-testdev', 'emulated:pci-testdev/1')
        script = 'cd /sys/bus/pci/devices && for d in *; do [ $(cat $d/vendor $d/device | tr -d "\\n") != 0x1b360x0005 ] || sed -n 3p $d/resource; done'
        lines = self.pod.output(self.pod.look, script).splitlines()
        self.assertEqual(len(lines), 2)
        for line in lines:
            first, last, _ = (int(word, 16) for word in line.split())
            self.assertEqual(last - first, (1 << 30) - 1)

    def test_what_cannot_be_assigned_is_refused_and_leaves_nothing(self):
        self.start()
        for devices, kind, code, text in (
                (['emulated:edu'], 'class', ttrpc.INVALID, 'reserve device emulated:edu: unsupported type class'),
                (['emulated:edu', 'emulated:virtio-blk-pci'], 'gpu', ttrpc.INVALID, 'edu, nvme or pci-testdev'),
                (['emulated:edu', 'ffff:ff:1f.7'], 'gpu', ttrpc.INVALID, 'the host has no PCI device ffff:ff:1f.7'),
                (['emulated:edu', '../../x'], 'vpci', ttrpc.INVALID, 'is no PCI address')):
            with self.subTest(text):
                e = self.refused(*devices, kind=kind)
                self.assertEqual(e.code, code, e)
                self.assertIn(text, str(e))
        self.assertEqual(self.seen(EDU), [0])

    def test_a_device_of_a_host_without_IOMMU_says_so(self):
        if os.path.isdir('/sys/kernel/iommu_groups/0') or not os.path.isdir('/sys/bus/pci/devices') or not os.listdir('/sys/bus/pci/devices'):
            self.skipTest('the host has an IOMMU, or no PCI devices')
        self.start()
        e = self.refused(os.listdir('/sys/bus/pci/devices')[0])
        self.assertEqual(e.code, ttrpc.PRECONDITION, e)
        self.assertIn('no IOMMU', str(e))

    def test_emulated_devices_are_refused_unless_the_operator_allows_them(self):
        self.start(emulated_devices='false')
        e = self.refused('emulated:edu')
        self.assertEqual(e.code, ttrpc.INVALID, e)
        self.assertIn('emulated_devices', str(e))

    def test_the_death_of_the_VM_while_devices_come_and_go_leaves_nothing(self):
        self.start()
        self.add('emulated:edu')
        [pid] = proc.running('qemu-system')
        container, box = 'late', self.pod.box
        bundle = self.pod._bundle(container)
        os.makedirs(bundle + '/rootfs')
        self.pod.members.append(container)
        with open(bundle + '/config.json', 'w') as f:
            json.dump(self.spec(*['emulated:edu/%d' % n for n in range(1, 6)]), f)
        call = box.client.start('Create', id=container, bundle=bundle, rootfs=self.bed.overlay(container))
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        with self.assertRaises(ttrpc.RpcError):
            box.client.finish('Create', call, limit=20 * settings.SLOW)
        for member in self.pod.members[:-1]:
            box.call('Wait', id=member, limit=20 * settings.SLOW)
            box.call('Delete', id=member, limit=20 * settings.SLOW)
