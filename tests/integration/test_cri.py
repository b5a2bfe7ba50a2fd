# SPDX-License-Identifier: Apache-2.0
"""Pods as a kubelet makes them: containerd's CRI plugin, with a pause container and with the Sandbox API, and CNI's network."""
import os
import shutil
import signal
import socket
import threading
import time

import grpc

from lcowtest import cgroups, forward, proc, settings, ttrpc, ws
from lcowtest.case import Case, only_lcow, shared
from lcowtest.containerd import DEBS as VERSIONS
from lcowtest.cri import CREATED, EXITED, GATEWAY4, GATEWAY6, NOTREADY, READY, RUNNING, Cri, Pod, kv

DEBS = [deb for deb in VERSIONS.values() if deb]
OWN_PIDS = {'security_context': {'namespace_options': {'pid': 1}}}    # as kubelet says by default
SERVER = ('sh', '-c', 'echo up; exec nc -ll -p 80 -e echo from $HOSTNAME')
LIMIT = 'cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max'


class Kubelet:
    """A mixin: one node."""

    version, handler = '1.6', 'pod'

    def prepare(self):
        self.cd = shared('cri ' + self.version)
        self.cri = Cri(self.cd, self.handler)
        self.addCleanup(self.cri.close)

    def pod(self, run=True, **config):
        pod = Pod(self.cri, self.new_id('p'), **config)
        self.addCleanup(self._remove, pod)
        return pod.run() if run else pod

    @staticmethod
    def _remove(pod):
        pod.remove()
        shutil.rmtree(pod.logs, ignore_errors=True)

    def sh(self, container, command, code=0):
        status, out, err = container.exec('sh', '-c', command)
        self.assertEqual(status, code, out + err)
        return out

    def asked(self, container, ip):
        """What a SERVER says to this container, once it listens."""
        return self.sh(container, 'until nc -w 20 %s 80 </dev/null; do sleep 0.1; done 2>/dev/null' % ip)

    def gone(self, pod):
        """Remove a pod that is none of kubelet's any more."""
        pod.cri.call('RemovePodSandbox', pod_sandbox_id=pod.id)
        pod.id = None

    def start_qemu(self, make):
        """What make() returned, and the pid of the VM that it started."""
        before = set(proc.running('qemu-system'))
        made = make()
        [pid] = set(proc.running('qemu-system')) - before
        return made, pid

    def accounted(self, form, name):
        """A pod whose VM is in the cgroup of this name below its parent's, which counts it. Nothing of it stays."""
        path = form.format(self.new_id('lcowtest'))
        cgroups.make(path)
        self.addCleanup(cgroups.end, path)
        pod, qemu = self.start_qemu(lambda: self.pod(cgroup_parent=path))
        self.assertEqual(set(cgroups.of(qemu).values()), {'%s/%s' % (path, name % pod.id)})
        self.assertGreater(cgroups.memory(path), 100 << 20)
        self.assertEqual(self.sh(pod.start('c'), 'echo $HOSTNAME'), pod.name + '\n')
        self.assertEqual(cgroups.children(path), [name % pod.id])
        pod.remove()
        self.assertEqual(cgroups.children(path), [])


