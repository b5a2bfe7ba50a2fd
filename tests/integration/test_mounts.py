# SPDX-License-Identifier: Apache-2.0
"""Disk images and block devices of the host as mounts of containers."""
import os
import subprocess

from lcowtest.case import only_lcow
from lcowtest.shares import SYSTEM, SharesCase, bind

MIB = 1 << 20


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def disk(kind, source, *options):
    return {'type': kind, 'source': source, 'destination': '/d', 'options': list(options)}


@only_lcow('the stock shim knows no disks as mounts')
class Disks(SharesCase):
    def image(self):
        path = self.path('disk.img')
        with open(path, 'w') as f:
            f.truncate(16 * MIB)
        run('mkfs.ext4', '-q', path)
        return path

    def disks(self):
        return self.out(self.pod.look, 'ls /sys/block').count('sd')

    def test_an_image_is_mounted_and_keeps_what_a_container_wrote(self):
        image, before = self.image(), self.disks()
        c = self.add(disk('virtual-disk', image))
        self.out(c, 'echo kept > /d/f; sync')
        self.pod.end(c)
        self.assertEqual(self.disks(), before)
        c = self.add(disk('virtual-disk', image, 'ro'))
        status, text = self.out(c, 'cat /d/f; echo x > /d/g', check=False)
        self.assertNotEqual(status, 0)
        self.assertIn('kept', text)
        self.assertIn('Read-only file system', text)
        self.pod.end(c)
        self.assertEqual(self.disks(), before)

    def loop(self, image):
        if not os.path.exists('/dev/loop-control'):
            self.skipTest('no loop devices')
        try:
            loop = run('losetup', '--find', '--show', image).strip()
        except subprocess.CalledProcessError as e:
            self.skipTest('no loop devices: ' + e.stderr)
        self.addCleanup(run, 'losetup', '--detach', loop)
        return loop

    def test_an_image_is_a_device_of_the_container(self):
        image, before = self.image(), self.disks()
        at = {'destination': 'blockdev:///dev/xvda'}
        c = self.add({**disk('virtual-disk', image), **at})
        self.out(c, 'test -b /dev/xvda; printf written | dd of=/dev/xvda bs=1M seek=8 conv=fsync')
        self.pod.end(c)
        c = self.add({**disk('virtual-disk', image, 'ro'), **at})
        text = 'dd if=/dev/xvda bs=1M skip=8 count=1 2>/dev/null | head -c 7'
        self.assertEqual(self.out(c, text), 'written')
        status, text = self.out(c, 'echo x > /dev/xvda', check=False)
        self.assertNotEqual(status, 0)
        self.pod.end(c)
        self.assertEqual(self.disks(), before)
        with open(image, 'rb') as f:
            f.seek(8 * MIB)
            self.assertEqual(f.read(7), b'written')

    def test_a_block_device_of_the_host_among_the_devices_is_one_of_the_container(self):
        image = self.image()
        st = os.stat(self.loop(image))
        numbers = {'type': 'b', 'major': os.major(st.st_rdev), 'minor': os.minor(st.st_rdev)}
        for access, expected in (('rwm', 0), ('r', 1)):
            with self.subTest(access=access):
                spec = self.spec()
                spec['linux']['devices'] = [{'path': '/dev/volume', **numbers}]
                spec['linux']['resources'] = {'devices': [{'allow': False, 'access': 'rwm'},
                                                          {'allow': True, 'access': access, **numbers}]}
                c = self.pod.add(spec=spec)
                self.out(c, 'test -b /dev/volume && head -c 1 /dev/volume > /dev/null')
                status, _ = self.out(c, 'echo x > /dev/volume', check=False)
                self.assertEqual(bool(status), bool(expected))
                self.pod.end(c)

    def test_a_block_device_is_mounted(self):
        loop = self.loop(self.image())
        c = self.add(disk('physical-disk', loop))
        self.assertEqual(self.out(c, 'echo one > /d/f; cat /d/f'), 'one\n')
        self.pod.end(c)


