# SPDX-License-Identifier: Apache-2.0
"""Runs the tests with a line for each, and a last line that says how it went."""
import argparse
import faulthandler
import fnmatch
import os
import sys
import time
import unittest

from . import case, debs, ns, settings


def _tests(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _tests(item)
        else:
            yield item


def _sentence(test):
    return getattr(test, '_testMethodName', str(test)).removeprefix('test_').replace('_', ' ')


class _Result(unittest.TestResult):
    """Counts, and prints as it goes."""

    def __init__(self):
        super().__init__()
        self.passed = self.failed = 0
        self.begin = 0.0
        self.problems = []

    def startTest(self, test):
        super().startTest(test)
        self.begin = time.monotonic()
        self.problems = []

    def addError(self, test, err):
        super().addError(test, err)
        if isinstance(test, unittest.TestCase):
            self.problems.append(self._exc_info_to_string(err, test))
        else:
            self.failed += 1
            print('FAIL %s\n%s' % (test, self._exc_info_to_string(err, test)), flush=True)

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.problems.append('%s: %s' % (subtest._subDescription(), self._exc_info_to_string(err, test)))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.problems = None
        print('skip %s: %s' % (_sentence(test), reason), flush=True)

    def stopTest(self, test):
        super().stopTest(test)
        if self.problems is None:
            return
        seconds = time.monotonic() - self.begin
        if self.problems:
            self.failed += 1
            print('FAIL %s (%.1f s)\n%s' % (_sentence(test), seconds, ''.join(self.problems)), flush=True)
        else:
            self.passed += 1
            print('ok   %s (%.1f s)' % (_sentence(test), seconds), flush=True)


def main(folder):
    """Entry of tests/integration/run."""
    parser = argparse.ArgumentParser(description='Integration tests of the shim. Runs as root, in namespaces of its own.',
                                     epilog='LCOW_RUNTIME, LCOW_BUILD, LCOW_BOOT_FILES, LCOW_SLOW: see lcowtest/settings.py')
    parser.add_argument('-k', metavar='PATTERN', action='append', default=[],
                        help='only tests whose module.class.name matches; may be repeated')
    parser.add_argument('--list', action='store_true', help='print the names and end')
    options = parser.parse_args()
    if ns.inside():
        ns.enter()
        faulthandler.enable()
    suite = unittest.defaultTestLoader.discover(folder, 'test_*.py', folder)
    chosen = [t for t in _tests(suite)
              if not options.k or any(fnmatch.fnmatch(t.id(), '*%s*' % k) for k in options.k)]
    if options.list:
        print('\n'.join(t.id() for t in chosen))
        return 0
    if not ns.inside():
        debs.fetch_for(chosen)
        ns.enter()    # starts this program again inside
    print('runtime %s, shim %s' % (settings.RUNTIME, settings.shim_binary()), flush=True)
    begin = time.monotonic()
    result = _Result()
    try:
        unittest.TestSuite(chosen).run(result)
    finally:
        case.close_shared()
    print('%.0f s' % (time.monotonic() - begin))
    skipped = len(result.skipped)
    print('%d passed, %d failed%s' % (result.passed, result.failed, ', %d skipped' % skipped if skipped else ''), flush=True)
    # Threads that still read from a stuck shim must not keep the runner.
    os._exit(1 if result.failed or not result.passed else 0)
