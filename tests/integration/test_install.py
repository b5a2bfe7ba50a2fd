# SPDX-License-Identifier: Apache-2.0
"""make install and make uninstall, with a PREFIX of their own and with DESTDIR."""
import glob
import json
import os
import shutil
import subprocess
import unittest

from lcowtest import case, image, settings
from lcowtest.containerd import DEBS as VERSIONS
from lcowtest.containerd import Containerd
from lcowtest.cri import Cri, CriContainerd, Pod, make_bridge

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


class Elsewhere:
    """A daemon in whose environment nothing tells where the shim and its configuration are."""

    def prepare(self):
        del self.env['LCOW_CONFIG']
        self.env['PATH'] = settings.TOOLS + ':' + settings.SBIN
        return super().prepare()


class CtrElsewhere(Elsewhere, Containerd):
    pass


class CriElsewhere(Elsewhere, CriContainerd):
    """It has the shim's path from its configuration."""

    shim = None

    def prepare(self):
        kind = 'runtime_type = "%s"' % settings.RUNTIME
        # The 1.6 line reads runtime_path, and looks in PATH all the same.
        path = 'runtime_type = "%s"' % self.shim if self.version == '1.6' else '%s\nruntime_path = "%s"' % (kind, self.shim)
        return super().prepare().replace(kind, path)

    def __init__(self, directory, version):
        self.version = version
        super().__init__(directory, version)


@unittest.skipUnless(settings.IS_LCOW, 'only lcow is installed')
class Install(case.Case):
    DEBS = [deb for deb in (VERSIONS['1.7'],) if deb]
    together = True    # they share the copy

    def prepare(self):
        make_bridge()

    @classmethod
    def setUpClass(cls):
        if option('b_sanitize') != 'none':
            raise unittest.SkipTest('a build with sanitizers is not installed')
        cls.prefix = os.environ['LCOWTEST_DIR'] + '/prefix'
        cls.conf = cls.prefix + '/etc/lcow/lcow.conf'
        CriElsewhere.shim = cls.shim = cls.prefix + '/bin/containerd-shim-lcow-v2'
        for path in (COPY, cls.prefix):
            shutil.rmtree(path, ignore_errors=True)
            cls.addClassCleanup(shutil.rmtree, path, ignore_errors=True)
        os.mkdir(COPY)
        for name in ('src', 'proto', 'man', '.ninja_log', '.ninja_deps'):
            subprocess.run(['cp', '-a', os.path.join(settings.BUILD, name), COPY], check=True)
        subprocess.run(['packaging/configure', COPY, '-Dwerror=%s' % str(option('werror')).lower(), '-Dtests=disabled'], cwd=settings.TOP,
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def daemon(self, kind, *args):
        """One that knows the shim of PREFIX by its path only; its directories stand in the configuration there."""
        cd = kind('-'.join((self.prefix, kind.__name__, *args)), *args)
        self.addCleanup(shutil.rmtree, cd.dir)
        self.addCleanup(cd.close)
        with open(self.conf, 'w') as f:
            f.write('[lcow]\nrun_dir = %s\nscratch_dir = %s\nmemory = 256M\n' % (cd.lcow.run_dir, cd.lcow.scratch_dir))
        return cd

    def runs_by_its_path(self):
        cd = self.daemon(CtrElsewhere)

        def run():
            return cd.ctr(*cd.run_args('--rm', runtime=self.shim), image.NAME, 'installed', 'cat', '/proc/version')
        result = run()
        self.assertEqual(result.code, 0, '%r\n%s' % (result, cd.log()[-3000:]))
        with open('/proc/version') as f:
            self.assertNotEqual(result.out, f.read())
        os.rename(self.prefix + '/lib/lcow/uvm', self.prefix + '/away')
        result = run()
        self.assertNotEqual(result.code, 0)
        self.assertIn(self.prefix + '/lib/lcow/uvm', result.err)
        os.rename(self.prefix + '/away', self.prefix + '/lib/lcow/uvm')

    def runs_in_pods(self, version):
        cri = Cri(self.daemon(CriElsewhere, version), 'pod')
        self.addCleanup(cri.close)
        pod = Pod(cri, 'installed')
        try:
            code, out, _ = pod.run().start('c').exec('cat', '/proc/version')
        finally:
            pod.remove()
        with open('/proc/version') as f:
            self.assertNotEqual(out, f.read())
        self.assertEqual(code, 0)

    def test_an_installation_works_where_it_is_and_goes_without_a_trace(self):
        make('install', self.prefix)
        with open(self.conf) as f:
            text = f.read()
        self.assertIn('#boot_files = %s/lib/lcow/uvm\n' % self.prefix, text)
        self.runs_by_its_path()
        self.runs_in_pods('1.6')
        self.runs_in_pods('1.7')
        with open(self.conf, 'w') as f:
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
