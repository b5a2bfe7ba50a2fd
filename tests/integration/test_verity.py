# SPDX-License-Identifier: Apache-2.0
"""Layers that are checked by a hash tree, and scratch disks that the host cannot read."""
import json
import os
import shutil
import tempfile

from lcowtest import image, ttrpc, verity
from lcowtest.case import only_lcow
from lcowtest.direct import oci_spec
from lcowtest.pod import PodCase
from lcowtest.sandbox import Member, SandboxVm
from test_rootfs import PROBE, ImageCase, chain

ENCRYPTED = {'io.microsoft.virtualmachine.storage.scratch.encrypted': 'true'}
MISMATCH = 'does not match its hash tree'
MAPPED = 'cat /sys/block/dm-*/dm/name 2>/dev/null || echo none'
BIG = b'big' * 100000


class LayerCase(ImageCase):
    def tree(self):
        """The root tree with a file of many blocks."""
        top = tempfile.mkdtemp(dir=self.dir)
        shutil.copytree(self.bed.root, top, symlinks=True, dirs_exist_ok=True)
        with open(top + '/big', 'wb') as f:
            f.write(BIG)
        return top

    def ext4(self, name='layer.ext4'):
        """A layer with a hash tree: its path, root digest, and where the superblock lies."""
        path = image.ext4(self.path(name), self.tree(), 32, '-b', str(verity.BLOCK))
        return (path, *verity.append(path))

    def erofs(self, name='layer.erofs'):
        path = image.erofs(self.path(name), self.tree())
        return (path, *verity.append(path))

    @staticmethod
    def mount(path, kind, *options):
        return [{'type': kind, 'source': path, 'options': ['ro', 'loop', *options]}]


@only_lcow('elsewhere the host mounts them')
class Verity(LayerCase):
    def test_an_ext4_layer_with_a_hash_tree_is_mounted_through_it(self):
        path, root, _ = self.ext4()
        out = self.output(self.mount(path, 'ext4'), 'sh', '-c', 'cat /etc/layer; wc -c < /big; ' + MAPPED)
        self.assertEqual(out, 'lower\n%d\ndm-verity-scsi-contr0-lun0-p0-%s\n' % (len(BIG), root))

    def test_an_erofs_layer_is_checked_against_the_root_digest_of_its_metadata(self):
        path, root, at = self.erofs()
        option = 'X-containerd.dmverity=' + verity.metadata(path, root, at)
        self.assertEqual(self.output(self.mount(path, 'erofs', option), 'sh', '-c', 'cat /etc/layer; ' + MAPPED),
                         'lower\ndm-verity-scsi-contr0-lun0-p0-%s\n' % root)
        # The same layer, and another tree: it agrees with itself, but it is not the one.
        verity.metadata(path, '%064x' % 1, at)
        self.refused(self.mount(path, 'erofs', option), MISMATCH, 3)

    def test_a_layer_that_should_have_a_hash_tree_and_has_none_is_refused(self):
        path = image.erofs(self.path('plain.erofs'), self.bed.root)
        option = 'X-containerd.dmverity=' + verity.metadata(path, '%064x' % 1, os.stat(path).st_size)
        self.refused(self.mount(path, 'erofs', option), 'no dm-verity superblock', 3)

    def test_a_changed_byte_of_a_file_is_an_error_when_it_is_read(self):
        for make, kind in ((self.ext4, 'ext4'), (self.erofs, 'erofs')):
            with self.subTest(kind):
                path, _, _ = make()
                verity.flip(path, verity.find(path, BIG[:4096]) + 100)
                out = self.output(self.mount(path, kind), 'sh', '-c', 'cat /etc/layer; cat /big 2>&1 >/dev/null || true')
                self.assertEqual(out, 'lower\ncat: read error: Input/output error\n')

    def test_a_changed_byte_that_mounting_looks_at_is_an_error_of_Create(self):
        for make, kind, at in ((self.ext4, 'ext4', 4096 + 8), (self.erofs, 'erofs', 1024 + 48)):
            with self.subTest(kind):
                path, _, _ = make()
                verity.flip(path, at)
                self.refused(self.mount(path, kind), MISMATCH, 2)

    def test_a_changed_byte_of_the_hash_tree_is_an_error(self):
        path, root, at = self.erofs()
        verity.flip(path, at + verity.BLOCK)    # the digest of the first block below the top
        self.refused(self.mount(path, 'erofs'), MISMATCH, 2)
        option = 'X-containerd.dmverity=' + verity.metadata(path, root, at)
        self.refused(self.mount(path, 'erofs', option), 'not %s as demanded' % root, 3)

    def test_a_superblock_that_makes_no_sense_is_an_error_and_no_plain_mount(self):
        path, _, at = self.ext4()
        for text, sb in (('the hash algorithm sha1 is not supported', verity.superblock(8192, b'', b'sha1')),
                         ('do not end at the superblock', verity.superblock(1 << 40, b''))):
            with self.subTest(text):
                with open(path, 'r+b') as f:
                    f.seek(at)
                    f.write(sb)
                self.refused(self.mount(path, 'ext4'), text, 3)

    def test_disks_that_a_file_system_spans_are_checked_as_well(self):
        blobs = self.path('blobs')
        with open(blobs, 'wb') as f:
            f.truncate(4 << 20)
        meta = image.erofs(self.path('meta.erofs'), self.tree(), '--chunksize=4096', '--blobdev=' + blobs)
        root, _ = verity.append(meta)
        rootfs = self.mount(meta, 'erofs', 'device=' + blobs)
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'wc -c < /big; ' + MAPPED),
                         '%d\ndm-verity-scsi-contr0-lun1-p0-%s\n' % (len(BIG), root))

    def test_layers_of_hcsshims_own_form(self):
        for name in ('1', '9'):
            os.mkdir(self.path(name))
        _, root, _ = self.ext4('1/layer.vhd')
        with open(self.path('9/sandbox.vhdx'), 'wb') as f:
            f.truncate(64 << 20)
        rootfs = [{'type': 'lcow-layer', 'source': self.path('9'), 'options': ['parentLayerPaths=' + json.dumps([self.path('1')])]}]
        self.assertEqual(self.output(rootfs, 'sh', '-c', PROBE + '; ' + MAPPED),
                         'lower\nchanged\n/new\ndm-verity-scsi-contr0-lun0-p0-%s\n' % root)


