# SPDX-License-Identifier: Apache-2.0
"""make install and make uninstall, with a PREFIX of their own and with DESTDIR."""
import glob
import json
import os
import shutil
import subprocess
import unittest

from lcowtest import case, settings
from lcowtest.containerd import Containerd

# Of what was compiled nearly all does for another PREFIX, so a copy is configured anew instead of compiling everything.
COPY = os.path.join(settings.TOP, 'build-install')


def option(name):
    """An option of the build that is tested."""
    with open(settings.BUILD + '/meson-info/intro-buildoptions.json') as f:
        return next(o['value'] for o in json.load(f) if o['name'] == name)


def make(target, prefix, **variables):
    """What it prints."""
    words = ['%s=%s' % pair for pair in {'BUILD': 'build-install', 'UVM': 'build/uvm-install', 'TESTS': 'disabled', 'PREFIX': prefix,
                                         **variables}.items()]
    done = subprocess.run(['make', '--no-print-directory', target, *words], cwd=settings.TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise AssertionError('make %s %s:\n%s' % (target, ' '.join(words), done.stdout[-4000:]))
    return done.stdout


def below(top):
    """Paths of all that there is."""
    return sorted(os.path.relpath(os.path.join(path, name), top) for path, folders, files in os.walk(top) for name in (*folders, *files))


class Unconfigured(Containerd):
    """A daemon in whose environment nothing tells the shim where its configuration is."""

    def prepare(self):
        del self.env['LCOW_CONFIG']
        return ''


@unittest.skipUnless(settings.IS_LCOW, 'only lcow is installed')
class Install(case.Case):
    @classmethod
    def setUpClass(cls):
        if option('b_sanitize') != 'none':
            raise unittest.SkipTest('a build with sanitizers is not installed')
        cls.prefix = os.environ['LCOWTEST_DIR'] + '/prefix'
        for path in (COPY, cls.prefix):
            shutil.rmtree(path, ignore_errors=True)
            cls.addClassCleanup(shutil.rmtree, path, ignore_errors=True)
        os.mkdir(COPY)
        for name in ('src', 'proto', 'man', '.ninja_log', '.ninja_deps'):
            subprocess.run(['cp', '-a', os.path.join(settings.BUILD, name), COPY], check=True)
        subprocess.run(['packaging/configure', COPY, '-Dwerror=%s' % str(option('werror')).lower(), '-Dtests=disabled'], cwd=settings.TOP,
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def test_an_installation_works_where_it_is_and_goes_without_a_trace(self):
        make('install', self.prefix)
        conf = self.prefix + '/etc/lcow/lcow.conf'
        with open(conf) as f:
            text = f.read()
        self.assertIn('#boot_files = %s/lib/lcow/uvm\n' % self.prefix, text)
        cd = Unconfigured(self.prefix + '-containerd')
        self.addCleanup(shutil.rmtree, cd.dir)
        self.addCleanup(cd.close)
        with open(conf, 'a') as f:
            f.write('run_dir = %s\nscratch_dir = %s\nmemory = 256M\n' % (cd.lcow.run_dir, cd.lcow.scratch_dir))
        runtime = self.prefix + '/bin/containerd-shim-lcow-v2'

        def run():
            return cd.ctr(*cd.run_args('--rm', runtime=runtime), 'docker.io/library/busybox:latest', 'installed', 'cat', '/proc/version')
        result = run()
        self.assertEqual(result.code, 0, '%r\n%s' % (result, cd.log()[-3000:]))
        with open('/proc/version') as f:
            self.assertNotEqual(result.out, f.read())
        os.rename(self.prefix + '/lib/lcow/uvm', self.prefix + '/away')
        result = run()
        self.assertNotEqual(result.code, 0)
        self.assertIn(self.prefix + '/lib/lcow/uvm', result.err)
        os.rename(self.prefix + '/away', self.prefix + '/lib/lcow/uvm')
        with open(conf, 'w') as f:
            f.write(text)
        make('uninstall', self.prefix)
        self.assertFalse(os.path.exists(self.prefix), below(self.prefix))

    def test_DESTDIR_holds_what_is_made_for_PREFIX_and_a_changed_configuration_stays(self):
        stage = self.prefix + '-stage'
        self.addCleanup(shutil.rmtree, stage, ignore_errors=True)
        make('install', self.prefix, DESTDIR=stage)
        self.assertFalse(os.path.exists(self.prefix))
        place = stage + self.prefix
        there = set(below(place))
        self.assertLessEqual({'bin/containerd-shim-lcow-v2', 'lib/lcow/uvm/boot.conf', 'lib/lcow/uvm/vmlinux', 'etc/lcow/lcow.conf'}, there)
        with open(place + '/bin/containerd-shim-lcow-v2', 'rb') as f:
            shim = f.read()
        self.assertNotIn(stage.encode(), shim)
        self.assertIn((self.prefix + '/lib/lcow/uvm').encode(), shim)
        with open(place + '/etc/lcow/lcow.conf', 'a') as f:
            f.write('memory = 1G\n')
        self.assertIn('lcow.conf is left as it is', make('install', self.prefix, DESTDIR=stage))
        self.assertIn('but not %s/etc/lcow/lcow.conf, which was changed' % place, make('uninstall', self.prefix, DESTDIR=stage))
        self.assertEqual(below(place), ['etc', 'etc/lcow', 'etc/lcow/lcow.conf'])
        self.assertEqual([p for p in glob.glob(stage + '/**', recursive=True) if os.path.isfile(p)], [place + '/etc/lcow/lcow.conf'])
