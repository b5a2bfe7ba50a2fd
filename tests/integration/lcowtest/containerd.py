# SPDX-License-Identifier: Apache-2.0
"""A containerd of our own: root, state and socket in the run's directory; ctr beside it."""
import contextlib
import json
import os
import signal
import subprocess
import threading
import time

from . import debs, image, settings, tools
from .tasks import Tasks

# The 1.x line reads version 2, the 2.x line version 3; plugins that have gone are not missed.
CONFIG = '''version = {config}
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
	"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs",
	{off}]
[grpc]
  address = "{dir}/c.sock"
[debug]
  level = "{level}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
'''
DEBS = tools.CONTAINERDS


def programs(version):
    """The directory of containerd and ctr. Skips the test when they are not to be had."""
    if tools.containerd() == version:
        return settings.TOOLS
    return os.path.join(debs.unpacked(DEBS[version]), 'usr', 'bin')


class LcowConfig:
    """The file that LCOW_CONFIG names. The shim reads it at its start, so a test may change it for its own sandboxes."""

    def __init__(self, directory):
        self.path = os.path.join(directory, 'lcow.conf')
        self.run_dir = os.path.join(directory, 'run')
        self.scratch_dir = os.path.join(directory, 'scratch')
        self.values = {
            'run_dir': self.run_dir, 'scratch_dir': self.scratch_dir, 'boot_files': settings.BOOT_FILES,
            'accel': os.environ.get('LCOW_ACCEL', 'auto'), 'memory': '256M', 'log_level': 'debug',
            'transport': os.environ.get('LCOW_TRANSPORT', 'auto'), 'upper': os.environ.get('LCOW_UPPER', 'guest'),
        }
        for d in (self.run_dir, self.scratch_dir):
            os.makedirs(d, exist_ok=True)
        self._write(self.values)

    def _write(self, values):
        with open(self.path + '.new', 'w') as f:
            f.write('[lcow]\n' + ''.join('%s = %s\n' % kv for kv in values.items()))
        os.rename(self.path + '.new', self.path)

    @contextlib.contextmanager
    def set(self, **changes):
        self._write({**self.values, **changes})
        try:
            yield
        finally:
            self._write(self.values)


class Result:
    """What a ctr command did."""

    def __init__(self, args, code, out, err, seconds):
        self.args, self.code, self.out_bytes, self.err, self.seconds = args, code, out, err, seconds

    @property
    def out(self):
        return self.out_bytes.decode(errors='replace')

    def __repr__(self):
        return 'ctr %s: exit %d after %.1f s\n--- stdout (%d bytes)\n%s\n--- stderr\n%s' % (
            ' '.join(self.args), self.code, self.seconds, len(self.out_bytes), self.out[-2000:], self.err[-4000:])


