# SPDX-License-Identifier: Apache-2.0
"""Processes that a test drives through containerd's Tasks service, with FIFOs of its own for their streams."""
import json
import os

from . import image, pb, settings, ttrpc
from .direct import Stream, process_spec


class Process:
    """An exec, or (without exec id) the process of a container that "ctr container create" has made."""

    def __init__(self, containerd, container, exec_id='', terminal=False, fifos=True):
        self.cd, self.container, self.exec_id, self.terminal = containerd, container, exec_id, terminal
        self.streams = {}
        self.fields = {'terminal': terminal} if terminal else {}
        self.stdin = -1
        for name in ('stdin', 'stdout', 'stderr') if fifos else ():
            if name == 'stderr' and terminal:
                continue
            path = os.path.join(containerd.dir, 'f-%s-%s-%s' % (container, exec_id, name))
            if name == 'stdin':
                os.mkfifo(path, 0o600)
                self.stdin = os.open(path, os.O_RDWR)
            else:
                self.streams[name] = Stream(path)
            self.fields[name] = path

    def call(self, method, limit=None, **fields):
        """A call about this process."""
        if self.exec_id:
            fields['exec_id'] = self.exec_id
        return self.cd.tasks.call(method, self.container, limit or settings.QUICK_LIMIT, **fields)

    def create(self):
        return self.call('Create', settings.BOOT_LIMIT, rootfs=self.cd.tasks.rootfs(self.container), **self.fields)

    def exec(self, *args, spec=None):
        spec = spec or process_spec(*args, terminal=self.terminal)
        self.call('Exec', spec={'type_url': pb.PROCESS_URL, 'value': json.dumps(spec).encode()}, **self.fields)

    def start(self):
        return self.call('Start')['pid']

    def run(self, *args):
        """Exec and Start."""
        self.exec(*args)
        self.start()
        return self

    def state(self):
        return self.call('Get')['process']

    def wait(self, limit=None):
        """The exit status."""
        return self.call('Wait', limit or settings.BOOT_LIMIT)['exit_status']

    def write(self, data):
        os.write(self.stdin, data)

    def close_stdin(self):
        os.close(self.stdin)
        self.stdin = -1
        self.call('CloseIO', stdin=True)

    def out(self, name='stdout'):
        """All of an output, after its end."""
        return self.streams[name].finish()

    def close(self):
        """End and remove it, whatever its state; a container's record stays."""
        for method, fields in (('Kill', {'signal': 9}), ('Wait', {}), ('DeleteProcess' if self.exec_id else 'Delete', {})):
            try:
                self.call(method, **fields)
            except ttrpc.RpcError:
                pass    # never created, never started, or gone already
        if self.stdin >= 0:
            os.close(self.stdin)
        for stream in self.streams.values():
            stream.close()
        if 'stdin' in self.fields:
            os.unlink(self.fields['stdin'])


def new_container(containerd, container, *command, runtime=settings.RUNTIME, options=()):
    """ "ctr container create": a record and a snapshot, without a task."""
    result = containerd.ctr('container', 'create', '--runtime', runtime, *options,
                            # else it takes the command's options for its own
                            '--', image.NAME, container, *command)
    if result.code:
        raise AssertionError(repr(result))
