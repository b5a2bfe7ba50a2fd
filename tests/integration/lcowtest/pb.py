# SPDX-License-Identifier: Apache-2.0
"""Protocol buffers, as little of them as the messages of a shim need (https://protobuf.dev/programming-guides/encoding/).

A message type is a dict: field name -> (number, kind). A kind is 'uint', 'int', 'bool', 'str', 'bytes', another message
type (a dict), or a list of one kind for a repeated field. Messages are dicts of their fields.
"""

KV = {'key': (1, 'str'), 'value': (2, 'str')}
ANY = {'type_url': (1, 'str'), 'value': (2, 'bytes')}
TIMESTAMP = {'seconds': (1, 'int'), 'nanos': (2, 'int')}
STATUS = {'code': (1, 'int'), 'message': (2, 'str')}
TTRPC_REQUEST = {'service': (1, 'str'), 'method': (2, 'str'), 'payload': (3, 'bytes'), 'timeout_nano': (4, 'int'),
                 'metadata': (5, [KV])}
TTRPC_RESPONSE = {'status': (1, STATUS), 'payload': (2, 'bytes')}
EMPTY = {}

MOUNT = {'type': (1, 'str'), 'source': (2, 'str'), 'target': (3, 'str'), 'options': (4, ['str'])}
_ID = {'id': (1, 'str')}
_ID_EXEC = {'id': (1, 'str'), 'exec_id': (2, 'str')}
_PID = {'pid': (1, 'uint')}
_EXIT = {'exit_status': (1, 'uint'), 'exited_at': (2, TIMESTAMP)}
CREATED, RUNNING, STOPPED, PAUSED = 1, 2, 3, 4

