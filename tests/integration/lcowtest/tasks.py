# SPDX-License-Identifier: Apache-2.0
"""containerd's own Tasks service over gRPC: what ctr has no command for, and answers with their codes.

The messages are those of containerd's api/services/tasks/v1/tasks.proto and api/types/task/task.proto.
"""
import grpc

from . import pb, ttrpc

_ID = {'container_id': (1, 'str')}
_ID_EXEC = {'container_id': (1, 'str'), 'exec_id': (2, 'str')}
_PROCESS = {'container_id': (1, 'str'), 'id': (2, 'str'), 'pid': (3, 'uint'), 'status': (4, 'uint'), 'stdin': (5, 'str'),
            'stdout': (6, 'str'), 'stderr': (7, 'str'), 'terminal': (8, 'bool'), 'exit_status': (9, 'uint'),
            'exited_at': (10, pb.TIMESTAMP)}
_DELETED = {'id': (1, 'str'), 'pid': (2, 'uint'), 'exit_status': (3, 'uint'), 'exited_at': (4, pb.TIMESTAMP)}
METHODS = {
    'Create': ({'container_id': (1, 'str'), 'rootfs': (3, [pb.MOUNT]), 'stdin': (4, 'str'), 'stdout': (5, 'str'),
                'stderr': (6, 'str'), 'terminal': (7, 'bool'), 'options': (9, pb.ANY)},
               {'container_id': (1, 'str'), 'pid': (2, 'uint')}),
    'Start': (_ID_EXEC, {'pid': (1, 'uint')}),
    'Delete': (_ID, _DELETED),
    'DeleteProcess': (_ID_EXEC, _DELETED),
    'Get': (_ID_EXEC, {'process': (1, _PROCESS)}),
    'Kill': ({**_ID_EXEC, 'signal': (3, 'uint'), 'all': (4, 'bool')}, pb.EMPTY),
    'Exec': ({'container_id': (1, 'str'), 'stdin': (2, 'str'), 'stdout': (3, 'str'), 'stderr': (4, 'str'),
              'terminal': (5, 'bool'), 'spec': (6, pb.ANY), 'exec_id': (7, 'str')}, pb.EMPTY),
    'ResizePty': ({**_ID_EXEC, 'width': (3, 'uint'), 'height': (4, 'uint')}, pb.EMPTY),
    'CloseIO': ({**_ID_EXEC, 'stdin': (3, 'bool')}, pb.EMPTY),
    'Pause': (_ID, pb.EMPTY),
    'Resume': (_ID, pb.EMPTY),
    'ListPids': (_ID, {'processes': (1, [{'pid': (1, 'uint'), 'info': (2, pb.ANY)}])}),
    'Checkpoint': ({'container_id': (1, 'str'), 'parent_checkpoint': (2, 'str'), 'options': (3, pb.ANY)}, pb.EMPTY),
    'Update': ({'container_id': (1, 'str'), 'resources': (2, pb.ANY), 'annotations': (3, [pb.KV])}, pb.EMPTY),
    'Metrics': ({'filters': (1, ['str'])}, {'metrics': (1, [{'timestamp': (1, pb.TIMESTAMP), 'id': (2, 'str'),
                                                             'data': (3, pb.ANY)}])}),
    'Wait': (_ID_EXEC, {'exit_status': (1, 'uint'), 'exited_at': (2, pb.TIMESTAMP)}),
}
PROCESS_DETAILS = {'exec_id': (1, 'str')}
RESOURCES_URL = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources'
_MOUNTS = ({'snapshotter': (1, 'str'), 'key': (2, 'str')}, {'mounts': (1, [pb.MOUNT])})


class Tasks:
    """The client of one life of the daemon; errors are ttrpc.RpcError, as those of a shim itself."""

    def __init__(self, address, namespace):
        self.channel = grpc.insecure_channel('unix://' + address)
        self.metadata = [('containerd-namespace', namespace)]

    def _start(self, service, method, types, fields, limit):
        request, response = types
        call = self.channel.unary_unary('/%s/%s' % (service, method), lambda f: pb.encode(request, f),
                                        lambda data: pb.decode(response, data))
        return call.future(fields, timeout=limit, metadata=self.metadata)

    @staticmethod
    def finish(future):
        """The answer of a call that start() has begun."""
        try:
            return future.result()
        except grpc.RpcError as e:
            raise ttrpc.RpcError(e.code().value[0], e.details()) from None

    def start(self, method, container, limit=60, **fields):
        """Begin a call on a container."""
        return self._start('containerd.services.tasks.v1.Tasks', method, METHODS[method],
                           {'container_id': container, **fields}, limit)

    def call(self, method, container, limit=60, **fields):
        """A call on a container: the fields of its answer."""
        return self.finish(self.start(method, container, limit, **fields))

    def metrics(self, container, limit=60):
        """The metrics of one task; None without."""
        answer = self.finish(self._start('containerd.services.tasks.v1.Tasks', 'Metrics', METHODS['Metrics'],
                                         {'filters': ['id==' + container]}, limit))
        return next((m for m in answer['metrics'] if m['id'] == container), None)

    def rootfs(self, container, snapshotter='overlayfs'):
        """What Create takes as rootfs: the mounts of the snapshot that "ctr container create" has made."""
        return self.finish(self._start('containerd.services.snapshots.v1.Snapshots', 'Mounts', _MOUNTS,
                                       {'snapshotter': snapshotter, 'key': container}, 60))['mounts']

    def close(self):
        self.channel.close()
