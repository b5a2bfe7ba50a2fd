# SPDX-License-Identifier: Apache-2.0
"""Parts that die: whatever instruction the shim was at, delete removes everything."""
import os
import random
import signal
import subprocess
import time

from lcowtest import cgroups, pb, proc, settings, ttrpc
from lcowtest.case import DirectCase, only_lcow
from lcowtest.direct import oci_spec

SHIM = os.path.basename(settings.shim_binary() or 'containerd-shim')


class Shim(DirectCase):
    @only_lcow('the stock shim leaves cgroups')
    def test_SIGKILL_at_random_instants_of_Create_leaves_nothing_after_delete(self):
        seed = int(os.environ.get('LCOW_SEED', time.time()))
        print('     seed: LCOW_SEED=%d' % seed, flush=True)
        chance = random.Random(seed)
        # From before the first step to after the last: a boot takes 2 to 4 s without KVM.
        longest = (4.0 if settings.IS_LCOW else 0.3) * settings.SLOW
        for number in range(10):
            after = longest * number / 10 + chance.random() * longest / 10
            with self.subTest(after='%.3f s' % after):
                box = self.sandbox('sleep', '1000')
                [pid] = proc.running(SHIM)
                call = box.client.start('Create', id=box.id, bundle=box.bundle, rootfs=self.bed.overlay(box.id))
                time.sleep(after)
                os.kill(pid, signal.SIGKILL)
                proc.wait_gone(pid, settings.QUICK_LIMIT)
                try:
                    call.result(5)
                except ttrpc.Closed:
                    pass
                code, _, err = box.delete_command()
                self.assertEqual(code, 0, err)
                self.assertLess(box.delete_seconds, 5 * settings.SLOW, 'containerd gives delete 5 s')
                box.client.close()
                box.client = None
                box.close()
                self.doneWith(box)
                left = self.before.difference(5 * settings.SLOW)
                self.assertEqual(left, [])

    def doneWith(self, box):
        """box.close() ran: it is not to run again at the end."""
        self._cleanups = [c for c in self._cleanups if getattr(c[0], '__self__', None) is not box]

    def test_SIGKILL_of_the_shim_in_mid_run_leaves_nothing_after_delete(self):
        box = self.sandbox('sleep', '1000')
        box.create()
        box.call('Start')
        box.kill_shim()
        code, answer, err = box.delete_command()
        self.assertEqual(code, 0, err)
        self.assertGreater(answer['exit_status'], 127)

    @only_lcow('delete of the stock shim ends no server')
    def test_delete_ends_a_container_that_still_runs(self):
        box = self.sandbox('sleep', '1000')
        box.create()
        box.call('Start')
        code, _, err = box.delete_command()
        self.assertEqual(code, 0, err)
        self.assertLess(box.delete_seconds, 5 * settings.SLOW)
        proc.wait_gone(box.shim_pid, settings.QUICK_LIMIT)


    @only_lcow('the stock shim leaves its task')
    def test_SIGTERM_ends_the_container_tells_of_it_and_leaves_nothing(self):
        box = self.sandbox('sleep', '1000')
        box.create()
        box.call('Start')
        wait = box.begin('Wait')
        os.kill(box.shim_pid, signal.SIGTERM)
        self.assertEqual(box.end(wait, settings.QUICK_LIMIT)['exit_status'], 255)
        proc.wait_gone(box.shim_pid, settings.QUICK_LIMIT)
        self.assertEqual(self.bed.events.topics(box.id), ['/tasks/create', '/tasks/start', '/tasks/exit'])
        self.assertEqual(proc.running('qemu-system'), [])
        self.assertEqual(os.listdir(self.bed.lcow.run_dir), [])


