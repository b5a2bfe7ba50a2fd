# SPDX-License-Identifier: Apache-2.0
"""What README tells people to write into containerd's configuration: taken out of it as it stands, and used as it says."""
import fnmatch
import glob
import os
import re
import subprocess
import unittest

from lcowtest import cgroups, settings, ttrpc
from lcowtest.case import Case, only_lcow
from lcowtest.containerd import DEBS as VERSIONS
from lcowtest.containerd import programs
from lcowtest.cri import PAUSE, READY, Cri, CriContainerd, make_bridge
from test_cri import Kubelet

DEBS = [deb for deb in VERSIONS.values() if deb]
TOP = settings.TOP
CRI_1, CRI_2 = 'io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.runtime'
# What Debian's packages of all these versions install as /etc/containerd/config.toml.
DEBIAN = '''version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
'''
EMPTY = 'version = 2\n'


def blocks():
    """The code blocks of README that are marked as tested, by their names."""
    with open(TOP + '/README.md') as f:
        return dict(re.findall(r'^<!-- tested as it stands: (.+?) -->\n```\w*\n(.*?)^```$', f.read(), re.M | re.S))


def default_of(version):
    """What "containerd config default" prints."""
    return subprocess.run([program(version), 'config', 'default'], check=True, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL).stdout


def program(version):
    return os.path.join(programs(version) or '', 'containerd')


def appended(base, sandboxer=False):
    """A configuration after README's words."""
    text, version = blocks(), 2 if 'version = 2\n' in base else 3
    out = base + text['version %d, lcow' % version]
    if sandboxer:
        out += text['sandboxer']
    if version == 2 and not re.search(r'containerd\.runtimes\.runc\]$', base, re.M):
        out += text['version 2, runc']
    return out


def put(text, table, **values):
    """Set what the environment needs in a configuration: keys of a table ('' for the top), which is added when it is missing."""
    header = r'^[ \t]*\[%s\][ \t]*\n' % re.escape(table).replace('"', '[\'"]')
    found = re.search(header, text, re.M) if table else re.match('', text)
    if not found:
        text += '\n[%s]\n' % table
        found = re.search(header, text, re.M)
    end = re.compile(r'^[ \t]*\[', re.M).search(text, found.end())
    end = end.start() if end else len(text)
    body = re.sub(r'^[ \t]*(%s) = .*\n' % '|'.join(values), '', text[found.end():end], flags=re.M)
    lines = ''.join('%s = %s\n' % (k, v) for k, v in values.items())
    return text[:found.end()] + lines + body + text[end:]


class ReadmeContainerd(CriContainerd):
    """A daemon with a configuration as its user has it, beside what this environment needs."""

    def __init__(self, directory, version, base, sandboxer):
        self.base, self.sandboxer = base, sandboxer
        super().__init__(directory, version)

    def config(self, version, level):
        self.prepare()
        text = self.base
        for table, values in (
                ('', {'root': '"%s/root"' % self.dir, 'state': '"%s/state"' % self.dir}),
                ('grpc', {'address': '"%s/c.sock"' % self.dir}),
                ('ttrpc', {'address': '"%s/c.sock.ttrpc"' % self.dir}),
                ('debug', {'level': '"%s"' % level}),
                ('plugins."io.containerd.internal.v1.opt"', {'path': '"%s/opt"' % self.dir})):
            text = put(text, table, **values)
        if version.startswith('2.'):
            text = put(text, 'plugins."io.containerd.nri.v1.nri"', disable='true')    # its socket would stay
        server = {'disable_tcp_service': 'true', 'stream_server_address': '"127.0.0.1"'}
        node = {'netns_mounts_under_state_dir': 'true', 'restrict_oom_score_adj': 'true', 'disable_apparmor': 'true'}
        cni = {'conf_dir': '"%s/cni"' % self.dir}
        text = put(text, 'plugins."%s"' % CRI_1, **server)
        if 'version = 2\n' in text:
            text = put(text, 'plugins."%s"' % CRI_1, **node, **server, sandbox_image='"%s"' % PAUSE)
            text = put(text, 'plugins."%s".cni' % CRI_1, **cni, bin_dir='"%s/cni"' % settings.TOOLS)
        else:
            text = put(text, 'plugins."io.containerd.cri.v1.images".pinned_images', sandbox='"%s"' % PAUSE)
            text = put(text, 'plugins."%s"' % CRI_2, **node)
            text = put(text, 'plugins."%s".cni' % CRI_2, **cni, bin_dirs='["%s/cni"]' % settings.TOOLS)
        return appended(text, self.sandboxer)


