# SPDX-License-Identifier: Apache-2.0
"""The Sandbox API said directly: a VM first, then the containers of its pods, on the same socket."""
import json
import os

from . import settings, ttrpc
from .direct import Sandbox, oci_spec

BUNDLES = 'io.containerd.sandbox.controller.v1.shim/direct/'


class SandboxVm(Sandbox):
    """A shim that was started with the bundle of a sandbox."""

    def __init__(self, bed, name, config=None):
        super().__init__(bed, name, config, bundle_name=BUNDLES + name)

    def start_shim(self):
        code, out = self.start_command(env=self.env(MAX_SHIM_VERSION='2'))
        if code:
            raise AssertionError('start: exit %d: %s' % (code, out.decode(errors='replace')))
        self.address = json.loads(out)['address']
        self.connect('containerd.task.v3.Task')
        self.shim_pid = self.call('Connect')['shim_pid']
        return self

    def begin_vm(self, method, **fields):
        """Start a call of the Sandbox service: a function that waits for its answer."""
        return self.client.start_sandbox_call(method, **{'sandbox_id': self.id, **fields})

    def vm(self, method, limit=None, **fields):
        """A call of the Sandbox service."""
        return self.begin_vm(method, **fields)(limit or self.limit)

    def boot(self, **fields):
        self.vm('CreateSandbox', bundle_path=self.bundle, **fields)
        return self.vm('StartSandbox')

    def close(self):
        try:
            self.vm('ShutdownSandbox', limit=settings.QUICK_LIMIT)
        except (ttrpc.RpcError, ttrpc.Closed, TimeoutError, AttributeError):
            pass    # whatever state the test left it in; delete does the rest
        super().close()


class Member(Sandbox):
    """A container of such a VM."""

    def __init__(self, vm, name, *args, spec=None, **more):
        super().__init__(vm.bed, name, spec or oci_spec(name, *args, **more))
        with open(os.path.join(self.bundle, 'sandbox'), 'w') as f:
            f.write(vm.id)
        self.address = vm.address
        self.connect('containerd.task.v3.Task')
