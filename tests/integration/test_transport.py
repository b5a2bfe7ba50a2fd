# SPDX-License-Identifier: Apache-2.0
"""The guest channel by vsock with a daemon, as far as it differs from the multiplexer that all other tests use."""
import os
import signal
import threading
import time
import zlib

from lcowtest import cgroups, debs, proc, settings, ttrpc
from lcowtest.case import CtrCase, DirectCase, only_lcow
from lcowtest.direct import stalled
from lcowtest.shares import SYSTEM
from lcowtest.sockets import DIAL, MIB, SocketsCase, echo, read_all

DAEMON = 'vhost-device-vsock'
# Debian 12 has no such package; the program of this suite runs there.
PACKAGE = debs.Deb(DAEMON, 'forky')
DEBS = [PACKAGE]


def with_daemon(lcow):
    """Sandboxes that are started within this speak vsock."""
    program = os.path.join(debs.unpacked(PACKAGE), 'usr', 'bin', DAEMON)
    return lcow.set(transport='vhost-user-vsock', vhost_device_vsock=program)


def use_daemon(test, lcow):
    """This test's sandboxes speak vsock."""
    change = with_daemon(lcow)
    change.__enter__()
    test.addCleanup(change.__exit__, None, None, None)


@only_lcow('no guest channel')
class VsockCtr(CtrCase):
    def prepare(self):
        super().prepare()
        use_daemon(self, self.cd.lcow)

    def test_a_container_runs_and_its_exit_code_comes_back(self):
        result = self.cd.run(self.new_id(), 'sh', '-c', 'uname -r; echo to stderr >&2; exit 7')
        self.check(result, 7)
        self.assertNotEqual(result.out.strip(), os.uname().release)
        self.assertIn('to stderr', result.err)

    def test_the_end_of_output_is_seen_at_once(self):
        """The daemon drops the half-close with which the agent says that output has ended."""
        container = self.detached('sleep', '1000')
        times = []
        for number in range(5):
            result = self.check(self.cd.ctr('task', 'exec', '--exec-id', 'e%d' % number, container, 'echo', 'word'))
            self.assertEqual(result.out, 'word\n')
            times.append(result.seconds)
        self.assertLess(min(times), 2 * settings.SLOW, times)


