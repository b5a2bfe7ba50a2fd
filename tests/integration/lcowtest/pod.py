# SPDX-License-Identifier: Apache-2.0
"""Pods with specs as containerd's CRI writes them: sandbox containers, members, and a look into the VM."""
import os

from .case import DirectCase
from .direct import Sandbox, oci_spec
from .sandbox import Member, SandboxVm

KILL = 9
TYPE, ID = 'io.kubernetes.cri.container-type', 'io.kubernetes.cri.sandbox-id'
SHM = {'destination': '/dev/shm', 'type': 'tmpfs', 'source': 'shm', 'options': ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k']}
# CAP_SYSLOG: for it alone a kernel of Debian 13 lets /dev/kmsg be read, that of 12 for CAP_SYS_ADMIN as well.
ALL = ['CAP_SYS_ADMIN', 'CAP_SYS_PTRACE', 'CAP_KILL', 'CAP_DAC_OVERRIDE', 'CAP_SYS_CHROOT', 'CAP_NET_ADMIN', 'CAP_MKNOD', 'CAP_SYSLOG']
PLACE = {'ipc': 'ipc', 'uts': 'uts', 'network': 'net', 'pid': 'pid'}


def with_caps(spec):
    spec['process']['capabilities'] = {k: ALL for k in ('bounding', 'effective', 'permitted', 'inheritable', 'ambient')}
    return spec


def shared(spec, kinds, pid):
    """The spec of one that shares these with the process `pid`; it has no name of its own."""
    for ns in spec['linux']['namespaces']:
        if ns['type'] in kinds:
            ns['path'] = '/proc/%d/ns/%s' % (pid, PLACE[ns['type']])
    if 'uts' in kinds:
        spec.pop('hostname', None)
    return spec


class PodCase(DirectCase):
    def vm(self):
        vm = SandboxVm(self.bed, self.new_id('v'))
        self.addCleanup(vm.close)
        vm.start_shim()
        vm.boot()
        return vm

    def shm_of(self, pod):
        """The directory that CRI makes to be a pod's /dev/shm; in the VM it is another."""
        path = os.path.join(self.bed.dir, 'sandboxes', pod, 'shm')
        os.makedirs(path)
        self.addCleanup(os.removedirs, path)
        return {'destination': '/dev/shm', 'type': 'bind', 'source': path, 'options': ['rbind', 'ro']}

    def begin(self, box):
        self.addCleanup(box.close)
        box.create(**box.stdio('stdout'))
        box.call('Start', limit=box.limit)
        box.pid = box.call('State')['pid']
        return box

    def pause(self, vm, name=None, annotations=None, **changes):
        """A sandbox container, in a VM that is there or in its own."""
        name = name or self.new_id('p')
        spec = with_caps(oci_spec(name, 'sh', '-c', 'sleep 1000 & wait', annotations={TYPE: 'sandbox', ID: name, **(annotations or {})}))
        spec['hostname'] = name
        shm = self.shm_of(name)
        spec['mounts'] = [*spec['mounts'], shm]
        spec['linux'].update(changes)
        box = Member(vm, name, spec=spec) if vm else Sandbox(self.bed, name, spec).start_shim()
        box.shm = shm
        return self.begin(box)

    def member(self, vm, pod, pid, *command, kinds=('ipc', 'uts', 'network'), shm=SHM, annotations=None, change=None):
        name = self.new_id('m')
        spec = with_caps(oci_spec(name, *command or ('sleep', '1000'), annotations={TYPE: 'container', ID: pod, **(annotations or {})}))
        spec['mounts'] = [*spec['mounts'], shm]
        shared(spec, kinds, pid)
        if change:
            change(spec)
        return self.begin(Member(vm, name, spec=spec))

    def sh(self, box, command, code=0):
        """The output of a shell's command in a container."""
        word = self.new_id('e')
        fields = box.stdio('stdout', 'stderr', prefix=word)
        box.exec(word, 'sh', '-c', command, **fields)
        status = box.call('Wait', exec_id=word, limit=box.limit)['exit_status']
        out = box.streams[word + 'stdout'].finish().decode()
        self.assertEqual(status, code, out + box.streams[word + 'stderr'].finish().decode())
        box.call('Delete', exec_id=word)
        return out.strip()

    def ns(self, box, *kinds):
        """What namespaces a container is in."""
        return self.sh(box, 'for k in %s; do readlink /proc/self/ns/$k; done' % ' '.join(kinds)).split()

    def end(self, box):
        """Kill and delete one."""
        box.call('Kill', signal=KILL, all=True)
        status = box.call('Wait', limit=box.limit)['exit_status']
        box.call('Delete', limit=box.limit)
        return status

    def nothing_is_left(self, vm):
        """In the VM: of all pods, only that of the container that looks."""
        def free(spec):
            spec['linux']['namespaces'] = [ns for ns in spec['linux']['namespaces'] if ns['type'] != 'pid']
        name = self.new_id('l')
        spec = with_caps(oci_spec(name, 'sleep', '1000', annotations={TYPE: 'sandbox', ID: name}))
        free(spec)
        looker = self.begin(Member(vm, name, spec=spec))
        root = '/proc/1/root'
        self.assertEqual(len(self.sh(looker, 'ls %s/run/gcs/sandboxes' % root).split()), 1)
        self.assertEqual(len(self.sh(looker, 'ls %s/run/netns' % root).split()), 1)
        self.assertEqual(self.sh(looker, 'cd %s/sys/fs/cgroup/pods && ls -d */ */*/' % root).split(), [name + '/', name + '/' + name + '/'])
        self.assertNotIn('pause', self.sh(looker, 'cat /proc/[0-9]*/comm'))
        self.end(looker)
        # The agent warns of what it cannot remove.
        self.assertIn('deleted container', vm.log)
        self.assertNotIn('remove /', vm.log)
