# SPDX-License-Identifier: Apache-2.0
"""Connections to the loopback of a pod's network namespace on the host, as CRI's port forwarding dials it, and what answers.

The servers run on the host's Python, by read-only shares: the image's nc cannot be told where to listen.
"""
import ctypes
import socket
import threading

from . import settings, shares

CLONE_NEWNET = 0x40000000
# At 127.0.0.1, at every address of IPv4, and at ::1 only: each connection is answered with what it said, at once or in the end.
ECHO, LATE, SIX, NOBODY = 7001, 7002, 7003, 7009
SCRIPT = '''
import socket, threading
def echo(s):
    while part := s.recv(65536):
        s.sendall(part)
def late(s):
    data = b""
    while part := s.recv(65536):
        data += part
    s.sendall(data[::-1])
def talk(s, fn):
    with s:
        try:
            fn(s)
        except OSError:
            pass
def serve(listener, fn):
    while True:
        threading.Thread(target=talk, args=(listener.accept()[0], fn), daemon=True).start()
for at, port, fn in (("127.0.0.1", %d, echo), ("0.0.0.0", %d, late), ("::1", %d, echo)):
    listener = socket.create_server((at, port), family=socket.AF_INET6 if ":" in at else socket.AF_INET, backlog=64)
    threading.Thread(target=serve, args=(listener, fn)).start()
print("up", flush=True)
''' % (ECHO, LATE, SIX)
SERVER = ('/usr/bin/python3', '-S', '-E', '-c', SCRIPT)


def cri_mounts():
    """Mounts of a CRI container for SERVER."""
    return [{'container_path': m['destination'], 'host_path': m['source'], 'readonly': True} for m in shares.SYSTEM]


def dial(netns, port, address='127.0.0.1'):
    """A connection that was made in a namespace."""
    made = []

    def there():
        try:
            with open(netns) as ns:
                if ctypes.CDLL(None, use_errno=True).setns(ns.fileno(), CLONE_NEWNET) < 0:
                    raise OSError(ctypes.get_errno(), 'setns')
            made.append(socket.create_connection((address, port), settings.BOOT_LIMIT))
        except OSError as e:
            made.append(e)
    # The thread ends there.
    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def read_all(s):
    data = b''
    while part := s.recv(65536):
        data += part
    return data


def exchange(s, data):
    """Say all and end, while everything is read that comes back."""
    def say():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=say)
    thread.start()
    got = read_all(s)
    thread.join()
    return got