# containerd.task.v2.Task and containerd.task.v3.Task: method -> (request, response)
TASK = {
    'State': (_ID_EXEC, {'id': (1, 'str'), 'bundle': (2, 'str'), 'pid': (3, 'uint'), 'status': (4, 'uint'), 'stdin': (5, 'str'),
                         'stdout': (6, 'str'), 'stderr': (7, 'str'), 'terminal': (8, 'bool'), 'exit_status': (9, 'uint'),
                         'exited_at': (10, TIMESTAMP), 'exec_id': (11, 'str')}),
    'Create': ({'id': (1, 'str'), 'bundle': (2, 'str'), 'rootfs': (3, [MOUNT]), 'terminal': (4, 'bool'), 'stdin': (5, 'str'),
                'stdout': (6, 'str'), 'stderr': (7, 'str'), 'checkpoint': (8, 'str'), 'parent_checkpoint': (9, 'str'),
                'options': (10, ANY)}, _PID),
    'Start': (_ID_EXEC, _PID),
    'Delete': (_ID_EXEC, {'pid': (1, 'uint'), 'exit_status': (2, 'uint'), 'exited_at': (3, TIMESTAMP)}),
    'Pids': (_ID, {'processes': (1, [{'pid': (1, 'uint'), 'info': (2, ANY)}])}),
    'Pause': (_ID, EMPTY),
    'Resume': (_ID, EMPTY),
    'Checkpoint': ({'id': (1, 'str'), 'path': (2, 'str'), 'options': (3, ANY)}, EMPTY),
    'Kill': ({'id': (1, 'str'), 'exec_id': (2, 'str'), 'signal': (3, 'uint'), 'all': (4, 'bool')}, EMPTY),
    'Exec': ({'id': (1, 'str'), 'exec_id': (2, 'str'), 'terminal': (3, 'bool'), 'stdin': (4, 'str'), 'stdout': (5, 'str'),
              'stderr': (6, 'str'), 'spec': (7, ANY)}, EMPTY),
    'ResizePty': ({'id': (1, 'str'), 'exec_id': (2, 'str'), 'width': (3, 'uint'), 'height': (4, 'uint')}, EMPTY),
    'CloseIO': ({'id': (1, 'str'), 'exec_id': (2, 'str'), 'stdin': (3, 'bool')}, EMPTY),
    'Update': ({'id': (1, 'str'), 'resources': (2, ANY)}, EMPTY),
    'Wait': (_ID_EXEC, _EXIT),
    'Stats': (_ID, {'stats': (1, ANY)}),
    'Connect': (_ID, {'shim_pid': (1, 'uint'), 'task_pid': (2, 'uint'), 'version': (3, 'str')}),
    'Shutdown': ({'id': (1, 'str'), 'now': (2, 'bool')}, EMPTY),
}
# containerd.runtime.sandbox.v1.Sandbox
_SANDBOX = {'sandbox_id': (1, 'str')}
SANDBOX = {
    'CreateSandbox': ({'sandbox_id': (1, 'str'), 'bundle_path': (2, 'str'), 'rootfs': (3, [MOUNT]), 'options': (4, ANY),
                       'netns_path': (5, 'str'), 'annotations': (6, [KV])}, EMPTY),
    'StartSandbox': (_SANDBOX, {'pid': (1, 'uint'), 'created_at': (2, TIMESTAMP), 'spec': (3, ANY)}),
    'Platform': (_SANDBOX, {'platform': (1, {'os': (1, 'str'), 'architecture': (2, 'str'), 'variant': (3, 'str')})}),
    'StopSandbox': ({'sandbox_id': (1, 'str'), 'timeout_secs': (2, 'uint')}, EMPTY),
    'WaitSandbox': (_SANDBOX, _EXIT),
    'SandboxStatus': ({'sandbox_id': (1, 'str'), 'verbose': (2, 'bool')},
                      {'sandbox_id': (1, 'str'), 'pid': (2, 'uint'), 'state': (3, 'str'), 'info': (4, [KV]),
                       'created_at': (5, TIMESTAMP), 'exited_at': (6, TIMESTAMP), 'extra': (7, ANY)}),
    'PingSandbox': (_SANDBOX, EMPTY),
    'ShutdownSandbox': (_SANDBOX, EMPTY),
    'SandboxMetrics': (_SANDBOX, {'metrics': (1, {'timestamp': (1, TIMESTAMP), 'id': (2, 'str'), 'data': (3, ANY)})}),
}
# containerd.runhcs.v1.diag.ShimDiag
DIAG = {
    'DiagExecInHost': ({'args': (1, ['str']), 'workdir': (2, 'str'), 'terminal': (3, 'bool'), 'stdin': (4, 'str'),
                        'stdout': (5, 'str'), 'stderr': (6, 'str')}, {'exit_code': (1, 'int')}),
    'DiagStacks': (EMPTY, {'stacks': (1, 'str'), 'guest_stacks': (2, 'str')}),
    'DiagTasks': ({'execs': (1, 'bool')}, {'tasks': (1, [{'id': (1, 'str'),
                                                         'execs': (2, [{'id': (1, 'str'), 'state': (2, 'str')}])}])}),
    'DiagShare': ({'host_path': (1, 'str'), 'uvm_path': (2, 'str'), 'read_only': (3, 'bool')}, EMPTY),
    'DiagPid': (EMPTY, {'pid': (1, 'int')}),
}
DELETE_RESPONSE = TASK['Delete'][1]

BOOTSTRAP_PARAMS = {'instance_id': (1, 'str'), 'namespace': (2, 'str'), 'log_level': (3, 'int'), 'containerd_version': (4, 'str'),
                    'containerd_ttrpc_address': (5, 'str'), 'containerd_grpc_address': (6, 'str'), 'containerd_binary': (7, 'str'),
                    'extensions': (8, [{'value': (1, ANY)}]), 'socket_dir': (9, 'str')}
BOOTSTRAP_RESULT = {'version': (1, 'int'), 'address': (2, 'str'), 'protocol': (3, 'str'), 'capabilities': (4, ['uint']),
                    'metadata': (5, [KV])}
RUNTIME_INFO = {'name': (1, 'str'), 'version': (2, {'version': (1, 'str'), 'revision': (2, 'str')}), 'options': (3, ANY),
                'features': (4, ANY), 'annotations': (5, [KV])}