class VmCase(LayerCase, PodCase):
    """Several containers in one VM."""

    def look(self, vm):
        """A container that sees the VM's devices."""
        return self.begin(Member(vm, self.new_id('l'), 'sleep', '1000'))

    def mapped(self, box):
        return self.sh(box, MAPPED).split()

    def run_member(self, vm, rootfs, *command):
        box = Member(vm, self.new_id('m'), *command or ('sleep', '1000'))
        self.addCleanup(box.close)
        box.create(rootfs=rootfs, **box.stdio('stdout'))
        box.call('Start', limit=box.limit)
        return box


@only_lcow('elsewhere the host mounts them')
class VerityInAVm(VmCase):
    def test_a_layer_of_two_containers_is_one_device_until_the_last_has_gone(self):
        path, root, _ = self.erofs()
        vm = self.vm()
        looker = self.look(vm)
        self.assertEqual(self.mapped(looker), ['none'])
        rootfs = self.mount(path, 'erofs')
        first, second = self.run_member(vm, rootfs), self.run_member(vm, rootfs)
        name = self.mapped(looker)
        self.assertEqual(len(name), 1)
        self.assertTrue(name[0].endswith(root), name)
        self.end(first)
        self.assertEqual(self.mapped(looker), name)
        self.assertEqual(self.sh(second, 'wc -c < /big'), str(len(BIG)))
        self.end(second)
        self.assertEqual(self.mapped(looker), ['none'])
        # And again: slot and name are free.
        third = self.run_member(vm, rootfs)
        self.assertEqual(self.mapped(looker), name)
        self.end(third)
        self.assertEqual(self.mapped(looker), ['none'])

    def test_a_layer_that_could_not_be_mounted_leaves_no_device(self):
        path, _, _ = self.erofs()
        vm = self.vm()
        looker = self.look(vm)
        verity.flip(path, 1024 + 48)
        with self.assertRaises(ttrpc.RpcError):
            self.run_member(vm, self.mount(path, 'erofs'))
        self.assertEqual(self.mapped(looker), ['none'])
        verity.flip(path, 1024 + 48)
        self.end(self.run_member(vm, self.mount(path, 'erofs')))


