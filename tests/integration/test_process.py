# SPDX-License-Identifier: Apache-2.0
"""Processes and their states, through the Task service; test_stdio.py has their standard streams."""
import os
import time

from lcowtest import pb, proc, settings, ttrpc
from lcowtest.case import DirectCase
from lcowtest.execs import ExecCase


class Exec(ExecCase):
    """Execs in one running container."""

    def test_an_exec_without_streams_gives_its_exit_code(self):
        for code in (0, 1, 42, 255):
            exec_id, _ = self.run_exec('sh', '-c', 'echo nobody reads this; exit %d' % code, streams=())
            self.assertEqual(self.wait(exec_id), code)

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
        # Calls of one connection are begun in their order.
        self.box.call('State', exec_id=exec_id)
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


class Init(DirectCase):
    """The container's own process."""

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