class Containerd:
    """A running daemon of one version, and its ctr."""

    # Further plugins that are not wanted.
    off = ('io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime',
           'io.containerd.internal.v1.tracing', 'io.containerd.nri.v1.nri')

    def __init__(self, directory, version='1.6', namespace='default', level='info'):
        self.programs = {name: os.path.join(programs(version), name) for name in ('containerd', 'ctr')}
        os.makedirs(directory)
        os.makedirs('/run/containerd', exist_ok=True)
        self.dir = directory
        self.namespace = namespace
        self.socket = directory + '/c.sock'
        self.log_path = directory + '/containerd.log'
        self.lcow = LcowConfig(directory)
        self.env = {**os.environ, 'PATH': settings.path(), 'LCOW_CONFIG': self.lcow.path,
                    'CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS': '1'}
        with open(directory + '/config.toml', 'w') as f:
            f.write(self.config(version, level))
        self.process = self.tasks = None
        self.start()
        self._import()

    def config(self, version, level):
        """The text of its configuration file."""
        return CONFIG.format(dir=self.dir, level=level, config=3 if version.startswith('2.') else 2,
                             off=', '.join('"%s"' % plugin for plugin in self.off)) + self.prepare()

    def prepare(self):
        """More of the configuration; for daemons of another kind."""
        return ''

    def images(self):
        """Names and commands of the images that there are."""
        return [(image.NAME, ['sh'])]

    def start(self):
        log = open(self.log_path, 'ab')
        # The leak check knows the daemon by the name that it is given here.
        self.process = subprocess.Popen(['containerd', '-c', self.dir + '/config.toml'],
                                        executable=self.programs['containerd'], env=self.env, cwd=self.dir,
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        end = time.monotonic() + 30 * settings.SLOW
        while subprocess.run(self._ctr('version'), env=self.env, capture_output=True, stdin=subprocess.DEVNULL).returncode:
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError('containerd did not start:\n' + self.log()[-4000:])
            time.sleep(0.1)
        self.tasks = Tasks(self.socket, self.namespace)

    def stop(self, kill=False):
        """End the daemon only: shims live on."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                self.process.wait(10 * settings.SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.tasks:
            self.tasks.close()

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        self.stop()

    def trees(self):
        """Directories of which nothing may be left behind."""
        return [self.lcow.run_dir, self.lcow.scratch_dir, self.dir + '/state']

    def _import(self):
        for name, command in self.images():
            tar = image.oci_tar(self.dir + '/image.tar', name, command)
            result = self.ctr('image', 'import', tar, limit=120)
            os.unlink(tar)
            if result.code:
                raise RuntimeError(repr(result))

    def _ctr(self, *args):
        return [self.programs['ctr'], '-a', self.socket, '-n', self.namespace, *args]

    def log(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def ctr(self, *args, stdin=b'', limit=None):
        """Run ctr to its end. stdin: bytes for a pipe that closes after them."""
        limit = settings.BOOT_LIMIT if limit is None else limit
        begin = time.monotonic()
        process = self.popen(*args)
        try:
            out, err = process.communicate(stdin, timeout=limit)
        except subprocess.TimeoutExpired as e:
            process.kill()
            process.communicate()
            raise AssertionError('ctr %s did not end in %g s\n%s' % (' '.join(args), limit, self.log()[-3000:])) from e
        return Result(args, process.returncode, out, err.decode(errors='replace'), time.monotonic() - begin)

    def popen(self, *args, **options):
        """Start ctr with pipes."""
        options = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **options}
        return subprocess.Popen(self._ctr(*args), env=self.env, cwd=self.dir, **options)

    def run_args(self, *options, runtime=settings.RUNTIME):
        return ['run', '--runtime', runtime, *options]

    def run(self, container, *command, options=('--rm',), stdin=b'', limit=None):
        """ctr run with the busybox image."""
        return self.ctr(*self.run_args(*options), image.NAME, container, *command, stdin=stdin, limit=limit)

    def bundle(self, container):
        return '%s/state/io.containerd.runtime.v2.task/%s/%s' % (self.dir, self.namespace, container)

    def events(self):
        return EventRecorder(self)


class EventRecorder:
    """ "ctr events" into a list of (topic, fields)."""

    def __init__(self, containerd):
        self.list = []
        self.cond = threading.Condition()
        self.process = containerd.popen('events', stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        # The subscription is in place when an event of our own comes through.
        end = time.monotonic() + 20 * settings.SLOW
        while time.monotonic() < end:
            containerd.ctr('image', 'label', image.NAME, 'lcowtest.probe=%d' % time.monotonic_ns())
            with self.cond:
                if self.cond.wait_for(lambda: self.list, 0.5):
                    break
        with self.cond:
            self.list.clear()

    def _read(self):
        for line in self.process.stdout:
            # 2026-01-01 00:00:00.0 +0000 UTC namespace /topic {json}
            text = line.decode(errors='replace')
            at, brace = text.find(' /'), text.find('{')
            if at < 0:
                continue
            topic = text[at + 1:].split(' ', 1)[0]
            fields = json.loads(text[brace:]) if brace > 0 else {}
            with self.cond:
                self.list.append((topic, fields))
                self.cond.notify_all()

    def topics(self, container):
        with self.cond:
            return [t for t, f in self.list if f.get('container_id') == container]

    def wait(self, topic, container, limit=10, match=None):
        def seen():
            return next((f for t, f in self.list if t == topic and f.get('container_id') == container
                         and (match is None or match(f))), None)
        with self.cond:
            if not self.cond.wait_for(lambda: seen() is not None, limit * settings.SLOW):
                raise AssertionError('no %s of %s in %g s; there are %r' % (topic, container, limit, self.list))
            return seen()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(5)
        self.process.stdout.close()
