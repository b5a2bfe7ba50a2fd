# SPDX-License-Identifier: Apache-2.0
"""Networks of pods: what CNI has made of a network namespace is what the containers have."""
import socket
import subprocess
import threading

from lcowtest import pb, settings, ttrpc
from lcowtest.case import DirectCase, only_lcow
from lcowtest.direct import oci_spec
from lcowtest.sandbox import Member, SandboxVm

# A PodSandboxConfig, as much as is of interest here.
POD_CONFIG = {'dns_config': (4, {'servers': (1, ['str']), 'searches': (2, ['str'])})}


def ip(*args):
    subprocess.run(['ip', *args], check=True, stdin=subprocess.DEVNULL)


class Namespace:
    """A network namespace with a card eth0 at 10.7.N.2, whose other end is here at 10.7.N.1."""

    def __init__(self, n, mtu=1400, mac=None):
        self.name, self.far, self.n = 'lcow%d' % n, 'far%d' % n, n
        self.path = '/run/netns/' + self.name
        ip('netns', 'add', self.name)
        ip('link', 'add', self.far, 'mtu', str(mtu), 'type', 'veth', 'peer', 'name', 'eth0', 'netns', self.name)
        ip('addr', 'add', self.host, 'peer', self.address + '/24', 'dev', self.far)
        ip('-6', 'addr', 'add', 'fd07:%d::1/64' % n, 'dev', self.far, 'nodad')
        ip('link', 'set', self.far, 'up')
        for args in (('addr', 'add', self.address + '/24', 'dev', 'eth0'),
                     ('-6', 'addr', 'add', 'fd07:%d::2/64' % n, 'dev', 'eth0', 'nodad'), ('link', 'set', 'lo', 'up'),
                     ('link', 'set', 'eth0', 'mtu', str(mtu), *(('address', mac) if mac else ()), 'up'),
                     ('route', 'add', 'default', 'via', self.host), ('-6', 'route', 'add', 'default', 'via', 'fd07:%d::1' % n)):
            ip('-n', self.name, *args)
        self.mac = subprocess.run(['ip', '-n', self.name, '-o', 'link', 'show', 'eth0'], capture_output=True,
                                  text=True).stdout.split('link/ether ')[1].split()[0]

    @property
    def host(self):
        return '10.7.%d.1' % self.n

    @property
    def address(self):
        return '10.7.%d.2' % self.n

    def links(self):
        return subprocess.run(['ip', '-n', self.name, '-o', 'link'], capture_output=True, text=True).stdout

    def close(self):
        ip('netns', 'del', self.name)


