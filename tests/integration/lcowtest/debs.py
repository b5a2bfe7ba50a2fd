# SPDX-License-Identifier: Apache-2.0
"""Programs from Debian packages, of this machine's suite or of others: unpacked below the build directory, never installed.

Tests have no network (ns.py), so the runner fetches before it enters the namespaces: a class or a module of tests says what
it uses, DEBS = [debs.Deb('package', 'suite')], and its tests take unpacked().
"""
import collections
import os
import re
import subprocess
import sys
import tempfile
import unittest

from . import settings

Deb = collections.namedtuple('Deb', 'package suite')

CACHE = os.path.join(settings.CACHE, 'debs')
_REASON = '.missing'
# A registry that hangs must not hang the tests.
_LIMIT = 300
_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'


class Missing(Exception):
    """Why a package cannot be had."""


def folder(deb):
    """Where a package is, or would be, unpacked."""
    return os.path.join(CACHE, deb.suite, deb.package)


def _run(*command, **options):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT, **options)
    except FileNotFoundError as e:
        raise Missing('there is no %s on this machine' % command[0]) from e
    except subprocess.TimeoutExpired as e:
        raise Missing('%s did not answer in %d s' % (command[0], _LIMIT)) from e
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.startswith('E: ')] or done.stderr.splitlines()
        raise Missing('%s: %s' % (command[0], '; '.join(words[:3]) or 'exit status %d' % done.returncode))
    return done.stdout


def own_suite():
    """The name of this machine's Debian."""
    with open('/etc/os-release') as f:
        return dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', f.read(), re.M)).get('VERSION_CODENAME', '')


def _sources(suite):
    """Lines of a sources.list: where this machine has its own suite from, with another suite's name."""
    signed = '[signed-by=%s] ' % _KEYRING if os.path.exists(_KEYRING) else ''
    lines = set()
    for line in _run('apt-get', 'indextargets', '--format', '$(RELEASE)|$(REPO_URI)|$(COMPONENT)',
                     'Created-By: Packages').splitlines():
        release, uri, component = line.split('|')
        if release == own_suite():
            lines.add('deb %s%s %s %s\n' % (signed, uri, suite, component))
    if not lines:
        raise Missing('apt has no source of %s, whose name could be changed to %s' % (own_suite() or 'a suite', suite))
    return ''.join(sorted(lines))


def _apt(suite):
    """The beginning of an apt-get command for that suite alone; its lists are fetched when they are not there."""
    top = os.path.join(CACHE, suite, '.apt')
    for d in ('lists/partial', 'archives/partial'):
        os.makedirs(os.path.join(top, d), exist_ok=True)
    sources = os.path.join(top, 'sources.list')
    open(os.path.join(top, 'status'), 'a').close()
    options = {
        'Dir::Etc::sourcelist': sources, 'Dir::Etc::sourceparts': '-', 'Dir::Etc::preferences': '-',
        'Dir::Etc::preferencesparts': '-', 'Dir::State::lists': top + '/lists', 'Dir::State::status': top + '/status',
        'Dir::Cache': top, 'Dir::Cache::archives': top + '/archives', 'Acquire::Languages': 'none',
        'APT::Sandbox::User': 'root',    # the build directory need not be readable for apt's own user
        'APT::Update::Error-Mode': 'any', 'Acquire::Retries': '2',
    }
    apt = ['apt-get', '-q', *(word for kv in options.items() for word in ('-o', '%s=%s' % kv))]
    if not os.path.exists(sources):
        with open(sources + '.new', 'w') as f:
            f.write(_sources(suite))
        _run(*apt, '-o', 'Dir::Etc::sourcelist=%s.new' % sources, 'update')
        os.rename(sources + '.new', sources)    # now, for the lists are there
    return apt


def _download(deb, into):
    """Have the package's file in a directory."""
    if deb.suite == own_suite():
        # As apt would install it; "make deps" has seen to its lists.
        try:
            _run('apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', '%s/%s' % deb, cwd=into)
            return
        except Missing:
            pass
    try:
        _run(*_apt(deb.suite), 'download', deb.package, cwd=into)
    except Missing:
        # Lists of another day may name a version that is gone, or not know the package yet.
        sources = os.path.join(CACHE, deb.suite, '.apt', 'sources.list')
        if os.path.exists(sources):
            os.unlink(sources)
        _run(*_apt(deb.suite), 'download', deb.package, cwd=into)


def _fetch(deb):
    top = folder(deb)
    with tempfile.TemporaryDirectory(prefix=deb.package + '.', dir=os.path.dirname(top)) as new:
        _download(deb, new)
        [file] = os.listdir(new)
        _run('dpkg-deb', '--extract', os.path.join(new, file), new + '/root')
        os.rename(new + '/root', top)


def fetch(deb):
    """Have a package in the cache, or the reason why not; to be called where there is a network."""
    top = folder(deb)
    missing = top + _REASON
    if os.path.isdir(top):
        return
    print('fetching %s of %s' % deb, flush=True)
    os.makedirs(os.path.dirname(top), exist_ok=True)
    try:
        _fetch(deb)
        if os.path.exists(missing):
            os.unlink(missing)
    except Missing as e:
        with open(missing, 'w') as f:
            f.write(str(e))


def fetch_for(tests):
    """What these tests use."""
    wanted = []
    for test in tests:
        module = sys.modules[type(test).__module__]
        wanted += [*getattr(module, 'DEBS', ()), *getattr(test, 'DEBS', ())]
    for deb in sorted(set(wanted)):
        fetch(deb)


def reason(deb):
    """Why a package is not there; None when it is."""
    if os.path.isdir(folder(deb)):
        return None
    try:
        with open(folder(deb) + _REASON) as f:
            return f.read()
    except FileNotFoundError:
        return 'nobody has fetched it: is it in DEBS?'


def unpacked(deb):
    """The directory that holds the package's files; skips the test when it could not be fetched."""
    if reason(deb):
        raise unittest.SkipTest('no package %s of %s: %s' % (*deb, reason(deb)))
    return folder(deb)
