# SPDX-License-Identifier: Apache-2.0
"""Unix sockets of the host in containers: mounts of type uds, and binds of sockets."""
import os
import signal
import socket
import stat
import threading
import time

from lcowtest import proc, settings, ttrpc
from lcowtest.case import only_lcow
from lcowtest.shares import SYSTEM, bind
from lcowtest.sockets import DIAL, MIB, SocketsCase, answer_at_the_end, echo, read_all


@only_lcow('the stock shim knows no uds mounts')
class Sockets(SocketsCase):
    def test_a_round_trip_by_either_kind_of_mount_and_half_close(self):
        server = self.serve(answer_at_the_end)
        os.chmod(server.path, 0o640)
        c = self.add(self.uds(server), bind(server.path, '/run/other.sock', 'ro'), *SYSTEM)
        self.assertEqual(self.python(c, DIAL + 's.sendall(b"hello"); s.shutdown(1); print(read(s).decode())'), 'olleh\n')
        dial = DIAL.replace('app', 'other')
        self.assertEqual(self.python(c, dial + 's.sendall(b"hello"); s.shutdown(1); print(read(s).decode())'), 'olleh\n')
        self.assertEqual(server.seen, 2)
        self.assertEqual(self.out(c, 'stat -c %a:%u:%g /run/app.sock'), '640:0:0\n')
        # The host's file is not in a share.
        self.assertEqual(self.out(self.pod.look, 'find /proc/1/root/run/lcow/shares -maxdepth 2 -name host.sock'), '')

    def test_a_MiB_both_ways(self):
        server = self.serve(echo)
        c = self.add(self.uds(server), *SYSTEM)
        out = self.python(c, DIAL + '''
data = os.urandom(%d)
def send():
    s.sendall(data); s.shutdown(1)
t = threading.Thread(target=send); t.start()
print(read(s) == data); t.join()''' % MIB)
        self.assertEqual(out, 'True\n')

    def test_a_server_that_does_not_read_stops_the_writer(self):
        read = threading.Event()
        got = []

        def talk(s):
            read.wait(settings.BOOT_LIMIT)
            got.append(len(read_all(s)))
        server = self.serve(talk)
        c = self.add(self.uds(server), *SYSTEM)
        sent = int(self.python(c, DIAL + '''
s.settimeout(3); n = 0
try:
    while n < 64 << 20: n += s.send(bytes(65536))
except TimeoutError: pass
print(n)'''))
        self.assertGreater(sent, 65536)
        self.assertLess(sent, 8 * MIB)
        read.set()
        self.wait('the server has all', lambda: got)
        self.assertEqual(got, [sent])

    def test_twenty_connections_at_once(self):
        server = self.serve(echo)
        c = self.add(self.uds(server), *SYSTEM)
        out = self.python(c, '''
ss = []
for i in range(20):
    s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect("/run/app.sock"); ss.append(s)
for i, s in enumerate(ss): s.sendall(b"%d " % i)
for s in ss: s.shutdown(1)
print(b"".join(read(s) for s in ss).decode())''')
        self.assertEqual(out.split(), [str(i) for i in range(20)])
        self.assertEqual(server.seen, 20)

    def test_more_connections_than_the_limit_come_one_after_the_other(self):
        server = self.serve(echo, backlog=512)
        c = self.add(self.uds(server), *SYSTEM)
        out = self.python(c, '''
def one(i):
    s = socket.socket(socket.AF_UNIX); s.settimeout(120); s.connect("/run/app.sock")
    s.sendall(b"x"); assert s.recv(1) == b"x"
    time.sleep(0.2); s.close(); done.append(i)
done = []
ts = [threading.Thread(target=one, args=(i,)) for i in range(200)]
for t in ts: t.start()
for t in ts: t.join()
print(len(done))''')
        self.assertEqual(out, '200\n')
        self.assertEqual(server.seen, 200)

    def test_a_socket_that_nobody_listens_on_closes_the_connection_at_once(self):
        path = self.path('dead.sock')
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(path)
        dead.close()
        c = self.add({'type': 'uds', 'source': path, 'destination': '/run/app.sock'}, *SYSTEM)
        begin = time.monotonic()
        self.assertEqual(self.python(c, DIAL + 'print(read(s))'), "b''\n")
        self.assertLess(time.monotonic() - begin, settings.QUICK_LIMIT)
        # As on the host: a new socket of that name is another one.
        os.unlink(path)
        self.serve(echo, 'dead.sock')
        self.assertEqual(self.python(c, DIAL + 'print(read(s))'), "b''\n")

    def test_what_either_end_leaves_is_closed_at_the_other(self):
        server = self.serve(lambda s: s.sendall(b'bye'))
        c = self.add(self.uds(server), *SYSTEM)
        self.assertEqual(self.python(c, DIAL + 'print(read(s).decode())'), 'bye\n')
        ended = []
        patient = self.serve(lambda s: ended.append(read_all(s)), 'patient.sock')
        self.pod.end(c)
        c = self.add(self.uds(patient), *SYSTEM)
        self.python(c, DIAL + 's.sendall(b"last words"); os._exit(0)')
        self.wait('the server sees the end', lambda: ended)
        self.assertEqual(ended, [b'last words'])

    def test_two_members_have_sockets_of_their_own_and_one_s_end_is_not_the_other_s(self):
        server = self.serve(echo)
        one, two = (self.add(self.uds(server), *SYSTEM) for _ in range(2))
        ping = DIAL + 's.sendall(b"x"); print(s.recv(1).decode())'
        self.assertEqual(self.python(one, ping), 'x\n')
        self.pod.end(one)
        self.assertEqual(self.python(two, ping), 'x\n')
        self.assertEqual(self.sockets(), 1)

    def sockets(self):
        """How many sockets the agent has."""
        return len(self.out(self.pod.look, 'ls /proc/1/root/run/mounts/uds 2> /dev/null; true').split())

    def agent_fds(self):
        return int(self.out(self.pod.look, 'ls /proc/1/fd | wc -l'))

    def test_deletion_while_connected_leaves_nothing(self):
        ended = []
        server = self.serve(lambda s: (s.sendall(b'hello'), ended.append(read_all(s))))
        before = proc.fds(self.pod.box.shim_pid), self.agent_fds()
        c = self.add(self.uds(server), *SYSTEM)
        self.python(c, '''
ss = [socket.socket(socket.AF_UNIX) for _ in range(5)]
for s in ss: s.connect("/run/app.sock")
for s in ss: s.recv(5)
if os.fork(): os._exit(0)
os.setsid()
for fd in (0, 1, 2): os.close(fd)
time.sleep(100000)''')
        self.assertEqual(server.seen, 5)
        self.assertEqual(self.sockets(), 1)
        self.pod.end(c)
        self.wait('the server sees the end', lambda: len(ended) == 5)
        self.assertEqual(self.sockets(), 0)
        self.wait('fds are closed', lambda: (proc.fds(self.pod.box.shim_pid), self.agent_fds()) == before)

    def test_what_is_no_socket_is_refused(self):
        with open(self.path('file'), 'w'):
            pass
        for name, words in (('file', 'is no unix socket'), ('missing', 'No such file')):
            e = self.pod.refused(self.spec({'type': 'uds', 'source': self.path(name), 'destination': '/run/app.sock'}))
            self.assertEqual(e.code, ttrpc.INVALID, e)
            self.assertIn(words, str(e))
        self.assertEqual(self.sockets(), 0)

    def test_a_link_in_the_socket_s_place_does_not_lead_to_another_socket(self):
        inner = self.path('d')
        os.mkdir(inner)
        server, secret = self.serve(echo, 'd/host.sock'), self.serve(echo, 'secret.sock')
        c = self.add(self.uds(server), bind(inner, '/v', 'rw'), *SYSTEM)
        self.out(c, 'rm /v/host.sock; ln -s %s /v/host.sock' % secret.path)
        self.assertTrue(stat.S_ISLNK(os.lstat(server.path).st_mode))
        self.assertEqual(self.python(c, DIAL + 's.sendall(b"x"); print(s.recv(1).decode())'), 'x\n')
        self.assertEqual((server.seen, secret.seen), (1, 0))


@only_lcow('the stock shim knows no uds mounts')
class LostVm(SocketsCase):
    def _remove_members(self):
        """They went with the VM."""

    def test_the_death_of_the_VM_ends_connections_and_their_container_can_be_deleted(self):
        ended = []
        server = self.serve(lambda s: (s.sendall(b'hello'), ended.append(read_all(s))))
        c = self.add(self.uds(server), *SYSTEM)
        self.python(c, DIAL + 's.recv(5)\nif os.fork(): os._exit(0)\nfor fd in (0, 1, 2): os.close(fd)\ntime.sleep(100000)')
        self.assertEqual(ended, [])
        [pid] = proc.running('qemu-system')
        os.kill(pid, signal.SIGKILL)
        self.wait('the server sees the end', lambda: ended)
        self.pod.box.call('Wait', id=c, limit=settings.BOOT_LIMIT)
        self.pod.remove(c)
