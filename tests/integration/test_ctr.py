# SPDX-License-Identifier: Apache-2.0
"""What people do with ctr: run, exec, kill, remove, restart of containerd."""
import json
import os
import subprocess
import time
import zlib

from lcowtest import cgroups, image, proc, settings, ttrpc
from lcowtest.case import CtrCase, only_lcow
from lcowtest.direct import Stream

BURST = b'0123456789abcde\n' * (8 << 16)    # 8 MiB


class Run(CtrCase):
    def test_exit_codes_0_1_42_and_255_come_through(self):
        for code in (0, 1, 42, 255):
            with self.subTest(code=code):
                self.check(self.cd.run(self.new_id(), 'sh', '-c', 'exit %d' % code), code)

    def test_fifty_lines_then_exit_7_arrive_whole(self):
        result = self.cd.run(self.new_id(), 'sh', '-c', 'i=1; while [ $i -le 50 ]; do echo line $i; i=$((i+1)); done; exit 7')
        self.check(result, 7)
        self.assertEqual(result.out.splitlines(), ['line %d' % i for i in range(1, 51)])

    def test_a_burst_of_8_MiB_before_the_exit_is_byte_exact(self):
        result = self.check(self.cd.run(self.new_id(), 'sh', '-c', 'yes 0123456789abcde | head -c 8388608'))
        self.assertEqual(len(result.out_bytes), len(BURST))
        self.assertEqual(zlib.crc32(result.out_bytes), zlib.crc32(BURST))

    def test_20_MiB_go_through_standard_input_and_back(self):
        data = os.urandom(1 << 20) * 20
        # ctr run never closes standard input: the reader counts.
        result = self.check(self.cd.run(self.new_id(), 'sh', '-c', 'head -c %d | cat' % len(data), stdin=data,
                                        limit=2 * settings.BOOT_LIMIT))
        self.assertEqual(len(result.out_bytes), len(data))
        self.assertEqual(zlib.crc32(result.out_bytes), zlib.crc32(data))

    @only_lcow('containers of other runtimes share the kernel')
    def test_the_kernel_inside_is_not_the_hosts(self):
        result = self.check(self.cd.run(self.new_id(), 'uname', '-r'))
        self.assertRegex(result.out, r'^\d+\.\d+')
        self.assertNotEqual(result.out.strip(), os.uname().release)

    def test_stderr_is_kept_apart_from_stdout(self):
        result = self.check(self.cd.run(self.new_id(), 'sh', '-c', 'echo to-out; echo to-err >&2'))
        self.assertEqual((result.out, result.err), ('to-out\n', 'to-err\n'))

    def test_a_command_that_does_not_exist_is_refused_by_name(self):
        container = self.new_id()
        self.addCleanup(self.remove, container)
        result = self.cd.run(container, '/no/such/command', options=())
        self.assertNotEqual(result.code, 0)
        self.assertIn('/no/such/command', result.err)
        self.assertNotIn('RUNNING', self.cd.ctr('task', 'ls').out)

    def test_the_four_events_come_once_and_in_order(self):
        events = self.cd.events()
        self.addCleanup(events.close)
        container = self.new_id()
        self.check(self.cd.run(container, 'true'))
        events.wait('/tasks/delete', container)
        self.assertEqual([t for t in events.topics(container) if t.startswith('/tasks/')],
                         ['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete'])

    def test_two_sandboxes_run_at_a_time_and_do_not_mix(self):
        names = [self.new_id() for _ in range(2)]
        script = 'echo %s; sleep 3; echo %s; exit %d'
        running = [self.cd.popen(*self.cd.run_args('--rm'), image.NAME, name, 'sh', '-c', script % (name, name, code),
                                 stdin=subprocess.DEVNULL) for code, name in enumerate(names, 3)]
        for code, (name, process) in enumerate(zip(names, running), 3):
            out, err = process.communicate(timeout=3 * settings.BOOT_LIMIT)
            self.assertEqual((process.returncode, out.decode()), (code, '%s\n%s\n' % (name, name)), err.decode())

    def test_a_terminal_carries_the_output_of_run_t(self):
        # script(1) gives ctr the terminal that it insists on.
        cmd = ' '.join(self.cd._ctr(*self.cd.run_args('--rm', '-t'), image.NAME, self.new_id(), 'tty'))
        done = subprocess.run(['script', '-qec', cmd, '/dev/null'], env=self.cd.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=settings.BOOT_LIMIT)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn('/dev/pts/0', done.stdout)


