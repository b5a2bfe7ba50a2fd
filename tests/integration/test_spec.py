# SPDX-License-Identifier: Apache-2.0
"""What the guest makes of an OCI specification beside its process: devices, sysctls, paths."""
from lcowtest import ttrpc
from lcowtest.case import only_lcow
from lcowtest.pod import PodCase
from lcowtest.sandbox import SandboxVm

DENIED = 'not permitted'


@only_lcow('runc is on the host')
class Rules(PodCase):
    """One VM for all; its containers are members of its pod."""

    together = True
    box = None

    def prepare(self):
        super().prepare()
        self.once(self._boot, lambda: type(self).box.close())

    def _boot(self):
        box = type(self).box = SandboxVm(self.bed, self.new_id('v'))
        box.start_shim()
        box.boot()

    def given(self, *command, **changes):
        """A container with these changes to the linux section of its spec, but for `root`."""
        root = changes.pop('root', {})

        def change(spec):
            spec['root'].update(root)
            spec['linux'].update(changes)
        return self.member(self.box, self.box.id, 1, *command or ('sleep', '1000'), change=change)

    def test_devices_are_those_of_the_VM_by_their_path_and_no_others_can_be_used(self):
        box = self.given(devices=[{'path': '/dev/kmsg', 'type': 'b', 'major': 99, 'minor': 98, 'fileMode': 0o640, 'uid': 0, 'gid': 5}])
        self.assertEqual(self.sh(box, 'stat -c "%t:%T %a %g" /dev/kmsg'), '1:b 640 5')
        self.sh(box, 'head -c 1 /dev/kmsg && echo > /dev/null && head -c 1 /dev/urandom > /dev/null')
        self.assertIn(DENIED, self.sh(box, 'mknod /tmp/disk b 8 0 && cat /tmp/disk 2>&1', code=1))
        with self.assertRaises(ttrpc.RpcError) as e:
            self.given(devices=[{'path': '/dev/none', 'type': 'c', 'major': 1, 'minor': 3}])
        self.assertIn('the VM has no device /dev/none', e.exception.message)

    def test_without_devices_none_can_be_used(self):
        box = self.given()
        self.assertIn(DENIED, self.sh(box, 'mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg 2>&1', code=1))

    def test_a_privileged_container_has_every_device_of_the_VM(self):
        box = self.given(devices=[{'path': '/dev/of-the-host', 'type': 'c', 'major': 1, 'minor': 3}],
                         resources={'devices': [{'allow': True, 'access': 'rwm'}]})
        self.sh(box, 'head -c 1 /dev/kmsg && head -c 1 /dev/sda > /dev/null && test ! -e /dev/of-the-host && test -t 0 < /dev/tty0')

    def test_sysctls_of_shared_namespaces_are_the_pod_s(self):
        one = self.given(sysctl={'net.core.somaxconn': '1234', 'net.ipv4.ip_unprivileged_port_start': '80', 'kernel.msgmax': '9000'})
        two = self.given()
        read = 'cd /proc/sys && cat net/core/somaxconn net/ipv4/ip_unprivileged_port_start kernel/msgmax'
        for box in (one, two):
            self.assertEqual(self.sh(box, read).split(), ['1234', '80', '9000'])
        with self.assertRaises(ttrpc.RpcError):
            self.given(sysctl={'kernel.panic': '1'})

    def test_masked_and_read_only_paths_and_root(self):
        box = self.given(root={'readonly': True}, maskedPaths=['/proc/kcore', '/proc/fs', '/proc/none'], readonlyPaths=['/proc/sys', '/proc/bus'])
        self.assertEqual(self.sh(box, 'ls /proc/fs; cat /proc/kcore'), '')
        for path in ('/proc/sys/net/core/somaxconn', '/x', '/etc/hosts'):
            self.assertIn('Read-only', self.sh(box, '(echo 1 > %s) 2>&1' % path, code=1))
        self.sh(box, 'echo > /dev/shm/f')
