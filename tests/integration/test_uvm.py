# SPDX-License-Identifier: Apache-2.0
"""uvm/build: what it says when it cannot, and how large its initramfs is. No VM is started."""
import os
import shutil
import subprocess
import tempfile
import unittest

from lcowtest import settings

AGENT = os.path.join(settings.TOP, 'build', 'src', 'gcs', 'lcow-gcs')
ROOM = (17 << 20) - (3 << 19)    # the limit of uvm/build, and 1.5 MiB to grow


class Builder(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def file(self, name, data, mode=0o644):
        path = os.path.join(self.dir, name)
        with open(path, 'wb') as f:
            f.write(data)
        os.chmod(path, mode)
        return path

    def refuses(self, agent, text, path=os.environ['PATH']):
        """The build fails with words and leaves no directory."""
        done = subprocess.run([settings.TOP + '/uvm/build', '--agent', agent, '--out', self.dir + '/out'], env={**os.environ, 'PATH': path},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(text, done.stderr)
        self.assertNotIn('Traceback', done.stderr)
        self.assertFalse(os.path.exists(self.dir + '/out'))

    def test_a_broken_agent_is_refused_in_words(self):
        with open(AGENT, 'rb') as f:
            agent = f.read()
        for data, text in ((b'', 'not a little endian ELF64 file'), (b'#!/bin/sh\n', 'not a little endian ELF64 file'),
                           (agent[:40], 'not a little endian ELF64 file'), (agent[:len(agent) // 2], 'cut off')):
            with self.subTest(length=len(data)):
                path = self.file('agent', data)
                self.refuses(path, path + ': ')
                self.refuses(path, text)
        self.refuses('/bin/sh', 'the agent must be static')
        self.refuses(self.dir + '/none', self.dir + '/none: No such file or directory')
        self.refuses(self.dir, self.dir + ': Is a directory')

    def test_packages_that_cannot_be_fetched_are_told_in_words(self):
        folder = os.path.dirname(self.file('apt-get', b'#!/bin/sh\necho "E: Failed to fetch: 404  Not Found" >&2\nexit 100\n', 0o755))
        self.refuses(AGENT, 'E: Failed to fetch', folder + ':' + os.environ['PATH'])
        self.refuses(AGENT, 'is apt-get update needed', folder + ':' + os.environ['PATH'])

    def test_the_initramfs_has_room_to_grow(self):
        self.assertLessEqual(os.stat(settings.BOOT_FILES + '/initrd.img').st_size, ROOM)
