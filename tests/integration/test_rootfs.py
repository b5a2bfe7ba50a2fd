# SPDX-License-Identifier: Apache-2.0
"""Root filesystems as containerd's snapshotters give them."""
import os
import shutil
import tempfile

from lcowtest import image, ttrpc
from lcowtest.case import DirectCase, only_lcow

PROBE = 'cat /etc/layer && echo changed > /etc/layer && cat /etc/layer && dd if=/dev/zero of=/big bs=1M count=4 2>/dev/null' \
        ' && rm /big && mkdir /new && ls -d /new'
LARGE = 'head -c 1000 /bin/busybox | cksum'


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
        # The snapshot goes on in another VM, as after a restart.
        self.assertEqual(self.output(rootfs, 'sh', '-c', 'cat /etc/layer /kept; ls /only'), 'new\nx\n2\n')

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
