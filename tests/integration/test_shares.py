# SPDX-License-Identifier: Apache-2.0
"""Directories and files of the host in containers: what each side sees of the other, and what it does not."""
import fcntl
import os
import shutil
import subprocess
import threading
import time

from lcowtest import ttrpc
from lcowtest.case import only_lcow
from lcowtest.shares import ROOT, SYSTEM, SharesCase, bind, read, write

DENY = 'io.microsoft.virtualmachine.fileshares.disablewritable'
FILES = 1000
# Prints an event of inotify for a file that somebody else changes, or "none".
INOTIFY = '''
import ctypes, os, select, sys
c = ctypes.CDLL(None)
fd = c.inotify_init()
assert c.inotify_add_watch(fd, b"/v", 0xfff) > 0
open("/v/ready", "w").close()
os.read(fd, 4096)
seen = []
while select.select([fd], [], [], 4)[0]:
    data = os.read(fd, 4096)
    seen.append(data[16:].split(bytes(1))[0].decode())
    if seen[-1] == "end": break
print(seen)
'''


@only_lcow('the stock shim has no shares')
class Shares(SharesCase):
    mounted = None

    def _boot(self):
        # Before the shim: in the namespace of the tests nothing propagates to its own.
        top = type(self).mounted = os.path.join(self.bed.dir, 'mounted')
        os.makedirs(top + '/m')
        subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', top + '/m'], check=True)
        write(top + '/m/f', 'mounted\n')
        super()._boot()

    def _end(self):
        super()._end()
        subprocess.run(['umount', self.mounted + '/m'], check=True)
        shutil.rmtree(self.mounted)

    def test_a_writable_share_is_seen_both_ways(self):
        write(self.path('from-host'), 'one\n')
        c = self.add(bind(self.dir, '/v', 'rw'))
        self.assertEqual(self.out(c, 'cat /v/from-host; echo two > /v/from-guest; mkdir /v/d; mv /v/from-host /v/d/moved'), 'one\n')
        self.assertEqual(read(self.path('from-guest')), 'two\n')
        self.assertEqual(read(self.path('d', 'moved')), 'one\n')
        write(self.path('d', 'later'), 'three\n')
        write(self.path('from-guest'), 'longer than before\n')
        self.assertEqual(self.out(c, 'cat /v/d/later /v/from-guest; rm -r /v/d /v/from-guest; ls -A /v'), 'three\nlonger than before\n')
        self.assertEqual(os.listdir(self.dir), [])

    def test_a_read_only_share_refuses_every_change(self):
        write(self.path('f'), 'kept\n')
        os.mkdir(self.path('d'))
        c = self.add(bind(self.dir, '/v', 'ro'))
        for change in ('echo x > /v/f', 'echo x > /v/new', 'rm /v/f', 'mkdir /v/d2', 'rmdir /v/d', 'mv /v/f /v/g', 'chmod 777 /v/f',
                       'ln -s f /v/l', 'ln /v/f /v/h', 'touch /v/f', 'truncate -s 0 /v/f'):
            with self.subTest(change):
                status, text = self.out(c, change, check=False)
                self.assertNotEqual(status, 0)
                self.assertIn('Read-only file system', text)
        self.assertEqual(self.out(c, 'cat /v/f; ls /v'), 'kept\nd\nf\n')
        self.assertEqual(sorted(os.listdir(self.dir)), ['d', 'f'])

    def test_a_guest_that_makes_its_mounts_writable_cannot_write_either(self):
        write(self.path('f'), 'kept\n')
        self.add(bind(self.dir, '/v', 'ro'))
        write(self.path('single'), 'kept\n')
        self.add(bind(self.path('single'), '/v', 'ro'))
        # Straight to the export root, beside all that the agent has made read-only.
        for name in ('f', 'single'):
            status, text = self.out(self.pod.look, 'for f in %s/*/%s; do echo x > $f || exit 1; done' % (ROOT, name), check=False)
            self.assertEqual(status, 1)
            self.assertIn('Read-only file system', text)
            self.assertEqual(read(self.path(name)), 'kept\n')

    def test_a_single_file_comes_without_its_neighbours(self):
        for name in ('wanted', 'secret'):
            write(self.path(name), name + '\n')
        c = self.add(bind(self.path('wanted'), '/etc/app.conf', 'rw'))
        self.assertEqual(self.out(c, 'cat /etc/app.conf; echo new > /etc/app.conf'), 'wanted\n')
        self.assertEqual(read(self.path('wanted')), 'new\n')
        look = self.pod.look
        # All that the guest has of it, whoever looks.
        self.assertEqual(self.out(look, 'find %s -maxdepth 2 -name wanted | wc -l' % ROOT).strip(), '1')
        share = os.path.dirname(self.out(look, 'find %s -maxdepth 2 -name wanted' % ROOT).strip())
        self.assertEqual(self.out(look, 'ls -A ' + share), 'wanted\n')
        for script in ('cat %s/secret', 'cat %s/wanted/../secret', 'ls %s/../secret', 'echo x > %s/mine'):
            self.assertNotEqual(self.out(look, script % share, check=False)[0], 0)
        self.assertEqual(sorted(os.listdir(self.dir)), ['secret', 'wanted'])

    def config_map(self, version):
        """A version of a ConfigMap's files as the kubelet lays them out."""
        data = '..2026_%s' % version
        os.mkdir(self.path(data))
        write(self.path(data, 'key'), version + '\n')
        os.symlink(data, self.path('..data_tmp'))
        os.rename(self.path('..data_tmp'), self.path('..data'))

    def test_the_update_of_a_ConfigMap_is_seen_as_the_kubelet_makes_it(self):
        self.config_map('one')
        os.symlink('..data/key', self.path('key'))
        c = self.add(bind(self.dir, '/config', 'ro'), bind(os.path.realpath(self.path('key')), '/sub', 'ro'))
        self.assertEqual(self.out(c, 'cat /config/key /sub; ls /config'), 'one\none\nkey\n')
        for version in ('two', 'three'):
            self.config_map(version)
            self.assertEqual(self.out(c, 'cat /config/key'), version + '\n')
        shutil.rmtree(self.path('..2026_one'))
        shutil.rmtree(self.path('..2026_two'))
        # A subPath is the file that it was at Create, as under runc: no update, and it outlives its removal.
        self.assertEqual(self.out(c, 'cat /config/key; ls -A /config | sort'), 'three\n..2026_three\n..data\nkey\n')
        self.assertEqual(self.out(c, 'cat /sub', check=False)[1], 'one\n')

    def test_a_file_that_is_replaced_on_the_host_stays_what_it_was_for_a_single_file_mount(self):
        write(self.path('f'), 'old\n')
        c = self.add(bind(self.path('f'), '/f', 'ro'), bind(self.dir, '/v', 'ro'))
        write(self.path('g'), 'new\n')
        os.rename(self.path('g'), self.path('f'))
        self.assertEqual(self.out(c, 'cat /f /v/f'), 'old\nnew\n')

    def test_a_thousand_small_files(self):
        c = self.add(bind(self.dir, '/v', 'rw'))
        self.out(c, 'cd /v && i=0 && while [ $i -lt %d ]; do echo $i > f$i; i=$((i + 1)); done' % FILES, limit=4 * self.pod.box.limit)
        self.assertEqual({name: read(self.path(name)) for name in os.listdir(self.dir)}, {'f%d' % i: '%d\n' % i for i in range(FILES)})
        self.assertEqual(self.out(c, 'ls /v | wc -l; cat /v/* | sort -n | tail -n 1', limit=4 * self.pod.box.limit).split(), [str(FILES), str(FILES - 1)])
        self.out(c, 'rm -r /v/*', limit=4 * self.pod.box.limit)
        self.assertEqual(os.listdir(self.dir), [])

    def test_a_symlink_does_not_lead_out_of_a_share(self):
        inside, outside = self.path('in'), self.path('secret')
        os.mkdir(inside)
        write(outside, 'of the host\n')
        os.symlink(outside, os.path.join(inside, 'absolute'))
        os.symlink('../secret', os.path.join(inside, 'up'))
        os.symlink('../../../../../../../../../..' + outside, os.path.join(inside, 'root'))
        os.symlink(self.dir, os.path.join(inside, 'dir'))
        c = self.add(bind(inside, '/v', 'rw'))
        self.out(c, 'ln -s %s /v/made' % outside)
        look = self.pod.look
        share = os.path.dirname(self.out(look, 'find %s -maxdepth 2 -name up' % ROOT).strip())
        for who, top in ((c, '/v'), (look, share)):
            for name in ('absolute', 'up', 'root', 'made', 'dir/secret', 'dir/in/../secret', '../secret'):
                path = '%s/%s' % (top, name)
                self.assertNotIn('of the host', self.out(who, 'cat ' + path, check=False)[1])
                # There may be such a path in the container: that is written then.
                self.out(who, 'echo x > ' + path, check=False)
        self.assertEqual(read(outside), 'of the host\n')
        self.assertEqual(os.readlink(os.path.join(inside, 'made')), outside)

    def test_a_path_is_one_share_for_all_containers_and_another_one_read_only(self):
        one = self.add(bind(self.dir, '/v', 'rw'))
        self.assertEqual(self.shared(), 1)
        two = self.add(bind(self.dir, '/other', 'rw'))
        self.assertEqual(self.shared(), 1)
        three = self.add(bind(self.dir, '/v', 'ro'), bind(self.dir, '/w', 'rw'))
        self.assertEqual(self.shared(), 2)
        self.out(one, 'echo shared > /v/f')
        self.assertEqual(self.out(two, 'cat /other/f'), 'shared\n')
        self.assertIn('Read-only', self.out(three, 'cat /v/f; echo more >> /w/f; echo x > /v/f', check=False)[1])
        self.assertEqual(read(self.path('f')), 'shared\nmore\n')
        self.pod.end(one)
        self.assertEqual(self.shared(), 2)
        self.assertEqual(self.out(two, 'cat /other/f'), 'shared\nmore\n')
        self.pod.end(two)
        self.assertEqual(self.out(three, 'cat /w/f'), 'shared\nmore\n')
        self.pod.end(three)
        self.assertEqual(self.shared(), 0)

    def test_a_directory_that_is_removed_below_a_share(self):
        inner = self.path('d')
        os.mkdir(inner)
        write(os.path.join(inner, 'f'), 'x\n')
        c = self.add(bind(inner, '/v', 'rw'))
        self.assertEqual(self.out(c, 'cat /v/f'), 'x\n')
        shutil.rmtree(inner)
        status, _ = self.out(c, 'cat /v/f', check=False)
        self.assertNotEqual(status, 0)
        self.assertNotEqual(self.out(c, 'echo x > /v/new', check=False)[0], 0)
        # One of its name is another directory; whoever comes later gets that.
        os.mkdir(inner)
        write(os.path.join(inner, 'f'), 'y\n')
        self.assertNotEqual(self.out(c, 'cat /v/f', check=False)[0], 0)
        self.pod.end(c)
        c = self.add(bind(inner, '/v', 'rw'))
        self.assertEqual(self.out(c, 'cat /v/f'), 'y\n')

    def test_what_is_mounted_on_the_host_below_a_share_is_there(self):
        c = self.add(bind(self.mounted, '/v', 'ro'))
        self.assertEqual(self.out(c, 'cat /v/m/f'), 'mounted\n')
        self.assertIn('Read-only', self.out(c, 'echo x > /v/m/f', check=False)[1])

    def test_a_mount_that_fails_leaves_nothing(self):
        e = self.pod.refused(self.spec(bind(self.dir, '/v', 'rw'), bind(self.path('missing'), '/w')))
        self.assertEqual(e.code, ttrpc.INVALID, e)
        self.assertIn(self.path('missing'), str(e))
        self.assertEqual(self.shared(), 0)

    def test_a_lock_on_a_file_holds_in_the_VM_only(self):
        write(self.path('f'), '')
        one, two = (self.add(bind(self.dir, '/v', 'rw'), *SYSTEM) for _ in range(2))
        with open(self.path('f')) as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            self.out(one, 'flock -n /v/f true')
        self.out(one, 'flock /v/f sh -c "touch /v/held; sleep 100000" > /dev/null 2>&1 & while [ ! -e /v/held ]; do sleep 0.1; done')
        self.assertEqual(self.out(two, 'flock -n /v/f true', check=False)[0], 1)
        with open(self.path('f')) as f:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_inotify_tells_of_the_guest_s_own_changes_only(self):
        c = self.add(bind(self.dir, '/v', 'rw'), *SYSTEM)
        write(self.path('watch.py'), INOTIFY)
        script = '/usr/bin/python3 -S -E /v/watch.py > /v/log 2>&1 & while [ ! -e /v/ready ]; do sleep 0.1; done; echo x > /v/own; ' \
                 'until [ -e /v/go ]; do sleep 0.1; done; touch /v/end; wait; cat /v/log'

        def change():
            while not os.path.exists(self.path('own')):
                time.sleep(0.05)
            write(self.path('of-host'), 'x')
            write(self.path('go'), 'x')
        t = threading.Thread(target=change)
        t.start()
        out = self.out(c, script)
        t.join()
        self.assertIn("'own'", out)
        self.assertIn("'end'", out)
        self.assertNotIn('of-host', out)


@only_lcow('the stock shim has no shares')
class Denied(SharesCase):
    annotations = {DENY: 'true'}

    def test_writable_shares_are_refused_where_the_sandbox_s_annotation_forbids_them(self):
        e = self.pod.refused(self.spec(bind(self.dir, '/r', 'ro'), bind(self.dir, '/v', 'rw')))
        self.assertEqual(e.code, ttrpc.DENIED, e)
        self.assertIn('mount /v', str(e))
        self.assertIn('adding writable shares is denied', str(e))
        self.assertEqual(self.shared(), 0)
        c = self.add(bind(self.dir, '/v', 'ro'))
        write(self.path('f'), 'x\n')
        self.assertEqual(self.out(c, 'cat /v/f'), 'x\n')
