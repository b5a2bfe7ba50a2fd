# SPDX-License-Identifier: Apache-2.0
"""What a process in the guest is given, read from its own /proc."""
import json
import os
import re

from lcowtest import direct, pb, settings
from lcowtest.case import DirectCase

CAP_CHOWN, CAP_NET_RAW = 1 << 0, 1 << 13
REPORT = ('cat /proc/self/status; echo cwd $(pwd); echo umask $(umask); echo files $(ulimit -S -n) $(ulimit -H -n);'
          'echo oom $(cat /proc/self/oom_score_adj); echo env "$WORDS"; echo mkdir $(mkdir /tmp/x 2>&1)')


def spec(container, *args):
    """A container whose process has a bit of everything."""
    out = direct.oci_spec(container, *args)
    out['process'].update({
        'cwd': '/deep/er/dir', 'env': ['PATH=/bin', 'WORDS=two words'], 'noNewPrivileges': True, 'oomScoreAdj': 300,
        'user': {'uid': 1000, 'gid': 1001, 'additionalGids': [1001, 29, 44], 'umask': 0o027},
        'rlimits': [{'type': 'RLIMIT_NOFILE', 'soft': 512, 'hard': 1024}],
        'capabilities': {'bounding': ['CAP_CHOWN', 'CAP_NET_RAW'],
                         **{k: ['CAP_CHOWN'] for k in ('effective', 'permitted', 'inheritable', 'ambient')}}})
    out['linux']['seccomp'] = {
        'defaultAction': 'SCMP_ACT_ALLOW', 'architectures': ['SCMP_ARCH_X86_64'],
        'syscalls': [{'names': ['mkdir', 'mkdirat'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 95}]}
    return out


def status(text, name):
    return re.search(r'^%s:\s*(.*?)\s*$' % name, text, re.M).group(1)


class Given(DirectCase):
    """All of it reaches the guest's crun, for an init and for an exec."""

    def run_init(self, container_spec, prepare=None):
        container = self.new_id('p')
        box = self.sandbox(spec=container_spec(container))
        rootfs = self.bed.overlay(box.id)
        if prepare:
            prepare(os.path.join(self.bed.dir, 'upper', box.id, 'up'))
        fields = box.stdio('stdout')
        box.create(rootfs=rootfs, **fields)
        box.call('Start', limit=box.limit)
        return box

    def check(self, text):
        self.assertEqual(status(text, 'Uid').split(), ['1000'] * 4)
        self.assertEqual(status(text, 'Gid').split(), ['1001'] * 4)
        self.assertEqual(sorted(status(text, 'Groups').split()), ['1001', '29', '44'])
        self.assertEqual(status(text, 'NoNewPrivs'), '1')
        self.assertEqual(status(text, 'Seccomp'), '2')
        self.assertEqual(int(status(text, 'CapBnd'), 16), CAP_CHOWN | CAP_NET_RAW)
        for name in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb'):
            self.assertEqual(int(status(text, name), 16), CAP_CHOWN, name)
        self.assertIn('\numask 0027\n', text)
        self.assertIn('\nfiles 512 1024\n', text)
        self.assertIn('\noom 300\n', text)
        self.assertIn('\nenv two words\n', text)
        self.assertRegex(text, r'\nmkdir .*not supported')
        self.assertIn('\ncwd /deep/er/dir\n', text)

    def test_everything_that_a_process_asks_for(self):
        box = self.run_init(lambda c: spec(c, 'sh', '-c', REPORT + '; sleep 1000'))
        box.streams['stdout'].wait_for(b'\nmkdir ', settings.BOOT_LIMIT)
        box.streams['stdout'].wait_for(b'supported', settings.BOOT_LIMIT)
        self.check(bytes(box.streams['stdout'].data).decode())
        # containerd gives an exec the container's process, with other arguments.
        process = {**spec('', 'sh', '-c', REPORT)['process']}
        process.pop('rlimits')
        fields = box.stdio('stdout', prefix='e')
        box.call('Exec', exec_id='e', spec={'type_url': pb.PROCESS_URL, 'value': json.dumps(process).encode()}, **fields)
        box.call('Start', exec_id='e', limit=settings.BOOT_LIMIT)
        self.assertEqual(box.call('Wait', exec_id='e', limit=settings.BOOT_LIMIT)['exit_status'], 0)
        self.check(box.streams['estdout'].finish().decode())

    def test_a_user_by_name_has_the_groups_of_the_image(self):
        def named(container):
            out = direct.oci_spec(container, 'sh', '-c', 'cat /proc/self/status')
            out['process']['user'] = {'uid': 0, 'gid': 0, 'username': 'joe'}
            return out

        def image(upper):
            os.makedirs(upper + '/etc')
            with open(upper + '/etc/passwd', 'w') as f:
                f.write('root:x:0:0::/:/bin/sh\njoe:x:1234:1235::/:/bin/sh\n')
            with open(upper + '/etc/group', 'w') as f:
                f.write('joe:x:1235:\naudio:x:29:bob,joe\nvideo:x:44:bob\n')
        box = self.run_init(named, image)
        self.assertEqual(box.call('Wait', limit=settings.BOOT_LIMIT)['exit_status'], 0)
        text = box.streams['stdout'].finish().decode()
        self.assertEqual(status(text, 'Uid').split(), ['1234'] * 4)
        self.assertEqual(status(text, 'Gid').split(), ['1235'] * 4)
        self.assertEqual(sorted(status(text, 'Groups').split()), ['1235', '29'])

    def test_orphans_of_a_container_without_a_pid_namespace_are_buried(self):
        def shared_pids(container):
            out = direct.oci_spec(container, 'sh', '-c', '(sh -c "exit 3" &); (sleep 0.1 &); sleep 2; '
                                  'grep -l "State:.Z" /proc/[0-9]*/status; echo looked; kill -USR1 $$')
            out['linux']['namespaces'] = [n for n in out['linux']['namespaces'] if n['type'] != 'pid']
            return out
        box = self.run_init(shared_pids)
        self.assertEqual(box.call('Wait', limit=settings.BOOT_LIMIT)['exit_status'], 128 + 10)
        self.assertEqual(box.streams['stdout'].finish(), b'looked\n')
