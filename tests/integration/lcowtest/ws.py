# SPDX-License-Identifier: Apache-2.0
"""Streams of containerd's streaming server over a WebSocket (RFC 6455, subprotocol v4.channel.k8s.io): channels of bytes."""
import base64
import os
import socket
import struct
import time
import urllib.parse

from . import settings

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


class Channels:
    """A connection; what came on each channel is in `got`."""

    def __init__(self, url, query=''):
        u = urllib.parse.urlsplit(url)
        self.got, self.data, self.open = {}, b'', True
        self.sock = socket.create_connection((u.hostname, u.port), settings.QUICK_LIMIT)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ['GET %s%s HTTP/1.1' % (u.path, query), 'Host: ' + u.netloc, 'Upgrade: websocket', 'Connection: Upgrade',
                 'Sec-WebSocket-Key: ' + key, 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Protocol: v4.channel.k8s.io', '', '']
        self.sock.sendall('\r\n'.join(lines).encode())
        while b'\r\n\r\n' not in self.data:
            self._receive()
        head, self.data = self.data.split(b'\r\n\r\n', 1)
        if b' 101 ' not in head.split(b'\r\n', 1)[0]:
            raise AssertionError('no WebSocket: %r' % (head + self.data))

    def _receive(self):
        more = self.sock.recv(65536)
        if not more:
            raise EOFError
        self.data += more

    def _take(self, n):
        while len(self.data) < n:
            self._receive()
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def _send(self, opcode, payload):
        mask, size = os.urandom(4), len(payload)
        length = struct.pack('!B', 128 | size) if size < 126 else struct.pack('!BH', 128 | 126, size)
        self.sock.sendall(bytes([128 | opcode]) + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def send(self, channel, data):
        for at in range(0, len(data), 32768):
            self._send(_BINARY, bytes([channel]) + data[at:at + 32768])

    def _frame(self):
        first, second = self._take(2)
        size = second & 127
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), 'big')
        return first & 15, self._take(size)

    def read(self):
        """One frame into `got`; False at the end."""
        try:
            opcode, payload = self._frame()
        except (EOFError, ConnectionResetError):
            opcode, payload = _CLOSE, b''
        if opcode == _PING:
            self._send(_PONG, payload)
        elif opcode == _CLOSE:
            self.open = False
        elif payload:
            self.got[payload[0]] = self.got.get(payload[0], b'') + payload[1:]
        return self.open

    def until(self, channel, end):
        """What has come on a channel once it ends so."""
        limit = time.monotonic() + settings.BOOT_LIMIT
        while not self.got.get(channel, b'').endswith(end):
            if not self.read() or time.monotonic() > limit:
                raise AssertionError('channel %d has %r' % (channel, self.got))
        return self.got[channel]

    def finish(self):
        """Everything up to the end."""
        self.sock.settimeout(settings.BOOT_LIMIT)
        while self.read():
            pass
        self.close()
        return self.got

    def close(self):
        self.sock.close()
