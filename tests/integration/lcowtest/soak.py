# SPDX-License-Identifier: Apache-2.0
"""Many processes and containers in one sandbox, and what shim and agent are made of before and after."""
import json
import os
import re
import shutil
import signal
import time

from . import pb, proc, settings, ttrpc
from .direct import Sandbox, oci_spec, process_spec

_CRI = 'io.kubernetes.cri.'
# What shows of the guest's first process to somebody in its pid namespace; /run without what is mounted below it.
_LOOK = '''
sed 's/^/agent/' /proc/1/status
echo "agent-fds: $(ls /proc/1/fd | wc -l)"
echo "processes: $(cat /proc/[0-9]*/status 2>/dev/null | grep -c ^VmRSS)"
echo "zombies: $(cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.Z')"
echo "mounts: $(wc -l < /proc/1/mountinfo)"
echo "cgroups: $(find /proc/1/root/sys/fs/cgroup -type d | wc -l)"
echo "files: $(find /proc/1/root/run /proc/1/root/tmp -xdev | wc -l)"
grep -E '^(MemTotal|MemAvailable|SUnreclaim)' /proc/meminfo
'''
_CAPABILITIES = ['CAP_SYS_PTRACE', 'CAP_DAC_READ_SEARCH', 'CAP_DAC_OVERRIDE', 'CAP_SYS_ADMIN']

# Row of the table: how much it may grow between two samples of an idle sandbox. Memory is in KiB, the shim's heap in bytes.
# What a burst of streams has taken from the kernel stays with malloc(), so RSS has some room.
ROWS = {
    'shim RSS': 512, 'shim heap': 8192, 'shim fds': 0, 'shim coroutines': 0, 'shim watches': 0, 'shim timers': 0, 'shim mounts': 0, 'shim files': 0,
    'agent RSS': 512, 'agent fds': 0, 'guest processes': 0, 'guest zombies': 0, 'guest mounts': 0, 'guest cgroups': 0,
    'guest files': 0, 'guest SUnreclaim': 4096, 'guest used memory': 16384,
}


def _status(text, prefix=''):
    return int(re.search(r'(?m)^%sVmRSS:\s+(\d+)' % prefix, text).group(1))


def _tree(top):
    return sum(len(dirs) + len(files) for _, dirs, files in os.walk(top))


def forget(box, exec_id):
    """Close and remove the FIFOs of an exec."""
    for name in ('stdin', 'stdout', 'stderr'):
        stream = box.streams.pop(exec_id + name, None)
        if stream:
            stream.close()
    stdin = os.path.join(box.bed.dir, 'f-%s-%sstdin' % (box.id, exec_id))
    if os.path.exists(stdin):
        os.unlink(stdin)