class Detached(CtrCase):
    def test_a_detached_container_runs_takes_execs_and_ends_when_killed(self):
        events = self.cd.events()
        self.addCleanup(events.close)
        name = self.detached('sleep', '1000')
        self.assertRegex(self.cd.ctr('task', 'ls').out, r'%s +\d+ +RUNNING' % name)
        result = self.check(self.cd.ctr('task', 'exec', '--exec-id', 'e1', name, 'sh', '-c', 'echo in; exit 9'), 9)
        self.assertEqual(result.out, 'in\n')
        self.check(self.cd.ctr('task', 'exec', '--exec-id', 'e2', name, '/no/such/thing'), 1)
        self.assertIn('RUNNING', self.cd.ctr('task', 'ls').out)
        self.assertNotEqual(self.cd.ctr('task', 'rm', name).code, 0, 'a running task was deleted')
        self.assertRegex(self.check(self.cd.ctr('task', 'ps', name)).out, r'(?m)^\d+')
        self.check(self.cd.ctr('task', 'kill', '-s', 'SIGKILL', name))
        for process, status in (('e1', 9), (name, 137)):
            exit_event = events.wait('/tasks/exit', name, match=lambda e: e['id'] == process)
            self.assertEqual(exit_event['exit_status'], status)
        end = time.monotonic() + settings.QUICK_LIMIT
        while 'STOPPED' not in self.cd.ctr('task', 'ls').out and time.monotonic() < end:
            time.sleep(0.1)
        self.assertRegex(self.cd.ctr('task', 'ls').out, r'%s +\d+ +STOPPED' % name)
        self.check(self.cd.ctr('task', 'rm', name))

    @only_lcow('no VM')
    def test_the_VM_is_in_the_container_s_cgroup(self):
        name = self.detached('sleep', '1000')
        [qemu] = proc.running('qemu-system')
        self.assertEqual(set(cgroups.of(qemu).values()), {'/default/' + name})
        # What other runtimes do, and a second VM.
        other = self.detached('sleep', '1000')
        self.remove(name)
        self.assertEqual(cgroups.children('/default'), [other])

    def test_a_pipe_through_exec_is_closed_at_its_end(self):
        name = self.detached('sleep', '1000')
        data = os.urandom(1 << 20) * 20
        result = self.check(self.cd.ctr('task', 'exec', '--exec-id', 'e1', name, 'cat', stdin=data,
                                        limit=2 * settings.BOOT_LIMIT))
        self.assertEqual(len(result.out_bytes), len(data))
        self.assertEqual(zlib.crc32(result.out_bytes), zlib.crc32(data))

    def test_a_container_survives_a_restart_of_containerd(self):
        name = self.detached('sleep', '1000')
        self.cd.restart()
        self.assertRegex(self.cd.ctr('task', 'ls').out, r'%s +\d+ +RUNNING' % name)
        result = self.check(self.cd.ctr('task', 'exec', '--exec-id', 'e1', name, 'echo', 'still here'))
        self.assertEqual(result.out, 'still here\n')


class Text(CtrCase):
    """Text of any language: UTF-8 of two, three and four bytes, and a character that is made of two."""

    WORDS = ('é', 'grüße', 'Ω', '日本語', '😀', 'e\u0301', '\x7f\u0080', '\ufffd')

    def annotations(self, name):
        """Those of a container as the guest's runtime has them."""
        with open(self.cd.bundle(name) + '/address') as f:
            client = ttrpc.Client(f.read().strip(), self.cd.namespace)
        self.addCleanup(client.close)
        fifo = os.path.join(self.cd.dir, name + '.state')
        stream = Stream(fifo)
        self.addCleanup(stream.close)
        args = ['crun', '--root', '/run/crun', 'state', name]
        self.assertEqual(client.diag('DiagExecInHost', args=args, stdout=fifo), {'exit_code': 0})
        return json.loads(stream.finish())['annotations']

    def test_arguments_of_run_are_printed_byte_by_byte(self):
        result = self.check(self.cd.run(self.new_id(), 'echo', *self.WORDS))
        self.assertEqual(result.out_bytes, ' '.join(self.WORDS).encode() + b'\n')

    @only_lcow('another guest has no such look inside')
    def test_environment_annotations_and_execs_have_it_too(self):
        greeting, who = 'GREETING=' + self.WORDS[1], 'Zoë ' + ''.join(self.WORDS)
        name = self.detached('sh', '-c', 'sleep 1000', *self.WORDS,
                             options=('--env', greeting, '--annotation', 'who=' + who))
        result = self.check(self.cd.ctr('task', 'exec', '--exec-id', 'e1', name, 'cat', '/proc/1/environ'))
        self.assertIn(greeting.encode(), result.out_bytes.split(b'\0'))
        script = 'printf "%s|" "$@" "$GREETING"'
        result = self.check(self.cd.ctr('task', 'exec', '--exec-id', 'e2', name, 'sh', '-c', script, 'sh', *self.WORDS))
        self.assertEqual(result.out_bytes, ''.join(word + '|' for word in (*self.WORDS, self.WORDS[1])).encode())
        self.assertEqual(self.annotations(name)['who'], who)


class Killed(CtrCase):
    """kill -9 of each part in mid-run: containerd sees the exit, nothing remains."""

    def ends(self, kill):
        events = self.cd.events()
        self.addCleanup(events.close)
        name = self.detached('sleep', '1000')
        kill(name)
        exit_event = events.wait('/tasks/exit', name, 20)
        self.assertNotEqual(exit_event.get('exit_status', 0), 0)
        end = time.monotonic() + settings.QUICK_LIMIT
        while 'RUNNING' in self.cd.ctr('task', 'ls').out and time.monotonic() < end:
            time.sleep(0.1)
        self.assertNotIn('RUNNING', self.cd.ctr('task', 'ls').out)

    def one(self, program):
        pids = proc.running(program)
        self.assertEqual(len(pids), 1, 'processes of %s: %r' % (program, pids))
        return pids[0]

    def test_containerd_sees_the_exit_when_the_shim_is_killed(self):
        self.ends(lambda name: os.kill(self.one(os.path.basename(settings.shim_binary())), 9))

    @only_lcow('there is no QEMU')
    def test_containerd_sees_the_exit_when_QEMU_is_killed(self):
        self.ends(lambda name: os.kill(self.one('qemu-system'), 9))

    @only_lcow('the kernel that panics is the guest\'s')
    def test_containerd_sees_the_exit_when_the_guest_kernel_panics(self):
        events = self.cd.events()
        self.addCleanup(events.close)
        # Never on this host's kernel, whatever the runtime.
        script = '[ "$(uname -r)" != %s ] && sleep 2 && echo c > /proc/sysrq-trigger; sleep 1000' % os.uname().release
        name = self.detached('sh', '-c', script, options=('--privileged',))
        self.assertNotEqual(events.wait('/tasks/exit', name, 30).get('exit_status', 0), 0)
