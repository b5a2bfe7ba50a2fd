# SPDX-License-Identifier: Apache-2.0
"""What a run is made of; every value may come from the environment."""
import os
import shutil

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), '..', '..', '..'))
RUNTIME = os.environ.get('LCOW_RUNTIME', 'io.containerd.lcow.v2')
BUILD = os.path.abspath(os.environ.get('LCOW_BUILD', os.path.join(TOP, 'build')))
BOOT_FILES = os.path.abspath(os.environ.get('LCOW_BOOT_FILES', os.path.join(TOP, 'build', 'uvm')))
IS_LCOW = '.lcow.' in RUNTIME
# With sanitizers and without KVM everything takes its time: limits are multiplied, not removed.
SLOW = float(os.environ.get('LCOW_SLOW', '1'))
# A VM boots in 2 to 4 s on an idle host without KVM.
BOOT_LIMIT = 60 * SLOW
QUICK_LIMIT = 10 * SLOW
# What one worker of the runner may take for what it was handed.
PIECE_LIMIT = 600 * SLOW
# Tests wait as much as they work, so more run at a time than there are CPUs.
JOBS = int(os.environ.get('LCOW_JOBS', '0')) or 2 * (os.cpu_count() or 1)

# What is fetched does for every build; links to what tools.py has found or fetched.
CACHE = os.path.join(TOP, 'build', 'cache')
TOOLS = os.path.join(CACHE, 'tools')
SBIN = '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin'


def path():
    """PATH of containerd: the shim of the build first."""
    return ':'.join([os.path.join(BUILD, 'src', 'shim'), BUILD, TOOLS, SBIN])


def shim_binary(runtime=RUNTIME):
    """Absolute path of the runtime's shim, as containerd finds it; None when there is none."""
    name, version = runtime.split('.')[-2:]
    return shutil.which('containerd-shim-%s-%s' % (name, version), path=path())