def at_once(box, n, size):
    """n execs at a time; each writes so many bytes of its own and ends with a status of its own. Seconds from Exec to Delete."""
    limit = (60 + n * size / 200e3) * settings.SLOW
    ids = ['m%d' % i for i in range(n)]
    fields = [box.stdio('stdout', prefix=exec_id) for exec_id in ids]
    specs = [json.dumps(process_spec('sh', '-c', 'yes %d | head -c %d; exit %d' % (i, size, i))).encode() for i in range(n)]
    begin = time.monotonic()
    for exec_id, spec, more in zip(ids, specs, fields):
        box.call('Exec', exec_id=exec_id, spec={'type_url': pb.PROCESS_URL, 'value': spec}, **more)
    begun = [(box.begin('Wait', exec_id=exec_id), box.begin('Start', exec_id=exec_id)) for exec_id in ids]
    for _, starting in begun:
        box.end(starting, limit)
    for i, (exec_id, (waiting, _)) in enumerate(zip(ids, begun)):
        status, line = box.end(waiting, limit)['exit_status'], b'%d\n' % i
        out = box.streams[exec_id + 'stdout'].finish(limit)
        if status != i or out != (line * (size // len(line) + 1))[:size]:
            raise AssertionError('exec %s: status %d, %d bytes of output' % (exec_id, status, len(out)))
    for deleting in [box.begin('Delete', exec_id=exec_id) for exec_id in ids]:
        box.end(deleting, limit)
    took = time.monotonic() - begin
    for exec_id in ids:
        forget(box, exec_id)
    return took


class Pod:
    """A sandbox container, its shim and VM; members come and go."""

    def __init__(self, bed, sandbox, binary=None, annotations=None):
        self.bed, self.count = bed, 0
        spec = self._spec('sandbox', sandbox, sandbox, 'sleep', '100000')
        spec['annotations'].update(annotations or {})
        self.box = Sandbox(bed, sandbox, spec, binary=binary)
        self.members = []

    @staticmethod
    def _spec(kind, sandbox, container, *args):
        return oci_spec(container, *args, annotations={_CRI + 'container-type': kind, _CRI + 'sandbox-id': sandbox})

    def _bundle(self, container):
        return os.path.join(self.bed.dir, 'b', self.box.namespace, container)

    def start(self):
        # malloc() counts what its caches per thread hold as in use: without them its figure is exact.
        self.box.start_shim(env=self.box.env(GLIBC_TUNABLES='glibc.malloc.tcache_count=0'))
        self.box.create()
        self.box.call('Start', limit=self.box.limit)
        # Lives in the pid namespace of the VM, and sees the agent from there.
        spec = self._spec('container', self.box.id, 'look', 'sleep', '100000')
        spec['linux']['namespaces'] = [n for n in spec['linux']['namespaces'] if n['type'] != 'pid']
        spec['process']['capabilities'] = self._capabilities()
        self.look = self.add(spec=spec)

    @staticmethod
    def _capabilities():
        return {kind: _CAPABILITIES for kind in ('bounding', 'effective', 'permitted', 'inheritable')}

    def add(self, *args, spec=None, **fields):
        """Create and start a member: its id."""
        self.count += 1
        container = '%s-%d' % (self.box.id, self.count)
        bundle = self._bundle(container)
        os.makedirs(bundle + '/rootfs', mode=0o700)
        self.members.append(container)
        with open(bundle + '/config.json', 'w') as f:
            json.dump(spec or self._spec('container', self.box.id, container, *args), f)
        self.box.call('Create', id=container, bundle=bundle, rootfs=self.bed.overlay(container), limit=self.box.limit, **fields)
        self.box.call('Start', id=container, limit=self.box.limit)
        return container

    def remove(self, container):
        self.box.call('Delete', id=container, limit=self.box.limit)
        bundle = self._bundle(container)
        os.unlink(bundle + '/config.json')
        for d in ('/rootfs', ''):
            os.rmdir(bundle + d)
        self.members.remove(container)

    def refused(self, spec):
        """The error of a Create that fails; there is nothing to delete then."""
        try:
            self.add(spec=spec)
        except ttrpc.RpcError as e:
            container = self.members.pop()
            shutil.rmtree(self._bundle(container))
            return e
        raise AssertionError('a container was created')

    def output(self, container, script, limit=None, check=True):
        """What a shell script in a member prints: as text, or with `check` off (status, text)"""
        box, exec_id = self.box, 'x'
        fields = box.stdio('stdout', 'stderr', prefix=exec_id)
        more = {'capabilities': self._capabilities()} if container == self.look else {}
        spec = json.dumps({**process_spec('sh', '-c', script), **more}).encode()
        limit = limit or box.limit
        box.call('Exec', id=container, exec_id=exec_id, spec={'type_url': pb.PROCESS_URL, 'value': spec}, **fields)
        box.call('Start', id=container, exec_id=exec_id)
        status = box.call('Wait', id=container, exec_id=exec_id, limit=limit)['exit_status']
        out, err = (box.streams[exec_id + s].finish(limit).decode() for s in ('stdout', 'stderr'))
        box.call('Delete', id=container, exec_id=exec_id)
        forget(box, exec_id)
        if not check:
            return status, out + err
        if status:
            raise AssertionError('exit %d of %s: %s' % (status, script, out + err))
        return out

    def end(self, container):
        """Kill and remove a member."""
        self.box.call('Kill', id=container, signal=9)
        self.box.call('Wait', id=container, limit=self.box.limit)
        self.remove(container)

    def close(self):
        for container in list(self.members):
            try:
                self.box.call('Kill', id=container, signal=9, limit=5)
                self.box.call('Wait', id=container)
                self.remove(container)
            except Exception:    # whatever state the test left it in
                shutil.rmtree(self._bundle(container), ignore_errors=True)
        self.box.close()

    # ---- load ----

    def one_exec(self, n):
        """An exec with three streams; every 8th is killed, and every 16th is asked about all that there is."""
        box, exec_id = self.box, 'n%d' % n
        fields = box.stdio('stdin', 'stdout', 'stderr', prefix=exec_id)
        long = n % 8 == 0
        box.exec(exec_id, 'sh', '-c', 'echo out %d; echo err >&2; %s; exit %d' % (n, 'exec sleep 1000' if long else ':', n % 250), **fields)
        if n % 16 == 0:
            box.call('State', exec_id=exec_id)
            box.call('Pids')
        waiting = [box.begin('Wait', exec_id=exec_id) for _ in range(2)]
        if long:
            box.call('Kill', exec_id=exec_id, signal=9)
        status = {box.end(w)['exit_status'] for w in waiting}
        out = box.streams[exec_id + 'stdout'].finish()
        box.streams[exec_id + 'stderr'].finish()
        box.call('Delete', exec_id=exec_id)
        forget(box, exec_id)
        # A killed one may not have come to its echo.
        if status != {137 if long else n % 250} or out not in (b'out %d\n' % n, *([b''] if long else [])):
            raise AssertionError('exec %s: status %r, output %r' % (exec_id, status, out))

    def one_container(self, n):
        container = self.add('sh', '-c', 'echo $$ > /tmp/x; exit %d' % (n % 250))
        self.box.call('State', id=container)
        status = self.box.call('Wait', id=container, limit=self.box.limit)['exit_status']
        if status != n % 250:
            raise AssertionError('container %s: status %d' % (container, status))
        self.remove(container)

    def at_once(self, n, size):
        at_once(self.box, n, size)

    def waits(self, n):
        """So many Waits for one exec: all parked, then all answered."""
        box = self.box
        box.exec('w', 'sleep', '1000')
        begun = [box.begin('Wait', exec_id='w') for _ in range(n)]
        box.call('Kill', exec_id='w', signal=15)
        status = {box.end(w)['exit_status'] for w in begun}
        box.call('Delete', exec_id='w')
        if status != {143}:
            raise AssertionError('Waits: %r' % status)

    # ---- samples ----

    def sample(self):
        """What shim and guest are made of, once that has settled: {row: number}"""
        last = None
        for _ in range(20):
            now = self._sample()
            if last and all(now[row] >= last[row] for row in ROWS):
                return last
            last = now
            time.sleep(0.5)
        return last

    def _sample(self):
        pid = self.box.shim_pid
        with open('/proc/%d/status' % pid) as f:
            rss = _status(f.read())
        with open('/proc/%d/mountinfo' % pid) as f:
            mounts = len(f.readlines())
        heap, watches, timers, coroutines = self._dump()
        guest = self._look()

        def number(key):
            return int(re.search(r'(?m)^%s:\s+(\d+)' % key, guest).group(1))
        return {
            'shim RSS': rss, 'shim heap': heap, 'shim fds': proc.fds(pid), 'shim coroutines': coroutines, 'shim watches': watches,
            'shim timers': timers, 'shim mounts': mounts,
            'shim files': _tree(self.bed.lcow.run_dir) + _tree(self.bed.lcow.scratch_dir),
            'agent RSS': _status(guest, 'agent'), 'agent fds': number('agent-fds'), 'guest processes': number('processes'),
            'guest zombies': number('zombies'), 'guest mounts': number('mounts'), 'guest cgroups': number('cgroups'),
            'guest files': number('files'), 'guest SUnreclaim': number('SUnreclaim'),
            'guest used memory': number('MemTotal') - number('MemAvailable'),
        }

    def _dump(self):
        """(bytes of heap, watches, timers, coroutines) as the shim's own dump tells."""
        seen = len(self.box.log)
        os.kill(self.box.shim_pid, signal.SIGUSR1)
        end = time.monotonic() + settings.QUICK_LIMIT
        while time.monotonic() < end:
            found = re.search(r'heap: (\d+) bytes(?s:.*)loop: (\d+) watches, (\d+) timers .* (\d+) coroutines', self.box.log[seen:])
            if found:
                return tuple(map(int, found.groups()))
            time.sleep(0.01)
        raise AssertionError('the shim did not dump its loop: %s' % self.box.log[seen:])

    def _look(self):
        box, exec_id = self.box, 'look'
        fields = box.stdio('stdout', prefix=exec_id)
        spec = {**process_spec('sh', '-c', _LOOK), 'capabilities': self._capabilities()}
        box.call('Exec', id=self.look, exec_id=exec_id, spec={'type_url': pb.PROCESS_URL, 'value': json.dumps(spec).encode()}, **fields)
        box.call('Start', id=self.look, exec_id=exec_id)
        box.call('Wait', id=self.look, exec_id=exec_id, limit=box.limit)
        out = box.streams[exec_id + 'stdout'].finish().decode(errors='replace')
        box.call('Delete', id=self.look, exec_id=exec_id)
        forget(box, exec_id)
        return out


def grown(before, after):
    """Rows that grew by more than they may, as texts."""
    # A sanitizer's malloc() tells nothing, and keeps what was freed.
    rows = [row for row in ROWS if row != 'shim RSS' or after['shim heap']]
    return ['%s grew from %d to %d' % (row, before[row], after[row]) for row in rows if after[row] - before[row] > ROWS[row]]