class Echo:
    """Answers each connection with what it says, in capitals."""

    def __init__(self, address):
        self.listener = socket.create_server((address, 0), family=socket.AF_INET6 if ':' in address else socket.AF_INET)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            with conn:
                conn.sendall(conn.recv(4096).upper())

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@only_lcow('runc takes a namespace as it is')
class Network(DirectCase):
    def prepare(self):
        super().prepare()
        # The first one of a machine makes a mount that stays.
        ip('netns', 'add', 'first')
        ip('netns', 'del', 'first')

    def namespace(self, n, **more):
        ns = Namespace(n, **more)
        self.addCleanup(ns.close)
        return ns

    def vm(self, **fields):
        box = SandboxVm(self.bed, self.new_id('v'))
        self.addCleanup(box.close)
        box.start_shim()
        box.boot(**fields)
        return box

    def member(self, vm, spec=None, **more):
        name = self.new_id('m')
        box = Member(vm, name, 'sleep', '1000', spec=spec(name) if spec else None, **more)
        self.addCleanup(box.close)
        box.create()
        box.call('Start', limit=box.limit)
        return box

    def sh(self, box, command, code=0):
        """The output of a shell's command in a container."""
        word = self.new_id('e')
        fields = box.stdio('stdout', 'stderr', prefix=word)
        box.exec(word, 'sh', '-c', command, **fields)
        status = box.call('Wait', exec_id=word, limit=box.limit)['exit_status']
        out = box.streams[word + 'stdout'].finish().decode()
        self.assertEqual(status, code, out + box.streams[word + 'stderr'].finish().decode())
        box.call('Delete', exec_id=word)
        return out

    def asking(self, address):
        """A command that is answered from an address here."""
        echo = Echo(address)
        self.addCleanup(echo.close)
        return 'echo to the host | nc -w 10 %s %d' % (address, echo.port)

    def reaches_both_ways(self, box, ns):
        for address in (ns.host, 'fd07:%d::1' % ns.n):
            self.assertEqual(self.sh(box, self.asking(address)), 'TO THE HOST\n')
        word = self.new_id('e')
        fields = box.stdio('stdout', prefix=word)
        box.exec(word, 'sh', '-c', 'echo from the pod | nc -l -p 8080', **fields)
        for _ in range(100):
            try:
                with socket.create_connection((ns.address, 8080), timeout=10) as conn:
                    conn.shutdown(socket.SHUT_WR)
                    self.assertEqual(conn.makefile().read(), 'from the pod\n')
                break
            except ConnectionRefusedError:
                threading.Event().wait(0.1)
        else:
            self.fail('nobody listens in the pod')
        box.call('Wait', exec_id=word)
        box.call('Delete', exec_id=word)

    def test_containers_of_a_sandbox_are_in_its_network(self):
        ns = self.namespace(1)
        config = pb.encode(POD_CONFIG, {'dns_config': {'servers': ['10.7.1.1', 'fd07:1::1'], 'searches': ['Pod.Local', 'b']}})
        vm = self.vm(netns_path=ns.path, options={'type_url': 'runtime.v1.PodSandboxConfig', 'value': config})
        one, two = self.member(vm), self.member(vm)
        shown = self.sh(one, 'ip addr show eth0; ip route; ip -6 route')
        for part in ('link/ether ' + ns.mac, 'mtu 1400', 'inet 10.7.1.2/24', 'inet6 fd07:1::2/64', 'default via 10.7.1.1 dev eth0',
                     'default via fd07:1::1 dev eth0'):
            self.assertIn(part, shown)
        self.assertEqual(self.sh(one, 'cat /etc/resolv.conf'),
                         'search pod.local b\nnameserver 10.7.1.1\nnameserver fd07:1::1\n')
        self.reaches_both_ways(one, ns)
        # One network stack: what one listens on, the other reaches at localhost.
        self.sh(one, 'echo near | nc -l -p 9090 >/dev/null 2>&1 &')
        self.assertEqual(self.sh(two, 'for i in 1 2 3 4 5; do nc 127.0.0.1 9090 </dev/null && exit; sleep 0.2; done; exit 1'), 'near\n')
        self.assertIn('lcow-', ns.links())
        vm.vm('StopSandbox')
        self.assertNotIn('lcow-', ns.links())
        self.assertNotIn('ingress', subprocess.run(['tc', '-n', ns.name, 'qdisc'], capture_output=True, text=True).stdout)

    def test_two_pods_in_one_VM_have_networks_of_their_own_that_come_and_go(self):
        a, b = self.namespace(1, mac='02:00:00:00:00:07'), self.namespace(2, mac='02:00:00:00:00:07')
        vm = self.vm()

        def pod(ns):
            def spec(name):
                s = oci_spec(name, 'sleep', '1000', annotations={'io.kubernetes.cri.container-type': 'sandbox',
                                                                 'io.kubernetes.cri.sandbox-id': name})
                for n in s['linux']['namespaces']:
                    if n['type'] == 'network':
                        n['path'] = ns.path
                return s
            return spec
        one, two = self.member(vm, spec=pod(a)), self.member(vm, spec=pod(b))
        self.reaches_both_ways(one, a)
        self.reaches_both_ways(two, b)
        self.sh(one, 'ip route get 10.7.2.2 | grep -q "via 10.7.1.1 dev eth0"')
        one.call('Kill', signal=9)
        one.call('Wait')
        one.call('Delete', limit=one.limit)
        self.assertNotIn('lcow-', a.links())
        self.sh(two, self.asking(b.host))
        again = self.member(vm, spec=pod(a))
        self.reaches_both_ways(again, a)

    def test_a_pod_without_cards_has_lo_only(self):
        ns = Namespace.__new__(Namespace)
        ns.name, ns.path = 'lcow9', '/run/netns/lcow9'
        ip('netns', 'add', ns.name)
        self.addCleanup(ns.close)
        vm = self.vm(netns_path=ns.path)
        self.assertNotIn('eth0', self.sh(self.member(vm), 'ip link'))

    def test_a_namespace_that_is_not_there_is_refused_with_its_name(self):
        box = SandboxVm(self.bed, self.new_id('v'))
        self.addCleanup(box.close)
        box.start_shim()
        with self.assertRaises(ttrpc.RpcError) as e:
            box.boot(netns_path='/run/netns/none')
        self.assertIn('/run/netns/none', e.exception.message)
        self.assertEqual(e.exception.code, ttrpc.INVALID)

    def test_the_death_of_QEMU_frees_the_namespace(self):
        ns = self.namespace(1)
        vm = self.vm(netns_path=ns.path)
        self.member(vm)
        subprocess.run(['kill', '-9', str(vm.vm('SandboxStatus')['pid'])], check=True)
        vm.vm('WaitSandbox', limit=settings.QUICK_LIMIT)
        self.assertNotIn('lcow-', ns.links())
