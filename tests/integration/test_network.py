# SPDX-License-Identifier: Apache-2.0
"""Networks of pods: what CNI has made of a network namespace is what the containers have."""
import os
import shlex
import socket
import subprocess
import threading
import time

from lcowtest import forward, pb, settings, ttrpc
from lcowtest.case import DirectCase, only_lcow
from lcowtest.direct import oci_spec
from lcowtest.sandbox import Member, SandboxVm
from lcowtest.shares import SYSTEM

# A PodSandboxConfig, as much as is of interest here.
POD_CONFIG = {'dns_config': (4, {'servers': (1, ['str']), 'searches': (2, ['str'])})}
POLICY = 'io.microsoft.virtualmachine.lcow.network.policybasedrouting'


def ip(*args):
    subprocess.run(['ip', *args], check=True, stdin=subprocess.DEVNULL)


def mac_of(card, *where):
    shown = subprocess.run(['ip', *where, '-o', 'link', 'show', card], capture_output=True, text=True).stdout
    return shown.split('link/ether ')[1].split()[0]


class Namespace:
    """A network namespace with a card eth0 at 10.7.N.2, whose other end is here at 10.7.N.1."""

    def __init__(self, n, mtu=1400, mac=None):
        self.name, self.far, self.n = 'lcow%d' % n, 'far%d' % n, n
        self.path = '/run/netns/' + self.name
        ip('netns', 'add', self.name)
        ip('-n', self.name, 'link', 'set', 'lo', 'up')
        self.add_card('eth0', n, mtu, mac)
        for args in (('route', 'add', 'default', 'via', self.host), ('-6', 'route', 'add', 'default', 'via', 'fd07:%d::1' % n)):
            ip('-n', self.name, *args)
        self.mac = mac_of('eth0', '-n', self.name)

    def add_card(self, card, n, mtu=1500, mac=None):
        """A card at 10.7.n.2 and fd07:n::2, whose other end is far<n> here."""
        far = 'far%d' % n
        ip('link', 'add', far, 'mtu', str(mtu), 'type', 'veth', 'peer', 'name', card, 'netns', self.name)
        ip('addr', 'add', '10.7.%d.1' % n, 'peer', '10.7.%d.2/24' % n, 'dev', far)
        ip('-6', 'addr', 'add', 'fd07:%d::1/64' % n, 'dev', far, 'nodad')
        ip('link', 'set', far, 'up')
        for args in (('addr', 'add', '10.7.%d.2/24' % n, 'dev', card), ('-6', 'addr', 'add', 'fd07:%d::2/64' % n, 'dev', card, 'nodad'),
                     ('link', 'set', card, 'mtu', str(mtu), *(('address', mac) if mac else ()), 'up')):
            ip('-n', self.name, *args)

    @property
    def host(self):
        return '10.7.%d.1' % self.n

    @property
    def address(self):
        return '10.7.%d.2' % self.n

    def links(self):
        return subprocess.run(['ip', '-n', self.name, '-o', 'link'], capture_output=True, text=True).stdout

    def is_free(self):
        """Nothing of a VM's is in it."""
        queues = subprocess.run(['tc', '-n', self.name, 'qdisc'], capture_output=True, text=True).stdout
        return 'lcow-' not in self.links() and 'ingress' not in queues

    def close(self):
        if os.path.exists(self.path):
            ip('netns', 'del', self.name)

    def goes(self):
        """Whether it ends when it has no name any more: with it goes the other end of its card."""
        self.close()
        end = time.monotonic() + settings.QUICK_LIMIT
        while os.path.exists('/sys/class/net/' + self.far) and time.monotonic() < end:
            time.sleep(0.05)
        return not os.path.exists('/sys/class/net/' + self.far)


