# SPDX-License-Identifier: Apache-2.0
"""Every call of the Task service, through each version of containerd."""
import json
import os
import time
import zlib

from lcowtest import containerd, pb, settings, tasks, ttrpc
from lcowtest.case import CtrCase, SharedCtr, only_lcow
from lcowtest.process import Process, new_container

DEBS = [deb for deb in containerd.DEBS.values() if deb]
SIGRTMIN, SIGRTMAX = 34, 64


class Processes:
    """What both kinds of tests below use."""

    def refused(self, code, call, *args, words='', **fields):
        with self.assertRaises(ttrpc.RpcError) as e:
            call(*args, **fields)
        self.assertEqual(e.exception.code, code, e.exception.message)
        self.assertIn(words, e.exception.message)

    def process(self, container, exec_id='', **options):
        one = Process(self.cd, container, exec_id, **options)
        self.addCleanup(one.close)
        return one

    def recorder(self):
        events = self.cd.events()
        self.addCleanup(events.close)
        return events

    def shim(self, container):
        """A connection to the shim itself, beside containerd's."""
        with open(self.cd.bundle(container) + '/address') as f:
            client = ttrpc.Client(f.read(), self.cd.namespace)
        self.addCleanup(client.close)
        return client

    def until(self, what, limit=10):
        """Wait until it is true."""
        end = time.monotonic() + limit * settings.SLOW
        while not what():
            self.assertLess(time.monotonic(), end, 'not in %d s' % limit)
            time.sleep(0.05)

    def settled(self, what):
        """What it is once it has stayed the same for half a second."""
        seen, since = what(), time.monotonic()
        while time.monotonic() - since < 0.5:
            time.sleep(0.05)
            if what() != seen:
                seen, since = what(), time.monotonic()
        return seen


