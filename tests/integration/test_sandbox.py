# SPDX-License-Identifier: Apache-2.0
"""The Sandbox service: a VM of its own life, and the containers in it."""
import os
import time

from lcowtest import pb, settings, ttrpc
from lcowtest.case import DirectCase, only_lcow
from lcowtest.direct import oci_spec
from lcowtest.pod import with_caps
from lcowtest.sandbox import Member, SandboxVm

KILL = 9

# A PodSandboxConfig, as much as is of interest here.
POD_CONFIG = {'hostname': (2, 'str'), 'annotations': (7, [pb.KV]),
              'linux': (8, {'overhead': (4, {'memory_limit_in_bytes': (4, 'int')}),
                            'resources': (5, {'cpu_period': (1, 'int'), 'cpu_quota': (2, 'int'),
                                              'memory_limit_in_bytes': (4, 'int')})})}


@only_lcow('runc has no sandboxes')
class Sandbox(DirectCase):
    def vm(self, boot=True, config=None):
        box = SandboxVm(self.bed, self.new_id('v'), config)
        self.addCleanup(box.close)
        box.start_shim()
        if boot:
            self.started = box.boot()
        return box

    def member(self, vm, *args, start=True, **more):
        box = Member(vm, self.new_id('m'), *args or ('sleep', '1000'), **more)
        self.addCleanup(box.close)
        fields = box.stdio('stdout')
        box.create(**fields)
        if start:
            box.call('Start', limit=box.limit)
        return box

    def refused(self, code, call, *args, **fields):
        with self.assertRaises(ttrpc.RpcError) as e:
            call(*args, **fields)
        self.assertEqual(e.exception.code, code, e.exception.message)
        return e.exception.message

    def gone(self, box):
        """The shim's process ends by itself."""
        end = time.monotonic() + settings.QUICK_LIMIT
        while os.path.exists('/proc/%d' % box.shim_pid) and time.monotonic() < end:
            time.sleep(0.05)
        self.assertFalse(os.path.exists('/proc/%d' % box.shim_pid))

    def test_a_sandbox_lives_with_two_containers_and_without_them(self):
        vm = self.vm()
        self.assertTrue(os.path.exists('/proc/%d/ns/net' % self.started['pid']))
        self.assertTrue(self.started['created_at']['seconds'])
        waiting = vm.begin_vm('WaitSandbox')
        status = vm.vm('SandboxStatus', verbose=True)
        self.assertEqual((status['state'], status['pid']), ('SANDBOX_READY', self.started['pid']))
        info = {kv['key']: kv['value'] for kv in status['info']}
        self.assertEqual((info['state'], info['pid'], info['vm'], info['cpus']), ('SANDBOX_READY', str(status['pid']), 'Running', '1'))
        self.assertEqual(int(info['memory']), 256 << 20)
        platform = vm.vm('Platform')['platform']
        self.assertEqual((platform['os'], platform['architecture']), ('linux', 'amd64'))
        vm.vm('PingSandbox')
        one, two = self.member(vm, 'sh', '-c', 'echo one; sleep 1000'), self.member(vm)
        one.streams['stdout'].wait_for(b'one\n')
        one.call('Kill', signal=KILL)
        self.assertEqual(one.call('Wait')['exit_status'], 137)
        one.call('Delete')
        one.call('Shutdown')
        code, _, err = one.delete_command()
        self.assertEqual(code, 0, err)
        self.assertEqual(two.call('State')['status'], pb.RUNNING)
        self.assertEqual(vm.vm('SandboxStatus')['state'], 'SANDBOX_READY')
        vm.vm('PingSandbox')
        self.refused(ttrpc.NOT_FOUND, vm.call, 'Pids')
        metrics = vm.vm('SandboxMetrics')['metrics']
        self.assertEqual((metrics['id'], metrics['data']['type_url']), (vm.id, 'io.containerd.cgroups.v2.Metrics'))

        vm.vm('StopSandbox')
        ended = waiting()
        self.assertEqual(ended['exit_status'], 0)
        self.assertTrue(ended['exited_at']['seconds'])
        self.bed.events.wait('/tasks/exit', two.id)
        vm.vm('StopSandbox')
        self.assertEqual(vm.vm('SandboxStatus')['state'], 'SANDBOX_NOTREADY')
        # Members are killed and deleted after the VM, too.
        self.refused(ttrpc.NOT_FOUND, two.call, 'Kill', signal=KILL, all=True)
        self.assertEqual(two.call('Wait')['exit_status'], 255)
        two.call('Delete')
        vm.vm('ShutdownSandbox')
        self.gone(vm)

    def test_a_stop_with_time_lets_containers_end_by_themselves(self):
        vm = self.vm()
        loop = 'trap "%s" TERM; echo up; while :; do sleep 0.1; done'
        box, deaf = (self.member(vm, 'sh', '-c', loop % then) for then in ('echo bye; exit 3', ''))
        for one in (box, deaf):
            one.streams['stdout'].wait_for(b'up\n')
        begin = time.monotonic()
        vm.vm('StopSandbox', timeout_secs=3)
        self.assertGreaterEqual(time.monotonic() - begin, 3)
        self.assertLess(time.monotonic() - begin, 3 + settings.QUICK_LIMIT / 2)
        self.assertIn(b'bye\n', box.streams['stdout'].finish())
        self.assertEqual([one.call('Wait')['exit_status'] for one in (box, deaf)], [3, 255])

    def test_an_agent_that_hangs_does_not_keep_the_shim_from_answering(self):
        vm = self.vm()

        def change(spec):
            spec['linux']['namespaces'] = [n for n in spec['linux']['namespaces'] if n['type'] != 'pid']
        spec = with_caps(oci_spec(vm.id, 'sh', '-c', 'grep -qx -e init -e lcow-gcs /proc/1/comm && echo up && sleep 0.5 && '
                                  'echo 1 > /proc/1/root/sys/fs/cgroup/gcs/cgroup.freeze; sleep 1000'))
        change(spec)
        box = self.member(vm, spec=spec)
        box.streams['stdout'].wait_for(b'up\n')
        waiting = vm.begin_vm('WaitSandbox')
        code = begin = None
        while code is None:
            begin = time.monotonic()
            try:
                vm.vm('PingSandbox')    # not frozen yet
            except ttrpc.RpcError as e:
                code = e.code
        self.assertEqual(code, ttrpc.DEADLINE)
        self.assertLess(time.monotonic() - begin, settings.QUICK_LIMIT)
        self.assertEqual(box.call('State')['status'], pb.RUNNING)
        self.assertEqual(vm.vm('SandboxStatus')['state'], 'SANDBOX_READY')
        vm.vm('SandboxMetrics')
        self.assertTrue(box.call('Pids')['processes'])
        vm.vm('StopSandbox', timeout_secs=1, limit=settings.QUICK_LIMIT)
        waiting(settings.QUICK_LIMIT)
        self.assertEqual(box.call('Wait')['exit_status'], 255)
        box.call('Delete')

    def test_the_death_of_QEMU_is_the_sandbox_s(self):
        vm = self.vm()
        box = self.member(vm)
        waiting = vm.begin_vm('WaitSandbox')
        os.kill(self.started['pid'], KILL)
        self.assertNotEqual(waiting(settings.QUICK_LIMIT)['exit_status'], 0)
        self.assertEqual(box.call('Wait')['exit_status'], 255)
        self.assertEqual(vm.vm('SandboxStatus')['state'], 'SANDBOX_NOTREADY')
        self.refused(ttrpc.PRECONDITION, vm.vm, 'PingSandbox')
        self.refused(ttrpc.PRECONDITION, vm.vm, 'SandboxMetrics')

    def test_what_does_not_fit_the_state_is_refused_with_its_code(self):
        vm = self.vm(boot=False)
        self.refused(ttrpc.PRECONDITION, vm.vm, 'StartSandbox')
        self.refused(ttrpc.NOT_FOUND, vm.vm, 'SandboxStatus')
        self.refused(ttrpc.NOT_FOUND, vm.vm, 'StopSandbox')
        self.refused(ttrpc.INVALID, vm.vm, 'CreateSandbox', bundle_path=vm.bundle,
                     options={'type_url': 'runtime.v1.PodSandboxConfig', 'value': b'\xff\xff'})
        vm.vm('CreateSandbox', bundle_path=vm.bundle)
        self.refused(ttrpc.EXISTS, vm.vm, 'CreateSandbox', bundle_path=vm.bundle)
        self.refused(ttrpc.EXISTS, vm.vm, 'CreateSandbox', bundle_path=vm.bundle, sandbox_id='other')
        self.refused(ttrpc.NOT_FOUND, vm.vm, 'SandboxStatus', sandbox_id='other')
        self.refused(ttrpc.PRECONDITION, self.member, vm)
        self.assertEqual(vm.vm('SandboxStatus')['state'], 'SANDBOX_NOTREADY')
        vm.vm('ShutdownSandbox')
        self.gone(vm)

    def test_a_shutdown_without_a_sandbox_ends_the_shim(self):
        vm = self.vm(boot=False)
        vm.vm('ShutdownSandbox')
        self.gone(vm)

    def test_the_configuration_of_a_pod_names_and_sizes_it(self):
        vm = self.vm(boot=False)
        config = pb.encode(POD_CONFIG, {'hostname': 'web-0', 'linux': {
            'resources': {'memory_limit_in_bytes': 256 << 20, 'cpu_period': 100000, 'cpu_quota': 150000},
            'overhead': {'memory_limit_in_bytes': 384 << 20}}})
        vm.boot(options={'type_url': 'runtime.v1.PodSandboxConfig', 'value': config})
        spec = oci_spec(vm.id, 'sh', '-c', 'hostname; cat /etc/hostname; nproc; grep MemTotal /proc/meminfo; sleep 1000')
        del spec['hostname']
        for namespace in spec['linux']['namespaces']:
            if namespace['type'] == 'uts':
                namespace['path'] = '/proc/1/ns/uts'
        box = self.member(vm, spec=spec)
        box.streams['stdout'].wait_for(b' kB\n')
        name, written, cpus, memory = box.streams['stdout'].data.decode().splitlines()
        self.assertEqual((name, written, cpus), ('web-0', 'web-0', '2'))
        self.assertGreater(int(memory.split()[1]), 540 << 10)
        self.assertLess(int(memory.split()[1]), 640 << 10)

    def test_two_pods_in_one_VM_and_the_end_of_one_leaves_the_other(self):
        vm = self.vm(config={'annotations': {'io.microsoft.virtualmachine.computetopology.memory.sizeinmb': '320'}})
        pods = []
        # As hcsshim's clients do it: the first one may have the sandbox' own id.
        for name in (vm.id, self.new_id('p')):
            spec = oci_spec(name, 'sh', '-c', 'echo up; sleep 1000',
                            annotations={'io.kubernetes.cri.container-type': 'sandbox', 'io.kubernetes.cri.sandbox-id': name})
            box = Member(vm, name, spec=spec)
            self.addCleanup(box.close)
            box.create(**box.stdio('stdout'))
            box.call('Start', limit=box.limit)
            box.streams['stdout'].wait_for(b'up\n')
            pods.append(box)
        one, two = pods
        one.call('Kill', signal=KILL)
        self.assertEqual(one.call('Wait')['exit_status'], 137)
        one.call('Delete')
        self.assertEqual(two.call('State')['status'], pb.RUNNING)
        two.exec('e', 'true')
        self.assertEqual(two.call('Wait', exec_id='e')['exit_status'], 0)
