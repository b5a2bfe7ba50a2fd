# SPDX-License-Identifier: Apache-2.0
"""The same actions with runc's shim and with ours, under the same containerd: clients must not see which it is.

Each test writes down what a client sees of one runtime, then of the other, and compares the two. What differs for a reason
is made equal where it is written down, with the reason.
"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from lcowtest import image, pb, settings, tasks, ttrpc
from lcowtest.case import CtrCase, only_lcow
from lcowtest.direct import process_spec
from lcowtest.process import Process, new_container

STOCK = 'io.containerd.runc.v2'
# What clients look for in the text of an error.
WORDS = ('process already finished', 'cannot resize a stopped container', 'cannot delete a running process',
         'container not created', 'already exists', '/no/such/command', 'ermission denied', '/nowhere',
         'must match')
# Clients tell these from other errors. runc's shim calls all else Unknown; ours says InvalidArgument or FailedPrecondition.
KINDS = {ttrpc.NOT_FOUND: 'NotFound', ttrpc.EXISTS: 'AlreadyExists', ttrpc.DEADLINE: 'DeadlineExceeded',
         ttrpc.UNAVAILABLE: 'Unavailable'}
# Pids, and when it was; paths of FIFOs hold the container's id.
VOLATILE = {'pid', 'exited_at', 'stdin', 'stdout', 'stderr', 'container_id'}


# A logging driver: argument and environment first, then what comes on its two streams.
LOGGER = '''#!/bin/sh
exec > "$2"
echo "$1, container $CONTAINER_ID of $CONTAINER_NAMESPACE"
exec 5>&-
sed -u 's/^/out: /' <&3 &
sed -u 's/^/err: /' <&4
wait
'''


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, args, env, size=(24, 80)):
        self.master, slave = pty.openpty()
        self.data = b''
        self.resize(*size)
        self.process = subprocess.Popen(args, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

    def send(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, limit=None):
        """Read until it matches; what came after the last match only."""
        end = time.monotonic() + (settings.BOOT_LIMIT if limit is None else limit)
        while True:
            found = re.search(pattern.encode(), self.data)
            if found:
                self.data = self.data[found.end():]
                return found.group().decode()
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError('%r is not in %r' % (pattern, self.data))
            try:
                part = os.read(self.master, 4096)
            except OSError:    # EIO: nobody has the other end any more
                part = b''
            if not part:
                raise AssertionError('%r is not in %r, which has ended' % (pattern, self.data))
            self.data += part

    def wait(self):
        return self.process.wait(settings.BOOT_LIMIT)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


class Side:
    """One runtime, and what a client saw of it."""

    def __init__(self, test, runtime):
        self.test, self.cd, self.runtime = test, test.cd, runtime
        self.seen = []
        self.names = {}

    def name(self, word):
        """An id of this side; both sides' are called `word` in what was seen."""
        if word not in self.names:
            self.names[word] = self.test.new_id(word)
            self.test.addCleanup(self.test.remove, self.names[word])
        return self.names[word]

    def common(self, text):
        for word, name in self.names.items():
            text = text.replace(name, '<%s>' % word)
        return text

    def say(self, what, saw):
        self.seen.append((what, saw))

    def do(self, what, function, *args, **fields):
        """Write down the answer of a call, or its error as clients tell them apart."""
        try:
            answer = function(*args, **fields)
        except ttrpc.RpcError as e:
            words = [w for w in WORDS if w in e.message]
            answer = (KINDS.get(e.code, 'refused'), *words)
        if isinstance(answer, dict):
            # Ours says 255 of a process that has not ended, as hcsshim does; nobody reads it then.
            if answer.get('status') in (pb.CREATED, pb.RUNNING, pb.PAUSED):
                answer = {**answer, 'exit_status': None}
            answer = {k: self.common(v) if isinstance(v, str) else v for k, v in answer.items() if k not in VOLATILE}
        self.say(what, answer)

    def call(self, what, method, container, **fields):
        self.do(what, self.cd.tasks.call, method, container, limit=settings.QUICK_LIMIT, **fields)

    def ctr(self, what, *args, **options):
        """Write down the exit code and the output of a ctr command."""
        result = self.cd.ctr(*args, **options)
        self.say(what, (result.code, self.common(result.out)))
        return result

    def run_args(self, *options):
        return self.cd.run_args(*options, runtime=self.runtime)

    def run(self, what, *command, options=(), stdin=b''):
        """ctr run --rm"""
        result = self.cd.ctr(*self.run_args('--rm', *options), image.NAME, self.name('r'), *command, stdin=stdin)
        self.say(what, (result.code, result.out, self.common(result.err)))

    def process(self, word, exec_id='', **options):
        one = Process(self.cd, self.name(word), exec_id, **options)
        self.test.addCleanup(one.close)
        return one

    def container(self, word, *command, options=(), **fifos):
        """A container without a task."""
        new_container(self.cd, self.name(word), *command, runtime=self.runtime, options=options)
        return self.process(word, **fifos)

    def running(self, word, *command, options=(), **fifos):
        init = self.container(word, *command, options=options, **fifos)
        init.create()
        init.start()
        return init

    def row(self, word):
        """The state that "ctr task ls" tells."""
        found = re.search(r'%s +\d+ +(\S+)' % self.name(word), self.cd.ctr('task', 'ls').out)
        return found and found.group(1)

    def until(self, what):
        """Wait until it is true; whoever wants to know looks again."""
        end = time.monotonic() + settings.QUICK_LIMIT
        while not what() and time.monotonic() < end:
            time.sleep(0.1)

    def terminal(self, *args, **options):
        one = Terminal(self.cd._ctr(*args), self.cd.env, **options)
        self.test.addCleanup(one.close)
        return one


