# SPDX-License-Identifier: Apache-2.0
"""What the machine gives: limits are multiplied by it, so that a busy machine is no failure."""
import os
import time

_SPIN = 0.05


def _share():
    """Part of a CPU that a busy process gets now."""
    begin, used = time.monotonic(), time.process_time()
    while time.process_time() - used < _SPIN:
        pass
    return (time.process_time() - used) / (time.monotonic() - begin)


def factor(jobs):
    """How much longer than alone on an idle machine a test may take, with so many at a time; 1 or more."""
    share = sorted(_share() for _ in range(5))[2]
    return max(1.0, 1 / share) * max(1.0, jobs / (os.cpu_count() or 1))
