# SPDX-License-Identifier: Apache-2.0
"""ttrpc over unix sockets: a client for shims and the server of the events service (containerd/ttrpc PROTOCOL.md)."""
import concurrent.futures
import os
import socket
import struct
import threading
import time

from . import pb

REQUEST, RESPONSE, DATA = 1, 2, 3
MAX_PAYLOAD = 4 << 20
CANCELED, UNKNOWN, INVALID, DEADLINE, NOT_FOUND, EXISTS = 1, 2, 3, 4, 5, 6
DENIED, EXHAUSTED, PRECONDITION, ABORTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 7, 8, 9, 10, 12, 13, 14


class RpcError(Exception):
    """A status other than OK."""

    def __init__(self, code, message):
        super().__init__('status %d: %s' % (code, message))
        self.code = code
        self.message = message


class Closed(Exception):
    """The connection ended before the answer."""


def dial(address):
    """Connected socket for unix:///path, a path, or (as containerd takes an address without scheme) an abstract name."""
    path = address[len('unix://'):] if address.startswith('unix://') else address
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(path if path.startswith('/') else '\0' + path)
    return s


def _read_exact(s, n):
    out = bytearray()
    while len(out) < n:
        try:
            part = s.recv(min(n - len(out), 1 << 20))
        except OSError as e:
            raise Closed(str(e)) from e
        if not part:
            raise Closed('end of stream after %d of %d bytes' % (len(out), n))
        out += part
    return bytes(out)


def read_frame(s):
    """(stream, type, flags, payload)"""
    size, stream, kind, flags = struct.unpack('>IIBB', _read_exact(s, 10))
    return stream, kind, flags, _read_exact(s, size)


def frame(stream, kind, flags, payload):
    return struct.pack('>IIBB', len(payload), stream, kind, flags) + payload


class Client:
    """Calls run concurrently; answers are matched by stream."""

    def __init__(self, address, namespace='default', task='containerd.task.v2.Task'):
        self.sock = dial(address)
        self.namespace = namespace
        self.task = task
        self.lock = threading.Lock()
        self.pending = {}
        self.next = 1
        self.closed = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while True:
                stream, kind, _, payload = read_frame(self.sock)
                with self.lock:
                    future = self.pending.pop(stream, None)
                if future and kind == RESPONSE:
                    future.set_result((time.monotonic(), pb.decode(pb.TTRPC_RESPONSE, payload)))
        except (Closed, OSError, ValueError) as e:
            with self.lock:
                self.closed = e
                left, self.pending = self.pending, {}
            for future in left.values():
                future.set_exception(Closed(str(e)))

    def send(self, service, method, payload, timeout=0, metadata=()):
        """Start a call; a Future of (when, Response)."""
        request = pb.encode(pb.TTRPC_REQUEST, {
            'service': service, 'method': method, 'payload': payload, 'timeout_nano': int(timeout * 1e9),
            'metadata': [{'key': 'containerd-namespace-ttrpc', 'value': self.namespace},
                         *({'key': k, 'value': v} for k, v in metadata)]})
        future = concurrent.futures.Future()
        with self.lock:
            if self.closed:
                raise Closed(str(self.closed))
            stream, self.next = self.next, self.next + 2
            self.pending[stream] = future
            try:
                self.sock.sendall(frame(stream, REQUEST, 0, request))
            except OSError as e:
                del self.pending[stream]
                raise Closed(str(e)) from e
        return future

    def send_raw(self, data, stream=None):
        """Bytes as they are; with a stream (next_stream()), a Future of its answer."""
        future = concurrent.futures.Future()
        with self.lock:
            if stream is not None:
                self.pending[stream] = future
            self.sock.sendall(data)
        return future

    def next_stream(self):
        with self.lock:
            stream, self.next = self.next, self.next + 2
        return stream

    def result(self, future, limit):
        """The payload of an answer, or RpcError."""
        _, response = future.result(limit)
        status = response['status']
        if status and status['code']:
            raise RpcError(status['code'], status['message'])
        return response['payload']

    def start(self, method, timeout=0, **fields):
        """Start a call of the Task service."""
        return self.send(self.task, method, pb.encode(pb.TASK[method][0], fields), timeout)

    def finish(self, method, future, limit=60):
        return pb.decode(pb.TASK[method][1], self.result(future, limit))

    def call(self, method, limit=60, **fields):
        """A call of the Task service: fields of the answer as a dict."""
        return self.finish(method, self.start(method, **fields), limit)

    def other(self, service, types, method, limit=60, **fields):
        """A call of another service than Task, of which types is the table: a function that waits for its answer."""
        request, response = types[method]
        call = self.send(service, method, pb.encode(request, fields))
        return lambda limit=limit: pb.decode(response, self.result(call, limit))

    def diag(self, method, limit=60, **fields):
        """A call of the ShimDiag service."""
        return self.other('containerd.runhcs.v1.diag.ShimDiag', pb.DIAG, method, **fields)(limit)

    def start_sandbox_call(self, method, **fields):
        """Start a call of the Sandbox service: a function that waits for its answer."""
        return self.other('containerd.runtime.sandbox.v1.Sandbox', pb.SANDBOX, method, **fields)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class EventServer:
    """What a shim dials at TTRPC_ADDRESS: records the envelopes in the order of arrival."""

    def __init__(self, path):
        self.path = path
        self.events = []
        self.errors = []
        self.cond = threading.Condition()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(16)
        self.conns = []
        self.stopped = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            if self.stopped:
                conn.close()
                return
            self.conns.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            while True:
                stream, kind, _, payload = read_frame(conn)
                if kind != REQUEST:
                    continue
                request = pb.decode(pb.TTRPC_REQUEST, payload)
                answer = {}
                if (request['service'], request['method']) == ('containerd.services.events.ttrpc.v1.Events', 'Forward'):
                    self._take(request)
                else:
                    self.errors.append('unexpected call %s/%s' % (request['service'], request['method']))
                    answer = {'status': {'code': UNIMPLEMENTED, 'message': 'not here'}}
                conn.sendall(frame(stream, RESPONSE, 0, pb.encode(pb.TTRPC_RESPONSE, answer)))
        except (Closed, OSError):
            pass

    def _take(self, request):
        envelope = pb.decode(pb.FORWARD_REQUEST, request['payload'])['envelope']
        any_ = envelope['event']
        metadata = {kv['key']: kv['value'] for kv in request['metadata']}
        if metadata.get('containerd-namespace-ttrpc') != envelope['namespace']:
            self.errors.append('metadata %r does not name the namespace' % metadata)
        message = pb.EVENTS.get(any_['type_url'])
        if message is None:
            self.errors.append('unknown event type %r' % any_['type_url'])
            return
        with self.cond:
            self.events.append((envelope['topic'], pb.decode(message, any_['value'])))
            self.cond.notify_all()

    def topics(self, container=None):
        with self.cond:
            return [t for t, e in self.events if container in (None, e['container_id'])]

    def wait(self, topic, container, limit=10, match=None):
        """The first such event."""
        end = time.monotonic() + limit
        with self.cond:
            while True:
                for t, e in self.events:
                    if t == topic and e['container_id'] == container and (match is None or match(e)):
                        return e
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError('no %s of %s within %g s; there are %r' % (topic, container, limit, self.events))
                self.cond.wait(left)

    def close(self):
        self.stopped = True
        for s in [self.listener, *self.conns]:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