def mount(kind, at, *options, source='none'):
    return {'type': kind, 'source': source, 'destination': at, 'options': list(options)}


@only_lcow('a look at what the guest makes of them')
class Kinds(SharesCase):
    """What a specification can mount beside disks and directories of the host."""

    def table(self, container):
        """mount point -> (options of the mount, file system, options of the file system); the last one where there are several"""
        rows = {}
        for line in self.out(container, 'cat /proc/self/mountinfo').splitlines():
            words = line.split()
            end = words.index('-')
            rows[words[4]] = words[5].split(','), words[end + 1], words[end + 3].split(',')
        return rows

    def test_file_systems_of_the_kernel_are_made_as_asked(self):
        c = self.add(mount('tmpfs', '/t', 'nosuid', 'noexec', 'nodev', 'mode=0701', 'size=3m', source='tmpfs'),
                     mount('tmpfs', '/dev/shm', 'nosuid', 'size=8192k', 'mode=1777', source='shm'),
                     mount('mqueue', '/dev/mqueue', 'nosuid', 'noexec', 'nodev', source='mqueue'),
                     mount('cgroup', '/sys/fs/cgroup', 'ro', 'nosuid', 'noexec', 'nodev', source='cgroup'),
                     mount('proc', '/p', 'ro', source='proc'), mount('sysfs', '/s', 'ro', source='sysfs'))
        rows = self.table(c)
        for at, kind, options in (('/t', 'tmpfs', ('nosuid', 'noexec', 'nodev')), ('/dev/shm', 'tmpfs', ('nosuid',)),
                                  ('/dev/mqueue', 'mqueue', ('nosuid', 'noexec', 'nodev')), ('/sys/fs/cgroup', 'cgroup2', ('ro',)),
                                  ('/p', 'proc', ('ro',)), ('/s', 'sysfs', ('ro',)), ('/dev/pts', 'devpts', ('nosuid', 'noexec')),
                                  ('/proc', 'proc', ()), ('/sys', 'sysfs', ('ro',)), ('/dev', 'tmpfs', ('nosuid',))):
            with self.subTest(at):
                self.assertEqual(rows[at][1], kind)
                self.assertLessEqual(set(options), set(rows[at][0]))
        self.assertIn('size=3072k', rows['/t'][2])
        self.assertIn('size=8192k', rows['/dev/shm'][2])
        self.assertEqual(self.out(c, 'stat -c %a /t /dev/shm'), '701\n1777\n')
        status, text = self.out(c, 'dd if=/dev/zero of=/t/f bs=1M count=4', check=False)
        self.assertNotEqual(status, 0)
        self.assertIn('No space left', text)

    def test_a_bind_has_its_flags_and_read_only_is_enforced_with_all_below(self):
        os.makedirs(self.path('sub'))
        modes = {'/rw': ('rbind', 'rw'), '/plain': ('bind',), '/ro': ('rbind', 'ro'), '/rro': ('rbind', 'rro'),
                 '/slave': ('rbind', 'rslave'), '/private': ('rbind', 'rprivate', 'nosuid', 'nodev', 'noexec')}
        c = self.add(*({'type': 'bind', 'source': self.dir, 'destination': at, 'options': list(options)} for at, options in modes.items()))
        rows = self.table(c)
        for at in modes:
            with self.subTest(at):
                status, _ = self.out(c, 'echo x > %s/sub/f' % at, check=False)
                self.assertEqual(status != 0, at in ('/ro', '/rro'))
                self.assertEqual('ro' in rows[at][0], at in ('/ro', '/rro'))
        self.assertLessEqual({'nosuid', 'nodev', 'noexec'}, set(rows['/private'][0]))
        self.assertIn('/dev', rows)

    def test_others_are_refused_by_name(self):
        for wrong, text in ((mount('overlay', '/x', source='overlay'), 'mount /x: type overlay is not supported'),
                            (mount('nfs', '/x', source='server:/x'), 'mount /x: type nfs is not supported'),
                            (mount('extensible-virtual-disk', '/x', source='evd://a/b'), 'type extensible-virtual-disk is not supported'),
                            (mount('bind', '/x', 'rbind', 'rshared', source=self.dir), 'mount /x: rshared is not supported')):
            with self.subTest(text):
                self.assertIn(text, str(self.pod.refused(self.spec(wrong))))
        # What the kernel of the VM says no to.
        for wrong in (mount('tmpfs', '/x', 'size=much', source='tmpfs'), mount('tmpfs', '/x', 'nonsense', source='tmpfs')):
            with self.subTest(wrong['options']):
                self.assertIn('mount `tmpfs` to `x`: Invalid argument', str(self.pod.refused(self.spec(wrong))))


