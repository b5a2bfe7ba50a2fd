# SPDX-License-Identifier: Apache-2.0
"""What a machine leaves behind: scratch images without their record, wrong directories, commands that people give."""
import contextlib
import fcntl
import os
import re
import shutil
import struct
import subprocess
import time

from lcowtest import proc, settings, ttrpc
from lcowtest.case import Case, CtrCase, DirectCase, only_lcow, shared
from lcowtest.containerd import DEBS as VERSIONS
from lcowtest.cri import Cri, Pod
from lcowtest.direct import oci_spec

SHIM = settings.shim_binary() or 'containerd-shim-lcow-v2'
KEY = '0123456789abcdef' * 2
F_OFD_GETLK = 36
ENCRYPTED = {'io.microsoft.virtualmachine.storage.scratch.encrypted': 'true'}


def shim(*arguments, **options):
    options = {'stdin': subprocess.DEVNULL, 'capture_output': True, 'text': True, 'timeout': settings.QUICK_LIMIT, **options}
    return subprocess.run([SHIM, *arguments], **options)


class Left(DirectCase):
    """What the tests below share."""

    def dead(self, name='lcow-' + KEY):
        """The images of a sandbox that went down with its host."""
        directory = os.path.join(self.bed.lcow.scratch_dir, name)
        os.makedirs(directory)
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        with open(directory + '/c1.img', 'wb') as f:
            f.truncate(10 << 30)
        return directory

    def eventually(self, true, message):
        end = time.monotonic() + settings.QUICK_LIMIT
        while not true():
            self.assertLess(time.monotonic(), end, message)
            time.sleep(0.02)

    def gone(self, path):
        self.eventually(lambda: not os.path.exists(path), path + ' is still there')

    def sweep(self):
        done = shim('sweep', env={**os.environ, 'LCOW_CONFIG': self.bed.lcow.path})
        self.assertEqual((done.returncode, done.stdout), (0, ''), done.stderr)
        return done.stderr

    def image_of(self, box):
        [path] = [os.path.join(top, f) for top, _, files in os.walk(self.bed.lcow.scratch_dir) for f in files if f == box.id + '.img']
        return path

    def running(self):
        box = self.sandbox('sleep', '1000')
        box.create(rootfs=self.bed.bind())
        box.call('Start', limit=box.limit)
        return box

    def sh(self, box, exec_id, command):
        box.exec(exec_id, 'sh', '-c', command, **box.stdio('stdout', prefix=exec_id))
        self.assertEqual(box.call('Wait', exec_id=exec_id, limit=box.limit)['exit_status'], 0)
        return box.streams[exec_id + 'stdout'].finish().decode()