MARKER = b'nobody but the container reads this'
WRITE = 'echo %s > /marker; sync; cat /marker; sleep 1000' % MARKER.decode()


@only_lcow('there is no VM elsewhere')
class EncryptedScratch(VmCase):
    def written(self, annotations):
        """Where the marker that a container has written is in its scratch image, and the devices of its VM."""
        name = self.new_id('e')
        box = self.sandbox(spec=oci_spec(name, 'sh', '-c', WRITE, annotations=annotations))
        box.create(rootfs=self.bed.bind(), **box.stdio('stdout'))
        box.call('Start', limit=box.limit)
        box.streams['stdout'].wait_for(MARKER)
        (image_file,) = (os.path.join(top, f) for top, _, files in os.walk(self.bed.lcow.scratch_dir) for f in files)
        found = verity.find(image_file, MARKER)
        return found, self.sh(box, MAPPED)

    def test_what_a_container_writes_is_not_on_the_host_in_plain_text(self):
        self.assertEqual(self.written(ENCRYPTED), (-1, 'dm-crypt-scsi-contr0-lun0-p0'))

    def test_without_encryption_it_is(self):
        found, mapped = self.written({})
        self.assertGreater(found, 0)
        self.assertEqual(mapped, 'none')

    def encrypted_vm(self):
        vm = SandboxVm(self.bed, self.new_id('v'), {'annotations': ENCRYPTED})
        self.addCleanup(vm.close)
        vm.start_shim()
        vm.boot()
        return vm

    def test_each_container_has_a_device_of_its_own_which_goes_with_it(self):
        vm = self.encrypted_vm()
        looker = self.look(vm)
        own = self.mapped(looker)
        self.assertEqual(len(own), 1)
        first, second = (self.run_member(vm, self.bed.bind()) for _ in range(2))
        self.assertEqual(len(self.mapped(looker)), 3)
        for box in (first, second):
            self.assertEqual(self.sh(box, PROBE), 'lower\nchanged\n/new')
            self.end(box)
        self.assertEqual(self.mapped(looker), own)
        self.end(self.run_member(vm, self.bed.bind()))
        self.assertEqual(self.mapped(looker), own)

    def test_hcsshims_scratch_is_encrypted_and_made_anew(self):
        for name in ('1', '9'):
            os.mkdir(self.path(name))
        image.ext4(self.path('1/layer.vhd'), self.bed.root, 32)
        scratch = image.ext4(self.path('9/sandbox.vhdx'))
        rootfs = [{'type': 'lcow-layer', 'source': self.path('9'), 'options': ['parentLayerPaths=' + json.dumps([self.path('1')])]}]
        box = self.sandbox(spec=oci_spec('h', 'sh', '-c', WRITE, annotations=ENCRYPTED))
        box.create(rootfs=rootfs, **box.stdio('stdout'))
        box.call('Start', limit=box.limit)
        box.streams['stdout'].wait_for(MARKER)
        self.assertEqual(verity.find(scratch, MARKER), -1)

    def test_what_would_be_written_to_the_host_is_refused(self):
        blockfile = self.mount(image.ext4(self.path('root.ext4'), self.bed.root), 'ext4')
        blockfile[0]['options'] = ['rw', 'loop']
        own_layer = chain([image.erofs(self.path('base.erofs'), self.bed.root)], image.ext4(self.path('rw.img')))
        for rootfs in (blockfile, own_layer):
            with self.subTest(rootfs[0]['source']):
                box = self.sandbox(spec=oci_spec('r', 'true', annotations=ENCRYPTED))
                with self.assertRaises(ttrpc.RpcError) as caught:
                    box.create(rootfs=rootfs)
                self.assertEqual((caught.exception.code, 'scratch is to be encrypted' in str(caught.exception)), (9, True))
