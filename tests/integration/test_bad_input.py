# SPDX-License-Identifier: Apache-2.0
"""Bad input and missing parts: a clear error, the right code, at once, and nothing left behind."""
import gzip
import os
import re
import shutil
import time

from lcowtest import image, pb, proc, settings, ttrpc
from lcowtest.case import CtrCase, DirectCase, only_lcow
from lcowtest.direct import oci_spec


class Create(DirectCase):
    def refused(self, box, *codes, rootfs=None, text='', limit=None, **fields):
        """Create fails with one of the codes (of lcow), its text matching, and no VM stays."""
        begin = time.monotonic()
        with self.assertRaises(ttrpc.RpcError) as e:
            box.create(rootfs=rootfs, **fields)
        seconds = time.monotonic() - begin
        self.assertRegex(e.exception.message, re.compile(text, re.I | re.S))
        if settings.IS_LCOW:
            self.assertIn(e.exception.code, codes, e.exception.message)
            self.assertLess(seconds, (limit or 20) * settings.SLOW)
        # What containerd does with a task that could not be created.
        try:
            box.client.send(box.client.task, 'Shutdown', pb.encode(pb.TASK['Shutdown'][0], {'id': box.id})).result(10)
        except ttrpc.Closed:
            pass
        code, _, err = box.delete_command()
        self.assertEqual(code, 0, err)
        self.assertEqual(proc.running('qemu-system'), [])
        return e.exception

    def test_a_config_that_is_no_JSON(self):
        box = self.sandbox(start=False)
        box.write_config('{"process": {"args": ["true"')
        code, out = box.start_command()
        if code:
            self.assertTrue(out.strip(), 'start failed without a word')
            return
        box.address = out.decode()
        box.connect()
        self.refused(box, ttrpc.INVALID, text='json|config|unexpected')

    def test_a_config_with_a_field_of_the_wrong_type_names_the_field(self):
        container = self.new_id('s')
        spec = oci_spec(container, 'true')
        spec['process']['args'] = 'true'
        box = self.sandbox(spec=spec)
        self.refused(box, ttrpc.INVALID, text='args')

    def test_a_config_without_a_process(self):
        container = self.new_id('s')
        spec = oci_spec(container, 'true')
        del spec['process']
        self.refused(self.sandbox(spec=spec), ttrpc.INVALID, text='process')

    @only_lcow('runc makes what is left of it')
    def test_a_cgroup_that_is_no_path(self):
        for bad in ('/a/../../b', '/a//b', 'a--b.slice:p:n', '/' + 'x' * 300):
            with self.subTest(bad=bad):
                spec = oci_spec(self.new_id('s'), 'true')
                spec['linux']['cgroupsPath'] = bad
                self.refused(self.sandbox(spec=spec), ttrpc.INVALID, text='cgroup "')

    def test_no_config_at_all(self):
        box = self.sandbox(start=False)
        os.unlink(box.bundle + '/config.json')
        code, out = box.start_command()
        if code:
            self.assertTrue(out.strip(), 'start failed without a word')
            return
        box.address = out.decode()
        box.connect()
        self.refused(box, ttrpc.NOT_FOUND, ttrpc.INVALID, text='config.json')

    def test_a_root_filesystem_whose_source_is_missing(self):
        self.refused(self.sandbox(), ttrpc.NOT_FOUND, ttrpc.INVALID, rootfs=self.bed.bind('/no/such/rootfs'),
                     text='no such file|/no/such/rootfs')

    def test_an_image_file_that_is_missing(self):
        self.refused(self.sandbox(), ttrpc.NOT_FOUND, ttrpc.INVALID,
                     rootfs=[{'type': 'ext4', 'source': '/no/such/image', 'options': ['loop', 'rw']}], text='no such|/no/such/image')

    def test_an_image_file_that_holds_no_filesystem(self):
        path = os.path.join(self.bed.dir, 'zeros')
        with open(path, 'wb') as f:
            f.truncate(8 << 20)
        self.addCleanup(os.unlink, path)
        self.refused(self.sandbox(), ttrpc.INVALID, ttrpc.PRECONDITION, ttrpc.UNKNOWN, ttrpc.INTERNAL,
                     rootfs=[{'type': 'ext4', 'source': path, 'options': ['loop', 'rw']}], text='mount|ext4')

    def test_a_mount_type_that_is_not_supported(self):
        self.refused(self.sandbox(), ttrpc.INVALID, ttrpc.UNIMPLEMENTED,
                     rootfs=[{'type': 'nosuchfs', 'source': 'none', 'options': []}], text='nosuchfs|no such device')

    @only_lcow('the stock shim passes them to mount(2)')
    def test_a_mount_option_of_containerd_that_nobody_consumed(self):
        self.refused(self.sandbox(), ttrpc.INVALID, ttrpc.UNIMPLEMENTED, text='X-containerd',
                     rootfs=[{'type': 'bind', 'source': self.bed.root, 'options': ['rbind', 'X-containerd.what=1']}])

    def test_a_command_that_does_not_exist_fails_at_Create_by_name(self):
        self.refused(self.sandbox('/no/such/command'), ttrpc.NOT_FOUND, ttrpc.INVALID, ttrpc.UNKNOWN, ttrpc.PRECONDITION,
                     ttrpc.INTERNAL, text='/no/such/command')

    def test_a_working_directory_that_is_a_file(self):
        container = self.new_id('s')
        spec = oci_spec(container, 'true')
        spec['process']['cwd'] = '/etc/passwd'
        with self.assertRaises(ttrpc.RpcError):
            box = self.sandbox(spec=spec)
            box.create()
            box.call('Start')

    @only_lcow('runc refuses options that it does not know')
    def test_options_of_an_unknown_type_are_ignored_by_Create(self):
        box = self.sandbox('true')
        self.assertEqual(box.run(options={'type_url': 'example.com/unheard.of', 'value': b'\xff\xff'}), 0)

    @only_lcow('ids become paths')
    def test_ids_that_climb_out_of_their_directory_are_refused(self):
        box = self.sandbox()
        for bad in ('../../etc', 'a/b', '', '.', 'x' * 300):
            with self.subTest(id=bad):
                with self.assertRaises(ttrpc.RpcError) as e:
                    box.client.call('Create', id=bad, bundle=box.bundle, rootfs=self.bed.bind())
                self.assertEqual(e.exception.code, ttrpc.INVALID)


