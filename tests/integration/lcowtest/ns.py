# SPDX-License-Identifier: Apache-2.0
"""Namespaces in which everything of a run lives: mount, pid, net, ipc, uts, cgroup.

A runner starts itself again in them. What a test starts cannot touch the host's mounts, network, processes or cgroups, the
lists of them hold nothing but ours (so a leak is exactly what is in them), several runs do not see each other, and nothing
survives the runner.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from . import cgroups

MARK = 'LCOWTEST_DIR'
# Puts itself into the cgroups before "--", then becomes what stands behind it.
_INTO_CGROUPS = 'while [ "$1" != -- ]; do echo $$ >"$1"/cgroup.procs || exit; shift; done; shift; exec "$@"'


def inside():
    return MARK in os.environ


class Room:
    """Namespaces, a directory and cgroups for one process and all that it starts; close() ends and removes them."""

    def __init__(self, argv, **options):
        if os.geteuid() != 0:
            sys.exit('this needs root: namespaces, mounts and containerd')
        # Short: socket paths end at 107 characters.
        self.base = tempfile.mkdtemp(prefix='lcow.', dir='/tmp')
        os.chmod(self.base, 0o755)    # QEMU runs as another user
        self.cgroups = cgroups.below_our_own(os.path.basename(self.base))
        env = {**options.pop('env', os.environ), MARK: self.base}
        self.process = subprocess.Popen(
            ['/bin/sh', '-c', _INTO_CGROUPS, 'sh', *self.cgroups, '--', 'unshare', '-m', '-p', '-n', '-i', '-u', '-C', '--fork',
             '--kill-child=SIGKILL', '--propagation', 'private', '--mount-proc', *argv], env=env, **options)

    def close(self, keep=False):
        """Wait for its end, for which it has a moment, and remove what was its own."""
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()    # unshare heeds nothing else, and takes all others with it
            self.process.wait()
        cgroups.remove(self.cgroups)
        if keep:
            print('kept for a look: %s' % self.base, file=sys.stderr)
        else:
            shutil.rmtree(self.base, ignore_errors=True)


def enter():
    """Return the run's directory; the first call replaces the process by one inside the namespaces."""
    if inside():
        if os.getpid() == 1:
            _become_init()
            _prepare()
        return os.environ[MARK]
    room = Room([sys.executable, '-B', *sys.argv])
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda *_: room.process.kill())
    code = room.process.wait()
    room.close(keep=code != 0 and 'LCOWTEST_KEEP' in os.environ)
    sys.exit(code if code >= 0 else 128 - code)


def _become_init():
    """pid 1 only reaps; the tests run in a child, so that orphans of shims are reaped as on a host."""
    child = os.fork()
    if child == 0:
        return
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda s, _: os.kill(child, s))
    while True:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _prepare():
    def sh(*cmd):
        subprocess.run(cmd, check=True, stdin=subprocess.DEVNULL)
    sh('ip', 'link', 'set', 'lo', 'up')
    # Everything under /run is ours: /run/containerd/{s,fifo} are fixed names, and shims of the host stay out of sight.
    sh('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', '/run')
    for d in ('containerd', 'netns', 'lock'):
        os.makedirs('/run/' + d, exist_ok=True)
    sh('mount', '-t', 'tmpfs', '-o', 'mode=1777', 'tmpfs', '/dev/shm')
    cgroups.become_root()
    # A mount namespace does not renew sysfs's view of the network.
    os.environ['TMPDIR'] = os.environ[MARK] + '/tmp'
    os.makedirs(os.environ['TMPDIR'], exist_ok=True)
    tempfile.tempdir = None
