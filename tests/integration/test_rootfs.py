# SPDX-License-Identifier: Apache-2.0
"""Root filesystems as containerd's snapshotters give them."""
import hashlib
import json
import os
import shutil
import struct
import subprocess
import tempfile

from lcowtest import debs, image, settings, ttrpc
from lcowtest.case import DirectCase, only_lcow
from lcowtest.direct import Sandbox, oci_spec

PROBE = 'cat /etc/layer && echo changed > /etc/layer && cat /etc/layer && dd if=/dev/zero of=/big bs=1M count=4 2>/dev/null' \
        ' && rm /big && mkdir /new && ls -d /new'
LARGE = 'md5sum < /bin/busybox'


class Rootfs(DirectCase):
    def output(self, rootfs, *command, spec=None):
        box = self.sandbox(*command, spec=spec)
        status = box.run(rootfs=rootfs, **box.stdio('stdout', 'stderr'))
        out, err = (box.streams[s].finish().decode() for s in ('stdout', 'stderr'))
        self.assertEqual(status, 0, out + err)
        box.shutdown()
        return out

    def unchanged(self):
        with open(self.bed.root + '/etc/layer') as f:
            self.assertEqual(f.read(), 'lower\n')
        self.assertFalse(os.path.exists(self.bed.root + '/new'))

    def test_an_overlay_is_writable_and_its_lower_layer_stays_as_it_is(self):
        self.assertEqual(self.output(self.bed.overlay('w'), 'sh', '-c', PROBE), 'lower\nchanged\n/new\n')
        self.unchanged()

    @only_lcow('a bind mount of the host is written through elsewhere')
    def test_a_bind_mount_is_writable_and_its_source_stays_as_it_is(self):
        self.assertEqual(self.output(self.bed.bind(), 'sh', '-c', PROBE), 'lower\nchanged\n/new\n')
        self.unchanged()

    @only_lcow('the upper layer is always the host\'s elsewhere')
    def test_with_upper_host_the_writes_arrive_in_the_hosts_upper_directory(self):
        with self.bed.lcow.set(upper='host'):
            self.assertEqual(self.output(self.bed.overlay('h'), 'sh', '-c', PROBE), 'lower\nchanged\n/new\n')
        with open(os.path.join(self.bed.dir, 'upper', 'h', 'up', 'etc', 'layer')) as f:
            self.assertEqual(f.read(), 'changed\n')
        self.unchanged()

    def test_a_read_only_bind_mount_refuses_writes(self):
        out = self.output(self.bed.bind(options=('rbind', 'ro')), 'sh', '-c', 'cat /etc/layer; echo x > /etc/layer || echo refused')
        self.assertEqual(out, 'lower\nrefused\n')
        self.unchanged()

    def test_an_ext4_image_is_written_in_place(self):
        path = image.ext4(os.path.join(self.bed.dir, 'root.ext4'), self.bed.root)
        rootfs = [{'type': 'ext4', 'source': path, 'options': ['loop', 'rw']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', PROBE), 'lower\nchanged\n/new\n')
        self.assertEqual(self.output(rootfs, 'cat', '/etc/layer'), 'changed\n')
        os.unlink(path)

    def test_an_erofs_image_is_read_only(self):
        path = image.erofs(os.path.join(self.bed.dir, 'root.erofs'), self.bed.root)
        rootfs = [{'type': 'erofs', 'source': path, 'options': ['loop', 'ro']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer; echo x > /etc/layer || echo refused'), 'lower\nrefused\n')
        os.unlink(path)

    def test_a_bundle_that_is_already_populated_needs_no_mounts(self):
        box = self.sandbox('cat', '/etc/layer')
        os.rmdir(box.bundle + '/rootfs')
        image.tree(box.bundle + '/rootfs')
        self.assertEqual(box.run(rootfs=[], **box.stdio('stdout')), 0)
        self.assertEqual(box.streams['stdout'].finish(), b'lower\n')

    def test_nothing_is_mounted_below_the_bundle_after_Delete(self):
        box = self.sandbox('true')
        self.assertEqual(box.run(), 0)
        box.call('Delete')
        with open('/proc/self/mountinfo') as f:
            below = [line.split()[4] for line in f if line.split()[4].startswith(box.bundle + '/')]
        self.assertLessEqual(set(below), {box.bundle + '/rootfs'})


def erofs_mounts(layers):
    return [{'type': 'erofs', 'source': path, 'options': ['ro', 'loop']} for path in layers]


def chain(layers, rwlayer=None):
    """What containerd's erofs snapshotter gives in block mode: layers are images, the topmost first."""
    if rwlayer is None:
        return [*erofs_mounts(layers), {'type': 'format/overlay', 'source': 'overlay',
                                        'options': ['lowerdir={{ overlay 0 %d }}' % (len(layers) - 1)]}]
    return [{'type': 'ext4', 'source': rwlayer, 'options': ['rw', 'loop']}, *erofs_mounts(layers),
            {'type': 'format/mkdir/overlay', 'source': 'overlay', 'options': [
                'X-containerd.mkdir.path={{ mount 0 }}/upper:0755', 'X-containerd.mkdir.path={{ mount 0 }}/work:0755',
                'workdir={{ mount 0 }}/work', 'upperdir={{ mount 0 }}/upper', 'lowerdir={{ overlay 1 %d }}' % len(layers)]}]


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()


def in_ext4(path, directory):
    """Names in a directory of an image."""
    out = subprocess.run(['debugfs', '-R', 'ls -p ' + directory, path], check=True, capture_output=True, text=True,
                         stdin=subprocess.DEVNULL).stdout
    return {line.split('/')[5] for line in out.splitlines() if line.startswith('/')} - {''}


def partitioned(path, images):
    """A disk with an MBR whose partitions hold these images."""
    first, at = bytearray(512), 2048
    first[510:] = b'\x55\xaa'
    with open(path, 'wb') as disk:
        for i, name in enumerate(images):
            with open(name, 'rb') as f:
                data = f.read()
            sectors = -(-len(data) // 512)
            # One of Linux (type 0x83), by its first sector and its length.
            first[446 + 16 * i:462 + 16 * i] = struct.pack('<4xB3xII', 0x83, at, sectors)
            disk.seek(at * 512)
            disk.write(data)
            at += -(-sectors // 2048) * 2048
        disk.truncate(at * 512)
        disk.seek(0)
        disk.write(first)
    return path


class ImageCase(DirectCase):
    """Tests with images in a directory of their own."""

    def setUp(self):
        super().setUp()
        self.dir = tempfile.mkdtemp(dir=self.bed.dir)
        self.addCleanup(shutil.rmtree, self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def base(self):
        return image.erofs(self.path('base.erofs'), self.bed.root)

    def layers(self, n):
        """A base layer and some that have a file each, replace /etc/layer and take away the file of the one below."""
        return [image.erofs_of(self.path('%d.erofs' % i), {'etc/layer': 'layer %d\n' % i, 'only/%d' % i: '%d\n' % i, **(
            {'only/%d' % (i - 2): None} if i > 2 else {})}) for i in range(n, 0, -1)] + [self.base()]

    def output(self, rootfs, *command, **options):
        box = self.sandbox(*command, **options)
        status = box.run(rootfs=rootfs, **box.stdio('stdout', 'stderr'))
        out, err = (box.streams[s].finish().decode() for s in ('stdout', 'stderr'))
        self.assertEqual(status, 0, out + err + box.log[-2000:])
        box.shutdown()
        return out

    def refused(self, rootfs, text, code):
        box = self.sandbox('true')
        with self.assertRaises(ttrpc.RpcError) as caught:
            box.create(rootfs=rootfs)
        self.assertIn(text, str(caught.exception))
        self.assertEqual(caught.exception.code, code)


@only_lcow('the runc shim cannot take them')
class Chains(ImageCase):
    """Images that the guest stacks."""

    def test_an_erofs_chain_in_block_mode_writes_to_its_own_layer_and_keeps_it(self):
        rw = image.ext4(self.path('rw.img'))
        rootfs = chain(self.layers(3), rw)
        out = self.output(rootfs, 'sh', '-c', 'cat /etc/layer; ls /only; echo new > /etc/layer; rm /only/3; echo x > /kept')
        self.assertEqual(out, 'layer 3\n2\n3\n')
        self.assertEqual(in_ext4(rw, '/bundle'), {'.', '..', '.lcow-bundle-on-scratch'})
        # The snapshot goes on in another VM, as after a restart.
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer /kept; ls /only'), 'new\nx\n2\n')

    def test_a_writable_layer_in_a_directory_of_its_image_is_kept(self):
        rootfs = chain(self.layers(1), image.ext4(self.path('rw.img')))
        rootfs[-1]['options'] = [o.replace('{{ mount 0 }}', '{{ mount 0 }}/c') for o in rootfs[-1]['options']]
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer; echo x > /kept'), 'layer 1\n')
        self.assertEqual(self.output(rootfs, 'cat', '/kept'), 'x\n')

    def test_a_chain_without_a_writable_layer_is_a_read_only_root(self):
        out = self.output(chain(self.layers(2)), 'sh', '-c', 'cat /etc/layer; echo x 2>/dev/null > /x || echo refused')
        self.assertEqual(out, 'layer 2\nrefused\n')

    def test_an_image_to_be_made_is_made(self):
        rw = self.path('new.img')
        rootfs = chain(self.layers(1), rw)
        rootfs[0] = {'type': 'mkfs/ext4', 'source': rw, 'options': [
            'X-containerd.mkfs.fs=ext4', 'X-containerd.mkfs.size=67108864', 'rw', 'loop']}
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer; echo 1 > /kept'), 'layer 1\n')
        self.assertEqual(os.stat(rw).st_size, 67108864)
        self.assertEqual(self.output(rootfs, 'cat', '/kept'), '1\n')

    def test_without_layers_the_writable_image_is_the_root(self):
        rw = image.ext4(self.path('rw.img'))
        with tempfile.TemporaryDirectory() as top:
            shutil.copytree(self.bed.root, top + '/upper', symlinks=True)
            rw = image.ext4(rw, top)
        rootfs = [{'type': 'ext4', 'source': rw, 'options': ['rw', 'loop']},
                  {'type': 'format/mkdir/bind', 'source': '{{ mount 0 }}/upper', 'options': [
                      'X-containerd.mkdir.path={{ mount 0 }}/upper:0755', 'rw', 'rbind']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', PROBE), 'lower\nchanged\n/new\n')
        self.assertEqual(self.output(rootfs, 'cat', '/etc/layer'), 'changed\n')

    def test_a_view_of_one_layer_is_bound(self):
        rootfs = [*erofs_mounts([self.base()]), {'type': 'format/bind', 'source': '{{ mount 0 }}', 'options': ['ro', 'rbind']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer; echo x 2>/dev/null > /x || echo refused'),
                         'lower\nrefused\n')

    def test_an_empty_upper_directory_of_the_host_stays_empty(self):
        for name in ('fs', 'work'):
            os.mkdir(self.path(name))
        layers = self.layers(2)
        rootfs = [*erofs_mounts(layers), {'type': 'format/mkdir/overlay', 'source': 'overlay', 'options': [
            'workdir=' + self.path('work'), 'upperdir=' + self.path('fs'), 'lowerdir={{ overlay 0 2 }}']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer; echo x > /x; cat /x'), 'layer 2\nx\n')
        self.assertEqual(os.listdir(self.path('fs')), [])

    def test_a_chain_that_cannot_be_is_refused_by_name_and_leaves_nothing(self):
        self.refused(chain(self.layers(1), self.path('missing.img')), 'missing.img', 3)

    def test_merged_metadata_spans_the_disks_of_layers_that_are_also_mounted_by_themselves(self):
        # What mkfs.erofs of 1.5 can make of it: the chunks of the files on another device.
        blobs = self.path('blobs')
        with open(blobs, 'wb') as f:
            f.truncate(4 << 20)
        meta = image.erofs(self.path('meta.erofs'), self.bed.root, '--chunksize=4096', '--blobdev=' + blobs)
        self.assertLess(os.stat(meta).st_size, os.stat(image.BUSYBOX).st_size)
        rootfs = [{'type': 'erofs', 'source': meta, 'options': ['ro', 'loop', 'device=' + blobs]}]
        top = erofs_mounts(self.layers(1)[:1])
        self.assertEqual(self.output(rootfs, 'cat', '/etc/layer'), 'lower\n')
        rootfs = [*top, *rootfs, {'type': 'format/overlay', 'source': 'overlay', 'options': ['lowerdir={{ overlay 0 1 }}']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer; ' + LARGE), 'layer 1\n' + subprocess.run(
            ['sh', '-c', LARGE.replace('/bin/busybox', image.BUSYBOX)], capture_output=True, text=True, check=True).stdout)

    def test_an_upper_directory_with_something_in_it_is_stacked_on_the_host(self):
        for name in ('fs', 'work'):
            os.mkdir(self.path(name))
        with open(self.path('fs/above'), 'w') as f:
            f.write('above\n')
        rootfs = [*erofs_mounts(self.layers(1)), {'type': 'format/mkdir/overlay', 'source': 'overlay', 'options': [
            'workdir=' + self.path('work'), 'upperdir=' + self.path('fs'), 'lowerdir={{ overlay 0 1 }}']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer /above; echo x > /x; cat /x'), 'layer 1\nabove\nx\n')
        self.assertEqual(os.listdir(self.path('fs')), ['above'])

    def test_a_writable_layer_is_one_containers_at_a_time(self):
        rootfs = chain(self.layers(1), image.ext4(self.path('rw.img')))
        box = self.sandbox('sleep', '1000')
        box.create(rootfs=rootfs)
        self.refused_second(box, rootfs, 'another container\'s writable layer')
        # Nor is it another VM's: QEMU locks it.
        self.refused(rootfs, 'rw.img', 2)

    def second(self, box, rootfs, *command, **fields):
        """Create another container, "second", in the same sandbox."""
        bundle = self.path('second')
        os.makedirs(bundle + '/rootfs')
        with open(bundle + '/config.json', 'w') as f:
            json.dump(oci_spec('second', *command, annotations={
                'io.kubernetes.cri.container-type': 'container', 'io.kubernetes.cri.sandbox-id': box.id}), f)
        box.client.call('Create', id='second', bundle=bundle, rootfs=rootfs, limit=box.limit, **fields)

    def refused_second(self, box, rootfs, text):
        with self.assertRaises(ttrpc.RpcError) as caught:
            self.second(box, rootfs, 'true')
        self.assertIn(text, str(caught.exception))

    def test_layers_that_two_containers_have_are_one_disk_each(self):
        layers = self.layers(2)
        name = self.new_id('p')
        box = Sandbox(self.bed, name, oci_spec(name, 'sleep', '1000', annotations={
            'io.kubernetes.cri.container-type': 'sandbox', 'io.kubernetes.cri.sandbox-id': name}))
        self.addCleanup(box.close)
        box.start_shim()
        box.create(rootfs=chain(layers, image.ext4(self.path('1.img'))))
        self.second(box, chain(layers, image.ext4(self.path('2.img'))), 'sh', '-c', 'cat /etc/layer; ls /sys/block | grep -c sd',
                    **box.stdio('stdout'))
        box.call('Start', id='second', limit=box.limit)
        box.call('Wait', id='second', limit=box.limit)
        # Three layers, and a writable one of each.
        self.assertEqual(box.streams['stdout'].finish(), b'layer 2\n5\n')
        box.call('Delete', id='second', limit=box.limit)


@only_lcow('they are disks')
class Images(ImageCase):
    """Single images and block devices."""

    def test_a_read_only_image_gets_a_scratch_disk(self):
        path = image.ext4(self.path('root.ext4'), self.bed.root)
        before = digest(path)
        rootfs = [{'type': 'ext4', 'source': path, 'options': ['loop', 'ro']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer; echo x 2>/dev/null > /x || echo refused'),
                         'lower\nrefused\n')
        self.assertEqual(digest(path), before)

    def test_a_block_device_is_a_disk(self):
        path = image.ext4(self.path('root.ext4'), self.bed.root)
        done = subprocess.run(['losetup', '--find', '--show', path], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            self.skipTest('no loop device: ' + done.stderr)
        device = done.stdout.strip()
        self.addCleanup(subprocess.run, ['losetup', '--detach', device], check=True, stdin=subprocess.DEVNULL)
        rootfs = [{'type': 'ext4', 'source': device, 'options': []}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', PROBE), 'lower\nchanged\n/new\n')
        self.assertEqual(self.output(rootfs, 'cat', '/etc/layer'), 'changed\n')

    def test_a_full_scratch_disk_says_ENOSPC_and_the_sandbox_goes_on(self):
        with self.bed.lcow.set(scratch='24M'):
            box = self.sandbox('sleep', '1000')
            box.create(rootfs=self.bed.bind())
            box.call('Start', limit=box.limit)
            box.exec('full', 'sh', '-c', 'dd if=/dev/zero of=/big bs=1M count=40; echo $?; rm /big; echo again > /x && cat /x',
                     **box.stdio('stdout', 'stderr', prefix='full'))
            box.call('Wait', exec_id='full', limit=box.limit)
            self.assertEqual(box.streams['fullstdout'].finish(), b'1\nagain\n')
            self.assertIn(b'No space left', box.streams['fullstderr'].finish())
            box.call('Kill', signal=9)
            box.call('Wait', limit=box.limit)
            box.shutdown()
        self.assertEqual(sum(len(files) for _, _, files in os.walk(self.bed.lcow.scratch_dir)), 0)


    def test_the_size_of_the_scratch_disk_is_what_the_container_asks_for(self):
        spec = oci_spec('size', 'sh', '-c', 'df -k / | tail -1', annotations={
            'io.microsoft.container.storage.rootfs.size-gb': '3'})
        kib = int(self.output(self.bed.bind(), spec=spec).split()[1])
        self.assertTrue(2.7 * 2**20 < kib < 3.1 * 2**20, kib)


@only_lcow('it is a disk')
class XfsImages(ImageCase):
    """What a devmapper snapshotter with fs_type = xfs gives."""

    DEBS = [debs.Deb('xfsprogs', 'bookworm'), debs.Deb('liburcu8', 'bookworm')]

    def setUp(self):
        with open(os.path.join(settings.BOOT_FILES, 'manifest.txt')) as f:
            if '/xfs.ko' not in f.read():
                self.skipTest('the boot files were not made with --module xfs')
        super().setUp()

    def test_an_xfs_image_is_written_in_place(self):
        top, libraries = (debs.unpacked(deb) for deb in self.DEBS)
        path = self.path('root.xfs')
        with open(path, 'wb') as f:
            f.truncate(320 << 20)
        done = subprocess.run([top + '/sbin/mkfs.xfs', '-q', path], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              env={'LD_LIBRARY_PATH': libraries + '/usr/lib/x86_64-linux-gnu'})
        self.assertEqual(done.returncode, 0, done.stderr)
        mounted = subprocess.run(['mount', '-t', 'xfs', '-o', 'loop', path, '/mnt'], capture_output=True, text=True,
                                 stdin=subprocess.DEVNULL)
        if mounted.returncode:
            self.skipTest('this kernel has no xfs: ' + mounted.stderr)
        try:
            shutil.copytree(self.bed.root, '/mnt', symlinks=True, dirs_exist_ok=True)
        finally:
            subprocess.run(['umount', '/mnt'], check=True, stdin=subprocess.DEVNULL)
        rootfs = [{'type': 'xfs', 'source': path, 'options': ['nouuid']}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', PROBE), 'lower\nchanged\n/new\n')
        self.assertEqual(self.output(rootfs, 'cat', '/etc/layer'), 'changed\n')


@only_lcow('hcsshim\'s own')
class HcsshimLayers(ImageCase):
    """lcow-layer and lcow-partitioned-layer."""

    def test_folders_of_layers_with_a_scratch_that_stays(self):
        for name, make in (('2', lambda p: image.erofs_of(p, {'etc/layer': 'top\n'})), ('1', lambda p: image.ext4(p, self.bed.root))):
            os.mkdir(self.path(name))
            make(self.path(name) + '/layer.vhd')
        os.mkdir(self.path('9'))
        with open(self.path('9/sandbox.vhdx'), 'wb') as f:
            f.truncate(64 << 20)
        rootfs = [{'type': 'lcow-layer', 'source': self.path('9'),
                   'options': ['parentLayerPaths=' + json.dumps([self.path('2'), self.path('1')])]}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', PROBE), 'top\nchanged\n/new\n')

    def test_layers_that_are_partitions_of_one_disk(self):
        disk = partitioned(self.path('disk.img'), [image.ext4(self.path('p1'), self.bed.root, 32),
                                                   image.erofs_of(self.path('p2'), {'etc/layer': 'second\n'})])
        with open(self.path('scratch.img'), 'wb') as f:
            f.truncate(64 << 20)
        rootfs = [{'type': 'lcow-partitioned-layer', 'source': 'layers', 'options': [
            'scratch=' + self.path('scratch.img'),
            'parent-partitioned-layers=' + json.dumps([{'Path': disk, 'Partition': 2}, {'Path': disk, 'Partition': 1}])]}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', PROBE), 'second\nchanged\n/new\n')

    def test_an_option_that_it_does_not_know_is_refused(self):
        self.refused([{'type': 'lcow-layer', 'source': '/s', 'options': ['other=1']}],
                     'unrecognized lcow-layer mount option: other=1', 9)


@only_lcow('elsewhere the host mounts them')
class HundredLayers(ImageCase):
    """As many as an image may have, in both forms."""

    COUNT = 100
    LOOK = 'cat /etc/layer; ls /only | wc -l; cat /only/1; cat /only/%d' % COUNT

    def test_directories_of_the_host(self):
        lower = []
        for i in range(self.COUNT, 0, -1):
            top = self.path('a-directory-with-a-name-as-long-as-those-of-a-snapshotter/%d/fs' % i)
            for name in ('etc', 'only'):
                os.makedirs(os.path.join(top, name))
            for name, text in (('etc/layer', 'layer %d\n' % i), ('only/%d' % i, '%d\n' % i)):
                with open(os.path.join(top, name), 'w') as f:
                    f.write(text)
            lower.append(top)
        rootfs = self.bed.overlay('hundred')
        rootfs[0]['options'][-1] = 'lowerdir=' + ':'.join([*lower, self.bed.root])
        self.assertGreater(len(rootfs[0]['options'][-1]), 4096)
        self.assertEqual(self.output(rootfs, 'sh', '-c', self.LOOK), 'layer 100\n100\n1\n100\n')

    def test_disks(self):
        layers = [image.erofs_of(self.path('%d.erofs' % i), {'etc/layer': 'layer %d\n' % i, 'only/%d' % i: '%d\n' % i})
                  for i in range(self.COUNT, 0, -1)] + [self.base()]
        out = self.output(chain(layers, image.ext4(self.path('rw.img'))), 'sh', '-c', self.LOOK)
        self.assertEqual(out, 'layer 100\n100\n1\n100\n')