@only_lcow('no VM')
class Vm(DirectCase):
    def running(self, *command, spec=None):
        box = self.sandbox(*command, spec=spec)
        fields = box.stdio('stdout')
        box.create(**fields)
        box.call('Start')
        return box, box.begin('Wait')

    def gone(self, box, wait, limit=10):
        """The death of the VM ends every Wait; later calls are answered, Delete succeeds, the events are whole."""
        self.assertNotEqual(box.end(wait, limit * settings.SLOW)['exit_status'], 0)
        self.assertEqual(box.call('State')['status'], pb.STOPPED)
        with self.assertRaises(ttrpc.RpcError):
            box.exec('late', 'true')
        box.streams['stdout'].finish()
        box.call('Delete')
        self.bed.events.wait('/tasks/delete', box.id)
        self.assertEqual(self.bed.events.topics(box.id), ['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete'])

    def test_SIGKILL_of_QEMU_ends_every_Wait_and_Delete_succeeds(self):
        box, wait = self.running('sleep', '1000')
        exec_id = 'e'
        box.exec(exec_id, 'sleep', '1000')
        second = box.begin('Wait', exec_id=exec_id)
        [pid] = proc.running('qemu-system')
        os.kill(pid, signal.SIGKILL)
        self.assertNotEqual(box.end(second, 10 * settings.SLOW)['exit_status'], 0)
        box.call('Delete', exec_id=exec_id)
        self.assertNotEqual(box.end(wait, 10 * settings.SLOW)['exit_status'], 0)
        self.assertEqual(box.call('State')['status'], pb.STOPPED)
        box.call('Delete')

    def test_a_stopped_QEMU_does_not_keep_the_shim_from_answering(self):
        box, wait = self.running('sleep', '1000')
        [pid] = proc.running('qemu-system')
        os.kill(pid, signal.SIGSTOP)
        try:
            self.assertEqual(box.call('State', limit=2 * settings.SLOW)['status'], pb.RUNNING)
            self.assertGreater(box.call('Connect', limit=2 * settings.SLOW)['task_pid'], 0)
            code, _, err = box.delete_command()
            self.assertEqual(code, 0, err)
            self.assertLess(box.delete_seconds, 5 * settings.SLOW)
        finally:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass

    def test_cgroups_that_are_read_only_are_told_of_and_no_obstacle(self):
        def remount(how):
            for mount in cgroups.mounts():
                subprocess.run(['mount', '-o', 'remount,bind,' + how, mount], check=True, stdin=subprocess.DEVNULL)
        # In the mount namespace of this run only.
        self.addCleanup(remount, 'rw')
        remount('ro')
        box, _ = self.running('sleep', '1000')
        [qemu] = proc.running('qemu-system')
        self.assertEqual(cgroups.of(qemu), cgroups.of(box.shim_pid))
        self.assertRegex(box.log, 'level=warn.*is not accounted for in cgroup /lcowtest/%s.*Read-only' % box.id)

    def privileged(self, *command):
        """A container with all capabilities, writable /proc, in the pid namespace of the guest."""
        container = self.new_id('s')
        spec = oci_spec(container, *command)
        everything = ['CAP_SYS_ADMIN', 'CAP_SYS_PTRACE', 'CAP_KILL', 'CAP_DAC_OVERRIDE', 'CAP_DAC_READ_SEARCH', 'CAP_SYS_BOOT']
        spec['process']['capabilities'] = {k: everything for k in ('bounding', 'effective', 'permitted', 'inheritable')}
        spec['process']['noNewPrivileges'] = False
        spec['linux']['namespaces'] = [n for n in spec['linux']['namespaces'] if n['type'] != 'pid']
        return self.running(spec=spec)

    # Whatever the runtime, nothing may happen to the kernel or the first process of this host.
    GUARD = '[ "$(uname -r)" != "%s" ] || { echo not a guest; exit 0; }; sleep 1; ' % os.uname().release

    def test_a_kernel_that_panics_ends_the_container(self):
        box, wait = self.privileged('sh', '-c', self.GUARD + 'echo c > /proc/sysrq-trigger; sleep 1000')
        self.gone(box, wait, 20)

    def test_an_agent_that_is_killed_ends_the_container(self):
        # Signals do not reach a first process; garbage in its text does.
        script = self.GUARD + (
            'grep -q -x -e init -e lcow-gcs /proc/1/comm || { echo another first process: $(cat /proc/1/comm); exit 99; }; '
            'set -- $(grep r-xp /proc/1/maps | head -n 1 | tr "-" " "); '
            'dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((0x$1 / 4096)) count=$(((0x$2 - 0x$1) / 4096)) conv=notrunc 2>&1; sleep 1000')
        box, wait = self.privileged('sh', '-c', script)
        status = box.end(wait, 30 * settings.SLOW)['exit_status']
        out = box.streams['stdout'].finish()
        if status == 99:
            self.skipTest('the container does not see the agent: %s' % out.decode(errors='replace').strip())
        self.assertNotEqual(status, 0, out)
        box.call('Delete')
        self.assertEqual(proc.running('qemu-system'), [])
