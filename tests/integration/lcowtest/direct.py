# SPDX-License-Identifier: Apache-2.0
"""Drives a shim without containerd: the start command, a bundle, the ttrpc client, the delete command."""
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import termios
import threading
import time

from . import image, pb, proc, settings, ttrpc
from .containerd import LcowConfig

MINIMAL_MOUNTS = [
    {'destination': '/proc', 'type': 'proc', 'source': 'proc', 'options': ['nosuid', 'noexec', 'nodev']},
    {'destination': '/dev', 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['nosuid', 'strictatime', 'mode=755', 'size=65536k']},
    {'destination': '/dev/pts', 'type': 'devpts', 'source': 'devpts',
     'options': ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5']},
    {'destination': '/sys', 'type': 'sysfs', 'source': 'sysfs', 'options': ['nosuid', 'noexec', 'nodev', 'ro']},
]


def process_spec(*args, terminal=False, env=(), cwd='/'):
    return {'args': list(args), 'cwd': cwd, 'env': [*image.ENV, *env], 'user': {'uid': 0, 'gid': 0}, 'terminal': terminal,
            'noNewPrivileges': True}


def oci_spec(container, *args, terminal=False, annotations=None, readonly=False):
    """config.json of a container, much as ctr writes it."""
    return {
        'ociVersion': '1.0.2', 'process': process_spec(*args, terminal=terminal), 'hostname': 'box',
        'root': {'path': 'rootfs', 'readonly': readonly}, 'mounts': MINIMAL_MOUNTS, 'annotations': annotations or {},
        'linux': {'cgroupsPath': '/lcowtest/' + container,
                  'resources': {'devices': [{'allow': False, 'access': 'rwm'}]},
                  'namespaces': [{'type': t} for t in ('pid', 'ipc', 'uts', 'mount', 'network')]},
    }


class Bed:
    """What the sandboxes of direct tests share: directory, configuration, root tree, events server."""

    def __init__(self, directory):
        os.makedirs(directory)
        self.dir = directory
        self.lcow = LcowConfig(directory)
        self.root = image.tree(directory + '/tree')
        self.address = directory + '/c.sock'
        self.events = ttrpc.EventServer(self.address + '.ttrpc')
        os.makedirs('/run/containerd/s', exist_ok=True)

    def close(self):
        self.events.close()

    def trees(self):
        """Directories of which nothing may be left behind."""
        return [self.lcow.run_dir, self.lcow.scratch_dir, self.dir + '/b/direct']

    def bind(self, source=None, options=('rbind', 'rw')):
        return [{'type': 'bind', 'source': source or self.root, 'options': list(options)}]

    def overlay(self, name):
        """An overlay mount with a fresh upper directory."""
        top = os.path.join(self.dir, 'upper', name)
        for d in ('up', 'work'):
            os.makedirs(os.path.join(top, d), exist_ok=True)
        return [{'type': 'overlay', 'source': 'overlay',
                 'options': ['index=off', 'workdir=%s/work' % top, 'upperdir=%s/up' % top, 'lowerdir=' + self.root]}]


def stalled(path):
    """Wait until what lies unread in a FIFO grows no more: whoever writes to it is stuck."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        end, before = time.monotonic() + settings.BOOT_LIMIT, 0
        while True:
            unread = struct.unpack('i', fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
            if unread and unread == before:
                return
            if time.monotonic() > end:
                raise AssertionError('%d bytes are unread in %s, and it goes on' % (unread, path))
            before = unread
            time.sleep(0.1)
    finally:
        os.close(fd)


class Stream:
    """One FIFO for output: read to its end in a thread, or held unread until drain()."""

    def __init__(self, path, start=True):
        self.path = path
        os.mkfifo(path, 0o600)
        self.data = bytearray()
        self.eof = threading.Event()
        # Non-blocking open of a reader never waits for a writer; EOF shows only after a writer came and went.
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(self.fd, True)
        self.seen_writer = os.open(path, os.O_WRONLY)
        self.thread = threading.Thread(target=self._read, daemon=True)
        if start:
            self.thread.start()

    def opened(self):
        """The shim has it open: our own write end is not needed to hold it any more."""
        if self.seen_writer >= 0:
            os.close(self.seen_writer)
            self.seen_writer = -1

    def drain(self):
        self.thread.start()

    def _read(self):
        while True:
            part = os.read(self.fd, 1 << 20)
            if not part:
                break
            self.data += part
        self.eof.set()

    def wait_for(self, wanted, limit=None):
        end = time.monotonic() + (settings.QUICK_LIMIT if limit is None else limit)
        while wanted not in self.data:
            if time.monotonic() > end:
                raise AssertionError('%r not seen; there is %r' % (wanted, bytes(self.data[-500:])))
            time.sleep(0.01)

    def finish(self, limit=None):
        """All bytes, after EOF."""
        self.opened()
        if not self.eof.wait(settings.QUICK_LIMIT if limit is None else limit):
            raise AssertionError('no EOF of %s after %d bytes' % (self.path, len(self.data)))
        return bytes(self.data)

    def close(self):
        self.opened()
        if self.thread.is_alive():
            self.thread.join(1)
        if not self.thread.is_alive():
            os.close(self.fd)
        os.unlink(self.path)


class Sandbox:
    """A bundle and its shim; close() removes what the test did not."""

    def __init__(self, bed, container, spec=None, namespace='direct', binary=None, bundle_name=None):
        self.bed, self.id, self.namespace = bed, container, namespace
        self.binary = binary or settings.shim_binary()
        self.stock = 'lcow' not in os.path.basename(self.binary)
        self.bundle = os.path.join(bed.dir, 'b', namespace, bundle_name or container)
        os.makedirs(self.bundle + '/rootfs', mode=0o700)
        if spec is not None:
            self.write_config(json.dumps(spec))
        os.mkfifo(self.bundle + '/log', 0o700)
        self.log_fd = os.open(self.bundle + '/log', os.O_RDWR | os.O_NONBLOCK)
        self.log_bytes = bytearray()
        self.log_stop = threading.Event()
        threading.Thread(target=self._read_log, daemon=True).start()
        self.address = None
        self.client = None
        self.shim_pid = 0
        self.streams = {}
        self.stdin_fds = []
        self.limit = settings.BOOT_LIMIT

    def write_config(self, text):
        with open(self.bundle + '/config.json', 'w') as f:
            f.write(text)

    def _read_log(self):
        # The fd is open for writing too, as containerd holds it: there is never an EOF.
        while not self.log_stop.is_set():
            if select.select([self.log_fd], [], [], 0.1)[0]:
                self.log_bytes += os.read(self.log_fd, 1 << 16)
        os.close(self.log_fd)

    @property
    def log(self):
        return self.log_bytes.decode(errors='replace')

    def env(self, **more):
        """The environment that containerd 1.6 gives; None removes a variable."""
        env = {**os.environ, 'PATH': settings.path(), 'LCOW_CONFIG': self.bed.lcow.path, 'GOMAXPROCS': '2',
               'TTRPC_ADDRESS': self.bed.address + '.ttrpc', **more}
        return {k: v for k, v in env.items() if v is not None}

    def argv(self, *command, flags=()):
        return [self.binary, '-namespace', self.namespace, '-address', self.bed.address, '-publish-binary',
                '/usr/bin/containerd', '-id', self.id, *flags, *command]

    def start_command(self, stdin=b'', env=None, flags=(), limit=None):
        """Run "start" as containerd does: stdout and stderr are one pipe. (exit code, bytes)"""
        process = subprocess.Popen(self.argv('start', flags=flags), cwd=self.bundle, env=env or self.env(),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0)
        try:
            out, _ = process.communicate(stdin, timeout=limit or settings.QUICK_LIMIT)
        except subprocess.TimeoutExpired as e:
            process.kill()
            raise AssertionError('start did not end, or its pipe was kept open by the server') from e
        return process.returncode, out

    def start_shim(self, **options):
        code, out = self.start_command(**options)
        if code:
            raise AssertionError('start: exit %d: %s' % (code, out.decode(errors='replace')))
        self.address = out.decode().strip()
        self.connect()
        return self

    def connect(self, task='containerd.task.v2.Task'):
        if self.client:
            self.client.close()
        self.client = ttrpc.Client(self.address, self.namespace, task)
        return self.client

    def stdio(self, *names, start=True, prefix=''):
        """Make FIFOs for some of stdin, stdout, stderr: the fields for Create or Exec."""
        fields = {}
        for name in names:
            path = os.path.join(self.bed.dir, 'f-%s-%s%s' % (self.id, prefix, name))
            if name == 'stdin':
                os.mkfifo(path, 0o600)
            else:
                self.streams[prefix + name] = Stream(path, start)
            fields[name] = path
        if 'stdout' in fields and 'stderr' not in fields and self.stock:
            fields['stderr'] = '/dev/null'    # the stock shim of 1.6 takes both or none
        return fields

    def open_stdin(self, fields):
        """The client's end of the stdin FIFO, kept open until close(); never waits for the shim's end."""
        fd = os.open(fields['stdin'], os.O_RDWR)
        self.stdin_fds.append(fd)
        return fd

    def close_stdin(self, fd):
        self.stdin_fds.remove(fd)
        os.close(fd)

    def create(self, rootfs=None, limit=None, **fields):
        """Create the container; the shim's pid is kept for fault injection."""
        if rootfs is None:
            rootfs = self.bed.overlay(self.id)
        answer = self.client.call('Create', id=self.id, bundle=self.bundle, rootfs=rootfs, limit=limit or self.limit, **fields)
        self.shim_pid = self.call('Connect')['shim_pid']
        return answer

    def call(self, method, limit=None, **fields):
        return self.client.call(method, limit=limit or settings.QUICK_LIMIT, **{'id': self.id, **fields})

    def begin(self, method, **fields):
        """Start a call on this container; end() it later."""
        return method, self.client.start(method, **{'id': self.id, **fields})

    def end(self, call, limit=None):
        return self.client.finish(*call, limit=limit or self.limit)

    def run(self, limit=None, rootfs=None, **fields):
        """Create, Start and Wait: the exit status."""
        self.create(rootfs=rootfs, **fields)
        self.call('Start', limit=self.limit)
        return self.call('Wait', limit=limit or self.limit)['exit_status']

    def exec(self, exec_id, *args, terminal=False, **fields):
        """Exec and Start."""
        self.call('Exec', exec_id=exec_id, terminal=terminal, spec={
            'type_url': pb.PROCESS_URL, 'value': json.dumps(process_spec(*args, terminal=terminal)).encode()}, **fields)
        return self.call('Start', exec_id=exec_id)

    def delete_command(self, limit=None):
        """Run "delete": (exit code, DeleteResponse, stderr)"""
        begin = time.monotonic()
        done = subprocess.run(self.argv('delete', flags=('-bundle', self.bundle)), cwd=self.bundle, env=self.env(),
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=limit or settings.QUICK_LIMIT)
        self.delete_seconds = time.monotonic() - begin
        answer = pb.decode(pb.DELETE_RESPONSE, done.stdout) if done.returncode == 0 else None
        return done.returncode, answer, done.stderr.decode(errors='replace')

    def shutdown(self):
        """Delete the task, end the shim, run the delete command: what containerd does."""
        for method in ('Delete', 'Shutdown'):
            try:
                self.call(method)
            except (ttrpc.Closed, ttrpc.RpcError):
                pass
        return self.delete_command()

    def close(self):
        """The way of a client that has given up: kill, the delete command, remove the bundle."""
        if self.client:
            try:
                self.call('Kill', signal=9, limit=5)
                self.call('Wait', limit=5)
                self.call('Delete', limit=5)
            except Exception:    # whatever state the test left it in
                pass
        try:
            if self.stock:
                self._end_stock_shim()
            self.delete_command(limit=30)
        finally:
            if self.client:
                self.client.close()
            self.log_stop.set()
            self._remove()

    def _end_stock_shim(self):
        """The stock shim's delete command leaves the server alone (containerd.md 16.2): ours must not need this."""
        for pid in proc.running(os.path.basename(self.binary)):
            with open('/proc/%d/cmdline' % pid, 'rb') as f:
                if b'\0-id\0' + self.id.encode() + b'\0' in f.read():
                    os.kill(pid, signal.SIGKILL)
        if os.path.exists(self.bundle + '/address'):
            with open(self.bundle + '/address') as f:
                path = f.read().removeprefix('unix://')
            if os.path.exists(path):
                os.unlink(path)

    def _remove(self):
        for fd in self.stdin_fds:
            os.close(fd)
        for stream in self.streams.values():
            stream.close()
        for path in os.listdir(self.bed.dir):
            if path.startswith('f-%s-' % self.id):
                os.unlink(os.path.join(self.bed.dir, path))
        # As a direct client does it: once, then the directory; another mount below makes it fail.
        subprocess.run(['umount', self.bundle + '/rootfs'], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(['rm', '-rf', '--one-file-system', self.bundle], check=True, stdin=subprocess.DEVNULL)
        parent = os.path.dirname(self.bundle)
        while parent != os.path.join(self.bed.dir, 'b', self.namespace):
            os.rmdir(parent)
            parent = os.path.dirname(parent)

    def kill_shim(self):
        os.kill(self.shim_pid, signal.SIGKILL)