@only_lcow('no VM')
class Vm(Create):
    """The parts that a VM is made of, missing or broken."""

    def boot_dir(self):
        """A copy of the boot files: kernel as a link, everything else for real."""
        directory = os.path.join(self.bed.dir, self.new_id('boot'))
        shutil.copytree(settings.BOOT_FILES, directory)
        self.addCleanup(shutil.rmtree, directory)
        return directory

    def part(self, directory, key):
        """A file that boot.conf names."""
        with open(directory + '/boot.conf') as f:
            found = re.search(r'(?m)^\s*%s\s*=\s*(\S+)' % key, f.read())
        self.assertTrue(found, 'boot.conf names no ' + key)
        return os.path.join(directory, found.group(1))

    def fails(self, *codes, text='', limit=None, **config):
        with self.bed.lcow.set(**config):
            return self.refused(self.sandbox('true'), *codes, text=text, limit=limit)

    def test_a_QEMU_that_is_missing(self):
        self.fails(ttrpc.NOT_FOUND, ttrpc.PRECONDITION, ttrpc.UNAVAILABLE, qemu='/nonexistent/qemu', text='/nonexistent/qemu', limit=5)

    def test_a_QEMU_that_ends_at_once_shows_what_it_said(self):
        path = os.path.join(self.bed.dir, 'bad-qemu')
        with open(path, 'w') as f:
            f.write('#!/bin/sh\necho "this build has no devices" >&2\nexit 1\n')
        os.chmod(path, 0o755)
        self.addCleanup(os.unlink, path)
        self.fails(ttrpc.UNAVAILABLE, ttrpc.PRECONDITION, qemu=path, text='no devices', limit=10)

    def test_boot_files_that_are_missing(self):
        self.fails(ttrpc.NOT_FOUND, ttrpc.PRECONDITION, boot_files='/nonexistent/uvm', text='/nonexistent/uvm', limit=5)

    def test_a_boot_conf_without_its_kernel(self):
        directory = self.boot_dir()
        os.unlink(self.part(directory, 'kernel'))
        self.fails(ttrpc.NOT_FOUND, ttrpc.PRECONDITION, boot_files=directory, text=os.path.basename(self.part(directory, 'kernel')), limit=5)

    def test_a_kernel_that_is_no_kernel(self):
        directory = self.boot_dir()
        with open(self.part(directory, 'kernel'), 'wb') as f:
            f.write(b'not a kernel\n' * 1000)
        self.fails(ttrpc.INVALID, ttrpc.PRECONDITION, ttrpc.UNAVAILABLE, boot_files=directory, text='kernel', limit=10)

    def test_a_kernel_that_panics_shows_its_last_lines(self):
        directory = self.boot_dir()
        with open(self.part(directory, 'initrd'), 'wb') as f:
            f.write(gzip.compress(image.cpio({'nothing': (0o100644, b'x')}), mtime=0))
        self.fails(ttrpc.UNAVAILABLE, boot_files=directory, text='panic', limit=40)

    def test_an_agent_that_dies_at_its_start(self):
        directory = self.boot_dir()
        with open(image.BUSYBOX, 'rb') as f:
            busybox = f.read()
        with open(directory + '/boot.conf') as f:
            names = set(re.findall(r'rdinit=/(\S+)', f.read())) | {'init'}
        script = b'#!/busybox sh\necho the agent gives up\nexit 3\n'
        with open(self.part(directory, 'initrd'), 'wb') as f:
            f.write(gzip.compress(image.cpio({'busybox': (0o100755, busybox), **{n: (0o100755, script) for n in names}}), 1, mtime=0))
        self.fails(ttrpc.UNAVAILABLE, boot_files=directory, text='panic|kill init|agent', limit=40)

    def test_memory_that_the_host_does_not_have(self):
        self.fails(ttrpc.EXHAUSTED, ttrpc.UNAVAILABLE, memory='900G', text='memory', limit=10)

    def test_a_configuration_with_an_unknown_value_names_it(self):
        with self.bed.lcow.set(accel='steam'):
            box = self.sandbox('true', start=False)
            code, out = box.start_command()
            if code == 0:
                box.address = out.decode()
                box.connect()
                self.refused(box, ttrpc.INVALID, text='accel.*steam|steam.*accel')
            else:
                self.assertRegex(out.decode(), 'steam')


# The tests of Create run once, not again in the class that only takes its methods.
for _name in [n for n in dir(Create) if n.startswith('test_')]:
    setattr(Vm, _name, None)


@only_lcow('no VM')
class ThroughCtr(CtrCase):
    def test_ctr_shows_that_QEMU_is_missing_and_nothing_stays(self):
        container = self.new_id()
        self.addCleanup(self.remove, container)
        with self.cd.lcow.set(qemu='/nonexistent/qemu'):
            result = self.cd.run(container, 'true', options=())
        self.assertNotEqual(result.code, 0)
        self.assertIn('/nonexistent/qemu', result.err)

    def test_ctr_shows_that_the_boot_files_are_missing_and_nothing_stays(self):
        container = self.new_id()
        self.addCleanup(self.remove, container)
        with self.cd.lcow.set(boot_files='/nonexistent/uvm'):
            result = self.cd.run(container, 'true', options=())
        self.assertNotEqual(result.code, 0)
        self.assertIn('/nonexistent/uvm', result.err)


