# SPDX-License-Identifier: Apache-2.0
"""Pods as a kubelet makes them: containerd's CRI plugin, with a pause container and with the Sandbox API, and CNI's network."""
from lcowtest import settings
from lcowtest.case import Case, shared
from lcowtest.containerd import DEBS as VERSIONS
from lcowtest.cri import GATEWAY4, READY, RUNNING, Cri, Pod

DEBS = [deb for deb in VERSIONS.values() if deb]


class Kubelet:
    """What is said to every version; a mixin."""

    version, handler = '1.6', 'pod'

    def prepare(self):
        self.cd = shared('cri ' + self.version)
        self.cri = Cri(self.cd, self.handler)
        self.addCleanup(self.cri.close)

    def pod(self, run=True, **config):
        pod = Pod(self.cri, self.new_id('p'), **config)
        self.addCleanup(pod.remove)
        return pod.run() if run else pod

    def sh(self, container, command, code=0):
        status, out, err = container.exec('sh', '-c', command)
        self.assertEqual(status, code, out + err)
        return out

    def test_two_containers_of_a_pod_talk_over_localhost(self):
        pod = self.pod()
        self.assertEqual(pod.status()['state'], READY)
        one = pod.start('one', 'sh', '-c', 'echo up; while true; do echo from one | nc -l -p 80; done')
        two = pod.start('two')
        self.assertEqual(one.status()['state'], RUNNING)
        self.assertEqual(self.sh(two, 'nc 127.0.0.1 80 </dev/null'), 'from one\n')
        self.assertIn(pod.status()['network']['ip'], self.sh(two, 'ip addr show dev eth0'))
        self.sh(two, 'ping -c 1 -W 10 ' + GATEWAY4)
        self.assertEqual(one.log(), 'up\n')


class Podsandbox16(Kubelet, Case):
    version = '1.6'


class Podsandbox17(Kubelet, Case):
    version = '1.7'


class Podsandbox21(Kubelet, Case):
    version = '2.1'


class ShimSandbox21(Kubelet, Case):
    version, handler = '2.1', 'shim'
