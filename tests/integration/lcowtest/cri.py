# SPDX-License-Identifier: Apache-2.0
"""A kubelet's part: containerd with its CRI plugin and CNI, and a client of its runtime service.

The messages are those of k8s.io/cri-api, pkg/apis/runtime/v1/api.proto, as far as they are used here.
"""
import glob
import json
import os
import subprocess
import time

import grpc

from . import image, pb, settings, ttrpc, ws
from .containerd import Containerd

POD, CONTAINER, NODE = 0, 1, 2    # NamespaceMode
READY, NOTREADY = 0, 1    # PodSandboxState
CREATED, RUNNING, EXITED = 0, 1, 2    # ContainerState
PAUSE = 'docker.io/library/pause:latest'
BRIDGE = 'lcowbr0'
SUBNET4, SUBNET6 = '10.244.77.0/24', 'fd44:77::/64'
GATEWAY4, GATEWAY6 = '10.244.77.1', 'fd44:77::1'

_NAMESPACES = {'network': (1, 'uint'), 'pid': (2, 'uint'), 'ipc': (3, 'uint')}
_INT64 = {'value': (1, 'int')}
_UINT64 = {'value': (1, 'uint')}
RESOURCES = {'cpu_period': (1, 'int'), 'cpu_quota': (2, 'int'), 'cpu_shares': (3, 'int'), 'memory_limit_in_bytes': (4, 'int'),
             'oom_score_adj': (5, 'int')}
POD_METADATA = {'name': (1, 'str'), 'uid': (2, 'str'), 'namespace': (3, 'str'), 'attempt': (4, 'uint')}
POD_CONFIG = {
    'metadata': (1, POD_METADATA), 'hostname': (2, 'str'), 'log_directory': (3, 'str'),
    'dns_config': (4, {'servers': (1, ['str']), 'searches': (2, ['str']), 'options': (3, ['str'])}),
    'labels': (6, [pb.KV]), 'annotations': (7, [pb.KV]),
    'linux': (8, {'cgroup_parent': (1, 'str'),
                  'security_context': (2, {'namespace_options': (1, _NAMESPACES), 'privileged': (6, 'bool')}),
                  'sysctls': (3, [pb.KV]), 'overhead': (4, RESOURCES), 'resources': (5, RESOURCES)}),
}
CONTAINER_CONFIG = {
    'metadata': (1, {'name': (1, 'str'), 'attempt': (2, 'uint')}), 'image': (2, {'image': (1, 'str')}), 'command': (3, ['str']),
    'args': (4, ['str']), 'envs': (6, [pb.KV]),
    'mounts': (7, [{'container_path': (1, 'str'), 'host_path': (2, 'str'), 'readonly': (3, 'bool')}]),
    'annotations': (10, [pb.KV]), 'log_path': (11, 'str'), 'stdin': (12, 'bool'), 'stdin_once': (13, 'bool'), 'tty': (14, 'bool'),
    'linux': (15, {'resources': (1, RESOURCES),
                   'security_context': (2, {'privileged': (2, 'bool'), 'namespace_options': (3, _NAMESPACES),
                                            'run_as_user': (5, _INT64), 'readonly_rootfs': (7, 'bool')})}),
}
_POD = {'pod_sandbox_id': (1, 'str')}
_CONTAINER = {'container_id': (1, 'str')}
_URL = {'url': (1, 'str')}
_USAGE = {'cpu': (2, {'usage_core_nano_seconds': (2, _UINT64)}), 'memory': (3, {'working_set_bytes': (2, _UINT64)})}
METHODS = {
    'Version': ({'version': (1, 'str')}, {'runtime_name': (2, 'str')}),
    'Status': ({}, {'status': (1, {'conditions': (1, [{'type': (1, 'str'), 'status': (2, 'bool'), 'reason': (3, 'str'),
                                                       'message': (4, 'str')}])})}),
    'RunPodSandbox': ({'config': (1, POD_CONFIG), 'runtime_handler': (2, 'str')}, _POD),
    'StopPodSandbox': (_POD, pb.EMPTY),
    'RemovePodSandbox': (_POD, pb.EMPTY),
    'PodSandboxStatus': ({**_POD, 'verbose': (2, 'bool')},
                         {'status': (1, {'id': (1, 'str'), 'state': (3, 'uint'),
                                         'network': (5, {'ip': (1, 'str'), 'additional_ips': (2, [{'ip': (1, 'str')}])})}),
                          'info': (2, [pb.KV])}),
    'ListPodSandbox': ({}, {'items': (1, [{'id': (1, 'str'), 'state': (3, 'uint')}])}),
    'PodSandboxStats': (_POD, {'stats': (1, {'linux': (2, {'cpu': (1, _USAGE['cpu'][1]), 'memory': (2, _USAGE['memory'][1])})})}),
    'CreateContainer': ({**_POD, 'config': (2, CONTAINER_CONFIG), 'sandbox_config': (3, POD_CONFIG)}, _CONTAINER),
    'StartContainer': (_CONTAINER, pb.EMPTY),
    'StopContainer': ({**_CONTAINER, 'timeout': (2, 'int')}, pb.EMPTY),
    'RemoveContainer': (_CONTAINER, pb.EMPTY),
    'ContainerStatus': (_CONTAINER, {'status': (1, {'id': (1, 'str'), 'state': (3, 'uint'), 'exit_code': (7, 'int'),
                                                    'reason': (10, 'str'), 'message': (11, 'str')})}),
    'ContainerStats': (_CONTAINER, {'stats': (1, _USAGE)}),
    'UpdateContainerResources': ({**_CONTAINER, 'linux': (2, RESOURCES)}, pb.EMPTY),
    'ExecSync': ({**_CONTAINER, 'cmd': (2, ['str']), 'timeout': (3, 'int')},
                 {'stdout': (1, 'bytes'), 'stderr': (2, 'bytes'), 'exit_code': (3, 'int')}),
    'Exec': ({**_CONTAINER, 'cmd': (2, ['str']), 'tty': (3, 'bool'), 'stdin': (4, 'bool'), 'stdout': (5, 'bool'),
              'stderr': (6, 'bool')}, _URL),
    'Attach': ({**_CONTAINER, 'stdin': (2, 'bool'), 'tty': (3, 'bool'), 'stdout': (4, 'bool'), 'stderr': (5, 'bool')}, _URL),
    'PortForward': ({**_POD, 'port': (2, ['int'])}, _URL),
}

