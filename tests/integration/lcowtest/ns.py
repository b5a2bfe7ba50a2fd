# SPDX-License-Identifier: Apache-2.0
"""Namespaces in which everything of a run lives: mount, pid, net, ipc, uts.

The runner starts itself again in them. What a test starts cannot touch the host's mounts, network or processes, the list
of processes holds nothing but ours (so a leak is exactly what is in it), and nothing survives the runner.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

MARK = 'LCOWTEST_DIR'


def inside():
    return MARK in os.environ


def enter():
    """Return the run's directory; the first call replaces the process by one inside the namespaces."""
    if MARK in os.environ:
        if os.getpid() == 1:
            _become_init()
            _prepare()
        return os.environ[MARK]
    if os.geteuid() != 0:
        sys.exit('this needs root: namespaces, mounts and containerd')
    # Short: socket paths end at 107 characters.
    base = tempfile.mkdtemp(prefix='lcow.', dir='/tmp')
    os.chmod(base, 0o755)    # QEMU runs as another user
    os.environ[MARK] = base
    cmd = ['unshare', '-m', '-p', '-n', '-i', '-u', '--fork', '--kill-child=SIGKILL', '--propagation', 'private',
           '--mount-proc', sys.executable, '-B', *sys.argv]
    child = subprocess.Popen(cmd)
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, lambda *_: child.terminate())
    code = child.wait()
    if code != 0 and 'LCOWTEST_KEEP' in os.environ:
        print('kept for a look: %s' % base, file=sys.stderr)
    else:
        shutil.rmtree(base, ignore_errors=True)
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
    # A mount namespace does not renew sysfs's view of the network.
    os.environ['TMPDIR'] = os.environ[MARK] + '/tmp'
    os.makedirs(os.environ['TMPDIR'], exist_ok=True)
    tempfile.tempdir = None