@only_lcow('compares it with runc')
class Compared(CtrCase):
    def same(self, actions):
        seen = []
        for runtime in (STOCK, settings.RUNTIME):
            side = Side(self, runtime)
            actions(side)
            self.assertTrue(side.seen)
            seen.append(side.seen)
        for stock, ours in zip(*seen):
            with self.subTest(stock[0]):
                self.assertEqual(ours, stock)
        self.assertEqual(len(seen[0]), len(seen[1]))


class Answers(Compared):
    """What the calls answer."""

    def test_what_run_gives(self):
        def actions(side):
            script = 'echo out; echo err >&2; read a; echo "$a"; exit 7'
            side.run('streams and status', 'sh', '-c', script, stdin=b'in\n')
            side.run('death by a signal', 'sh', '-c', 'kill -TERM $$; sleep 5')
            side.run('what a process finds', 'sh', '-c', 'env | sort; id; pwd; umask; ulimit -n; '
                     'grep -E "^(Cap...|NoNewPrivs|Seccomp|Groups):" /proc/self/status; ls /proc/self/fd | wc -l',
                     options=('--env', 'A=b c', '--cwd', '/tmp'))
            side.run('a user', 'sh', '-c', 'id; grep -E "^Cap...:" /proc/self/status; echo x > /file',
                     options=('--user', '65534:65534'))
            side.run('a directory that is not there', 'pwd', options=('--cwd', '/new/dir'))
        self.same(actions)

    def test_output_goes_to_files_and_logging_drivers(self):
        logger = os.path.join(self.cd.dir, 'logger')
        with open(logger, 'w') as f:
            f.write(LOGGER)
        os.chmod(logger, 0o755)
        self.addCleanup(os.unlink, logger)

        def actions(side):
            for word, uri in (('file', 'file://%s'), ('logger', 'binary://' + logger + '?out=%s')):
                log = os.path.join(self.cd.dir, side.name('log') + word)
                result = self.cd.ctr(*side.run_args('-d', '--log-uri', uri % log), image.NAME, side.name(word), 'sh', '-c',
                                     'echo one; echo two >&2; exit 3')
                side.say('run', (result.code, result.out, result.err))
                side.do('wait', lambda: self.cd.tasks.call('Wait', side.name(word))['exit_status'])

                def text():
                    with open(log) as f:
                        return sorted(side.common(f.read()).splitlines())
                # Not after the task is gone: runc's shim ends the driver with it, read or not.
                side.until(lambda: len(text()) == (2 if word == 'file' else 3))
                side.say(word, text())
                side.ctr('rm', 'task', 'rm', side.name(word))
                os.unlink(log)
        self.same(actions)

    def test_what_cannot_be_run_is_refused_by_name(self):
        def actions(side):
            for what, command in (('no such command', '/no/such/command'), ('not executable', '/etc/passwd')):
                init = side.container(re.sub(r'\W', '', what), command, fifos=False)
                side.do('create: ' + what, init.create)
                side.call('state: ' + what, 'Get', init.container)
        self.same(actions)

    def test_the_answers_about_a_container_at_each_step_of_its_life(self):
        def actions(side):
            name = side.name('c')
            side.call('state before create', 'Get', name)
            init = side.container('c', 'sh', '-c', 'sleep 100000 & wait', fifos=False)
            init.create()
            side.do('create twice', init.create)
            side.do('state: created', lambda: init.state())
            side.do('pids: created', lambda: len(init.call('ListPids')['processes']))
            side.do('stats: created', lambda: self.cd.tasks.metrics(name) is not None)
            side.call('pause: created', 'Pause', name)
            side.call('resume: created', 'Resume', name)
            side.do('state: still created', lambda: init.state())
            side.call('start', 'Start', name)
            side.call('start twice', 'Start', name)
            side.do('state: running', lambda: init.state())
            side.call('delete: running', 'Delete', name)
            side.call('kill: no such signal', 'Kill', name, signal=65)
            side.call('close stdin of who has none', 'CloseIO', name, stdin=True)
            side.call('resume: running', 'Resume', name)
            side.call('update: no JSON', 'Update', name,
                      resources={'type_url': tasks.RESOURCES_URL, 'value': b'{"memory":'})
            side.call('update', 'Update', name, resources={
                'type_url': tasks.RESOURCES_URL, 'value': b'{"memory":{"limit":67108864}}'})
            side.call('pause', 'Pause', name)
            side.do('state: paused', lambda: init.state())
            side.call('pause twice', 'Pause', name)
            side.call('delete: paused', 'Delete', name)
            side.do('exec: paused', lambda: side.process('c', 'p', fifos=False).run('true') and None)
            side.do('pids: paused', lambda: len(init.call('ListPids')['processes']))
            side.do('stats: paused', lambda: self.cd.tasks.metrics(name) is not None)
            side.call('resume', 'Resume', name)
            side.do('state: resumed', lambda: init.state())
            side.call('kill', 'Kill', name, signal=9)
            side.do('wait', init.wait)
            side.do('wait again', init.wait)
            side.do('state: stopped', lambda: init.state())
            side.call('kill: stopped', 'Kill', name, signal=15)
            side.call('start: stopped', 'Start', name)
            side.call('pause: stopped', 'Pause', name)
            side.call('resume: stopped', 'Resume', name)
            side.call('close stdin: stopped', 'CloseIO', name, stdin=True)
            side.do('exec: stopped', lambda: side.process('c', 'late', fifos=False).run('true') and None)
            side.do('create: stopped', init.create)
            side.call('delete', 'Delete', name)
            side.call('delete twice', 'Delete', name)
            side.call('kill: deleted', 'Kill', name, signal=9)
        self.same(actions)

    def test_the_answers_about_an_exec_at_each_step_of_its_life(self):
        def actions(side):
            side.running('c', 'sh', '-c', 'sleep 100000 & wait', fifos=False)
            one = side.process('c', 'e', fifos=False)
            one.exec('sleep', '1000')
            side.do('state: created', lambda: one.state())
            side.do('exec of a live id', lambda: one.exec('true'))
            side.do('start', lambda: one.call('Start'))
            side.do('start twice', lambda: one.call('Start'))
            side.do('state: running', lambda: one.state())
            side.do('delete: running', lambda: one.call('DeleteProcess'))
            side.do('close stdin of who has none', lambda: one.call('CloseIO', stdin=True))
            side.do('kill', lambda: one.call('Kill', signal=signal.SIGTERM))
            side.do('wait', one.wait)
            side.do('state: stopped', lambda: one.state())
            side.do('kill: stopped', lambda: one.call('Kill', signal=9))
            side.do('resize: stopped', lambda: one.call('ResizePty', width=1, height=1))
            side.do('close stdin: stopped', lambda: one.call('CloseIO', stdin=True))
            side.do('start: stopped', lambda: one.call('Start'))
            side.do('delete', lambda: one.call('DeleteProcess'))
            side.do('delete twice', lambda: one.call('DeleteProcess'))
            side.do('kill: deleted', lambda: one.call('Kill', signal=9))
            side.do('wait: deleted', one.wait)
            side.do('exec of an id that was deleted', lambda: one.run('sh', '-c', 'exit 9') and one.wait())

            tty = side.process('c', 't', terminal=True)
            tty.run('sleep', '1000')
            side.do('resize of a terminal', lambda: tty.call('ResizePty', width=90, height=30))
            side.do('state of a terminal', lambda: tty.state())
            tty.call('Kill', signal=9)
            side.do('wait: terminal', tty.wait)
            side.do('resize of a stopped terminal', lambda: tty.call('ResizePty', width=90, height=30))
        self.same(actions)

    def test_execs_that_cannot_be(self):
        def actions(side):
            side.running('c', 'sh', '-c', 'sleep 100000 & wait', fifos=False)
            for number, (what, change) in enumerate((
                    ('no such command', {'args': ['/no/such/command']}), ('not executable', {'args': ['/etc/passwd']}),
                    ('no directory', {'cwd': '/nowhere'}), ('no arguments', {'args': []}))):
                one = side.process('c', 'e%d' % number, fifos=False)
                side.do('exec: ' + what, lambda: one.exec(spec={**process_spec('true'), **change}))
                side.do('start: ' + what, lambda: one.start() and None)
                # runc's shim would go on calling it created, with status 0.
                side.do('delete: ' + what, lambda: one.call('DeleteProcess') and None)
            bad = side.process('c', 'bad', fifos=False)
            side.do('exec: no JSON', lambda: bad.call('Exec', spec={'type_url': pb.PROCESS_URL, 'value': b'{"args":'}))
            side.do('start: no JSON', bad.start)
            side.do('a bad id', lambda: side.process('c', 'a/b', fifos=False).exec('true'))
            for method in ('Get', 'Start', 'DeleteProcess', 'Wait', 'Kill', 'CloseIO', 'ResizePty'):
                side.call('nobody: ' + method, method, side.name('c'), exec_id='nobody')
            for method in ('Get', 'Start', 'Delete', 'Wait', 'Kill', 'Pause', 'Resume', 'ListPids', 'Update', 'Checkpoint'):
                side.call('no container: ' + method, method, 'nobody')
        self.same(actions)

    def test_what_the_shim_itself_says_of_a_container_that_it_does_not_know(self):
        def actions(side):
            side.running('c', 'sleep', '1000', fifos=False)
            with open(self.cd.bundle(side.name('c')) + '/address') as f:
                client = ttrpc.Client(f.read(), self.cd.namespace)
            self.addCleanup(client.close)
            for method in ('State', 'Start', 'Delete', 'Pids', 'Pause', 'Resume', 'Kill', 'Exec', 'ResizePty', 'CloseIO',
                           'Update', 'Wait', 'Stats'):
                side.do(method, client.call, method, id='nobody', limit=settings.QUICK_LIMIT)
        self.same(actions)

    def test_the_events_of_a_life(self):
        def actions(side):
            events = self.cd.events()
            self.addCleanup(events.close)
            init = side.running('c', 'sh', '-c', 'sleep 100000 & wait', fifos=False)
            for exec_id, command, code in (('one', ('sh', '-c', 'exit 4'), 4), ('two', ('/no/such/command',), None)):
                one = side.process('c', exec_id, fifos=False)
                one.exec(*command)
                if code is None:
                    with self.assertRaises(ttrpc.RpcError):
                        one.start()
                else:
                    one.start()
                    self.assertEqual(one.wait(), code)
                one.call('DeleteProcess')
            init.call('Pause')
            init.call('Resume')
            init.call('Kill', signal=9)
            init.wait()
            init.call('Delete', settings.BOOT_LIMIT)
            events.wait('/tasks/delete', init.container)
            for topic, fields in events.list:
                if fields.get('container_id') == init.container and topic.startswith('/tasks/'):
                    # In TaskDelete ours names the init process by the container's id, as hcsshim does.
                    who = fields.get('exec_id') or topic != '/tasks/delete' and fields.get('id') or ''
                    side.say(topic, (side.common(who), fields.get('exit_status'), bool(fields.get('pid')),
                                     bool(fields.get('exited_at'))))
        self.same(actions)


