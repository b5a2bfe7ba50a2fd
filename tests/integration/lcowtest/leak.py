# SPDX-License-Identifier: Apache-2.0
"""What exists on the host that a sandbox could have left: compared before and after every test."""
import glob
import os
import re
import stat
import subprocess
import time

from . import settings


def _processes():
    """Every process of our pid namespace that is neither the runner nor a zombie about to be reaped."""
    out = set()
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open('/proc/%s/stat' % pid) as f:
                fields = f.read()
            with open('/proc/%s/cmdline' % pid, 'rb') as f:
                cmd = f.read(160).replace(b'\0', b' ').decode(errors='replace').strip()
        except OSError:
            continue
        comm = fields[fields.index('(') + 1:fields.rindex(')')]
        state, parent = fields[fields.rindex(')') + 2:].split()[:2]
        # A process that ends leaves a zombie for its parent; that of pid 1 is reaped at once.
        if state != 'Z' or parent != '1':
            out.add('process %s %s%s' % (pid, cmd or comm, ' (zombie)' if state == 'Z' else ''))
    return out


def _mounts():
    with open('/proc/self/mountinfo') as f:
        return {'mount %s %s' % (fields[4], fields[fields.index('-') + 1]) for fields in map(str.split, f)}


def _links():
    out = subprocess.run(['ip', '-o', 'link'], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    return {'network device ' + line.split(':')[1].strip() for line in out.splitlines()}


def _cgroups():
    return {'cgroup ' + top for top, _, files in os.walk('/sys/fs/cgroup') if 'cgroup.procs' in files}


def _loops():
    out = set()
    for path in glob.glob('/sys/block/loop*/loop/backing_file'):
        try:
            with open(path) as f:
                backing = f.read().strip()
        except OSError:
            continue
        if os.environ['LCOWTEST_DIR'] in backing:
            out.add('loop device %s of %s' % (path.split('/')[3], backing))
    return out


def _tree(top, what):
    """Everything below a directory, but not below another mount."""
    out = set()
    for path, dirs, files in os.walk(top):
        for name in dirs + files:
            full = os.path.join(path, name)
            try:
                mode = os.lstat(full).st_mode
            except OSError:
                continue
            kind = 'socket' if stat.S_ISSOCK(mode) else 'fifo' if stat.S_ISFIFO(mode) else what
            out.add('%s %s' % (kind, full))
        dirs[:] = [d for d in dirs if not os.path.ismount(os.path.join(path, d))]
    return out


class Snapshot:
    """State of the host; difference() waits for the grace period before it calls something a leak."""

    def __init__(self, trees=()):
        self.trees = tuple(trees)
        self.state = self._take()

    def _take(self):
        state = _processes() | _mounts() | _links() | _cgroups() | _loops()
        for d in ('/run', '/dev/shm', *self.trees):
            state |= _tree(d, 'file')
        return {s for s in state if not _expected(s)}

    def difference(self, grace=5.0):
        """Sorted list of what is there now and was not before."""
        end = time.monotonic() + grace
        while True:
            left = self._take() - self.state
            if not left or time.monotonic() >= end:
                return sorted(left)
            time.sleep(0.1)


def _made_by_lcow(cgroup):
    """Whether a cgroup has the mark of man containerd-shim-lcow-v2: then it goes with its last sandbox."""
    try:
        os.getxattr(cgroup, 'trusted.lcow.made')
    except OSError:
        return False
    return True


def _expected(entry):
    """The test's own daemon, and directories that containerd, its clients and a shim make once and keep."""
    if entry.startswith('cgroup ') and entry.endswith(_PARENTS) and not _made_by_lcow(entry.split(' ', 1)[1]):
        return True
    if not settings.IS_LCOW and entry.startswith('socket /run/containerd/s/'):
        return True    # a stock shim that was killed leaves its socket
    if entry.startswith('file ') and _KEPT_STATE.search(entry):
        return True
    return entry in _KEPT or entry.startswith('process ') and entry.split(' ', 2)[2].startswith('containerd -c ')


# containerd makes these once, for each namespace or for CRI.
_KEPT_STATE = re.compile(r'/(io\.containerd\.runtime\.v2\.task|runc|io\.containerd\.sandbox\.controller\.v1\.shim)/'
                         r'(default|direct|k8s\.io)$|/io\.containerd\.grpc\.v1\.cri(/(containers|netns|sandboxes))?$')
# A stock runtime makes these once, for all containers of a namespace; tests that compare the two run one as well.
_PARENTS = ('/lcowtest', '/default')
_KEPT = {'file ' + d for d in ('/run/containerd/fifo', '/run/containerd/s', '/run/containerd/runc', '/run/containerd/io.containerd',
                               '/run/runc', '/run/lcow')}
