# SPDX-License-Identifier: Apache-2.0
"""Task.Update: limits of a running container, the VM that grows for them; and the guest's clock."""
import glob
import json
import os
import signal
import time

from lcowtest import proc, settings, ttrpc
from lcowtest.case import DirectCase, only_lcow
from lcowtest.direct import oci_spec

RESOURCES_URL = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources'
MIB = 1 << 20
INVALID, EXHAUSTED = 3, 8
CGROUP = {'destination': '/sys/fs/cgroup', 'type': 'cgroup', 'source': 'cgroup', 'options': ['nosuid', 'noexec', 'nodev', 'ro']}
# Of the VM, with what all pods may use together.
PODS = {'destination': '/pods', 'type': 'bind', 'source': 'uvm:///sys/fs/cgroup/pods', 'options': ['bind', 'ro']}


class InVm(DirectCase):
    """A container that sees its own cgroup."""

    def running(self, resources=None, start=True, **config):
        container = self.new_id('u')
        spec = oci_spec(container, 'sleep', '1000')
        spec['mounts'] = [*spec['mounts'], CGROUP, *([PODS] if settings.IS_LCOW else [])]
        spec['linux']['namespaces'].append({'type': 'cgroup'})
        spec['linux']['resources'].update(resources or {})
        box = self.sandbox(spec=spec, start=False)
        with self.bed.lcow.set(**config):
            box.start_shim()
        box.create()
        if start:
            box.call('Start', limit=box.limit)
        return box

    def say(self, box, command):
        """What a shell command in the container prints."""
        exec_id = self.new_id('e')
        fields = box.stdio('stdout', prefix=exec_id)
        try:
            box.exec(exec_id, 'sh', '-c', command, **fields)
            box.call('Wait', exec_id=exec_id, limit=box.limit)
            out = box.streams[exec_id + 'stdout'].finish()
            box.call('Delete', exec_id=exec_id)
        finally:
            box.streams.pop(exec_id + 'stdout').close()
        return out.decode().strip()

    def limit(self, box, name):
        return self.say(box, 'cat /sys/fs/cgroup/' + name)

    def memory_mib(self, box):
        return int(self.say(box, "awk '/MemTotal/ {print $2}' /proc/meminfo")) // 1024

    @staticmethod
    def resources(text):
        text = text if isinstance(text, bytes) else json.dumps(text).encode()
        return {'type_url': RESOURCES_URL, 'value': text}

    def update(self, box, resources, **more):
        return box.call('Update', limit=box.limit, resources=self.resources(resources), **more)

    def assert_refused(self, code, words, box, resources):
        with self.assertRaises(ttrpc.RpcError) as caught:
            self.update(box, resources)
        self.assertEqual(caught.exception.code, code, caught.exception)
        for word in words:
            self.assertIn(word, str(caught.exception))


class Limits(InVm):
    def test_limits_of_a_running_container_take_effect_in_its_cgroup(self):
        box = self.running()
        self.assertEqual(self.limit(box, 'memory.max'), 'max')
        self.update(box, {'memory': {'limit': 64 * MIB, 'reservation': 32 * MIB, 'swap': 64 * MIB}, 'pids': {'limit': 17},
                          'cpu': {'shares': 512, 'quota': 50000, 'period': 100000, 'cpus': '0'},
                          'unified': {'memory.high': str(48 * MIB)}})
        for name, value in (('memory.max', str(64 * MIB)), ('memory.low', str(32 * MIB)), ('memory.swap.max', '0'),
                            ('memory.high', str(48 * MIB)), ('pids.max', '17'), ('cpu.max', '50000 100000'),
                            ('cpuset.cpus', '0')):
            with self.subTest(name):
                self.assertEqual(self.limit(box, name), value)
        self.assertLess(int(self.limit(box, 'cpu.weight')), 100)
        # What is not given stays.
        self.update(box, {'pids': {'limit': 18}})
        self.assertEqual(self.limit(box, 'pids.max'), '18')
        self.assertEqual(self.limit(box, 'memory.max'), str(64 * MIB))

    def test_a_created_container_can_be_updated_and_an_ended_one_cannot(self):
        box = self.running(start=False)
        self.update(box, {'pids': {'limit': 19}})
        box.call('Start', limit=box.limit)
        self.assertEqual(self.limit(box, 'pids.max'), '19')
        box.call('Kill', signal=9)
        box.call('Wait')
        with self.assertRaises(ttrpc.RpcError) as caught:
            self.update(box, {'pids': {'limit': 20}})
        self.assertIn('cannot update a stopped container', str(caught.exception))

    @only_lcow("runc's shim panics, or passes on what Go's JSON says")
    def test_bad_resources_are_refused_by_name(self):
        box = self.running()
        for text, word in ((b'', ''), (b'{', ''), (b'null', 'null'), (b'[]', ''), (b'{"memory":{"limit":"1G"}}', 'memory.limit'),
                           (b'{"cpu":{"shares":-5}}', 'cpu.shares'), (b'\xff', '')):
            with self.subTest(text):
                self.assert_refused(INVALID, [word], box, text)
        for fields in ({}, {'resources': {'type_url': 'types.example/WindowsResources', 'value': b'{}'}}):
            with self.subTest(fields), self.assertRaises(ttrpc.RpcError) as caught:
                box.call('Update', **fields)
            self.assertEqual(caught.exception.code, INVALID)
        self.assertEqual(self.limit(box, 'memory.max'), 'max')
        self.update(box, {'later': {'unknown': True}})