class ByHand(Compared):
    """What people type."""

    def test_run_t(self):
        def actions(side):
            tty = side.terminal(*side.run_args('--rm', '-t'), image.NAME, side.name('c'), 'sh', size=(31, 97))
            tty.expect('# ')
            self.talk(side, tty)
        self.same(actions)

    def talk(self, side, tty):
        """A dialogue with a shell on a terminal."""
        tty.send('stty size; tty; echo "TERM is $TERM"\n')
        side.say('size', tty.expect(r'\n\d+ \d+\r'))
        side.say('tty', tty.expect(r'/dev/\S+'))
        side.say('TERM', tty.expect(r'\nTERM is [^\r]*\r'))
        tty.expect('# ')
        tty.resize(50, 132)
        os.kill(tty.process.pid, signal.SIGWINCH)
        tty.send('until [ "$(stty size)" = "50 132" ]; do sleep 0.1; done; echo grown\n')
        side.say('resized', tty.expect(r'\ngrown\r', settings.QUICK_LIMIT))
        tty.send("sh -c 'echo on; exec sleep 1000'\n")
        tty.expect(r'\non\r')
        tty.send('\x03')
        tty.expect('# ')
        tty.send('echo "status $?"\n')
        side.say('interrupted', tty.expect(r'\nstatus \d+\r'))
        tty.send('exit 3\n')
        side.say('status', tty.wait())

    def test_exec_t(self):
        def actions(side):
            side.running('c', 'sleep', '1000', fifos=False)
            tty = side.terminal('task', 'exec', '-t', '--exec-id', 'e', side.name('c'), 'sh', size=(31, 97))
            tty.expect('# ')
            self.talk(side, tty)
        self.same(actions)

    def test_signals_to_ctr_reach_the_process(self):
        def actions(side):
            one = self.cd.popen(*side.run_args('--rm'), image.NAME, side.name('c'), 'sh', '-c',
                                'trap "echo seen" WINCH; trap "echo told; exit 6" TERM; echo ready; '
                                'while :; do sleep 0.1; done')
            side.say('ready', one.stdout.readline())
            # ctr hands on nothing before Start was answered, and this signal does not end it meanwhile.
            while not select.select([one.stdout], [], [], 0.5)[0]:
                one.send_signal(signal.SIGWINCH)
            one.terminate()
            out, err = one.communicate(timeout=settings.BOOT_LIMIT)
            side.say('told', (one.returncode, out.replace(b'seen\n', b''), err))
        self.same(actions)

    def test_attach_and_attach_again(self):
        def actions(side):
            result = self.cd.ctr(*side.run_args('-d'), image.NAME, side.name('c'), 'sh', '-c',
                                 'while read line; do echo "got $line"; done')
            side.say('run -d', (result.code, result.out, result.err))
            for word in ('first', 'second'):
                one = self.cd.popen('task', 'attach', side.name('c'))
                one.stdin.write(word.encode() + b'\n')
                one.stdin.flush()
                side.say(word, one.stdout.readline())
                one.kill()    # by a signal that it does not hand on
                one.communicate()
            side.say('ls', side.row('c'))
        self.same(actions)

    def test_attach_to_a_terminal(self):
        def actions(side):
            # ctr wants a terminal for -t even when it leaves at once.
            first = side.terminal(*side.run_args('-d', '-t'), image.NAME, side.name('c'), 'sh')
            side.say('run -d -t', first.wait())
            tty = side.terminal('task', 'attach', side.name('c'), size=(31, 97))
            tty.send('\n')
            tty.expect('# ')
            self.talk(side, tty)
        self.same(actions)

    def test_ls_ps_pause_resume_metrics_kill_rm(self):
        def actions(side):
            name = side.name('c')
            result = self.cd.ctr(*side.run_args('-d', '--null-io'), image.NAME, name, 'sh', '-c',
                                 'trap "exit 5" USR1; sleep 100000 & wait')
            side.say('run -d', (result.code, result.out, result.err))
            side.say('ls', side.row('c'))

            def ps():
                return [line.split()[1:] for line in self.cd.ctr('task', 'ps', name).out.splitlines()[1:]]
            side.until(lambda: len(ps()) == 2)
            side.say('ps', ps())
            side.ctr('exec', 'task', 'exec', '--exec-id', 'e', name, 'sh', '-c', 'echo in; exit 9')
            # Which counters there are is up to the kernel that runs it.
            side.say('metrics', self.cd.ctr('task', 'metrics', name).code)
            side.ctr('pause', 'task', 'pause', name)
            side.say('ls: paused', side.row('c'))
            side.ctr('exec: paused', 'task', 'exec', '--exec-id', 'p', name, 'true')
            side.ctr('resume', 'task', 'resume', name)
            side.say('ls: resumed', side.row('c'))
            side.ctr('rm: running', 'task', 'rm', name)
            side.ctr('kill of no exec', 'task', 'kill', '--exec-id', 'nobody', name)
            side.ctr('kill', 'task', 'kill', '-s', 'SIGUSR1', name)
            side.until(lambda: side.row('c') == 'STOPPED')
            side.say('ls: stopped', side.row('c'))
            side.ctr('kill: stopped', 'task', 'kill', name)
            side.ctr('rm', 'task', 'rm', name)
            side.say('ls: removed', side.row('c'))
        self.same(actions)