@only_lcow('no guest channel')
class Vsock(DirectCase):
    def prepare(self):
        super().prepare()
        use_daemon(self, self.bed.lcow)

    def running(self):
        box = self.sandbox('sleep', '1000')
        box.create()
        box.call('Start')
        [daemon] = proc.running(DAEMON)
        return box, daemon

    def test_20_MiB_go_through_cat_unchanged(self):
        box, _ = self.running()
        data = os.urandom(1 << 20) * 20
        fields = box.stdio('stdin', 'stdout', prefix='cat')
        fd = box.open_stdin(fields)
        box.exec('cat', 'cat', **fields)

        def feed():
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]
            box.call('CloseIO', exec_id='cat', stdin=True)
        thread = threading.Thread(target=feed, daemon=True)
        thread.start()
        limit = 60 * settings.SLOW
        self.assertEqual(box.call('Wait', exec_id='cat', limit=limit)['exit_status'], 0)
        thread.join(limit)
        out = box.streams['catstdout'].finish(limit)
        self.assertEqual((len(out), zlib.crc32(out)), (len(data), zlib.crc32(data)))
        box.call('Delete', exec_id='cat')

    def test_nothing_is_lost_when_the_reader_is_slow(self):
        """More than the host's and the daemon's buffers hold is in flight when the process ends."""
        box, _ = self.running()
        size = 1 << 20
        for terminal in (False, True):
            with self.subTest(terminal=terminal):
                name = 'slow%d' % terminal
                fields = box.stdio('stdout', start=False, prefix=name)
                box.exec(name, 'sh', '-c', 'head -c %d /dev/zero | tr "\\0" x' % size, terminal=terminal, **fields)
                stream = box.streams[name + 'stdout']
                stalled(fields['stdout'])
                stream.drain()
                self.assertEqual(box.call('Wait', exec_id=name, limit=30 * settings.SLOW)['exit_status'], 0)
                self.assertEqual(len(stream.finish()), size)
                box.call('Delete', exec_id=name)

    def test_the_daemon_is_in_the_cgroup_of_QEMU(self):
        box, daemon = self.running()
        [qemu] = proc.running('qemu-system')
        self.assertEqual(set(cgroups.of(daemon).values()), {'/lcowtest/' + box.id})
        self.assertEqual(cgroups.of(qemu), cgroups.of(daemon))

    def test_SIGKILL_of_the_daemon_ends_the_container(self):
        box, daemon = self.running()
        fields = box.stdio('stdout')
        box.exec('e', 'sleep', '1000', **fields)
        waits = [box.begin('Wait'), box.begin('Wait', exec_id='e')]
        os.kill(daemon, signal.SIGKILL)
        for wait in waits:
            self.assertNotEqual(box.end(wait, 10 * settings.SLOW)['exit_status'], 0)
        box.streams['stdout'].finish()
        box.call('Delete', exec_id='e')
        box.call('Delete')
        self.bed.events.wait('/tasks/delete', box.id)
        self.assertEqual(proc.running('qemu-system'), [])

    def test_SIGKILL_of_the_daemon_during_boot_is_an_error_at_once(self):
        box = self.sandbox('sleep', '1000')
        call = box.begin('Create', bundle=box.bundle, rootfs=self.bed.overlay(box.id))
        end = time.monotonic() + settings.QUICK_LIMIT
        while not proc.running('qemu-system') and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.3)    # QEMU has the daemon's socket, the guest is not up
        [daemon] = proc.running(DAEMON)
        os.kill(daemon, signal.SIGKILL)
        with self.assertRaisesRegex(ttrpc.RpcError, 'vsock'):
            box.end(call, 5 * settings.SLOW)

    def test_SIGKILL_of_the_shim_leaves_no_daemon(self):
        box, daemon = self.running()
        box.kill_shim()
        proc.wait_gone(daemon, settings.QUICK_LIMIT)
        code, answer, err = box.delete_command()
        self.assertEqual(code, 0, err)
        self.assertGreater(answer['exit_status'], 127)

    def test_the_daemon_has_no_privileges(self):
        _, daemon = self.running()
        with open('/proc/%d/status' % daemon) as f:
            status = dict(line.split(':\t', 1) for line in f.read().splitlines())
        self.assertNotIn('0', status['Uid'].split())
        self.assertEqual({int(status[k], 16) for k in ('CapEff', 'CapPrm', 'CapBnd')}, {0})
        self.assertEqual(status['NoNewPrivs'], '1')


@only_lcow('the stock shim knows no uds mounts')
class VsockSockets(SocketsCase):
    """Without half-close, which the daemon drops."""

    def _boot(self):
        with with_daemon(self.bed.lcow):
            super()._boot()

    def test_a_MiB_both_ways(self):
        server = self.serve(echo)
        c = self.add(self.uds(server), *SYSTEM)
        out = self.python(c, DIAL + '''
data = os.urandom(%d)
t = threading.Thread(target=s.sendall, args=(data,)); t.start()
got = b""
while len(got) < len(data): got += s.recv(65536)
print(got == data); t.join()''' % MIB)
        self.assertEqual(out, 'True\n')

    def test_what_either_end_says_before_it_goes_arrives(self):
        heard = []
        for number, size in enumerate((10, MIB)):
            server = self.serve(lambda s, size=size: s.sendall(bytes(size)), 'says%d' % number)
            listener = self.serve(lambda s: heard.append(len(read_all(s))), 'hears%d' % number)
            c = self.add(self.uds(server), self.uds(listener, '/run/other.sock'), *SYSTEM)
            self.assertEqual(self.python(c, DIAL + 'print(len(read(s)))'), '%d\n' % size)
            self.python(c, DIAL.replace('app', 'other') + 's.sendall(bytes(%d)); os._exit(0)' % size)
            self.wait('the server sees the end', lambda: len(heard) > number)
            self.assertEqual(heard[-1], size)
