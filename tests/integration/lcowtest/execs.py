# SPDX-License-Identifier: Apache-2.0
"""Execs in the running container of a class of direct tests."""
import os

from . import settings, ttrpc
from .case import Shared


class ExecCase(Shared):
    """Its execs are ended and removed after each test."""

    def setUp(self):
        super().setUp()
        self.exec_ids = []
        self.addCleanup(self._remove_execs)

    def new_exec(self):
        self.exec_ids.append(self.new_id('e'))
        return self.exec_ids[-1]

    def _remove_execs(self):
        for exec_id in self.exec_ids:
            for method, more in (('Kill', {'signal': 9}), ('Wait', {}), ('Delete', {})):
                try:
                    self.box.call(method, exec_id=exec_id, limit=5, **more)
                except (ttrpc.RpcError, TimeoutError):
                    pass
            for name in ('stdin', 'stdout', 'stderr'):
                stream = self.box.streams.pop(exec_id + name, None)
                if stream:
                    stream.close()
                path = os.path.join(self.bed.dir, 'f-%s-%s%s' % (self.box.id, exec_id, name))
                if os.path.exists(path):
                    os.unlink(path)
        for fd in self.box.stdin_fds:
            os.close(fd)
        self.box.stdin_fds.clear()

    def run_exec(self, *args, streams=('stdout',), **more):
        """Exec, Start: (exec id, fields of the FIFOs)"""
        exec_id = self.new_exec()
        fields = self.box.stdio(*streams, prefix=exec_id)
        self.box.exec(exec_id, *args, **fields, **more)
        return exec_id, fields

    def out(self, exec_id, name='stdout'):
        return self.box.streams[exec_id + name]

    def wait(self, exec_id, limit=None):
        return self.box.call('Wait', exec_id=exec_id, limit=limit or settings.BOOT_LIMIT)['exit_status']