# The 1.x line: one plugin, configuration of version 2.
CONFIG_1 = '''
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "pod"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.pod]
    runtime_type = "{runtime}"
    pod_annotations = ["io.microsoft.*"]
    container_annotations = ["io.microsoft.*"]
'''
CONFIG_2 = '''
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{cni}"]
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "pod"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.pod]
    runtime_type = "{runtime}"
    pod_annotations = ["io.microsoft.*"]
    container_annotations = ["io.microsoft.*"]
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.shim]
    runtime_type = "{runtime}"
    sandboxer = "shim"
    pod_annotations = ["io.microsoft.*"]
    container_annotations = ["io.microsoft.*"]
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
'''


def kv(pairs):
    return [{'key': k, 'value': v} for k, v in (pairs or {}).items()]


def make_bridge():
    """The bridge of CNI's network is here before the first pod, for it stays."""
    if not os.path.exists('/sys/class/net/' + BRIDGE):
        for args in (('link', 'add', BRIDGE, 'type', 'bridge'), ('link', 'set', BRIDGE, 'up')):
            subprocess.run(['ip', *args], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class CriContainerd(Containerd):
    """A daemon with the CRI plugin. Its handlers are "pod" (podsandbox) and, of version 2, "shim"."""

    off = ('io.containerd.internal.v1.tracing', 'io.containerd.nri.v1.nri')

    def __init__(self, directory, version):
        self.more = CONFIG_2 if version.startswith('2.') else CONFIG_1
        super().__init__(directory, version, namespace='k8s.io', level='debug')

    def prepare(self):
        """CNI's network."""
        os.makedirs(self.dir + '/cni')
        ranges = [[{'subnet': SUBNET4}], [{'subnet': SUBNET6}]]
        bridge = {'type': 'bridge', 'bridge': BRIDGE, 'isGateway': True, 'ipMasq': False,
                  'ipam': {'type': 'host-local', 'ranges': ranges, 'dataDir': self.dir + '/ipam',
                           'routes': [{'dst': '0.0.0.0/0'}, {'dst': '::/0'}]}}
        with open(self.dir + '/cni/10-net.conflist', 'w') as f:
            json.dump({'cniVersion': '1.0.0', 'name': 'lcownet', 'plugins': [bridge]}, f)
        make_bridge()
        return self.more.format(dir=self.dir, cni=settings.TOOLS + '/cni', runtime=settings.RUNTIME, pause=PAUSE)

    def images(self):
        yield image.NAME, ['sh']
        yield PAUSE, ['sleep', '1000000']

    def namespaces(self):
        """Paths of the network namespaces of its pods."""
        return set(glob.glob(self.dir + '/**/netns/cni-*', recursive=True))


class Cri:
    """A client of the runtime service; errors are ttrpc.RpcError, as those of a shim."""

    def __init__(self, containerd, handler):
        self.cd, self.handler = containerd, handler
        self.channel = grpc.insecure_channel('unix://' + containerd.socket)

    def restart(self, meanwhile):
        """The daemon is killed and started again; it has had no time to end what it was doing for us."""
        self.cd.stop(kill=True)
        self.close()
        meanwhile()
        self.cd.start()
        self.channel = grpc.insecure_channel('unix://' + self.cd.socket)
        # It serves before it has found its pods again.
        end = time.monotonic() + settings.BOOT_LIMIT
        while True:
            try:
                return self.call('Version')
            except ttrpc.RpcError as e:
                if 'not initialized yet' not in e.message or time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def start(self, method, limit=None, **fields):
        request, response = METHODS[method]
        call = self.channel.unary_unary('/runtime.v1.RuntimeService/' + method, lambda f: pb.encode(request, f),
                                        lambda data: pb.decode(response, data))
        return call.future(fields, timeout=limit or settings.BOOT_LIMIT, wait_for_ready=True)

    def call(self, method, limit=None, **fields):
        try:
            return self.start(method, limit, **fields).result()
        except grpc.RpcError as e:
            raise ttrpc.RpcError(e.code().value[0], '%s: %s' % (method, e.details())) from None

    def close(self):
        self.channel.close()


class Pod:
    """A pod of this kubelet."""

    def __init__(self, cri, name, annotations=None, hostname=None, dns=None, **linux):
        self.cri, self.name = cri, name
        self.logs = '%s/logs/%s' % (cri.cd.dir, name)
        self.config = {'metadata': {'name': name, 'uid': name + '-uid', 'namespace': 'test'}, 'hostname': hostname or name,
                       'log_directory': self.logs, 'annotations': kv(annotations), 'linux': linux}
        if dns:
            self.config['dns_config'] = dns
        self.containers = []
        self.id = None

    def run(self):
        self.id = self.cri.call('RunPodSandbox', config=self.config, runtime_handler=self.cri.handler)['pod_sandbox_id']
        return self

    def status(self):
        return self.cri.call('PodSandboxStatus', pod_sandbox_id=self.id)['status']

    def create(self, name, *command, **config):
        """A container that was created only."""
        answer = self.cri.call('CreateContainer', pod_sandbox_id=self.id, sandbox_config=self.config, config={
            'metadata': {'name': name}, 'image': {'image': image.NAME}, 'command': list(command), 'log_path': name + '.log', **config})
        container = PodContainer(self, answer['container_id'], self.logs + '/' + name + '.log')
        self.containers.append(container)
        return container

    def start(self, name, *command, **config):
        container = self.create(name, *command or ('sleep', '100000'), **config)
        container.call('StartContainer')
        return container

    def forward(self, port):
        """A stream to a port of it: channel 0 has the bytes, channel 1 what went wrong, each behind two bytes of the port."""
        return ws.Channels(self.cri.call('PortForward', pod_sandbox_id=self.id, port=[port])['url'], '?port=%d' % port)

    def stop(self):
        self.cri.call('StopPodSandbox', pod_sandbox_id=self.id)

    def remove(self):
        """Stop and remove, whatever there is of it."""
        if self.id:
            self.stop()
            self.cri.call('RemovePodSandbox', pod_sandbox_id=self.id)
            self.id = None


class PodContainer:
    """A container of a pod."""

    def __init__(self, pod, name, log):
        self.pod, self.id, self.log_path = pod, name, log

    def call(self, method, limit=None, **fields):
        return self.pod.cri.call(method, limit, container_id=self.id, **fields)

    def status(self):
        return self.call('ContainerStatus')['status']

    def stream(self, method, **fields):
        """A stream of the container: Exec or Attach."""
        return ws.Channels(self.call(method, **fields)['url'])

    def stop(self, timeout=0):
        self.call('StopContainer', timeout=timeout)

    def remove(self):
        self.call('RemoveContainer')
        self.pod.containers.remove(self)

    def wait(self, state):
        """Its status when it has this state."""
        end = time.monotonic() + settings.BOOT_LIMIT
        while True:
            status = self.status()
            if status['state'] == state or time.monotonic() > end:
                return status
            time.sleep(0.05)

    def exec(self, *command):
        """(exit code, output, errors) of a command."""
        answer = self.call('ExecSync', cmd=list(command), timeout=int(settings.BOOT_LIMIT))
        return answer['exit_code'], answer['stdout'].decode(), answer['stderr'].decode()

    def log(self):
        """What it has written: the text of the lines of containerd's log."""
        with open(self.log_path) as f:
            return ''.join(line.split(' ', 3)[3] for line in f)