ENVELOPE = {'timestamp': (1, TIMESTAMP), 'namespace': (2, 'str'), 'topic': (3, 'str'), 'event': (4, ANY)}
FORWARD_REQUEST = {'envelope': (1, ENVELOPE)}
EVENTS = {
    'containerd.events.TaskCreate': {'container_id': (1, 'str'), 'bundle': (2, 'str'), 'rootfs': (3, [MOUNT]),
                                     'io': (4, {'stdin': (1, 'str'), 'stdout': (2, 'str'), 'stderr': (3, 'str'),
                                                'terminal': (4, 'bool')}),
                                     'checkpoint': (5, 'str'), 'pid': (6, 'uint')},
    'containerd.events.TaskStart': {'container_id': (1, 'str'), 'pid': (2, 'uint')},
    'containerd.events.TaskExit': {'container_id': (1, 'str'), 'id': (2, 'str'), 'pid': (3, 'uint'), 'exit_status': (4, 'uint'),
                                   'exited_at': (5, TIMESTAMP)},
    'containerd.events.TaskDelete': {'container_id': (1, 'str'), 'pid': (2, 'uint'), 'exit_status': (3, 'uint'),
                                     'exited_at': (4, TIMESTAMP), 'id': (5, 'str')},
    'containerd.events.TaskOOM': {'container_id': (1, 'str')},
    'containerd.events.TaskExecAdded': {'container_id': (1, 'str'), 'exec_id': (2, 'str')},
    'containerd.events.TaskExecStarted': {'container_id': (1, 'str'), 'exec_id': (2, 'str'), 'pid': (3, 'uint')},
}
PROCESS_URL = 'types.containerd.io/opencontainers/runtime-spec/1/Process'


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _field(number, kind, value):
    if kind in ('uint', 'int', 'bool'):
        return varint(number << 3) + varint(int(value))
    if isinstance(kind, dict):
        value = encode(kind, value)
    elif kind == 'str':
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def encode(message, fields):
    """Bytes of a message; fields that hold their default are left out, as proto3 does."""
    out = b''
    for name, value in fields.items():
        number, kind = message[name]
        if isinstance(kind, list):
            out += b''.join(_field(number, kind[0], v) for v in value)
        elif isinstance(kind, dict) or value:
            out += _field(number, kind, value)
    return out


def _read_varint(data, at):
    n = shift = 0
    while True:
        b = data[at]
        at += 1
        n |= (b & 0x7f) << shift
        if b < 0x80:
            return n, at
        shift += 7
        if shift > 63:
            raise ValueError('varint too long')


def _default(kind):
    if isinstance(kind, list):
        return []
    if isinstance(kind, dict):
        return None
    return {'str': '', 'bytes': b'', 'bool': False}.get(kind, 0)


def decode(message, data):
    """Dict with every field of the message type; sub-messages that are absent are None, unknown fields are skipped."""
    by_number = {number: (name, kind) for name, (number, kind) in message.items()}
    out = {name: _default(kind) for name, (_, kind) in message.items()}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _read_varint(data, at)
        elif wire == 1:
            value, at = data[at:at + 8], at + 8
        elif wire == 5:
            value, at = data[at:at + 4], at + 4
        elif wire == 2:
            size, at = _read_varint(data, at)
            value, at = bytes(data[at:at + size]), at + size
            if len(value) != size:
                raise ValueError('message cut short')
        else:
            raise ValueError('wire type %d' % wire)
        name, kind = by_number.get(key >> 3, (None, None))
        if name is None:
            continue
        one = kind[0] if isinstance(kind, list) else kind
        if isinstance(one, dict):
            value = decode(one, value)
        elif one == 'str':
            value = value.decode()
        elif one == 'bool':
            value = bool(value)
        elif one == 'int' and value >= 1 << 63:
            value -= 1 << 64
        if isinstance(kind, list):
            out[name].append(value)
        else:
            out[name] = value
    return out
