# SPDX-License-Identifier: Apache-2.0
"""Standard streams: FIFOs, files, logging drivers and terminals, of the container's process and of execs."""
import os
import subprocess
import threading
import time
import zlib

from lcowtest import pb, settings, ttrpc
from lcowtest.case import CtrCase, DirectCase, only_lcow
from lcowtest.direct import oci_spec, stalled
from lcowtest.execs import ExecCase

LINE = b'0123456789abcde\n'
BURST = LINE * (8 << 16)
BURST_COMMAND = 'yes 0123456789abcde | head -c 8388608'
# Reads both streams to their end; what it was told goes to a file first.
DRIVER = """#!/bin/sh
echo "$*|$CONTAINER_ID|$CONTAINER_NAMESPACE" >{dir}/told
exec 5>&-
cat <&3 >>{dir}/out &
cat <&4 >>{dir}/err &
wait
{more}
"""


def rss(pid):
    """Resident bytes of a process."""
    with open('/proc/%d/statm' % pid) as f:
        return int(f.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def runs(path):
    """Whether a process runs whose command line names a path below this one."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as f:
                if path.encode() + b'/' in f.read():
                    return True
        except OSError:
            pass
    return False


def read(path):
    """The text of a file, None when there is none."""
    try:
        with open(path) as f:
            return f.read()
    except FileNotFoundError:
        return None


class Drivers:
    """For a test that uses logging drivers or files: a directory of its own."""

    def directory(self):
        path = os.path.join(self.shared_dir(), self.new_id('log'))
        os.mkdir(path)
        self.addCleanup(subprocess.run, ['rm', '-rf', path], check=True)
        return path

    def driver(self, more='', text=DRIVER):
        """A logging driver: (its URI, the directory of its files)"""
        path = self.directory()
        with open(path + '/driver', 'w') as f:
            f.write(text.format(dir=path, more=more.format(dir=path)))
        os.chmod(path + '/driver', 0o755)
        return 'binary://%s/driver' % path, path

    def wait_for(self, what, wanted, limit=settings.QUICK_LIMIT):
        end = time.monotonic() + limit
        while what() != wanted:
            if time.monotonic() > end:
                self.assertEqual(what(), wanted)
            time.sleep(0.05)


class Exec(Drivers, ExecCase):
    """Streams of execs in one running container."""

    def shared_dir(self):
        return self.bed.dir

    def fifo(self, exec_id, name):
        """A FIFO that nobody of the test has open."""
        path = os.path.join(self.bed.dir, 'f-%s-%s%s' % (self.box.id, exec_id, name))
        os.mkfifo(path)
        return path

    def read_some(self, fd, wanted):
        """Read until there is as much as wanted: it must be that."""
        data = b''
        while len(data) < len(wanted):
            part = os.read(fd, len(wanted) - len(data))
            self.assertTrue(part, 'end after %r' % data[-100:])
            data += part
        self.assertEqual(data, wanted)

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
        stalled(fields['stdout'])
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

    def test_four_execs_at_a_time_keep_their_output_apart(self):
        running = [self.run_exec('sh', '-c', 'yes %s | head -c 2097152' % word)[0] for word in ('aaa', 'bbb', 'ccc', 'ddd')]
        for exec_id, word in zip(running, (b'aaa\n', b'bbb\n', b'ccc\n', b'ddd\n')):
            self.assertEqual(self.wait(exec_id), 0)
            self.assertEqual(zlib.crc32(self.out(exec_id).finish()), zlib.crc32(word * (2097152 // 4)))

    def test_without_any_reader_a_process_waits_and_the_first_one_gets_everything(self):
        exec_id = self.new_exec()
        path = self.fifo(exec_id, 'stdout')
        self.box.exec(exec_id, 'sh', '-c', BURST_COMMAND, stdout=path)
        stalled(path)
        self.assertEqual(self.box.call('State', exec_id=exec_id)['status'], pb.RUNNING)
        with open(path, 'rb') as f:
            self.assertEqual(zlib.crc32(f.read()), zlib.crc32(BURST))
        self.assertEqual(self.wait(exec_id), 0)

    def test_readers_come_and_go_and_the_process_does_not_notice(self):
        exec_id = self.new_exec()
        fields = {name: self.fifo(exec_id, name) for name in ('stdin', 'stdout')}
        self.box.exec(exec_id, 'cat', **fields)
        fd = self.box.open_stdin(fields)
        for i in range(3):
            reader = os.open(fields['stdout'], os.O_RDONLY)
            os.write(fd, b'line %d\n' % i)
            self.read_some(reader, b'line %d\n' % i)
            os.close(reader)
            time.sleep(0.1)
        os.write(fd, b'nobody is here\n')
        stalled(fields['stdout'])
        self.assertEqual(self.box.call('State', exec_id=exec_id)['status'], pb.RUNNING)
        reader = os.open(fields['stdout'], os.O_RDONLY)
        self.read_some(reader, b'nobody is here\n')
        os.close(reader)

    def test_two_clients_attach_to_one_process(self):
        exec_id = self.new_exec()
        fields = {name: self.fifo(exec_id, name) for name in ('stdin', 'stdout')}
        self.box.exec(exec_id, 'cat', **fields)
        readers = [os.open(fields['stdout'], os.O_RDONLY) for _ in range(2)]
        writers = [os.open(fields['stdin'], os.O_WRONLY) for _ in range(2)]
        got = bytearray()

        def take(fd):
            while part := os.read(fd, 4096):
                got.extend(part)
            os.close(fd)
        threads = [threading.Thread(target=take, args=(fd,), daemon=True) for fd in readers]
        for thread in threads:
            thread.start()
        for i in range(20):
            os.write(writers[i % 2], LINE)
        for fd in writers:
            os.close(fd)
        self.box.call('CloseIO', exec_id=exec_id, stdin=True)
        self.assertEqual(self.wait(exec_id), 0)
        for thread in threads:
            thread.join(settings.QUICK_LIMIT)
            self.assertFalse(thread.is_alive(), 'a reader sees no end')
        self.assertEqual(sorted(got), sorted(LINE * 20))

    def test_CloseIO_ahead_of_the_last_bytes_loses_none_of_them(self):
        # It reads nothing at first: the writer is in the middle of a write when CloseIO comes.
        exec_id, fields = self.run_exec('sh', '-c', 'until test -e /go; do sleep 0.1; done; cat; rm /go', streams=('stdin', 'stdout'))
        data = os.urandom(2 << 20)
        fd = os.open(fields['stdin'], os.O_WRONLY)

        def feed():
            os.write(fd, data)
            os.close(fd)
        thread = threading.Thread(target=feed)
        thread.start()
        stalled(fields['stdin'])
        self.box.call('CloseIO', exec_id=exec_id, stdin=True)
        self.assertTrue(thread.is_alive(), 'everything was taken already')
        self.assertEqual(self.wait(self.run_exec('touch', '/go', streams=())[0]), 0)
        thread.join(2 * settings.BOOT_LIMIT)
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(zlib.crc32(self.out(exec_id).finish()), zlib.crc32(data))

    def test_CloseIO_ends_standard_input_though_the_client_keeps_it_open(self):
        exec_id, fields = self.run_exec('cat', streams=('stdin', 'stdout'))
        fd = self.box.open_stdin(fields)
        os.write(fd, b'all there is')
        self.box.call('CloseIO', exec_id=exec_id, stdin=True)
        self.assertEqual(self.wait(exec_id, settings.QUICK_LIMIT), 0)
        self.assertEqual(self.out(exec_id).finish(), b'all there is')

    def test_a_reader_that_stops_holds_up_neither_others_nor_calls_nor_fills_memory(self):
        before = rss(self.box.shim_pid)
        stuck = self.new_exec()
        path = self.fifo(stuck, 'stdout')
        self.box.exec(stuck, 'yes', stdout=path, stderr=self.fifo(stuck, 'stderr'))
        stalled(path)
        exec_id, _ = self.run_exec('sh', '-c', BURST_COMMAND)
        begin = time.monotonic()
        self.assertEqual(self.box.call('State', limit=2 * settings.SLOW)['status'], pb.RUNNING)
        self.assertLess(time.monotonic() - begin, 1 * settings.SLOW)
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(zlib.crc32(self.out(exec_id).finish()), zlib.crc32(BURST))
        self.assertEqual(self.box.call('State', exec_id=stuck)['status'], pb.RUNNING)
        self.assertLess(rss(self.box.shim_pid) - before, 16 << 20)

    def test_four_execs_of_8_MiB_at_a_time_leave_the_shims_memory_bounded(self):
        before, most = rss(self.box.shim_pid), 0
        running = [self.run_exec('sh', '-c', 'yes 0123456789abcde | head -c 8388608')[0] for _ in range(4)]
        calls = [self.box.begin('Wait', exec_id=e) for e in running]
        while any(not self.out(e).eof.is_set() for e in running):
            for e in running:
                self.out(e).opened()
            most = max(most, rss(self.box.shim_pid))
            time.sleep(0.05)
        for call, exec_id in zip(calls, running):
            self.assertEqual(self.box.end(call)['exit_status'], 0)
            self.assertEqual(zlib.crc32(self.out(exec_id).finish()), zlib.crc32(LINE * (8 << 16)))
        self.assertLess(most - before, 8 << 20)

    def test_output_is_there_when_Wait_answers(self):
        exec_id, fields = self.new_exec(), {}
        fields['stdout'] = self.fifo(exec_id, 'stdout')
        self.box.exec(exec_id, 'sh', '-c', 'echo first; sleep 0.2; echo last', **fields)
        fd = os.open(fields['stdout'], os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, fd)
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(os.read(fd, 100), b'first\nlast\n')
        self.assertEqual(os.read(fd, 100), b'')

    @only_lcow('the shim of 1.6 knows other schemes')
    def test_what_is_no_stream_is_refused_with_its_name_and_leaves_no_exec(self):
        for where, code in (('nfs:///export', ttrpc.UNIMPLEMENTED), ('binary://host/path', ttrpc.INVALID),
                            ('file:///%zz', ttrpc.INVALID), ('/no/such/directory/out', ttrpc.UNKNOWN)):
            with self.subTest(where), self.assertRaises(ttrpc.RpcError) as e:
                self.box.exec(self.new_exec(), 'true', stdout=where)
            self.assertEqual(e.exception.code, code)
            self.assertIn(where, e.exception.message)
            with self.assertRaises(ttrpc.RpcError) as e:
                self.box.call('State', exec_id=self.exec_ids[-1])
            self.assertEqual(e.exception.code, ttrpc.NOT_FOUND)

    def test_output_is_appended_to_a_plain_file(self):
        path = os.path.join(self.directory(), 'log')
        with open(path, 'w') as f:
            f.write('before\n')
        exec_id, _ = self.run_exec('sh', '-c', 'echo out; sleep 0.2; echo err >&2', streams=(), stdout=path, stderr=path)
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(read(path), 'before\nout\nerr\n')

    @only_lcow('the shim of 1.6 makes no file for an exec')
    def test_a_file_URI_is_decoded_and_its_directories_are_made(self):
        path = os.path.join(self.directory(), 'a b', 'log')
        exec_id, _ = self.run_exec('echo', 'there', streams=(), stdout='file://' + path.replace(' ', '%20'))
        self.assertEqual(self.wait(exec_id), 0)
        self.assertEqual(read(path), 'there\n')
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o644)

    def test_a_terminal_has_no_stderr_of_its_own(self):
        # CRI makes a FIFO for it nevertheless.
        exec_id, _ = self.run_exec('sh', '-c', 'echo to out; echo to err >&2; tty 0>&2', streams=('stdin', 'stdout', 'stderr'),
                                   terminal=True)
        self.assertEqual(self.wait(exec_id), 0)
        out = self.out(exec_id).finish()
        self.assertIn(b'to out\r\nto err\r\n', out)
        self.assertIn(b'/dev/pts/', out)

    def test_a_logging_driver_of_an_exec_gets_its_output_and_is_gone_after_Delete(self):
        uri, path = self.driver()
        exec_id, _ = self.run_exec('sh', '-c', 'echo out; echo err >&2; ' + BURST_COMMAND, streams=(),
                                   stdout=uri + '?b=2&a=1', stderr=uri + '?b=2&a=1')
        self.assertEqual(self.wait(exec_id), 0)
        self.box.call('Delete', exec_id=exec_id)
        self.assertFalse(runs(path))
        told = read(path + '/told')
        self.assertIn(told, ('b 2 a 1|%s|direct\n' % exec_id, 'a 1 b 2|%s|direct\n' % exec_id))
        self.assertEqual(read(path + '/err'), 'err\n')
        self.assertEqual(zlib.crc32(read(path + '/out').encode()), zlib.crc32(b'out\n' + BURST))

    @only_lcow('the shim of runc starts the process all the same')
    def test_a_logging_driver_that_fails_refuses_its_exec_and_leaves_nothing(self):
        for more, said in (('exit 7', 'exit status 7'), ('exec 5>&-; while :; do sleep 0.1; done', 'without saying that it is ready')):
            uri, path = self.driver(text='#!/bin/sh\n%s\n' % more)
            with self.subTest(more), self.assertRaises(ttrpc.RpcError) as e:
                self.box.exec(self.new_exec(), 'true', stdout=uri.replace('binary:', 'binary-v2:'))
            self.assertIn(said, e.exception.message)
            # A child that its shell had forked and that was not sleep yet goes on for a moment.
            self.wait_for(lambda: runs(path), False)
        with self.assertRaises(ttrpc.RpcError) as e:
            self.box.exec(self.new_exec(), 'true', stdout='binary:///no/such/driver')
        self.assertIn('/no/such/driver', e.exception.message)

    @only_lcow('the shim of runc sends SIGTERM at once')
    def test_a_logging_driver_that_goes_on_is_ended(self):
        uri, path = self.driver(text='#!/bin/sh\nexec 5>&-\nwhile :; do sleep 0.1; done\n')
        exec_id, _ = self.run_exec('true', streams=(), stdout=uri)
        self.assertEqual(self.wait(exec_id), 0)
        begin = time.monotonic()
        self.box.call('Delete', exec_id=exec_id)
        self.assertLess(time.monotonic() - begin, 4 * settings.SLOW)
        self.assertFalse(runs(path))


class Init(Drivers, DirectCase):
    """Streams of the container's own process."""

    def shared_dir(self):
        return self.bed.dir

    def test_a_burst_of_8_MiB_is_whole_when_Delete_follows_at_once(self):
        box = self.sandbox('sh', '-c', BURST_COMMAND)
        self.assertEqual(box.run(**box.stdio('stdout')), 0)
        self.assertEqual(box.call('Delete')['exit_status'], 0)
        self.assertEqual(zlib.crc32(box.streams['stdout'].finish()), zlib.crc32(BURST))

    def test_a_terminal_of_the_container_has_one_stream(self):
        spec_id = self.new_id('s')
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
    def test_output_goes_to_a_file_that_a_URI_names(self):
        box = self.sandbox('sh', '-c', 'echo one; sleep 0.2; echo two >&2')
        path = os.path.join(self.directory(), 'new', 'out.log')
        self.assertEqual(box.run(stdout='file://' + path, stderr='file://' + path), 0)
        box.call('Delete')
        self.assertEqual(read(path), 'one\ntwo\n')

    @only_lcow('the stock shim kills its containers')
    def test_a_burst_is_whole_when_Shutdown_follows_Start_at_once(self):
        box = self.sandbox('sh', '-c', BURST_COMMAND)
        box.create(**box.stdio('stdout'))
        box.call('Start', limit=box.limit)
        box.call('Shutdown', limit=5 * settings.SLOW)
        self.assertEqual(zlib.crc32(box.streams['stdout'].finish(30 * settings.SLOW)), zlib.crc32(BURST))

    @only_lcow('the stock shim kills its containers')
    def test_a_burst_of_an_exec_is_whole_when_Shutdown_follows_Start_at_once(self):
        box = self.sandbox('sleep', '1000')
        box.create()
        box.call('Start', limit=box.limit)
        box.exec('e1', 'sh', '-c', BURST_COMMAND, **box.stdio('stdout', prefix='e1'))
        box.call('Shutdown', limit=5 * settings.SLOW)
        self.assertEqual(zlib.crc32(box.streams['e1stdout'].finish(30 * settings.SLOW)), zlib.crc32(BURST))

    def test_a_logging_driver_gets_the_containers_output_and_is_gone_after_Delete(self):
        uri, path = self.driver()
        box = self.sandbox('sh', '-c', 'cat; echo out; echo err >&2')
        self.assertEqual(box.run(stdout=uri, stderr=uri), 0)
        box.call('Delete')
        self.assertFalse(runs(path))
        self.assertEqual([read(path + '/' + name) for name in ('told', 'out', 'err')],
                         ['|%s|direct\n' % box.id, 'out\n', 'err\n'])

    @only_lcow('the stock shim has no VM to start')
    def test_a_logging_driver_that_fails_refuses_the_container_and_leaves_nothing(self):
        uri, path = self.driver(text='#!/bin/sh\nexit 3\n')
        box = self.sandbox('true')
        with self.assertRaises(ttrpc.RpcError) as e:
            box.create(stdout=uri)
        self.assertIn('exit status 3', e.exception.message)
        # What a container that cannot be made has started is ended as well.
        uri, path = self.driver()
        with self.assertRaises(ttrpc.RpcError):
            box.create(stdout=uri, rootfs=[{'type': 'bind', 'source': '/no/such/tree', 'options': ['rbind']}])
        self.assertFalse(runs(path))
        self.assertEqual(read(path + '/out'), '')
        self.assertEqual(box.run(), 0)

    @only_lcow('the stock shim leaves its drivers to themselves')
    def test_a_logging_driver_finishes_when_its_shim_is_killed(self):
        uri, path = self.driver(more='sleep 0.5; echo finished >>{dir}/err')
        box = self.sandbox('sh', '-c', 'echo out; sleep 1000')
        box.create(stdout=uri, stderr=uri)
        box.call('Start', limit=box.limit)
        self.wait_for(lambda: read(path + '/out'), 'out\n')
        box.kill_shim()
        self.assertEqual(box.delete_command()[0], 0)
        self.assertLess(box.delete_seconds, 5 * settings.SLOW)
        self.assertEqual(read(path + '/err'), 'finished\n')
        self.assertFalse(runs(path))

    @only_lcow('the stock shim leaves its drivers to themselves')
    def test_a_logging_driver_that_goes_on_when_its_shim_is_killed_is_ended_by_delete(self):
        uri, path = self.driver(text="#!/bin/sh\ntrap '' TERM\nexec 5>&-\nwhile :; do sleep 0.1; done\n")
        box = self.sandbox('sleep', '1000')
        box.create(stdout=uri)
        self.assertTrue(runs(path))
        box.kill_shim()
        self.assertEqual(box.delete_command()[0], 0)
        self.assertLess(box.delete_seconds, 5 * settings.SLOW)
        self.assertFalse(runs(path))


class Ctr(Drivers, CtrCase):
    """As people say it to ctr."""

    def shared_dir(self):
        return self.cd.dir

    def test_run_logs_to_a_file(self):
        path = os.path.join(self.directory(), 'log')
        self.check(self.cd.run(self.new_id(), 'sh', '-c', 'echo one; sleep 0.2; echo two >&2; exit 4',
                               options=('--rm', '--log-uri', 'file://' + path)), 4)
        self.assertEqual(read(path), 'one\ntwo\n')

    def test_run_logs_through_a_driver(self):
        uri, path = self.driver()
        name = self.new_id()
        self.check(self.cd.run(name, 'sh', '-c', BURST_COMMAND + '; echo err >&2; exit 5',
                               options=('--rm', '--log-uri', uri + '?key=value')), 5)
        self.assertEqual(zlib.crc32(read(path + '/out').encode()), zlib.crc32(BURST))
        self.assertEqual(read(path + '/err'), 'err\n')
        self.assertEqual(read(path + '/told'), 'key value|%s|default\n' % name)
        self.assertFalse(runs(path))

    def test_output_flows_on_through_a_restart_of_containerd(self):
        uri, path = self.driver()
        script = 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done'
        name = self.new_id('d')
        self.addCleanup(self.remove, name)
        self.check(self.cd.run(name, 'sh', '-c', script, options=('-d', '--log-uri', uri)))
        self.wait_for(lambda: (read(path + '/out') or '').startswith('0\n1\n'), True)
        self.cd.restart()
        seen = len(read(path + '/out').split())
        self.wait_for(lambda: len(read(path + '/out').split()) > seen + 10, True)
        self.check(self.cd.ctr('task', 'kill', '-s', 'SIGKILL', name))
        self.remove(name)
        numbers = read(path + '/out').split()
        self.assertEqual(numbers, [str(i) for i in range(len(numbers))])