class Running(Processes):
    """Calls on one running container."""

    def exec(self, *args, **options):
        """A process that runs."""
        return self.process(self.name, self.new_id('e'), **options).run(*args)

    def task(self, method, **fields):
        return self.cd.tasks.call(method, self.name, **fields)

    def status(self):
        return self.task('Get')['process']['status']

    def test_State_and_Connect_know_the_running_process(self):
        state = self.task('Get')['process']
        self.assertEqual(state['status'], pb.RUNNING)
        self.assertGreater(state['pid'], 0)
        answer = self.shim(self.name).call('Connect', id=self.name)
        self.assertEqual(answer['task_pid'], state['pid'])
        self.assertTrue(os.path.exists('/proc/%d' % answer['shim_pid']))

    def test_Exec_State_Start_Wait_and_Delete_tell_one_story(self):
        one = self.process(self.name, self.new_id('e'))
        one.exec('sh', '-c', 'read a; echo "got $a"; echo err >&2; exit 42')
        state = one.state()
        self.assertEqual((state['id'], state['status'], state['pid']), (one.exec_id, pb.CREATED, 0))
        early = self.cd.tasks.start('Wait', self.name, exec_id=one.exec_id)
        pid = one.start()
        state = one.state()
        self.assertEqual((state['status'], state['pid']), (pb.RUNNING, pid))
        self.refused(ttrpc.PRECONDITION if settings.IS_LCOW else ttrpc.UNKNOWN, one.call, 'DeleteProcess')
        one.write(b'this\n')
        self.assertEqual(self.cd.tasks.finish(early)['exit_status'], 42)
        self.assertEqual((one.out(), one.out('stderr')), (b'got this\n', b'err\n'))
        state = one.state()
        self.assertEqual((state['status'], state['exit_status']), (pb.STOPPED, 42))
        self.assertGreater(state['exited_at']['seconds'], 1600000000)
        answer = one.call('DeleteProcess')
        self.assertEqual((answer['pid'], answer['exit_status'], answer['exited_at']), (pid, 42, state['exited_at']))
        self.refused(ttrpc.NOT_FOUND, one.state)

    def test_ctr_exec_hands_on_exit_codes(self):
        for code in (0, 1, 42, 255):
            self.check(self.cd.ctr('task', 'exec', '--exec-id', self.new_id('e'), self.name, 'sh', '-c', 'exit %d' % code), code)

    def test_Kill_ends_an_exec_by_any_signal_that_is_none_of_the_others(self):
        for signal in (1, 2, 9, 15, SIGRTMIN, SIGRTMAX):
            one = self.exec('sleep', '1000', fifos=False)
            one.call('Kill', signal=signal)
            self.assertEqual(one.wait(), 128 + signal)
        self.assertEqual(self.status(), pb.RUNNING)

    def test_a_process_may_handle_a_signal(self):
        one = self.exec('sh', '-c', 'trap "exit 6" USR1; echo ready; while :; do sleep 0.1; done')
        one.streams['stdout'].wait_for(b'ready')
        one.call('Kill', signal=10)
        self.assertEqual(one.wait(), 6)

    def test_Kill_refuses_what_is_no_signal_and_who_is_not_there(self):
        one = self.exec('sleep', '1000', fifos=False)
        for signal in (SIGRTMAX + 1, 1000):
            with self.assertRaises(ttrpc.RpcError):
                one.call('Kill', signal=signal)
        self.assertEqual(one.state()['status'], pb.RUNNING)
        self.refused(ttrpc.NOT_FOUND, self.task, 'Kill', exec_id='nobody', signal=9)
        one.call('Kill', signal=9)
        one.wait()
        self.refused(ttrpc.NOT_FOUND, one.call, 'Kill', signal=9, words='process already finished')

    def test_Pids_tell_every_process_and_whose_exec_it_is(self):
        def pids():
            return {process['pid'] for process in self.task('ListPids')['processes']}
        self.until(lambda: len(pids()) == 2)    # what the test before has ended may be there yet
        before = pids()
        one = self.exec('sh', '-c', 'sleep 1000 & echo on; read a; kill $!; wait')
        one.streams['stdout'].wait_for(b'on')
        found = {}
        for process in self.task('ListPids')['processes']:
            info = process['info']
            found[process['pid']] = info and pb.decode(tasks.PROCESS_DETAILS, info['value'])['exec_id']
        self.assertEqual((len(found), before - set(found)), (len(before) + 2, set()), found)
        self.assertEqual(found[one.state()['pid']], one.exec_id)
        self.assertIn(self.task('Get')['process']['pid'], found)
        lines = self.check(self.cd.ctr('task', 'ps', self.name)).out.splitlines()[1:]
        self.assertEqual(sorted(int(line.split()[0]) for line in lines), sorted(found))
        self.assertEqual([one.exec_id in line for line in lines].count(True), 1, lines)
        one.write(b'\n')
        one.wait()

    @only_lcow('hosts may have other cgroups')
    def test_Stats_count_what_the_container_uses(self):
        def metrics():
            return json.loads(self.check(self.cd.ctr('task', 'metrics', '--format', 'json', self.name)).out)
        before = metrics()
        one = self.exec('sh', '-c', 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 1000')
        one.streams['stdout'].wait_for(b'done', settings.BOOT_LIMIT)
        after = metrics()
        self.assertGreater(after['pids']['current'], before['pids']['current'])
        self.assertGreater(after['cpu']['usage_usec'], before['cpu']['usage_usec'] + 1000)
        self.assertGreater(after['memory']['usage'], 0)
        self.assertEqual(self.cd.tasks.metrics(self.name)['data']['type_url'], 'io.containerd.cgroups.v2.Metrics')

    def test_Pause_holds_every_process_and_Resume_lets_it_go_on(self):
        events = self.recorder()
        one = self.exec('sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done')
        one.streams['stdout'].wait_for(b'3\n')
        self.check(self.cd.ctr('task', 'pause', self.name))
        self.assertEqual(self.status(), pb.PAUSED)
        self.assertRegex(self.cd.ctr('task', 'ls').out, r'%s +\d+ +PAUSED' % self.name)
        # What it wrote before arrives; in the second after that it would have written ten times.
        held = self.settled(lambda: len(one.streams['stdout'].data))
        time.sleep(1)
        self.assertEqual(len(one.streams['stdout'].data), held)
        self.check(self.cd.ctr('task', 'resume', self.name))
        self.assertEqual(self.status(), pb.RUNNING)
        self.until(lambda: len(one.streams['stdout'].data) > held)
        for topic in ('/tasks/paused', '/tasks/resumed'):
            events.wait(topic, self.name)
        topics = events.topics(self.name)
        self.assertLess(topics.index('/tasks/paused'), topics.index('/tasks/resumed'))

    @only_lcow('hosts may have other cgroups')
    def test_Update_changes_the_limits(self):
        limits = {'memory': {'limit': 64 << 20}, 'pids': {'limit': 50}, 'cpu': {'quota': 50000, 'period': 100000}}
        self.task('Update', resources={'type_url': tasks.RESOURCES_URL, 'value': json.dumps(limits).encode()})
        metrics = json.loads(self.check(self.cd.ctr('task', 'metrics', '--format', 'json', self.name)).out)
        self.assertEqual((metrics['memory']['usage_limit'], metrics['pids']['limit']), (64 << 20, 50))
        self.assertEqual(self.status(), pb.RUNNING)

    def test_Update_refuses_what_is_no_JSON(self):
        with self.assertRaises(ttrpc.RpcError):
            self.task('Update', resources={'type_url': tasks.RESOURCES_URL, 'value': b'{"memory":'})
        self.assertEqual(self.status(), pb.RUNNING)

    def test_ResizePty_sets_the_size_of_a_terminal(self):
        one = self.exec('sh', terminal=True)
        one.call('ResizePty', width=91, height=37)
        one.write(b'stty size; exit 5\n')
        self.assertEqual(one.wait(), 5)
        self.assertIn(b'37 91', one.out())

    def test_CloseIO_is_the_end_of_standard_input_and_nothing_else_is(self):
        one = self.exec('cat')
        for word in (b'one\n', b'two\n'):
            with open(one.fields['stdin'], 'wb') as f:
                f.write(word)
            one.streams['stdout'].wait_for(word)
        one.close_stdin()
        self.assertEqual((one.wait(), one.out()), (0, b'one\ntwo\n'))

    def test_ctr_exec_takes_4_MiB_through_cat(self):
        data = os.urandom(4 << 20)
        result = self.check(self.cd.ctr('task', 'exec', '--exec-id', self.new_id('e'), self.name, 'cat', stdin=data))
        self.assertEqual((len(result.out_bytes), zlib.crc32(result.out_bytes)), (len(data), zlib.crc32(data)))

    @only_lcow('runc has CRIU, or says that it is missing')
    def test_Checkpoint_says_that_it_is_not_there(self):
        self.refused(ttrpc.UNIMPLEMENTED, self.task, 'Checkpoint', words='heckpoint')
        self.assertEqual(self.status(), pb.RUNNING)

    def test_Shutdown_lets_a_container_live_that_was_not_deleted(self):
        self.shim(self.name).call('Shutdown', id=self.name)
        self.assertEqual(self.status(), pb.RUNNING)
        self.check(self.cd.ctr('task', 'exec', '--exec-id', self.new_id('e'), self.name, 'true'))

    def test_what_is_there_twice_or_not_at_all_is_refused(self):
        one = self.exec('sleep', '1000', fifos=False)
        self.refused(ttrpc.EXISTS, one.exec, 'true')
        self.refused(ttrpc.NOT_FOUND, self.cd.tasks.call, 'Get', 'nobody')
        self.refused(ttrpc.NOT_FOUND, self.task, 'Get', exec_id='nobody')
        self.refused(ttrpc.NOT_FOUND, self.task, 'Start', exec_id='nobody')
        self.refused(ttrpc.PRECONDITION if settings.IS_LCOW else ttrpc.UNKNOWN, self.task, 'Delete')
        with self.assertRaises(ttrpc.RpcError):
            one.start()
        self.assertEqual(one.state()['status'], pb.RUNNING)

    def test_output_goes_on_while_containerd_starts_again(self):
        one = self.exec('sh', '-c', 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done')
        one.streams['stdout'].wait_for(b'\n5\n')
        self.cd.restart()
        count = one.streams['stdout'].data.count(b'\n')
        self.until(lambda: one.streams['stdout'].data.count(b'\n') > count + 5)
        self.assertEqual(self.status(), pb.RUNNING)
        self.assertEqual(one.state()['status'], pb.RUNNING)
        self.check(self.cd.ctr('task', 'exec', '--exec-id', self.new_id('e'), self.name, 'true'))
        one.call('Kill', signal=9)
        self.assertEqual(one.wait(), 137)
        lines = one.out().splitlines()
        self.assertEqual(lines, [b'%d' % i for i in range(len(lines))])

    def test_events_wait_for_containerd_to_come_back(self):
        one = self.exec('sleep', '1000', fifos=False)
        shim = self.shim(self.name)
        self.cd.stop()
        begin = len(self.cd.log())
        shim.call('Kill', id=self.name, exec_id=one.exec_id, signal=9)
        self.assertEqual(shim.call('Wait', id=self.name, exec_id=one.exec_id)['exit_status'], 137)
        time.sleep(1)
        self.cd.start()

        def forwarded():
            return [line for line in self.cd.log()[begin:].splitlines() if 'event forwarded' in line and '/tasks/exit' in line]
        self.until(forwarded, 20)
        self.assertEqual(len(forwarded()), 1)
        self.assertEqual(one.wait(), 137)


class Life(Processes):
    """Calls that make, start and end a container."""

    def container(self, *command, options=()):
        """The init process of a new container, whose task nobody has made yet."""
        name = self.new_id('l')
        self.addCleanup(self.remove, name)
        new_container(self.cd, name, *command, options=options)
        return self.process(name)

    def test_Create_Start_Wait_and_Delete_tell_one_story_and_their_events_come_in_order(self):
        events = self.recorder()
        init = self.container('sh', '-c', 'read a; echo "got $a"; exit 42')
        pid = init.create()['pid']
        self.assertGreater(pid, 0)
        state = init.state()
        self.assertEqual((state['status'], state['pid'], state['stdout']), (pb.CREATED, pid, init.fields['stdout']))
        self.refused(ttrpc.EXISTS, init.create)
        early = self.cd.tasks.start('Wait', init.container)
        self.assertEqual(init.start(), pid)
        with self.assertRaises(ttrpc.RpcError):
            init.start()
        one = self.process(init.container, 'x', fifos=False)
        one.run('sh', '-c', 'exit 3')
        self.assertEqual(one.wait(), 3)
        one.call('DeleteProcess')
        init.write(b'this\n')
        self.assertEqual(self.cd.tasks.finish(early)['exit_status'], 42)
        self.assertEqual(init.out(), b'got this\n')
        state = init.state()
        self.assertEqual((state['status'], state['exit_status']), (pb.STOPPED, 42))
        self.refused(ttrpc.NOT_FOUND, init.call, 'Kill', signal=15, words='process already finished')
        with self.assertRaises(ttrpc.RpcError):
            self.process(init.container, 'late', fifos=False).run('true')
        answer = init.call('Delete', settings.BOOT_LIMIT)
        self.assertEqual((answer['pid'], answer['exit_status'], answer['exited_at']), (pid, 42, state['exited_at']))
        self.refused(ttrpc.NOT_FOUND, init.state)
        events.wait('/tasks/delete', init.container)
        told = [(t, 'x' in (f.get('id'), f.get('exec_id'))) for t, f in events.list
                if f.get('container_id') == init.container and f.get('exec_id') != 'late']
        self.assertEqual(told, [
            ('/tasks/create', False), ('/tasks/start', False), ('/tasks/exec-added', True), ('/tasks/exec-started', True),
            ('/tasks/exit', True), ('/tasks/exit', False), ('/tasks/delete', False)])

    def test_Create_refuses_a_command_that_does_not_exist(self):
        init = self.container('/no/such/command')
        with self.assertRaises(ttrpc.RpcError) as e:
            init.create()
        self.assertIn('/no/such/command', e.exception.message)
        self.refused(ttrpc.NOT_FOUND, init.state)

    def test_a_container_that_was_never_started_is_killed_and_deleted(self):
        init = self.container('sleep', '1000')
        init.create()
        init.call('Kill', signal=9)
        self.assertEqual(init.wait(), 137)
        self.assertEqual(init.call('Delete', settings.BOOT_LIMIT)['exit_status'], 137)

    def test_Kill_of_all_ends_init_and_its_children_and_Stats_answer_until_Delete(self):
        init = self.container('sh', '-c', 'sleep 1000 & echo on; wait')
        init.create()
        init.start()
        init.streams['stdout'].wait_for(b'on')
        init.call('Kill', signal=9, all=True)
        self.assertEqual(init.wait(), 137)
        # The child held the pipe as well: it ends only with the child.
        self.assertEqual(init.out(), b'on\n')
        if settings.IS_LCOW:
            self.assertIsNotNone(self.cd.tasks.metrics(init.container))
        init.call('Delete', settings.BOOT_LIMIT)

    def test_a_paused_container_can_be_killed(self):
        init = self.container('sleep', '1000')
        init.create()
        init.start()
        init.call('Pause')
        self.assertEqual(init.state()['status'], pb.PAUSED)
        init.call('Kill', signal=9)
        # runc's shim leaves it frozen with the signal pending.
        try:
            init.call('Resume')
        except ttrpc.RpcError:
            pass
        self.assertEqual(init.wait(), 137)

    @only_lcow('it needs cgroup v2')
    def test_who_takes_more_memory_than_allowed_is_killed_and_the_event_comes_before_the_exit(self):
        events = self.recorder()
        name = self.new_id('o')
        self.check(self.cd.run(name, 'dd', 'if=/dev/zero', 'of=/dev/null', 'bs=200M', 'count=1',
                               options=('--rm', '--memory-limit', str(32 << 20))), 137)
        events.wait('/tasks/delete', name)
        topics = [t for t in events.topics(name) if t.startswith('/tasks/')]
        self.assertEqual(topics, ['/tasks/create', '/tasks/start', '/tasks/oom', '/tasks/exit', '/tasks/delete'])


class Containerd16Running(Running, SharedCtr):
    version = '1.6'


class Containerd16Life(Life, CtrCase):
    version = '1.6'


class Containerd17Running(Running, SharedCtr):
    version = '1.7'


class Containerd21Running(Running, SharedCtr):
    version = '2.1'


class Containerd21Life(Life, CtrCase):
    version = '2.1'