class EveryVersion(Kubelet):
    """What is said to every version; a mixin."""

    def test_two_containers_of_a_pod_talk_over_localhost_and_to_the_network(self):
        dns = {'servers': ['192.0.2.53', '2001:db8::53'], 'searches': ['a.example', 'b.example'], 'options': ['ndots:5']}
        sysctls = {'net.ipv4.ip_unprivileged_port_start': '81', 'kernel.shm_rmid_forced': '1', 'kernel.domainname': 'domain'}
        pod, other = self.pod(dns=dns, hostname='names', sysctls=kv(sysctls)), self.pod()
        self.assertEqual(pod.status()['state'], READY)
        one = pod.start('one', *SERVER)
        two = pod.start('two')
        far = other.start('far', *SERVER)
        self.assertEqual(one.status()['state'], RUNNING)
        self.assertEqual(self.asked(two, '127.0.0.1'), 'from names\n')
        network, there = pod.status()['network'], other.status()['network']
        addresses = self.sh(two, 'ip addr show dev eth0')
        for ip in (network['ip'], network['additional_ips'][0]['ip']):
            self.assertIn(ip + '/', addresses)
        self.sh(two, 'ping -c 1 -W 10 ' + GATEWAY4)
        self.sh(two, 'ping -6 -c 1 -W 10 ' + GATEWAY6)
        for ip in (there['ip'], there['additional_ips'][0]['ip']):
            self.assertEqual(self.asked(two, ip), 'from %s\n' % other.name)
        with socket.create_server((GATEWAY4, 0)) as server:
            thread = threading.Thread(target=lambda: server.accept()[0].sendall(b'host\n'))
            thread.start()
            self.assertEqual(self.sh(two, 'nc -w 20 %s %d </dev/null' % server.getsockname()[:2]), 'host\n')
            thread.join()
        self.assertEqual(self.sh(two, 'cat /etc/hostname; hostname'), 'names\nnames\n')
        self.assertEqual(self.sh(two, 'cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/shm_rmid_forced kernel/domainname'),
                         '81\n1\ndomain\n')
        resolv = self.sh(two, 'cat /etc/resolv.conf')
        for line in ('nameserver 192.0.2.53', 'nameserver 2001:db8::53', 'search a.example b.example', 'options ndots:5'):
            self.assertIn(line + '\n', resolv)
        self.assertIn('localhost', self.sh(two, 'cat /etc/hosts'))
        self.assertEqual(one.log(), 'up\n')
        self.assertEqual(far.log(), 'up\n')

    def test_commands_streams_logs_stats_and_limits(self):
        pod = self.pod(**OWN_PIDS)
        c = pod.start('c', 'sh', '-c', 'echo out; echo err >&2; exec cat', stdin=True, linux={
            'resources': {'memory_limit_in_bytes': 64 << 20}, **OWN_PIDS})
        self.assertEqual(c.exec('sh', '-c', 'echo o; echo e >&2; exit 7'), (7, 'o\n', 'e\n'))
        with self.assertRaises(ttrpc.RpcError):
            c.call('ExecSync', cmd=['sleep', '1000'], timeout=1)
        run = c.stream('Exec', cmd=['sh', '-c', 'head -c 100000 | wc -c; echo e >&2; exit 3'], stdin=True, stdout=True, stderr=True)
        run.send(ws.STDIN, bytes(100000))
        got = run.finish()
        self.assertEqual((got[ws.STDOUT], got[ws.STDERR]), (b'100000\n', b'e\n'))
        self.assertIn(b'"3"', got[ws.ERROR])
        tty = c.stream('Exec', cmd=['sh'], tty=True, stdin=True, stdout=True)
        tty.send(ws.RESIZE, b'{"Width":91,"Height":17}')
        tty.send(ws.STDIN, b'while ! stty size | grep "17 91"; do sleep 0.1; done; exit\n')
        got = tty.finish()
        self.assertIn(b'\n17 91\r\n', got[ws.STDOUT], got)
        attached = c.stream('Attach', stdin=True, stdout=True, stderr=True)
        attached.send(ws.STDIN, b'to cat\n')
        self.assertEqual(attached.until(ws.STDOUT, b'cat\n'), b'to cat\n')
        attached.close()
        # Attached or logged first: that is containerd's choice.
        end = time.monotonic() + settings.QUICK_LIMIT
        while 'to cat' not in c.log() and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(sorted(c.log().splitlines()), ['err', 'out', 'to cat'])
        stats = c.call('ContainerStats')['stats']
        self.assertGreater(stats['cpu']['usage_core_nano_seconds']['value'], 0)
        self.assertGreater(stats['memory']['working_set_bytes']['value'], 0)
        self.assertEqual(self.sh(c, LIMIT), '%d\n' % (64 << 20))
        c.call('UpdateContainerResources', linux={'memory_limit_in_bytes': 96 << 20})
        self.assertEqual(self.sh(c, LIMIT), '%d\n' % (96 << 20))

    def forwarding(self):
        """A pod whose container serves at forward's ports, and its namespace on the host."""
        before = self.cd.namespaces()
        pod = self.pod()
        [netns] = self.cd.namespaces() - before
        server = pod.start('server', *forward.SERVER, mounts=forward.cri_mounts())
        end = time.monotonic() + settings.BOOT_LIMIT
        while server.log() != 'up\n' and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(server.log(), 'up\n')
        return pod, netns

    def test_port_forwarding_reaches_what_listens_on_localhost(self):
        pod, netns = self.forwarding()
        block = os.urandom(1 << 20)
        # By containerd.
        for port in (forward.ECHO, forward.SIX):
            stream = pod.forward(port)
            threading.Thread(target=stream.send, args=(0, block), daemon=True).start()
            head = port.to_bytes(2, 'little')
            self.assertEqual(stream.until(0, block[-64:]), head + block)
            self.assertEqual(stream.got[1], head)
            stream.close()
        refused = pod.forward(forward.NOBODY)
        begin = time.monotonic()
        got = refused.finish()
        self.assertLess(time.monotonic() - begin, settings.QUICK_LIMIT)
        self.assertIn(str(forward.NOBODY).encode(), got[1][2:], got)
        # And as containerd dials, for a WebSocket has no half-close.
        for port, answer in ((forward.ECHO, block), (forward.LATE, block[::-1]), (forward.SIX, block)):
            with forward.dial(netns, port) as s:
                self.assertEqual(forward.exchange(s, block), answer)
        with forward.dial(netns, forward.ECHO) as one, forward.dial(netns, forward.ECHO, '::1') as two:
            for s, word in ((one, b'one'), (two, b'two'), (one, b'once more')):
                s.sendall(word)
                self.assertEqual(s.recv(100), word)
        with self.assertRaises(ConnectionResetError), forward.dial(netns, forward.NOBODY) as s:
            s.recv(1)
        pod.remove()
        self.assertEqual(self.cd.namespaces() & {netns}, set())

    def test_the_VM_has_room_for_what_the_pod_will_ask_for(self):
        pod = self.pod(resources={'memory_limit_in_bytes': 600 << 20, 'cpu_quota': 150000, 'cpu_period': 100000})
        c = pod.start('c')
        self.assertGreater(int(self.sh(c, 'grep MemTotal /proc/meminfo').split()[1]), 600 << 10)
        self.assertEqual(self.sh(c, 'grep -c ^processor /proc/cpuinfo'), '2\n')

    @only_lcow('no VM')
    def test_the_VM_is_accounted_for_in_the_pod_s_cgroup(self):
        self.accounted('/{0}/pod1', '%s')

    def test_stop_and_remove_in_every_order(self):
        pod = self.pod()
        one, two = (pod.start(name, 'sh', '-c', 'trap "exit 5" TERM; while true; do sleep 0.1; done') for name in ('one', 'two'))
        created, done = pod.create('created', 'true'), pod.start('done', 'sh', '-c', 'exit 4')
        self.assertEqual(created.status()['state'], CREATED)
        self.assertEqual(done.wait(EXITED)['exit_code'], 4)
        one.stop(timeout=30)
        one.stop()
        self.assertEqual(one.status()['exit_code'], 5)
        one.remove()
        created.remove()
        again = pod.start('one')
        two.stop(timeout=0)
        self.assertEqual(two.status()['exit_code'], 137)
        pod.stop()
        self.assertEqual(pod.status()['state'], NOTREADY)
        self.assertEqual(again.wait(EXITED)['state'], EXITED)
        pod.stop()
        again.remove()
        self.gone(pod)
        # Live, with a container, without StopPodSandbox.
        pod = self.pod()
        pod.start('c')
        self.gone(pod)

    def running_exec(self, container, *command):
        """An ExecSync whose command runs; its answer is awaited by whoever wants it."""
        call = self.cri.start('ExecSync', container_id=container.id, cmd=list(command))
        end = time.monotonic() + settings.BOOT_LIMIT
        while ' '.join(command) not in self.sh(container, 'ps -o args') and time.monotonic() < end:
            time.sleep(0.1)
        return call

    def test_containerd_may_restart(self):
        pod = self.pod(**OWN_PIDS)
        c = pod.start('c', 'sh', '-c', 'while test ! -e /go; do sleep 0.1; done; exit 9', linux=OWN_PIDS)
        there = os.path.join(self.cd.dir, self.new_id('volume'))
        os.mkdir(there)
        self.addCleanup(shutil.rmtree, there)
        ends = pod.start('ends', 'sh', '-c', 'while test ! -e /there/go; do sleep 0.1; done; touch /there/gone; exit 6',
                         linux=OWN_PIDS, mounts=[{'container_path': '/there', 'host_path': there}])
        call = self.running_exec(c, 'sleep', '3333')

        def meanwhile():
            with open(there + '/go', 'w'):
                pass
            end = time.monotonic() + settings.BOOT_LIMIT
            while not os.path.exists(there + '/gone') and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(0.5)
        self.cri.restart(meanwhile)
        self.assertTrue(call.exception(), 'whoever waits for an exec is told that containerd has gone')
        self.assertEqual(pod.status()['state'], READY)
        self.assertEqual(c.status()['state'], RUNNING)
        self.assertEqual(ends.wait(EXITED)['exit_code'], 6)
        # Of the exec containerd knows nothing any more; it goes on.
        self.assertIn('sleep 3333', self.sh(c, 'ps -o args'))
        self.sh(c, 'echo late > /proc/1/fd/1')
        two = pod.start('two')
        self.assertEqual(self.sh(two, 'echo new'), 'new\n')
        self.sh(c, 'touch /go')
        self.assertEqual(c.wait(EXITED)['exit_code'], 9)
        self.assertEqual(c.log(), 'late\n')

    def test_the_death_of_the_VM_is_the_pod_s(self):
        pod, qemu = self.start_qemu(self.pod)
        c = pod.start('c', 'sh', '-c', '(echo hello; sleep 100000) | nc -l -p 8080')
        end = time.monotonic() + settings.BOOT_LIMIT
        stream = pod.forward(8080)
        while b'hello' not in stream.got.get(0, b''):
            if not stream.read():
                self.assertLess(time.monotonic(), end, 'nobody listens in the pod')
                stream = pod.forward(8080)
        call = self.running_exec(c, 'sleep', '3333')
        os.kill(qemu, signal.SIGKILL)
        stream.finish()
        try:
            self.assertNotEqual(call.result(settings.QUICK_LIMIT)['exit_code'], 0)
        except grpc.RpcError as e:
            self.assertNotEqual(e.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        status = c.wait(EXITED)
        self.assertEqual(status['state'], EXITED)
        self.assertNotEqual(status['exit_code'], 0)
        end = time.monotonic() + settings.BOOT_LIMIT
        while pod.status()['state'] == READY and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(pod.status()['state'], NOTREADY)


class Podsandbox16(EveryVersion, Case):
    version = '1.6'


class BetweenVersions(EveryVersion):
    """A version between the oldest and the newest, which show what has less to do with containerd."""

    test_the_VM_has_room_for_what_the_pod_will_ask_for = test_the_VM_is_accounted_for_in_the_pod_s_cgroup = None
    test_stop_and_remove_in_every_order = test_port_forwarding_reaches_what_listens_on_localhost = test_the_death_of_the_VM_is_the_pod_s = None


class Podsandbox17(BetweenVersions, Case):
    version = '1.7'

    @only_lcow('no VM')
    def test_the_VM_is_accounted_for_in_the_pod_s_slice(self):
        self.accounted('/{0}.slice/{0}-pod1.slice', 'cri-containerd-%s.scope')


class Podsandbox21(BetweenVersions, Case):
    version = '2.1'


class ShimSandbox21(EveryVersion, Case):
    version, handler = '2.1', 'shim'

    def test_sysctls_of_a_pod_outlive_its_containers_and_bad_ones_are_named(self):
        with self.assertRaises(ttrpc.RpcError) as e:
            self.pod(sysctls=kv({'net.core.somaxconn': '99', 'kernel.panic': '1'}))
        self.assertIn('kernel.panic', e.exception.message)
        pod = self.pod(sysctls=kv({'kernel.msgmax': '9000', 'net/core/somaxconn': '99'}))
        for _ in range(2):
            c = pod.start('c')
            self.assertEqual(self.sh(c, 'cat /proc/sys/kernel/msgmax /proc/sys/net/core/somaxconn'), '9000\n99\n')
            c.stop()
            c.remove()

    @only_lcow('no VM')
    def test_the_VM_is_accounted_for_in_the_pod_s_slice(self):
        self.accounted('/{0}.slice/{0}-pod1.slice', 'cri-containerd-%s.scope')


class Volumes(Kubelet, Case):
    def test_a_volume_is_swapped_like_a_ConfigMap_and_shared_like_an_emptyDir(self):
        config, scratch = (os.path.join(self.cd.dir, self.new_id('volume')) for _ in range(2))
        for d in (config, config + '/..1', config + '/..2', scratch):
            os.mkdir(d)
            self.addCleanup(shutil.rmtree, d, True)
        for n in '12':
            with open('%s/..%s/key' % (config, n), 'w') as f:
                f.write('value %s\n' % n)
        os.symlink('..1', config + '/..data')
        os.symlink('..data/key', config + '/key')
        pod = self.pod(**OWN_PIDS)
        mounts = [{'container_path': '/config', 'host_path': config, 'readonly': True},
                  {'container_path': '/config-key', 'host_path': config + '/key', 'readonly': True},
                  {'container_path': '/scratch', 'host_path': scratch}]
        one, two = (pod.start(name, mounts=mounts) for name in ('one', 'two'))
        self.assertEqual(self.sh(one, 'cat /config/key /config-key; echo kept > /scratch/f'), 'value 1\nvalue 1\n')
        os.symlink('..2', config + '/..new')
        os.rename(config + '/..new', config + '/..data')
        self.assertEqual(self.sh(two, 'cat /config/key /scratch/f'), 'value 2\nkept\n')
        self.sh(two, 'echo x > /config/new', code=1)
        with open(scratch + '/f') as f:
            self.assertEqual(f.read(), 'kept\n')


class Processes(Kubelet, Case):
    def test_processes_are_shared_when_the_pod_says_so(self):
        for name, options in (('shared', {'pid': 0}), ('own', {'pid': 1})):
            with self.subTest(name):
                linux = {'security_context': {'namespace_options': options}}
                pod = self.pod(**linux)
                pod.start('one', 'sleep', '4321', linux=linux)
                two = pod.start('two', linux=linux)
                seen = 'sleep 4321' in self.sh(two, 'ps -o args')
                self.assertEqual(seen, name == 'shared')
                pod.remove()


class Many(Kubelet, Case):
    version = '1.7'

    def test_10_containers_in_a_pod(self):
        pod = self.pod(**OWN_PIDS)
        containers = [pod.start('c%d' % i, 'sh', '-c', 'echo %d; exec sleep 100000' % i, linux=OWN_PIDS) for i in range(10)]
        for i, c in enumerate(containers):
            self.assertEqual(c.status()['state'], RUNNING)
            self.assertEqual((c.log(), self.sh(c, 'echo $((%d + 1))' % i)), ('%d\n' % i, '%d\n' % (i + 1)))

    def test_4_pods_at_once(self):
        pods = [self.pod(run=False, annotations={'n': str(i)}, **OWN_PIDS) for i in range(4)]
        errors = []

        def make(pod):
            try:
                pod.run()
                pod.start('c', linux=OWN_PIDS)
            except ttrpc.RpcError as e:
                errors.append(e)
        threads = [threading.Thread(target=make, args=(pod,)) for pod in pods]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])
        self.assertEqual(len({pod.status()['network']['ip'] for pod in pods}), 4)
        for a, b in zip(pods, pods[1:]):
            self.sh(a.containers[0], 'ping -c 1 -W 30 ' + b.status()['network']['ip'])
