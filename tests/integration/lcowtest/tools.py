# SPDX-License-Identifier: Apache-2.0
"""Programs beside lcow's own that a run starts: containerd, ctr, runc, busybox, CNI plugins.

What the machine has is taken where it is new enough, whoever brought it. Anything else comes as a package of this machine's
Debian, unpacked below the build directory (debs.py): installed, Debian's packages of these would start a service, or take the
place of others that conflict with them. The directory settings.TOOLS has a link to each program, and stands in front of PATH.
"""
import collections
import os
import re
import subprocess

from . import debs, settings

# programs: found together, in one directory; good: whether those found there will do.
Tool = collections.namedtuple('Tool', 'package programs path good')


def version(program):
    """(major, minor) that a program tells; (0, 0) when it does not."""
    try:
        said = subprocess.run([program, '--version'], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ''
    found = re.search(r'\bv?(\d+)\.(\d+)', said)
    return tuple(map(int, found.groups())) if found else (0, 0)


def _static(program):
    """Containers have no libraries."""
    with open(program, 'rb') as f:
        return b'/ld-linux' not in f.read(4096)


_SBIN = settings.SBIN.split(':')
TOOLS = {
    'containerd': Tool('containerd', ('containerd', 'ctr', 'containerd-shim-runc-v2'), _SBIN, lambda p: version(p) >= (1, 6)),
    'runc': Tool('runc', ('runc',), _SBIN, lambda p: version(p) >= (1, 0)),
    'busybox': Tool('busybox-static', ('busybox',), _SBIN, _static),
    'cni': Tool('containernetworking-plugins', ('bridge', 'host-local', 'loopback'), ['/usr/lib/cni', '/opt/cni/bin'], lambda p: True),
}


def here(name):
    """The directory in which the machine has a tool that will do, or None."""
    tool = TOOLS[name]
    for folder in tool.path:
        if all(os.access(os.path.join(folder, program), os.X_OK) for program in tool.programs) and tool.good(os.path.join(folder, tool.programs[0])):
            return folder
    return None


def _link(name, folder):
    """Links of a tool: to its programs, or for CNI's to their directory."""
    links = {'cni': folder} if name == 'cni' else {program: os.path.join(folder, program) for program in TOOLS[name].programs}
    for link, target in links.items():
        path = os.path.join(settings.TOOLS, link)
        if not os.path.islink(path) or os.readlink(path) != target:
            os.symlink(target, path + '.new')
            os.replace(path + '.new', path)


def fetch(*names):
    """Have these tools; to be called where there is a network. What cannot be had: {name: reason}."""
    os.makedirs(settings.TOOLS, exist_ok=True)
    absent = {}
    for name in names:
        folder = here(name)
        if folder is None:
            deb = debs.Deb(TOOLS[name].package, debs.own_suite())
            debs.fetch(deb)
            if debs.reason(deb):
                absent[name] = debs.reason(deb)
                continue
            first = TOOLS[name].programs[0]
            folder = next(path for path, _, files in os.walk(debs.folder(deb)) if first in files and os.path.basename(path) in ('bin', 'sbin', 'cni'))
        _link(name, folder)
    return absent


def need(*names):
    """As fetch(), for programs that cannot go on without: ends with the reasons."""
    absent = fetch(*names)
    if absent:
        raise SystemExit('\n'.join('there is no %s here, and its package cannot be had: %s' % pair for pair in absent.items()))


def containerd():
    """The version, as in "1.6", of the containerd that fetch() has chosen."""
    return '%d.%d' % version(os.path.join(settings.TOOLS, 'containerd'))


def containerd_of(wanted, suite):
    """The package of a version of containerd; None where that is what the machine has."""
    folder = here('containerd')
    return None if folder and '%d.%d' % version(folder + '/containerd') == wanted else debs.Deb('containerd', suite)


# The versions that are tested, and the Debians that have them.
CONTAINERDS = {version_: containerd_of(version_, suite) for version_, suite in (('1.6', 'bookworm'), ('1.7', 'trixie'), ('2.1', 'forky'))}


def fetch_for_tests():
    """What any test may start."""
    if CONTAINERDS['1.6']:
        debs.fetch(CONTAINERDS['1.6'])
    for name, reason in fetch(*TOOLS).items():
        print('no %s: %s' % (name, reason), flush=True)