@only_lcow('the VM grows')
class Growth(InVm):
    def test_a_memory_limit_above_what_the_VM_has_makes_it_grow_first(self):
        box = self.running(memory='256M', max_memory='2G')
        before = self.memory_mib(box)
        self.assertLess(before, 256)
        pods = 'cat /pods/memory.max'
        self.assertLess(int(self.say(box, pods)), before * MIB)
        self.update(box, {'memory': {'limit': 512 * MIB}})
        # All pods together have what the agent leaves them.
        self.assertGreater(int(self.say(box, pods)), 512 * MIB)
        self.assertLess(int(self.say(box, pods)), self.memory_mib(box) * MIB)
        self.assertEqual(self.limit(box, 'memory.max'), str(512 * MIB))
        grown = self.memory_mib(box)
        self.assertGreater(grown, 512 + 75)
        # The container can have all of it.
        eat = 'BEGIN { s = "x"; while (length(s) < %d) s = s s; print length(s) }' % (128 * MIB)
        self.assertEqual(self.say(box, "awk '%s'" % eat), str(128 * MIB))
        # A second growth goes on where the first ended; less does not shrink the VM.
        self.update(box, {'memory': {'limit': 800 * MIB}})
        self.assertGreater(self.memory_mib(box), grown)
        self.update(box, {'memory': {'limit': 64 * MIB}})
        self.assertEqual(self.limit(box, 'memory.max'), str(64 * MIB))

    def test_a_container_is_created_in_a_VM_that_has_what_its_limits_allow(self):
        box = self.running({'memory': {'limit': 600 * MIB}, 'cpu': {'quota': 200000, 'period': 100000}},
                           memory='256M', max_memory='2G', max_cpus='2')
        self.assertGreater(self.memory_mib(box), 600 + 75)
        self.assertEqual(self.limit(box, 'memory.max'), str(600 * MIB))
        self.await_cpus(box, 2)

    def await_cpus(self, box, n):
        end = time.monotonic() + settings.QUICK_LIMIT
        while self.say(box, 'nproc') != str(n):
            self.assertLess(time.monotonic(), end, 'the guest does not use %d CPUs' % n)

    def test_a_CPU_quota_above_what_the_VM_has_makes_it_grow_first(self):
        box = self.running(cpus='1', max_cpus='3')
        self.assertEqual(self.say(box, 'nproc'), '1')
        self.update(box, {'cpu': {'quota': 150000, 'period': 100000}})
        self.await_cpus(box, 2)
        self.assertEqual(self.limit(box, 'cpu.max'), '150000 100000')
        self.update(box, {'cpu': {'quota': 300000, 'period': 100000}})
        self.await_cpus(box, 3)

    def test_what_does_not_fit_is_told_in_numbers_and_changes_nothing(self):
        box = self.running(memory='256M', max_memory='512M', max_cpus='2')
        before = self.memory_mib(box)
        self.assert_refused(EXHAUSTED, ['650 MiB', 'has 256', '512 at most'], box,
                            {'memory': {'limit': 514 * MIB}, 'pids': {'limit': 5}})
        self.assert_refused(EXHAUSTED, ['3 CPUs', 'has 1', '2 at most'], box, {'cpu': {'quota': 250000, 'period': 100000}})
        self.assertEqual(self.memory_mib(box), before)
        self.assertEqual(self.limit(box, 'memory.max'), 'max')
        self.assertEqual(self.limit(box, 'pids.max'), 'max')
        self.assertEqual(self.limit(box, 'cpu.max').split()[0], 'max')

    def test_updates_that_come_together_are_all_done(self):
        box = self.running(memory='256M', max_memory='2G')
        calls = [box.begin('Update', resources=self.resources({'memory': {'limit': (300 + i) * MIB}})) for i in range(8)]
        for call in calls:
            box.end(call)
        self.assertIn(int(self.limit(box, 'memory.max')) // MIB, range(300, 308))
        self.assertGreater(self.memory_mib(box), 300 + 75)


class Clock(InVm):
    def drift(self, box):
        """By how many seconds the guest's clock may be off, at least."""
        before = time.time()
        guest = float(self.say(box, 'date +%s'))
        after = time.time()
        return max(before - (guest + 1), guest - after, 0)

    def test_the_guest_has_the_host_s_time_at_the_start_and_after_QEMU_stood_still(self):
        box = self.running()
        self.assertLess(self.drift(box), 1)
        if not settings.IS_LCOW:
            return
        [record] = glob.glob(self.bed.lcow.run_dir + '/**/qemu.pid', recursive=True)
        with open(record) as f:
            pid = int(f.read().split()[0])
        self.assertIn(pid, proc.running('qemu-system'))
        os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(pid, signal.SIGCONT)
        self.assertLess(self.drift(box), 1)
