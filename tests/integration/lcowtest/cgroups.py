# SPDX-License-Identifier: Apache-2.0
"""Cgroups: the run's own, where processes are, and the directories that a kubelet makes for its pods."""
import os
import subprocess
import time


def mounts():
    """Mount point of every hierarchy."""
    with open('/proc/self/mountinfo') as f:
        fields = [line.split(' ') for line in f]
    return [one[4] for one in fields if one[one.index('-') + 1] in ('cgroup', 'cgroup2')]


def of(pid):
    """Where a process is in each hierarchy: {controllers: path}."""
    with open('/proc/%d/cgroup' % pid) as f:
        return {controllers: path for _, controllers, path in (line.rstrip('\n').split(':', 2) for line in f)}


def _hierarchies():
    """Of each: its mount point, its controllers ("" for version 2), and our own place in it."""
    with open('/proc/self/mountinfo') as f:
        mounted = [line.rstrip('\n').split(' ') for line in f]
    for controllers, ours in of(os.getpid()).items():
        for fields in mounted:
            kind, _, options = fields[fields.index('-') + 1:]
            if kind == 'cgroup' and controllers and set(controllers.split(',')) <= set(options.split(',')):
                yield fields[4], controllers, ours
                break
            if kind == 'cgroup2' and not controllers:
                yield fields[4], controllers, ours
                break


def _write(path, text):
    try:
        with open(path, 'w') as f:
            f.write(text)
    except OSError:
        pass    # a controller that cannot be had here is missed by the test that needs it


def _read(path):
    with open(path) as f:
        return f.read().split()


def _hand_down(top):
    """Give the controllers of a cgroup of version 2 to its children."""
    for controller in _read(top + '/cgroup.controllers'):
        _write(top + '/cgroup.subtree_control', '+' + controller)


def below_our_own(name):
    """A new cgroup below our own in each hierarchy: their directories."""
    made = []
    for mount, controllers, ours in _hierarchies():
        parent = mount + ours.rstrip('/')
        if not controllers:
            _hand_down(parent)
        made.append(parent + '/' + name)
        os.mkdir(made[-1])
        for file in ('/cpuset.cpus', '/cpuset.mems'):
            if controllers and os.path.exists(parent + file):
                with open(parent + file) as f:
                    _write(made[-1] + file, f.read())
    return made


def remove(directories):
    """Remove cgroups whose processes have been ended, with all below them. Processes of a pid namespace take their time to go."""
    end = time.monotonic() + 30
    for directory in directories:
        while os.path.exists(directory) and time.monotonic() < end:
            for top, _, _ in os.walk(directory, topdown=False):
                try:
                    os.rmdir(top)
                except OSError:
                    time.sleep(0.02)


def become_root():
    """In a new cgroup namespace: mount the hierarchies as it has them, with our own cgroup as their root."""
    for mount, controllers, _ in list(_hierarchies()):
        kind, options = 'cgroup2', 'rw'
        if controllers:
            kind, options = 'cgroup', 'none,' + controllers if controllers.startswith('name=') else controllers
        for command in (('umount', mount), ('mount', '-t', kind, '-o', options, 'cgroup', mount)):
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        if not controllers and _read(mount + '/cgroup.controllers'):
            # Version 2 gives controllers only to the children of a cgroup without processes.
            os.mkdir(mount + '/runner')
            for pid in _read(mount + '/cgroup.procs'):
                _write(mount + '/runner/cgroup.procs', pid)
            _hand_down(mount)


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
