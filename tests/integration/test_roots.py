# SPDX-License-Identifier: Apache-2.0
"""What tests/roots/run does before there is a root: tests have no network to make one."""
import importlib.machinery
import importlib.util
import os
import subprocess
import tempfile
import unittest

from lcowtest import settings

RUN = os.path.join(settings.TOP, 'tests', 'roots', 'run')

ONE_LINE = '''# deb http://example.com/commented/debian bookworm main
deb http://example.com/one/debian bookworm main contrib
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://example.com/one/debian bookworm-updates main
deb-src http://example.com/one/debian bookworm main
  deb http://example.com/one/debian-security   bookworm-security main # the last one
deb http://example.com/one/debian bookworm-backports main
'''
DEB822 = '''# A comment
Types: deb deb-src
URIs: http://example.com/two/debian
# and one in between
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://example.com/two/debian-security
Suites:
 bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://example.com/off/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://example.com/source/debian
Suites: bookworm
Components: main
'''


def load():
    """The script as a module."""
    loader = importlib.machinery.SourceFileLoader('roots_run', RUN)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('roots_run', loader))
    loader.exec_module(module)
    return module


class Roots(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(subprocess.run, ['rm', '-rf', self.dir], check=True)
        self.roots = load()

    def configured(self, **files):
        os.makedirs(self.dir + '/sources.list.d')
        for name, text in files.items():
            with open(os.path.join(self.dir, {'list': 'sources.list', 'more': 'sources.list.d/more.list',
                                              'stanzas': 'sources.list.d/debian.sources'}[name]), 'w') as f:
                f.write(text)
        with open(self.dir + '/sources.list.d/debian.sources.save', 'w') as f:
            f.write('deb http://example.com/saved/debian bookworm main\n')
        return self.roots.configured(self.dir)

    def test_the_machine_s_sources_are_taken_in_both_forms_with_the_other_Debian_s_name(self):
        def of(name):
            return [('http://example.com/%s/debian' % name, 'trixie'), ('http://example.com/%s/debian' % name, 'trixie-updates'),
                    ('http://example.com/%s/debian-security' % name, 'trixie-security')]
        entries = self.configured(list=ONE_LINE, stanzas=DEB822)
        both = self.roots.mirrors(entries, 'bookworm', 'trixie')
        # The archive is what debootstrap is given: first.
        self.assertEqual(both[0], of('one')[0])
        self.assertEqual(sorted(both), sorted(of('one') + of('two')))
        self.assertEqual(self.roots.mirrors(list(self.roots.one_line(ONE_LINE)), 'bookworm', 'trixie'), of('one'))
        self.assertEqual(self.roots.mirrors(list(self.roots.deb822(DEB822)), 'bookworm', 'trixie'), of('two'))

    def test_without_a_source_of_this_Debian_there_is_no_other_one(self):
        entries = self.configured(more='deb http://example.com/tools/apt any main\n')
        self.assertEqual(entries, [('http://example.com/tools/apt', 'any')])
        with self.assertRaises(self.roots.Trouble) as e:
            self.roots.mirrors(entries, 'bookworm', 'trixie')
        self.assertEqual(e.exception.code, 77)
        self.assertNotIn('example.com', str(e.exception))

    def test_words_about_trouble_hold_no_password(self):
        words = 'E: http://%sexample.com/debian is not there'
        self.assertEqual(str(self.roots.Trouble(words % 'me:secret@')), words % '')

    def run_roots(self, *args):
        return subprocess.run([RUN, '--cache', self.dir + '/cache', *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=settings.BOOT_LIMIT)

    def test_where_nothing_can_be_fetched_it_says_so_with_77_and_leaves_nothing(self):
        done = self.run_roots('--debian', '13', 'echo', 'it ran')
        self.assertEqual((done.returncode, done.stdout), (77, ''), done.stderr)
        self.assertRegex(done.stderr, 'nothing can be fetched|apt has no source')
        self.assertEqual([name for _, _, names in os.walk(self.dir + '/cache') for name in names if name != 'lock'], [])

    def test_a_cache_within_the_clone_is_refused(self):
        inside = os.path.join(settings.TOP, 'build', 'roots')
        done = self.run_roots('--cache', inside, '--debian', '13', 'true')
        self.assertEqual(done.returncode, 125)
        self.assertIn(inside + ' is in the tree', done.stderr)
        self.assertFalse(os.path.exists(inside))