PAGES = '''
import mmap
with open("/huge/f", "w+b") as f:
    f.truncate(2 << 20)
    with mmap.mmap(f.fileno(), 2 << 20) as m:
        m[:4] = b"huge"
print(open("/proc/meminfo").read())
'''
READ = '''
import mmap
with open("/huge/f", "r+b") as f, mmap.mmap(f.fileno(), 2 << 20) as m:
    print(m[:4].decode())
'''


@only_lcow('the stock shim has the pages of the host')
class Hugepages(SharesCase):
    def _boot(self):
        # The shim has a mount namespace of its own, to which nothing propagates from that of the tests.
        cls = type(self)
        cls.huge = os.path.join(self.bed.dir, 'huge')
        os.mkdir(cls.huge)
        subprocess.run(['mount', '-t', 'hugetlbfs', '-o', 'pagesize=2M', 'none', cls.huge], check=False, stderr=subprocess.DEVNULL)
        super()._boot()

    def _end(self):
        super()._end()
        if os.path.ismount(self.huge):
            run('umount', self.huge)
        os.rmdir(self.huge)

    def check(self, source):
        """What one container writes to huge pages another one reads."""
        one, two = (self.add(*SYSTEM, bind(source, '/huge')) for _ in range(2))
        used = self.out(one, "/usr/bin/python3 -c '%s'" % PAGES)
        self.assertRegex(used, r'HugePages_Total: +1\n')
        self.assertEqual(self.out(two, "/usr/bin/python3 -c '%s'" % READ), 'huge\n')
        self.out(two, 'rm /huge/f')    # the pod would keep it
        self.pod.end(one)
        self.pod.end(two)

    def test_containers_share_pages_of_2_MiB(self):
        self.check('hugepages://2M/here')

    def test_limits_on_huge_pages_hold_and_those_of_sizes_that_the_VM_lacks_are_met(self):
        spec = self.spec(*SYSTEM, bind('hugepages://2M/limited', '/huge'))
        spec['linux']['resources']['hugepageLimits'] = [{'pageSize': size, 'limit': limit} for size, limit in (
            ('2MB', 2 << 20), ('1GB', 0), ('64KB', 0))]
        one = self.pod.add(spec=spec)
        self.assertIn('HugePages_Total:       1\n', self.out(one, "/usr/bin/python3 -c '%s'" % PAGES))
        # The page is charged until the file is gone.
        second = PAGES.replace('/huge/f', '/huge/g')
        died = self.out(one, "/usr/bin/python3 -c '%s' 2>&1; echo exit $?" % second)
        self.assertIn('exit 135\n', died, 'no SIGBUS')
        self.out(one, 'rm /huge/f; rm -f /huge/g')
        self.out(one, "/usr/bin/python3 -c '%s'; rm /huge/g" % second)
        self.pod.end(one)

    def test_a_directory_of_huge_pages_is_one_in_the_VM(self):
        if not os.path.ismount(self.huge):
            self.skipTest('no hugetlbfs')
        self.check(self.huge)

    def test_what_the_VM_does_not_have_is_refused(self):
        for source, text in (('hugepages://1G/x', '1G'), ('hugepages://4M/x', '2M or 1G')):
            with self.subTest(source=source):
                error = self.pod.refused(self.spec(bind(source, '/huge')))
                self.assertIn(text, str(error))
