# SPDX-License-Identifier: Apache-2.0
"""Cgroups of the host: where processes are, and the directories that a kubelet makes for its pods."""
import os


def mounts():
    """Mount point of every hierarchy."""
    with open('/proc/self/mountinfo') as f:
        fields = [line.split(' ') for line in f]
    return [one[4] for one in fields if one[one.index('-') + 1] in ('cgroup', 'cgroup2')]


def of(pid):
    """Where a process is in each hierarchy: {controllers: path}."""
    with open('/proc/%d/cgroup' % pid) as f:
        return {controllers: path for _, controllers, path in (line.rstrip('\n').split(':', 2) for line in f)}


def make(path):
    """A cgroup in every hierarchy, as a kubelet makes them; end() removes it."""
    for mount in mounts():
        top = mount
        for part in path.strip('/').split('/'):
            parent, top = top, top + '/' + part
            os.makedirs(top, exist_ok=True)
            for name in ('/cpuset.cpus', '/cpuset.mems'):
                if os.path.exists(mount + '/cpuset.cpu_exclusive'):
                    with open(parent + name) as f, open(top + name, 'w') as to:
                        to.write(f.read())


def end(path):
    """Remove a cgroup, its children, and the ones above, which nobody else may use."""
    for mount in mounts():
        for top, _, _ in os.walk(mount + '/' + path.split('/')[1], topdown=False):
            os.rmdir(top)


def children(path):
    """Names of the cgroups below this one, in all hierarchies."""
    return sorted({name for mount in mounts() for name in next(os.walk(mount + path))[1]})


def memory(path):
    """Bytes that a cgroup is charged with."""
    for mount in mounts():
        for name in ('memory.current', 'memory.usage_in_bytes'):
            if os.path.exists(mount + path + '/' + name):
                with open(mount + path + '/' + name) as f:
                    return int(f.read())
    raise AssertionError('nobody counts the memory of ' + path)
