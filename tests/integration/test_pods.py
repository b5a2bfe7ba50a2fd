# SPDX-License-Identifier: Apache-2.0
"""What the containers of a pod share, and what they don't: specs as containerd's CRI writes them."""
import concurrent.futures
import itertools
import json
import time

from lcowtest import pb, settings, tasks, ttrpc
from lcowtest.case import only_lcow
from lcowtest.direct import Sandbox, oci_spec
from lcowtest.pod import KILL, SHM, PodCase, shared, with_caps
from lcowtest.sandbox import Member


@only_lcow('runc has no pods')
class WithSandboxContainer(PodCase):
    def test_members_share_ipc_names_network_and_shm_but_no_pids(self):
        pod = self.pause(None)
        one, two = (self.member(pod, pod.id, pod.pid, shm=pod.shm) for _ in range(2))
        for kinds, same in ((('ipc', 'uts', 'net'), True), (('pid', 'mnt'), False)):
            places = [self.ns(box, *kinds) for box in (pod, one, two)]
            for a, b in itertools.combinations(places, 2):
                for x, y in zip(a, b):
                    self.assertEqual(x == y, same, (kinds, places))
        self.assertEqual(self.sh(one, 'hostname'), pod.id)
        self.sh(one, 'hostname changed; echo kept > /dev/shm/f')
        self.assertEqual(self.sh(two, 'hostname; cat /dev/shm/f'), 'changed\nkept')
        self.assertEqual(self.sh(pod, 'cat /dev/shm/f'), 'kept')
        self.assertIn('65536', self.sh(two, 'df -k /dev/shm'))
        for box in (pod, one, two):
            self.assertEqual(self.sh(box, 'cat /etc/hostname'), pod.id)
            self.assertIn('127.0.0.1 %s\n' % pod.id, self.sh(box, 'cat /etc/hosts'))
            self.assertEqual(self.sh(box, 'cat /proc/self/cgroup'), '0::/pods/%s/%s' % (pod.id, box.id))
            self.assertEqual(self.sh(box, 'ls /proc | grep -c "^1$"'), '1')
        self.assertNotIn('sleep 1000', self.sh(two, 'kill -9 %d 2>/dev/null; ls /proc | grep -x %d' % (one.pid, one.pid), code=1))
        self.assertEqual(self.end(one), 137)
        self.assertEqual([b.call('State')['status'] for b in (pod, two)], [pb.RUNNING, pb.RUNNING])
        three = self.member(pod, pod.id, pod.pid)
        self.assertEqual(self.sh(three, 'hostname; cat /dev/shm/f'), 'changed\nkept')

    def test_a_shared_pid_namespace_shows_all_and_Kill_and_Pids_stay_with_one(self):
        kinds = ('ipc', 'uts', 'network', 'pid')
        vm = self.vm()
        pod = self.pause(vm)
        one = self.member(vm, pod.id, pod.pid, 'sh', '-c', 'sleep 1111 & sleep 1112 & wait', kinds=kinds)
        two = self.member(vm, pod.id, pod.pid, 'sleep', '2222', kinds=kinds)
        seen = self.sh(two, 'cat /proc/1/cmdline | tr "\\0" " "; ps')
        for part in ('sleep 1000 & wait', 'sleep 1111', 'sleep 1112', 'sleep 2222'):
            self.assertIn(part, seen)
        self.assertEqual(len(one.call('Pids')['processes']), 3)
        self.assertEqual(len(two.call('Pids')['processes']), 1)
        self.assertEqual(self.end(one), 137)
        self.assertNotIn('111', self.sh(two, 'ps | grep sleep'))
        self.assertEqual(two.call('State')['status'], pb.RUNNING)
        # Its first process is the sandbox container's: all of it ends with that.
        pod.call('Kill', signal=KILL)
        self.assertEqual(two.call('Wait', limit=two.limit)['exit_status'], 137)
        with self.assertRaises(ttrpc.RpcError) as e:
            self.member(vm, pod.id, pod.pid, kinds=kinds)
        self.assertIn('pid namespace has ended', e.exception.message)
        # What is not of that goes on.
        self.sh(self.member(vm, pod.id, pod.pid), 'true')

    def test_the_pids_of_one_member_can_be_shared_to_debug_it(self):
        vm = self.vm()
        pod = self.pause(vm)
        one, two = (self.member(vm, pod.id, pod.pid, 'sleep', n) for n in ('1111', '2222'))
        debugger = self.member(vm, pod.id, one.pid, 'sleep', '3333', kinds=('pid',),
                               change=lambda spec: shared(spec, ('ipc', 'uts', 'network'), pod.pid))
        seen = self.sh(debugger, 'ps')
        self.assertIn('sleep 1111', seen)
        for part in ('sleep 2222', 'sleep 1000'):
            self.assertNotIn(part, seen)
        self.assertEqual(self.ns(debugger, 'ipc', 'uts', 'net'), self.ns(two, 'ipc', 'uts', 'net'))
        self.assertEqual(self.end(one), 137)
        self.assertEqual(debugger.call('Wait', limit=debugger.limit)['exit_status'], 137)
        self.assertEqual(two.call('State')['status'], pb.RUNNING)

    def test_a_virtual_pod_is_one_like_others(self):
        vm = self.vm()
        name = self.new_id('p')
        virtual = {'io.microsoft.cri.virtual-pod-id': name}
        pod = self.pause(vm, name, annotations=virtual)
        one = self.member(vm, name, pod.pid, annotations=virtual)
        self.assertEqual(self.ns(one, 'ipc', 'uts', 'net'), self.ns(pod, 'ipc', 'uts', 'net'))
        self.assertEqual(self.sh(one, 'cat /proc/self/cgroup'), '0::/pods/%s/%s' % (name, one.id))

    def test_directories_of_the_pod_are_mounted_by_its_members(self):
        vm = self.vm()
        pod = self.pause(vm)

        def mounts(spec):
            spec['process']['user'] = {'uid': 1000, 'gid': 1000}
            spec['mounts'] = [*spec['mounts'], *({'destination': '/' + name, 'type': 'bind', 'source': source, 'options': ['rbind', 'rw']}
                                                 for name, source in (('a', 'sandbox://some/dir'), ('b', 'sandbox-tmp://other')))]
        one, two = (self.member(vm, pod.id, pod.pid, change=mounts) for _ in range(2))
        self.sh(one, 'echo a > /a/f && echo b > /b/f && test ! -e /a/dir')
        self.assertEqual(self.sh(two, 'cat /a/f /b/f').split(), ['a', 'b'])
        for box in (two, one, pod):
            self.end(box)
        self.nothing_is_left(vm)

    def test_output_is_logged_in_the_pod_too(self):
        vm = self.vm()
        pod = self.pause(vm)
        logs = 'io.microsoft.container.lcow.tee-log-'
        one = self.member(vm, pod.id, pod.pid, 'sh', '-c', 'echo out; echo err >&2; sleep 1000', annotations={logs + 'path': 'dir/one.log'})
        two = self.member(vm, pod.id, pod.pid, annotations={logs + 'dir-mount': '/logs'})
        one.streams['stdout'].wait_for(b'out\n')
        self.assertEqual(self.sh(two, 'until grep -q err /logs/dir/one.log; do sleep 0.1; done; sort /logs/dir/one.log'),
                         'err\nout')

    def test_the_twentieth_container_starts_as_quickly_as_the_first(self):
        vm = self.vm()
        pod = self.pause(vm)
        seconds, boxes = [], []
        for _ in range(20):
            begin = time.monotonic()
            boxes.append(self.member(vm, pod.id, pod.pid))
            seconds.append(time.monotonic() - begin)
        self.assertLess(min(seconds[15:]), 1.5 * min(seconds[:5]), seconds)
        # And together.
        with concurrent.futures.ThreadPoolExecutor(8) as at_once:
            boxes += at_once.map(lambda _: self.member(vm, pod.id, pod.pid), range(8))
        for box in (boxes[0], *boxes[19:]):
            self.assertEqual(self.sh(box, 'ls /proc | grep -c "^[0-9]"'), '4')

    def test_a_pod_ends_with_its_last_container_in_whatever_order(self):
        vm = self.vm()
        for order in itertools.permutations(range(3)):
            pod = self.pause(vm)
            boxes = [pod, *(self.member(vm, pod.id, pod.pid) for _ in range(2))]
            for i in order:
                self.assertEqual(self.end(boxes[i]), 137)
        with self.assertRaises(ttrpc.RpcError) as e:
            self.member(vm, pod.id, pod.pid)
        self.assertEqual(e.exception.code, ttrpc.NOT_FOUND)
        self.nothing_is_left(vm)

    def test_two_pods_in_one_VM_see_nothing_of_each_other(self):
        vm = self.vm()
        pods = []
        for n in range(2):
            pod = self.pause(vm)
            box = self.member(vm, pod.id, pod.pid, kinds=('ipc', 'uts', 'network', 'pid'))
            self.sh(box, 'echo %d > /dev/shm/f; echo %d > /tmp/f; hostname name%d' % (n, n, n))
            pods.append((pod, box))
        kinds = ('ipc', 'uts', 'net', 'pid', 'mnt')
        places = [self.ns(box, *kinds) for _, box in pods]
        for kind, a, b in zip(kinds, *places):
            self.assertNotEqual(a, b, kind)
        for n, (pod, box) in enumerate(pods):
            self.assertEqual(self.sh(box, 'cat /dev/shm/f /tmp/f; hostname').split(), [str(n), str(n), 'name%d' % n])
            self.assertEqual(self.sh(box, 'ps | grep -c "[s]leep 1000"'), '3')
        for box in reversed(pods[0]):
            self.end(box)
        self.assertEqual(self.sh(pods[1][1], 'cat /dev/shm/f; hostname'), '1\nname1')
        self.assertEqual([b.call('State')['status'] for b in pods[1]], [pb.RUNNING, pb.RUNNING])

    def test_limits_of_the_sandbox_container_are_the_pod_s(self):
        vm = self.vm()
        pod = self.pause(vm, resources={'memory': {'limit': 32 << 20, 'swap': 32 << 20}})
        far = self.pause(vm)
        peers = [pod, self.member(vm, pod.id, pod.pid), far, self.member(vm, far.id, far.pid)]
        hog = self.member(vm, pod.id, pod.pid, 'dd', 'if=/dev/zero', 'of=/dev/shm/f', 'bs=1M', 'count=60')
        self.assertEqual(hog.call('Wait', limit=hog.limit)['exit_status'], 137)
        self.bed.events.wait('/tasks/oom', hog.id)
        hog.call('Delete', limit=hog.limit)
        # Nobody else was killed, in its pod or another.
        self.assertEqual([p.call('State')['status'] for p in peers], [pb.RUNNING] * 4)
        self.assertEqual(self.sh(peers[1], 'echo alive'), 'alive')
        # An update is for all of it, too.
        pod.call('Update', resources={'type_url': tasks.RESOURCES_URL, 'value': json.dumps({'memory': {'limit': 96 << 20, 'swap': 96 << 20}}).encode()})
        hog = self.member(vm, pod.id, pod.pid, 'dd', 'if=/dev/zero', 'of=/dev/shm/f', 'bs=1M', 'count=60')
        self.assertEqual(hog.call('Wait', limit=hog.limit)['exit_status'], 0)

    def test_what_the_annotations_ask_for(self):
        vm = self.vm()
        pod = self.pause(vm)
        own = self.member(vm, pod.id, pod.pid, annotations={'io.microsoft.lcow.shm.size-kb': '1024', 'io.microsoft.lcow.rlimitcore': '5;6'})
        self.assertIn('1024', self.sh(own, 'df -k /dev/shm | tail -1'))
        self.sh(own, 'echo > /dev/shm/own')
        self.sh(pod, 'test ! -e /dev/shm/own')
        self.assertRegex(self.sh(own, 'cat /proc/1/limits'), r'Max core file size +5 +6')
        with self.assertRaises(ttrpc.RpcError) as e:
            self.member(vm, pod.id, pod.pid, change=lambda spec: spec.update(hostname='other'))
        self.assertIn('must not change hostname', e.exception.message)


