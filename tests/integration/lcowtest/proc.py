# SPDX-License-Identifier: Apache-2.0
"""Processes of our pid namespace, found by what they run."""
import os
import time


def running(name):
    """Pids of live processes whose program's base name starts with this."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            exe = os.path.basename(os.readlink('/proc/%s/exe' % pid)).removesuffix(' (deleted)')
        except OSError:
            continue
        if exe.startswith(name):
            found.append(int(pid))
    return sorted(found)


def wait_gone(pid, limit):
    """Wait until a process that is not our child is gone."""
    end = time.monotonic() + limit
    while os.path.exists('/proc/%d' % pid):
        if time.monotonic() > end:
            raise AssertionError('process %d is still there after %g s' % (pid, limit))
        time.sleep(0.02)


def fds(pid):
    return len(os.listdir('/proc/%d/fd' % pid))
