# SPDX-License-Identifier: Apache-2.0
"""Many processes and containers in one sandbox: nothing of them stays. tests/bench/soak does the same for longer."""
import time

from lcowtest import settings
from lcowtest.case import DirectCase, only_lcow
from lcowtest.soak import Pod, grown


@only_lcow('looks into the shim and the VM')
class Many(DirectCase):
    """One sandbox for all of them."""

    def setUp(self):
        super().setUp()
        self.pod = Pod(self.bed, self.new_id('p'))
        self.addCleanup(self.pod.close)
        self.pod.start()

    def check(self, *works):
        """Do all of it, once for what is kept for the next time, and then look at what the rest has left."""
        for work in works:
            work(0)
        before = self.pod.sample()
        for n in range(1, 3):
            for work in works:
                work(n)
        # What is just ending is there for a moment; what was left behind stays.
        end = time.monotonic() + settings.QUICK_LIMIT
        left = grown(before, self.pod.sample())
        while left and time.monotonic() < end:
            left = grown(before, self.pod.sample())
        self.assertEqual(left, [])

    def test_nothing_stays_of_60_execs_and_6_containers(self):
        self.check(lambda n: [self.pod.one_exec(i) for i in range(20 * n, 20 * (n + 1))],
                   lambda n: [self.pod.one_container(i) for i in range(2 * n, 2 * (n + 1))])

    def test_32_execs_at_once_have_their_own_output_and_status_and_leave_nothing(self):
        self.check(lambda n: self.pod.at_once(32, (1 << 18, 10, 1 << 18)[n]))

    def test_500_Waits_at_once_are_answered_and_leave_nothing(self):
        self.check(lambda n: self.pod.waits(500))
