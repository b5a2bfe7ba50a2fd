# SPDX-License-Identifier: Apache-2.0
"""Unix sockets of the host in containers.

The image has no program for unix sockets, so the containers have the host's Python, by a read-only share.
"""
import socket
import threading
import time

from . import settings
from .shares import SharesCase

MIB = 1 << 20
PYTHON = '/usr/bin/python3 -S -E -c \'import socket, threading, sys, os, time\n%s\''
DIAL = 's = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect("/run/app.sock")\n'
READ = '''
def read(s):
    data = b""
    while True:
        part = s.recv(65536)
        if not part: return data
        data += part
'''


class Server:
    """A socket of the host and what answers on it: `talk` has a thread for each connection."""

    def __init__(self, path, talk, backlog=64):
        self.path, self.talk, self.seen, self.failed = path, talk, 0, None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(backlog)
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.seen += 1
            self.threads.append(threading.Thread(target=self._talk, args=(s,), daemon=True))
            self.threads[-1].start()

    def _talk(self, s):
        with s:
            try:
                self.talk(s)
            except Exception as e:
                self.failed = e

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for t in self.threads:
            t.join(settings.QUICK_LIMIT)
            assert not t.is_alive(), 'a connection of the host still stands'
        if self.failed:
            raise self.failed


def read_all(s):
    data = b''
    while part := s.recv(65536):
        data += part
    return data


def echo(s):
    while part := s.recv(65536):
        s.sendall(part)


def answer_at_the_end(s):
    s.sendall(read_all(s)[::-1])


class SocketsCase(SharesCase):
    """The host's sockets are in the directory of the test."""

    def serve(self, talk, name='host.sock', **more):
        server = Server(self.path(name), talk, **more)
        self.addCleanup(server.close)
        return server

    def uds(self, server, destination='/run/app.sock'):
        return {'type': 'uds', 'source': server.path, 'destination': destination}

    def python(self, container, script, **more):
        self.assertNotIn("'", script)
        return self.out(container, PYTHON % (READ + script), **more)

    def wait(self, what, until):
        end = time.monotonic() + settings.QUICK_LIMIT
        while not until():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.05)