def pod(ns, *command, mounts=()):
    """The specification of a pod's first container, in a namespace."""
    def spec(name):
        s = oci_spec(name, *command or ('sleep', '1000'), annotations={'io.kubernetes.cri.container-type': 'sandbox',
                                                                       'io.kubernetes.cri.sandbox-id': name})
        for n in s['linux']['namespaces']:
            if n['type'] == 'network':
                n['path'] = ns.path
        return {**s, 'mounts': [*s['mounts'], *mounts]}
    return spec


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

    def vm(self, config=None, **fields):
        box = SandboxVm(self.bed, self.new_id('v'), config)
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

    def dial(self, ns, port, address='127.0.0.1'):
        """A connection to the loopback of a namespace that was not reset, once somebody listens in the pod."""
        end = time.monotonic() + settings.BOOT_LIMIT
        while True:
            try:
                s = forward.dial(ns.path, port, address)
                s.settimeout(0.5)
                s.recv(1, socket.MSG_PEEK)
                return s
            except TimeoutError:
                s.settimeout(settings.BOOT_LIMIT)
                return s
            except ConnectionResetError:
                self.assertLess(time.monotonic(), end, 'nobody listens in the pod')
                time.sleep(0.1)

    def ended(self, conn):
        """Whether a connection ends soon."""
        conn.settimeout(settings.QUICK_LIMIT)
        with conn:
            try:
                return conn.recv(1) == b''
            except ConnectionResetError:
                return True

    def asking(self, address):
        """A command that is answered from an address here."""
        echo = Echo(address)
        self.addCleanup(echo.close)
        return 'echo to the host | nc -w 10 %s %d' % (address, echo.port)

    def reaches_both_ways(self, box, ns):
        for address in (ns.host, 'fd07:%d::1' % ns.n):
            self.assertEqual(self.sh(box, self.asking(address)), 'TO THE HOST\n')
        self.answers(box, ns.address)

    def answers(self, box, address):
        """A server in the pod is reached by one of its addresses."""
        word = self.new_id('e')
        fields = box.stdio('stdout', prefix=word)
        box.exec(word, 'sh', '-c', 'echo from the pod | nc -l -p 8080', **fields)
        for _ in range(100):
            try:
                with socket.create_connection((address, 8080), timeout=10) as conn:
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
        self.assertEqual(self.sh(two, 'until nc 127.0.0.1 9090 </dev/null; do sleep 0.1; done 2>/dev/null'), 'near\n')
        self.assertIn('lcow-', ns.links())
        # What was dialled on the loopback of the namespace would keep it.
        self.sh(two, 'sleep 1000 | nc -l -p 9091 >/dev/null 2>&1 &')
        conn = self.dial(ns, 9091)
        vm.vm('StopSandbox')
        self.assertTrue(self.ended(conn))
        self.assertTrue(ns.is_free())
        with self.assertRaises(ConnectionRefusedError):
            forward.dial(ns.path, 9091)
        self.assertTrue(ns.goes())

    def test_two_pods_in_one_VM_have_networks_of_their_own_that_come_and_go(self):
        a, b = self.namespace(1, mac='02:00:00:00:00:07'), self.namespace(2, mac='02:00:00:00:00:07')
        vm = self.vm()
        one, two = self.member(vm, spec=pod(a)), self.member(vm, spec=pod(b))
        self.reaches_both_ways(one, a)
        self.reaches_both_ways(two, b)
        self.sh(one, 'ip route get 10.7.2.2 | grep -q "via 10.7.1.1 dev eth0"')
        one.call('Kill', signal=9)
        one.call('Wait')
        one.call('Delete', limit=one.limit)
        self.assertTrue(a.is_free())
        self.sh(two, self.asking(b.host))
        again = self.member(vm, spec=pod(a))
        self.reaches_both_ways(again, a)

    def test_the_loopback_of_each_namespace_leads_to_its_pod(self):
        vm = self.vm()
        spaces = {word: self.namespace(n) for n, word in ((1, 'one'), (2, 'two'))}
        pods = {word: self.member(vm, spec=pod(ns, 'sh', '-c', 'while true; do echo %s | nc -l -p 8080; done' % word, mounts=SYSTEM))
                for word, ns in spaces.items()}
        for word, ns in spaces.items():
            for address in ('127.0.0.1', '::1'):
                with self.dial(ns, 8080, address) as s:
                    self.assertEqual(forward.exchange(s, b'?'), word.encode() + b'\n')
            with self.assertRaises(ConnectionResetError), forward.dial(ns.path, 8081) as s:
                s.recv(1)
        # More than are taken at a time: the others wait.
        server = forward.SERVER[:-1] + (shlex.quote(forward.SCRIPT),)
        self.sh(pods['two'], ' '.join(server) + ' >/dev/null 2>&1 &')
        self.dial(spaces['two'], forward.ECHO).close()
        conns = [forward.dial(spaces['two'].path, forward.ECHO) for _ in range(80)]
        for i, s in enumerate(conns):
            with s:
                self.assertEqual(forward.exchange(s, b'%d' % i), b'%d' % i)
        one = pods['one']
        one.call('Kill', signal=9)
        one.call('Wait')
        one.call('Delete', limit=one.limit)
        with self.assertRaises(ConnectionRefusedError):
            forward.dial(spaces['one'].path, 8080)
        self.assertTrue(spaces['one'].goes())
        with self.dial(spaces['two'], 8080) as s:
            self.assertEqual(forward.exchange(s, b'?'), b'two\n')

    def test_every_card_comes_with_its_routes_and_neighbours_and_goes_with_its_pod(self):
        ns = self.namespace(3, mtu=9000)
        ns.add_card('net1', 103)
        far = mac_of(ns.far)
        for args in (('route', 'replace', 'default', 'via', '169.254.1.1', 'dev', 'eth0', 'onlink'),
                     ('route', 'add', '10.99.0.0/16', 'via', '10.7.103.1', 'metric', '7'),
                     # Nobody answers for it.
                     ('neigh', 'add', '169.254.1.1', 'lladdr', far, 'dev', 'eth0', 'nud', 'permanent')):
            ip('-n', ns.name, *args)
        ip('addr', 'add', '10.99.0.1/32', 'dev', 'far103')
        ip('addr', 'add', '10.98.0.1/32', 'dev', ns.far)
        vm = self.vm(config={'annotations': {POLICY: 'true'}})
        box, other = self.member(vm, spec=pod(ns)), self.member(vm)
        self.assertIn('mtu 9000', self.sh(box, 'ip addr show eth0'))
        self.assertIn('inet 10.7.103.2/24', self.sh(box, 'ip addr show eth1'))
        self.assertIn('fd07:103::2/64', self.sh(box, 'ip addr show eth1'))
        self.assertRegex(self.sh(box, 'cat /proc/net/arp'), r'169\.254\.1\.1 +0x1 +0x6 +' + far)
        self.assertEqual(self.sh(box, self.asking('10.98.0.1')), 'TO THE HOST\n')
        # By policy the second card's routes are for what its addresses send.
        self.assertIn('from 10.7.103.2 lookup 101', self.sh(box, 'ip rule'))
        self.assertIn('10.99.0.0/16 via 10.7.103.1 dev eth1  metric 7', self.sh(box, 'ip route show table 101'))
        self.assertIn('via 169.254.1.1 dev eth0', self.sh(box, 'ip route get 10.99.0.1'))
        self.answers(box, '10.7.103.2')
        cards = 'ls /sys/bus/virtio/drivers/virtio_net | grep -c virtio'
        self.assertEqual(self.sh(other, cards), '2\n')
        box.call('Kill', signal=9)
        box.call('Wait')
        box.call('Delete', limit=box.limit)
        self.assertTrue(ns.is_free())
        self.assertEqual(self.sh(other, cards, code=1), '0\n')

    def test_a_pod_without_cards_has_lo_only(self):
        ns = Namespace.__new__(Namespace)
        ns.name, ns.path = 'lcow9', '/run/netns/lcow9'
        ip('netns', 'add', ns.name)
        ip('-n', ns.name, 'link', 'set', 'lo', 'up')
        self.addCleanup(ns.close)
        # As clients write that want no network.
        file = self.bed.dir + '/no-network'
        os.close(os.open(file, os.O_CREAT, 0o444))
        self.addCleanup(os.unlink, file)
        vm = self.vm(netns_path=file)
        bare = self.member(vm, spec=pod(ns))
        for box in (self.member(vm), bare):
            shown = self.sh(box, 'ip addr')
            self.assertIn('inet 127.0.0.1/8', shown)
            self.assertNotIn('2: ', shown)
        self.sh(bare, 'echo near | nc -l -p 8080 >/dev/null 2>&1 &')
        with self.dial(ns, 8080) as s:
            self.assertEqual(forward.exchange(s, b'?'), b'near\n')
        info = {kv['key']: kv['value'] for kv in vm.vm('SandboxStatus', verbose=True)['info']}
        self.assertEqual(info['networkSandboxPath'], file)
        vm.vm('StopSandbox')
        self.assertEqual(os.stat(file).st_size, 0)

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
        box = self.member(vm)
        self.sh(box, 'sleep 1000 | nc -l -p 8080 >/dev/null 2>&1 &')
        conn = self.dial(ns, 8080)
        subprocess.run(['kill', '-9', str(vm.vm('SandboxStatus')['pid'])], check=True)
        self.assertTrue(self.ended(conn))
        vm.vm('WaitSandbox', limit=settings.QUICK_LIMIT)
        self.assertNotIn('lcow-', ns.links())
        vm.vm('StopSandbox')
        self.assertTrue(ns.is_free())

    def test_delete_frees_the_namespace_of_a_shim_that_was_killed(self):
        ns = self.namespace(1)
        vm = self.vm(netns_path=ns.path)
        vm.kill_shim()
        code, _, err = vm.delete_command()
        self.assertEqual(code, 0, err)
        self.assertTrue(ns.is_free())
