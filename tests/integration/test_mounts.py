# SPDX-License-Identifier: Apache-2.0
"""Disk images and block devices of the host as mounts of containers."""
import os
import subprocess

from lcowtest.case import only_lcow
from lcowtest.shares import SharesCase

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

    def test_a_block_device_is_mounted(self):
        if not os.path.exists('/dev/loop-control'):
            self.skipTest('no loop devices')
        try:
            loop = run('losetup', '--find', '--show', self.image()).strip()
        except subprocess.CalledProcessError as e:
            self.skipTest('no loop devices: ' + e.stderr)
        self.addCleanup(run, 'losetup', '--detach', loop)
        c = self.add(disk('physical-disk', loop))
        self.assertEqual(self.out(c, 'echo one > /d/f; cat /d/f'), 'one\n')
        self.pod.end(c)
