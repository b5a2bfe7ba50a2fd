# SPDX-License-Identifier: Apache-2.0
"""Processes and their standard streams, through the Task service."""
import os
import threading
import time
import zlib

from lcowtest import pb, proc, settings, ttrpc
from lcowtest.case import DirectCase, Shared, only_lcow

LINE = b'0123456789abcde\n'
BURST = LINE * (8 << 16)
BURST_COMMAND = 'yes 0123456789abcde | head -c 8388608'


class Exec(Shared):
    """Execs in one running container."""

    def setUp(self):
        super().setUp()
        self.exec_ids = []
        self.addCleanup(self._remove_execs)

    def new_exec(self):
        self.exec_ids.append(self.new_id('e'))
        return self.exec_ids[-1]

    def _remove_execs(self):
        for exec_id in self.exec_ids:
            for method, more in (('Kill', {'signal': 9}), ('Wait', {}), ('Delete', {})):
                try:
                    self.box.call(method, exec_id=exec_id, limit=5, **more)
                except (ttrpc.RpcError, TimeoutError):
                    pass
            for name in ('stdin', 'stdout', 'stderr'):
                stream = self.box.streams.pop(exec_id + name, None)
                if stream:
                    stream.close()
                path = os.path.join(self.bed.dir, 'f-%s-%s%s' % (self.box.id, exec_id, name))
                if os.path.exists(path):
                    os.unlink(path)
        for fd in self.box.stdin_fds:
            os.close(fd)
        self.box.stdin_fds.clear()

    def run_exec(self, *args, streams=('stdout',), **more):
        """Exec, Start: (exec id, fields of the FIFOs)"""
        exec_id = self.new_exec()
        fields = self.box.stdio(*streams, prefix=exec_id)
        self.box.exec(exec_id, *args, **fields, **more)
        return exec_id, fields

    def out(self, exec_id, name='stdout'):
        return self.box.streams[exec_id + name]

    def wait(self, exec_id, limit=None):
        return self.box.call('Wait', exec_id=exec_id, limit=limit or settings.BOOT_LIMIT)['exit_status']

    def test_an_exec_without_streams_gives_its_exit_code(self):
        for code in (0, 1, 42, 255):
            exec_id, _ = self.run_exec('sh', '-c', 'echo nobody reads this; exit %d' % code, streams=())
            self.assertEqual(self.wait(exec_id), code)

    def test_an_exec_has_its_streams_apart(self):
        exec_id, _ = self.run_exec('sh', '-c', 'echo out; echo err >&2; exit 3', streams=('stdout', 'stderr'))
        self.assertEqual(self.wait(exec_id), 3)
        self.assertEqual(self.out(exec_id).finish(), b'out\n')
        self.assertEqual(self.out(exec_id, 'stderr').finish(), b'err\n')

    def test_standard_input_that_is_not_given_is_at_its_end(self):
        exec_id, _ = self.run_exec('sh', '-c', 'cat; echo done')
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(self.out(exec_id).finish(), b'done\n')

    def test_20_MiB_through_cat_come_back_and_CloseIO_ends_them(self):
        exec_id, fields = self.run_exec('cat', streams=('stdin', 'stdout'))
        data = os.urandom(1 << 20) * 20
        fd = self.box.open_stdin(fields)

        def feed():
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view[:1 << 16]):]
            self.box.close_stdin(fd)
            self.box.call('CloseIO', exec_id=exec_id, stdin=True)
        thread = threading.Thread(target=feed)
        thread.start()
        thread.join(2 * settings.BOOT_LIMIT)
        self.assertFalse(thread.is_alive(), 'standard input is not taken')
        self.assertEqual(self.wait(exec_id), 0)
        out = self.out(exec_id).finish()
        self.assertEqual(len(out), len(data))
        self.assertEqual(zlib.crc32(out), zlib.crc32(data))

    def test_a_burst_of_8_MiB_before_the_exit_is_whole_and_ends_without_Delete(self):
        exec_id, _ = self.run_exec('sh', '-c', BURST_COMMAND)
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(zlib.crc32(self.out(exec_id).finish()), zlib.crc32(BURST))

    def test_a_burst_is_whole_when_its_reader_comes_after_the_exit_was_awaited(self):
        exec_id = self.new_exec()
        fields = self.box.stdio('stdout', prefix=exec_id, start=False)
        self.box.exec(exec_id, 'sh', '-c', BURST_COMMAND, **fields)
        waiting = self.box.begin('Wait', exec_id=exec_id)
        time.sleep(2)
        # Nobody reads, and nothing else is held up by that.
        self.assertEqual(self.box.call('State', limit=2 * settings.SLOW)['status'], pb.RUNNING)
        self.out(exec_id).drain()
        self.assertEqual(self.box.end(waiting)['exit_status'], 0)
        self.assertEqual(zlib.crc32(self.out(exec_id).finish()), zlib.crc32(BURST))

    def test_a_writer_that_leaves_is_not_the_end_of_standard_input(self):
        exec_id, fields = self.run_exec('cat', streams=('stdin', 'stdout'))
        for word in (b'one\n', b'two\n'):
            fd = os.open(fields['stdin'], os.O_WRONLY)
            os.write(fd, word)
            os.close(fd)
            self.out(exec_id).wait_for(word)
        self.assertEqual(self.box.call('State', exec_id=exec_id)['status'], pb.RUNNING)
        self.box.call('CloseIO', exec_id=exec_id, stdin=True)
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(self.out(exec_id).finish(), b'one\ntwo\n')

    def test_CloseIO_delivers_what_is_already_in_the_pipe(self):
        exec_id, fields = self.run_exec('cat', streams=('stdin', 'stdout'))
        fd = self.box.open_stdin(fields)
        os.write(fd, b'x' * 60000)
        self.box.close_stdin(fd)
        self.box.call('CloseIO', exec_id=exec_id, stdin=True)
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(self.out(exec_id).finish(), b'x' * 60000)

    def test_CloseIO_is_fine_without_standard_input_and_after_the_exit(self):
        exec_id, _ = self.run_exec('true')
        self.assertEqual(self.wait(exec_id), 0)
        self.box.call('CloseIO', exec_id=exec_id, stdin=True)
        self.box.call('CloseIO', stdin=True)

    def test_a_terminal_takes_its_size_from_ResizePty(self):
        exec_id, fields = self.run_exec('sh', streams=('stdin', 'stdout'), terminal=True)
        fd = self.box.open_stdin(fields)
        self.box.call('ResizePty', exec_id=exec_id, width=91, height=37)
        os.write(fd, b'stty size; tty; exit 5\n')
        self.assertEqual(self.wait(exec_id), 5)
        out = self.out(exec_id).finish()
        self.assertIn(b'37 91', out)
        self.assertIn(b'/dev/pts/', out)

    def test_a_terminal_of_size_0x0_is_accepted(self):
        exec_id, _ = self.run_exec('sleep', '100', streams=('stdin', 'stdout'), terminal=True)
        self.box.call('ResizePty', exec_id=exec_id, width=0, height=0)

    def test_signals_end_an_exec_with_128_and_their_number(self):
        for signal, status in ((15, 143), (9, 137), (1, 129)):
            exec_id, _ = self.run_exec('sleep', '100', streams=())
            self.box.call('Kill', exec_id=exec_id, signal=signal)
            self.assertEqual(self.wait(exec_id), status)
        self.assertEqual(self.box.call('State')['status'], pb.RUNNING)

    def test_Kill_of_a_finished_exec_is_NotFound(self):
        exec_id, _ = self.run_exec('true', streams=())
        self.wait(exec_id)
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.call('Kill', exec_id=exec_id, signal=9)
        self.assertEqual(e.exception.code, ttrpc.NOT_FOUND)
        self.assertIn('process already finished', e.exception.message)

    def test_a_missing_command_fails_at_Start_by_name_and_the_exec_can_be_deleted(self):
        exec_id = self.new_exec()
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.exec(exec_id, '/no/such/command')
        self.assertIn('/no/such/command', e.exception.message)
        self.box.call('Delete', exec_id=exec_id, limit=5 * settings.SLOW)

    def test_an_exec_goes_through_its_states(self):
        exec_id = self.new_exec()
        self.box.call('Exec', exec_id=exec_id, spec={'type_url': pb.PROCESS_URL,
                                                     'value': b'{"args":["sleep","100"],"cwd":"/","env":["PATH=/bin"]}'})
        state = self.box.call('State', exec_id=exec_id)
        self.assertEqual((state['id'], state['status'], state['pid']), (exec_id, pb.CREATED, 0))
        pid = self.box.call('Start', exec_id=exec_id)['pid']
        state = self.box.call('State', exec_id=exec_id)
        self.assertEqual((state['status'], state['pid']), (pb.RUNNING, pid))
        self.assertGreater(pid, 0)
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.call('Delete', exec_id=exec_id)
        if settings.IS_LCOW:
            self.assertEqual(e.exception.code, ttrpc.PRECONDITION)
        self.box.call('Kill', exec_id=exec_id, signal=9)
        self.wait(exec_id)
        state = self.box.call('State', exec_id=exec_id)
        self.assertEqual((state['status'], state['exit_status']), (pb.STOPPED, 137))
        self.assertGreater(state['exited_at']['seconds'], 1600000000)
        answer = self.box.call('Delete', exec_id=exec_id)
        self.assertEqual((answer['exit_status'], answer['exited_at']), (137, state['exited_at']))
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.call('State', exec_id=exec_id)
        self.assertEqual(e.exception.code, ttrpc.NOT_FOUND)

    def test_an_exec_that_was_never_started_is_deleted_with_status_0(self):
        exec_id = self.new_exec()
        self.box.call('Exec', exec_id=exec_id, spec={'type_url': pb.PROCESS_URL, 'value': b'{"args":["true"],"cwd":"/"}'})
        self.assertEqual(self.box.call('Delete', exec_id=exec_id)['exit_status'], 0)

    def test_Wait_may_come_before_Start_and_any_number_of_times(self):
        exec_id = self.new_exec()
        self.box.call('Exec', exec_id=exec_id, spec={'type_url': pb.PROCESS_URL,
                                                     'value': b'{"args":["/bin/sh","-c","sleep 1; exit 6"],"cwd":"/"}'})
        early = [self.box.begin('Wait', exec_id=exec_id) for _ in range(3)]
        time.sleep(0.2)
        self.box.call('Start', exec_id=exec_id)
        self.assertEqual([self.box.end(w)['exit_status'] for w in early], [6, 6, 6])
        self.assertEqual([self.wait(exec_id) for _ in range(2)], [6, 6])

    def test_a_second_exec_of_a_live_id_is_AlreadyExists(self):
        exec_id, _ = self.run_exec('sleep', '100', streams=())
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.call('Exec', exec_id=exec_id, spec={'type_url': pb.PROCESS_URL, 'value': b'{"args":["true"],"cwd":"/"}'})
        self.assertEqual(e.exception.code, ttrpc.EXISTS)

    def test_a_process_that_is_no_JSON_is_refused(self):
        exec_id = self.new_exec()
        with self.assertRaises(ttrpc.RpcError):
            self.box.call('Exec', exec_id=exec_id, spec={'type_url': pb.PROCESS_URL, 'value': b'{"args":'})
            self.box.call('Start', exec_id=exec_id)

    def test_Pids_hold_the_containers_process(self):
        pids = [p['pid'] for p in self.box.call('Pids')['processes']]
        self.assertIn(self.box.call('State')['pid'], pids)

    def test_the_events_of_an_exec_come_in_order_and_carry_its_id(self):
        exec_id, _ = self.run_exec('sh', '-c', 'exit 4', streams=())
        self.wait(exec_id)
        event = self.bed.events.wait('/tasks/exit', self.box.id, match=lambda e: e['id'] == exec_id)
        self.assertEqual(event['exit_status'], 4)
        mine = [t for t, e in self.bed.events.events if exec_id in (e.get('exec_id'), e.get('id'))]
        self.assertEqual(mine, ['/tasks/exec-added', '/tasks/exec-started', '/tasks/exit'])
        self.assertEqual(self.bed.events.errors, [])

    def test_execs_leave_no_descriptors_in_the_shim(self):
        def once():
            exec_id, _ = self.run_exec('true', streams=('stdin', 'stdout', 'stderr'))
            self.assertEqual(self.wait(exec_id), 0)
            self.out(exec_id).finish()
            self.box.call('Delete', exec_id=exec_id)
        once()
        before = proc.fds(self.box.shim_pid)
        for _ in range(10):
            once()
        end = time.monotonic() + 5
        while proc.fds(self.box.shim_pid) > before + 1 and time.monotonic() < end:
            time.sleep(0.1)
        self.assertLessEqual(proc.fds(self.box.shim_pid), before + 1)

    def test_four_execs_at_a_time_keep_their_output_apart(self):
        running = [self.run_exec('sh', '-c', 'yes %s | head -c 2097152' % word)[0] for word in ('aaa', 'bbb', 'ccc', 'ddd')]
        for exec_id, word in zip(running, (b'aaa\n', b'bbb\n', b'ccc\n', b'ddd\n')):
            self.assertEqual(self.wait(exec_id), 0)
            self.assertEqual(zlib.crc32(self.out(exec_id).finish()), zlib.crc32(word * (2097152 // 4)))


class Init(DirectCase):
    """The container's own process."""

    def test_a_burst_of_8_MiB_is_whole_when_Delete_follows_at_once(self):
        box = self.sandbox('sh', '-c', BURST_COMMAND)
        self.assertEqual(box.run(**box.stdio('stdout')), 0)
        self.assertEqual(box.call('Delete')['exit_status'], 0)
        self.assertEqual(zlib.crc32(box.streams['stdout'].finish()), zlib.crc32(BURST))

    def test_the_life_of_a_container_shows_in_State_Wait_Delete_and_four_events(self):
        box = self.sandbox('sh', '-c', 'read a; echo "got $a"; exit 42')
        fields = box.stdio('stdin', 'stdout')
        fd = box.open_stdin(fields)
        pid = box.create(**fields)['pid']
        self.assertEqual(box.call('State')['status'], pb.CREATED)
        early = box.begin('Wait')
        self.assertEqual(box.call('Start')['pid'], pid)
        self.assertEqual(box.call('State')['status'], pb.RUNNING)
        os.write(fd, b'this\n')
        self.assertEqual(box.end(early)['exit_status'], 42)
        state = box.call('State')
        self.assertEqual((state['status'], state['exit_status']), (pb.STOPPED, 42))
        self.assertEqual(box.streams['stdout'].finish(), b'got this\n')
        with self.assertRaises(ttrpc.RpcError) as e:
            box.call('Kill', signal=15)
        self.assertEqual(e.exception.code, ttrpc.NOT_FOUND)
        answer = box.call('Delete')
        self.assertEqual((answer['exit_status'], answer['pid'], answer['exited_at']), (42, pid, state['exited_at']))
        self.bed.events.wait('/tasks/delete', box.id, 5 * settings.SLOW)
        self.assertEqual(self.bed.events.topics(box.id), ['/tasks/create', '/tasks/start', '/tasks/exit', '/tasks/delete'])
        with self.assertRaises(ttrpc.RpcError) as e:
            box.call('State')
        self.assertEqual(e.exception.code, ttrpc.NOT_FOUND)
        code, _, err = box.shutdown()
        self.assertEqual(code, 0, err)
        proc.wait_gone(box.shim_pid, settings.QUICK_LIMIT)

    def test_a_container_that_was_never_started_can_be_killed_and_deleted(self):
        box = self.sandbox('sleep', '1000')
        box.create()
        box.call('Kill', signal=9)
        self.assertEqual(box.call('Wait')['exit_status'], 137)
        box.call('Delete')

    def test_Kill_9_of_all_ends_a_shell_and_its_children(self):
        box = self.sandbox('sh', '-c', 'sleep 1000 & sleep 1001')
        box.create()
        box.call('Start')
        box.call('Kill', signal=9, all=True)
        self.assertEqual(box.call('Wait')['exit_status'], 137)

    def test_a_terminal_of_the_container_has_one_stream(self):
        spec_id = self.new_id('s')
        from lcowtest.direct import oci_spec
        box = self.sandbox(spec=oci_spec(spec_id, 'sh', '-c', 'read a; stty size; exit 3', terminal=True))
        fields = box.stdio('stdin', 'stdout')
        fd = box.open_stdin(fields)
        box.create(terminal=True, **fields)
        box.call('Start')
        box.call('ResizePty', width=101, height=33)
        os.write(fd, b'go\n')
        self.assertEqual(box.call('Wait', limit=box.limit)['exit_status'], 3)
        self.assertIn(b'33 101', box.streams['stdout'].finish())

    @only_lcow('the shim of 1.6 takes files only as file://')
    def test_output_goes_to_a_file_that_a_uri_names(self):
        box = self.sandbox('sh', '-c', 'echo one; echo two >&2')
        path = os.path.join(self.bed.dir, 'new', 'out.log')
        uri = 'file://' + path
        self.assertEqual(box.run(stdout=uri, stderr=uri), 0)
        box.call('Delete')
        with open(path) as f:
            self.assertEqual(sorted(f.read().split()), ['one', 'two'])
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