@only_lcow('runc has no pods')
class WithoutSandboxContainer(PodCase):
    def test_members_share_what_the_agent_made_and_it_outlives_them(self):
        vm = self.vm()
        one, two = (self.member(vm, vm.id, 4711) for _ in range(2))
        self.assertEqual(self.ns(one, 'ipc', 'uts', 'net'), self.ns(two, 'ipc', 'uts', 'net'))
        self.assertNotEqual(self.ns(one, 'pid'), self.ns(two, 'pid'))
        self.sh(one, 'hostname changed; echo kept > /dev/shm/f')
        self.end(one)
        three = self.member(vm, vm.id, 4711)
        self.assertEqual(self.sh(three, 'hostname; cat /dev/shm/f'), 'changed\nkept')
        # Without annotations and with hardly any namespaces, as direct clients have it.
        spec = with_caps(oci_spec('x', 'sleep', '1000'))
        spec['linux']['namespaces'] = [{'type': 'mount'}]
        spec['mounts'] = [*spec['mounts'], SHM]
        alone = self.begin(Member(vm, self.new_id('m'), spec=spec))
        self.assertEqual(self.ns(alone, 'net'), self.ns(two, 'net'))
        for kind in ('ipc', 'uts'):
            self.assertNotEqual(self.ns(alone, kind), self.ns(two, kind))
        self.sh(alone, 'hostname mine; test ! -e /dev/shm/f')
        self.assertEqual(self.sh(two, 'hostname'), 'changed')
        self.assertEqual(self.sh(alone, 'cat /proc/self/cgroup'), '0::/pods/%s/%s' % (vm.id, alone.id))

    def test_a_shared_pid_namespace_outlives_its_members(self):
        vm = self.vm()
        kinds = ('ipc', 'uts', 'network', 'pid')
        one = self.member(vm, vm.id, 1, 'sleep', '1111', kinds=kinds)
        two = self.member(vm, vm.id, 1, 'sh', '-c', '(sleep 0.1 &); sleep 2222', kinds=kinds)
        self.assertEqual(self.ns(one, 'pid'), self.ns(two, 'pid'))
        seen = self.sh(two, 'cat /proc/1/comm; ps')
        for part in ('pause', 'sleep 1111', 'sleep 2222'):
            self.assertIn(part, seen)
        # Nothing of the VM is behind it, and nobody can end it.
        self.assertEqual(self.sh(two, 'ls -A /proc/1/root'), '')
        self.sh(two, 'kill -9 1')
        self.end(one)
        self.assertEqual(two.call('State')['status'], pb.RUNNING)
        three = self.member(vm, vm.id, 1, kinds=kinds)
        self.assertIn('sleep 2222', self.sh(three, 'ps'))
        # Orphans are buried.
        self.assertNotIn('Z', self.sh(three, 'cat /proc/[0-9]*/stat | sed "s/.*) //" | cut -c1'))
        for box in (two, three):
            self.assertEqual(self.end(box), 137)
        self.nothing_is_left(vm)


@only_lcow('runc has no pods')
class Lone(PodCase):
    def test_a_lone_container_can_have_members(self):
        one = self.begin(Sandbox(self.bed, self.new_id('t'), with_caps(oci_spec('x', 'sleep', '1000'))).start_shim())
        self.assertEqual(self.sh(one, 'cat /proc/self/cgroup'), '0::/pods/%s/%s' % (one.id, one.id))
        two = self.member(one, one.id, one.pid)
        self.assertEqual(self.ns(one, 'ipc', 'uts', 'net'), self.ns(two, 'ipc', 'uts', 'net'))
        self.end(two)
        self.assertEqual(one.call('State', limit=settings.QUICK_LIMIT)['status'], pb.RUNNING)
