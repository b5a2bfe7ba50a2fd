# SPDX-License-Identifier: Apache-2.0
"""Root filesystems as containerd's snapshotters give them."""
import os

from lcowtest import image
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