class OneNode(Kubelet):
    """A mixin: a daemon that was configured after README runs pods of both runtimes."""

    version, base, sandboxer = None, None, False
    node = None
    together = True

    def prepare(self):
        make_bridge()
        self.once(self._run, lambda: type(self).node.close())
        self.cd = self.node
        [handler] = re.findall(r'^handler: (\S+)$', blocks()['pod'], re.M)
        self.cri = Cri(self.cd, handler)
        self.addCleanup(self.cri.close)

    def _run(self):
        base = self.base or default_of(self.version)
        type(self).node = ReadmeContainerd('%s/%s' % (os.environ['LCOWTEST_DIR'], self.new_id('r')), self.version, base, self.sandboxer)

    @only_lcow('it names this runtime')
    def test_pods_of_lcow_and_of_runc_run_and_annotations_arrive(self):
        self.assertRegex(self.cd.ctr('plugins', 'ls').out, r'(?m)^io\.containerd\.grpc\.v1 +cri +.* ok *$')
        [(name, mib)] = re.findall(r'^    (io\.microsoft\.\S+): "(\d+)"$', blocks()['pod'], re.M)
        pod = self.pod(annotations={name: mib})
        self.assertEqual(pod.status()['state'], READY)
        c = pod.start('c', annotations=[{'key': 'io.microsoft.lcow.shm.size-kb', 'value': '4096'}])
        kib = int(self.sh(c, 'grep MemTotal /proc/meminfo').split()[1])
        self.assertTrue(int(mib) * 850 < kib < int(mib) * 1024, kib)
        self.assertEqual(self.sh(c, 'df -k /dev/shm | tail -n 1').split()[1], '4096')
        with self.assertRaises(ttrpc.RpcError) as e:
            pod.start('device', annotations=[{'key': 'cdi.k8s.io/test', 'value': 'vendor.example/thing=0'}])
        self.assertIn('vendor.example/thing=0', e.exception.message)
        guest = self.sh(c, 'cat /proc/sys/kernel/random/boot_id')
        with open('/proc/sys/kernel/random/boot_id') as f:
            host = f.read()
        self.assertNotEqual(guest, host)
        # The default. What it makes above its cgroups would stay.
        self.cri.handler = ''
        path = '/' + self.new_id('lcowtest')
        cgroups.make(path)
        self.addCleanup(cgroups.end, path)
        stock = self.pod(cgroup_parent=path).start('c')
        self.assertEqual(self.sh(stock, 'cat /proc/sys/kernel/random/boot_id'), host)


class Debian16(OneNode, Case):
    version, base = '1.6', DEBIAN


class Default17(OneNode, Case):
    version = '1.7'


class Default21(OneNode, Case):
    version = '2.1'


class DebianSandboxer21(OneNode, Case):
    version, base, sandboxer = '2.1', DEBIAN, True


class Configuration(unittest.TestCase):
    def dump(self, version, text):
        """What README's check prints of a configuration: the names of the tables."""
        path = os.path.join(os.environ['LCOWTEST_DIR'], 'readme.toml')
        with open(path, 'w') as f:
            f.write(text)
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        # The command as it stands, but for the daemon and its file.
        command = blocks()['check'].replace('sudo containerd', '"$0" -c "$1"')
        done = subprocess.run(['sh', '-c', command, program(version), path], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return re.findall(r'runtimes\.(\w+)\]', done.stdout)

    def test_every_usual_configuration_can_be_added_to_and_keeps_runc(self):
        for version in VERSIONS:
            for base in (EMPTY, DEBIAN, default_of(version)):
                with self.subTest(version, base=base[:100]):
                    self.assertEqual(self.dump(version, appended(base)), ['lcow', 'runc'])

    def test_the_check_tells_what_1_x_would_not_see(self):
        lcow, imported = blocks()['version 2, lcow'], os.path.join(os.environ['LCOWTEST_DIR'], 'imported.toml')
        with open(imported, 'w') as f:
            f.write(EMPTY + lcow)
        self.addCleanup(os.unlink, imported)
        for version in ('1.6', '1.7'):
            importing = put(default_of(version), '', imports='["%s"]' % imported)
            for text, seen in ((DEBIAN + lcow, ['lcow']), (importing, ['lcow']), ('disabled_plugins = ["cri"]\n' + lcow, [])):
                with self.subTest(version, text=text[:100]):
                    self.assertEqual(self.dump(version, text), seen)


class Annotations(unittest.TestCase):
    def test_what_the_source_reads_is_in_the_manual_and_let_through(self):
        names = set()
        for path in glob.glob(TOP + '/src/**/*.c', recursive=True):
            with open(path) as f:
                names |= set(re.findall(r'"((?:io\.microsoft|io\.kubernetes)\.[\w.-]+|cdi\.k8s\.io/)"', f.read()))
        self.assertGreater(len(names), 10)
        manual = ''
        for path in glob.glob(TOP + '/man/*.scd'):
            with open(path) as f:
                manual += f.read()
        self.assertEqual([name for name in sorted(names) if name not in manual], [])
        text = blocks()
        # Those of Kubernetes are containerd's own.
        names = {name for name in names if not name.startswith('io.kubernetes.')}
        for block, left_out in (('version 2, lcow', set()), ('version 3, lcow', {'cdi.k8s.io/'})):
            patterns = re.findall(r'"([^"]+\*)"', re.search(r'container_annotations = (.*)', text[block])[1])
            for name in names - left_out:
                with self.subTest(block, name=name):
                    self.assertTrue(any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