@only_lcow('scratch disks')
class Scratch(Left):
    def test_images_without_a_sandbox_go_with_the_next_start(self):
        directory, other = self.dead(), self.dead('somebody')
        box = self.sandbox('true')
        self.gone(directory)
        self.assertTrue(os.path.exists(other + '/c1.img'))
        self.eventually(lambda: re.search('level=info .*removed what 1 ended sandboxes had left', box.log), 'nothing in the log')

    def test_images_without_a_sandbox_go_with_the_next_delete(self):
        box = self.sandbox('true')
        directory, other = self.dead(), self.dead('somebody')
        code, _, err = box.delete_command()
        self.assertEqual(code, 0, err)
        self.assertFalse(os.path.exists(directory))
        self.assertTrue(os.path.exists(other + '/c1.img'))

    def test_images_of_a_live_sandbox_with_another_run_directory_stay(self):
        box = self.running()
        image, directory = self.image_of(box), self.dead()
        os.mkdir(self.bed.dir + '/run2')
        self.addCleanup(shutil.rmtree, self.bed.dir + '/run2')
        with self.bed.lcow.set(run_dir=self.bed.dir + '/run2'):
            second = self.sandbox('true')
            self.gone(directory)
            directory = self.dead()
            code, _, err = second.delete_command()
            self.assertEqual(code, 0, err)
            self.assertFalse(os.path.exists(directory))
            self.assertEqual(self.sweep(), '')
        self.assertTrue(os.path.exists(image))
        self.assertEqual(self.sh(box, 'e', 'echo kept > /f; sync; cat /f'), 'kept\n')

    def test_a_live_VM_has_locked_its_images_itself(self):
        # So those of a shim of before the lock of the directory are seen to be in use, too.
        box = self.running()
        with open(self.image_of(box), 'rb') as f:
            found = fcntl.fcntl(f, F_OFD_GETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        self.assertNotEqual(struct.unpack('hhqqi4x', found)[0], fcntl.F_UNLCK)

    def test_images_of_a_killed_shim_go_although_its_record_has_gone(self):
        box = self.running()
        directory, records = os.path.dirname(self.image_of(box)), os.listdir(self.bed.lcow.run_dir)
        self.assertEqual(self.sweep(), '')
        self.assertTrue(os.path.exists(directory))
        [vm] = proc.running('qemu-system')
        box.kill_shim()
        proc.wait_gone(box.shim_pid, settings.QUICK_LIMIT)
        proc.wait_gone(vm, settings.QUICK_LIMIT)
        # What is left after a power cut; the rest is here only because the kernel goes on.
        away = self.bed.dir + '/records'
        os.rename(self.bed.lcow.run_dir, away)
        os.mkdir(self.bed.lcow.run_dir)
        try:
            self.assertRegex(self.sweep(), 'removed what 1 ended sandboxes had left')
            self.assertFalse(os.path.exists(directory))
        finally:
            os.rmdir(self.bed.lcow.run_dir)
            os.rename(away, self.bed.lcow.run_dir)
        self.assertEqual(records, os.listdir(self.bed.lcow.run_dir))

    def test_a_run_directory_tells_whose_it_is(self):
        box = self.sandbox('true')
        [directory] = (e.path for e in os.scandir(self.bed.lcow.run_dir) if e.is_dir())
        with open(directory + '/id') as one, open(directory + '/namespace') as other:
            self.assertEqual((one.read(), other.read()), (box.id + '\n', box.namespace + '\n'))


@only_lcow('configuration')
class Wrong(Left):
    """Directories and files of lcow.conf that cannot be used are named, and harm nobody who comes later."""

    @contextlib.contextmanager
    def mounted(self, *options):
        directory = os.path.join(self.bed.dir, self.new_id('m'))
        os.mkdir(directory)
        subprocess.run(['mount', '-t', 'tmpfs', *options, 'tmpfs', directory], check=True, stdin=subprocess.DEVNULL)
        try:
            yield directory
        finally:
            subprocess.run(['umount', directory], check=True, stdin=subprocess.DEVNULL)
            os.rmdir(directory)

    def start_fails(self, box, *texts, **config):
        with self.bed.lcow.set(**config):
            code, out = box.start_command()
            deleted, _, err = box.delete_command()
            self.assertNotEqual(code, 0, out)
            for text in texts:
                self.assertIn(text, out.decode())
            self.assertEqual(deleted, 0, err)

    def test_a_wrong_scratch_dir_is_named_and_the_id_can_be_used_again(self):
        box = self.sandbox('true', start=False)
        with self.mounted('-o', 'ro') as read_only:
            for path in ('/etc/passwd', '/proc/nope', read_only):
                with self.subTest(path):
                    self.start_fails(box, 'scratch_dir', path, scratch_dir=path)
        for path in ('', 'here', '/a/../b'):
            with self.subTest(path):
                self.start_fails(box, 'scratch_dir = %s' % path, 'line', 'an absolute path', scratch_dir=path)
        self.assertEqual(box.start_shim().run(), 0)

    def test_a_wrong_run_dir_is_named_and_the_id_can_be_used_again(self):
        box = self.sandbox('true', start=False)
        with self.mounted('-o', 'ro') as read_only:
            for path in ('/etc/passwd', '/proc/nope', read_only):
                with self.subTest(path):
                    self.start_fails(box, 'run_dir' if path != read_only else 'run directory', path, run_dir=path)
        for path in ('', 'here'):
            with self.subTest(path):
                self.start_fails(box, 'run_dir = %s' % path, 'line', 'an absolute path', run_dir=path)
        self.assertEqual(box.start_shim().run(), 0)

    def test_wrong_boot_files_and_wrong_programs_are_named_and_the_id_can_be_used_again(self):
        empty = os.path.join(self.bed.dir, 'empty')
        os.mkdir(empty)
        self.addCleanup(os.rmdir, empty)
        box = self.sandbox('true', start=False)
        for key, path in (('boot_files', '/etc/passwd'), ('boot_files', '/proc/nope'), ('boot_files', empty),
                          ('qemu', '/etc/passwd'), ('qemu', '/etc'), ('qemu', 'no-such-qemu'), ('qemu', '/bin/true'),
                          ('vhost_device_vsock', '/bin/true')):
            transport = {'transport': 'vhost-user-vsock'} if key == 'vhost_device_vsock' else {}
            with self.subTest(key=key, path=path), self.bed.lcow.set(**{key: path}, **transport):
                box.start_shim()
                with self.assertRaises(ttrpc.RpcError) as e:
                    box.create()
                code, _, err = box.delete_command()
                self.assertEqual(code, 0, err)
                self.assertIn(key, e.exception.message)
                if not transport:
                    self.assertIn(path, e.exception.message)
        self.assertEqual(box.start_shim().run(), 0)

    def test_a_host_without_room_for_scratch_fails_Create_at_once(self):
        for annotations in ({}, ENCRYPTED):
            with self.subTest(annotations), self.mounted('-o', 'size=64k') as small, self.bed.lcow.set(scratch_dir=small):
                container = self.new_id('s')
                box = self.sandbox(spec=oci_spec(container, 'true', annotations=annotations))
                with self.assertRaises(ttrpc.RpcError) as e:
                    box.create(rootfs=self.bed.bind(), limit=settings.BOOT_LIMIT)
                self.assertRegex(e.exception.message, 'No space left|I/O error|Input/output error')
                if not annotations:
                    self.assertEqual(e.exception.code, ttrpc.EXHAUSTED)
                    self.assertIn(small, e.exception.message)
                box.close()
                self._cleanups = [c for c in self._cleanups if getattr(c[0], '__self__', None) is not box]
                self.assertEqual(os.listdir(small), [])

    def test_a_host_that_runs_out_of_room_fails_the_write_and_the_VM_goes_on(self):
        with self.mounted('-o', 'size=32M') as small, self.bed.lcow.set(scratch_dir=small):
            box = self.running()
            out = self.sh(box, 'e', 'dd if=/dev/zero of=/big bs=1M count=64 conv=fsync >/dev/null 2>&1; echo $?')
            self.assertEqual(out, '1\n')
            self.assertEqual(self.sh(box, 'f', 'echo still here'), 'still here\n')
            box.close()
            self._cleanups = [c for c in self._cleanups if getattr(c[0], '__self__', None) is not box]

    def test_KVM_that_is_asked_for_and_does_not_work_is_told(self):
        broken = os.path.exists('/sys/module/kvm_pvm')
        if os.path.exists('/dev/kvm') and not broken:
            self.skipTest('KVM may work here')
        verdict = os.path.join(self.bed.lcow.run_dir, 'accel')
        with self.bed.lcow.set(accel='kvm'):
            box = self.sandbox('true')
            with self.assertRaises(ttrpc.RpcError) as e:
                box.create()
        self.assertEqual(e.exception.code, ttrpc.UNAVAILABLE)
        self.assertRegex(e.exception.message, 'accel = kvm, but KVM does not work here .*: ' +
                         ("KVM does not run the guest's kernel here: " if broken else '/dev/kvm: No such file'))
        self.assertEqual(os.path.exists(verdict), broken)
        if broken:
            os.unlink(verdict)


@only_lcow('configuration')
class ThroughCtr(CtrCase):
    def test_ctr_shows_which_directory_is_wrong_and_runs_the_same_container_when_it_is_mended(self):
        container = self.new_id()
        self.addCleanup(self.remove, container)
        for key in ('scratch_dir', 'run_dir'):
            for path in ('/etc/passwd', '/proc/nope'):
                with self.subTest(key=key, path=path), self.cd.lcow.set(**{key: path}):
                    result = self.cd.run(container, 'true')
                    self.assertNotEqual(result.code, 0)
                    self.assertRegex(result.err, '%s: make %s' % (key, path))
                    self.cd.ctr('container', 'rm', container)
        self.check(self.cd.run(container, 'true'))


class Command(DirectCase):
    """What people type."""

    @only_lcow('usage')
    def test_help_is_printed_for_whoever_asks_and_is_no_failure(self):
        for flag in ('--help', '-help', '-h', 'help'):
            done = shim(flag)
            self.assertEqual((done.returncode, done.stderr), (0, ''))
            for word in ('start', 'delete', 'sweep', '-info', 'lcow.conf(5)', 'ctr run'):
                self.assertIn(word, done.stdout)

    @only_lcow('usage')
    def test_what_is_wrong_is_answered_with_where_to_look(self):
        for arguments in ((), ('--frobnicate',), ('-namespace', 'n', '-id', 'i', 'restart'), ('-namespace', 'n', '-id', 'i', 'start', 'x')):
            done = shim(*arguments)
            self.assertEqual((done.returncode, done.stdout), (1, ''))
            self.assertIn('containerd-shim-lcow-v2 --help', done.stderr)

    def test_an_answer_that_cannot_be_written_is_a_failure(self):
        for flag in ('-v', '-version', '-info', '--help') if settings.IS_LCOW else ('-info',):
            with open('/dev/full', 'w') as full:
                done = shim(flag, capture_output=False, stdout=full, stderr=subprocess.PIPE)
            self.assertNotEqual(done.returncode, 0, flag)
            self.assertIn('No space left', done.stderr if settings.IS_LCOW else 'No space left')

    @only_lcow('it starts there')
    def test_start_in_what_is_no_bundle_fails_and_leaves_nothing(self):
        directory = os.path.join(self.bed.dir, 'nowhere')
        os.mkdir(directory)
        self.addCleanup(os.rmdir, directory)
        done = shim('-namespace', 'direct', '-id', 'nobody', '-address', self.bed.address, 'start', cwd=directory,
                    env={**os.environ, 'LCOW_CONFIG': self.bed.lcow.path})
        self.assertEqual((done.returncode, done.stdout), (1, ''))
        self.assertIn(directory + ' is no bundle', done.stderr)
        self.assertEqual(os.listdir(directory), [])


def complaints(log):
    """Lines of the shim and of its agent above info, and what containerd says of the delete command's own."""
    return [line for line in log.splitlines() if re.search(r'level="?(warn|error|fatal)', line) and
            re.search('sandbox=|cleanup warnings|failed to clean up', line)]


@only_lcow('its log')
class QuietTask(CtrCase):
    maxDiff = None

    def test_a_good_run_complains_of_nothing(self):
        before = len(self.cd.log())
        self.check(self.cd.run(self.new_id('q'), 'sh', '-c', 'echo x > /f; cat /f'))
        self.assertEqual(complaints(self.cd.log()[before:]), [])


@only_lcow('its log')
class QuietPod(Case):
    maxDiff = None
    version, handler = '1.6', 'pod'

    def prepare(self):
        self.cd = shared('cri ' + self.version)
        self.cri = Cri(self.cd, self.handler)
        self.addCleanup(self.cri.close)

    def test_a_good_pod_complains_of_nothing(self):
        before = len(self.cd.log())
        pod = Pod(self.cri, self.new_id('p'))
        self.addCleanup(shutil.rmtree, pod.logs, ignore_errors=True)
        self.addCleanup(pod.remove)
        pod.run()
        container = pod.start('c')
        self.assertEqual(container.exec('echo', 'x')[:2], (0, 'x\n'))
        pod.remove()
        self.assertEqual(complaints(self.cd.log()[before:]), [])


class QuietShimSandbox(QuietPod):
    version, handler = '2.1', 'shim'
    DEBS = [VERSIONS[version]]
