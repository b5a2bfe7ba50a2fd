# SPDX-License-Identifier: Apache-2.0
"""Runs the tests, several at a time, with a line for each, and a last line that says how it went."""
import argparse
import faulthandler
import fnmatch
import json
import os
import queue
import signal
import sys
import threading
import time
import unittest

from . import case, debs, load, ns, settings, tools

# Tests of a class that share what the first one made stay together, so many at a time.
_TOGETHER = 12
_SLOWEST = 25


def _tests(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _tests(item)
        else:
            yield item


def _matches(test, patterns):
    return any(fnmatch.fnmatch(test.id(), '*%s*' % pattern) for pattern in patterns)


def _sentence(test):
    return getattr(test, '_testMethodName', str(test)).removeprefix('test_').replace('_', ' ')


class _Result(unittest.TestResult):
    """Counts, and prints as it goes."""

    def __init__(self):
        super().__init__()
        self.passed = self.failed = 0
        self.begin = 0.0
        self.problems = []
        self.seconds = {}

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
        seconds = self.seconds[test.id()] = time.monotonic() - self.begin
        if self.problems:
            self.failed += 1
            print('FAIL %s (%.1f s) %s\n%s' % (_sentence(test), seconds, test.id(), ''.join(self.problems)), flush=True)
        else:
            self.passed += 1
            print('ok   %s (%.1f s)' % (_sentence(test), seconds), flush=True)

    def counts(self):
        return {'passed': self.passed, 'failed': self.failed, 'skipped': len(self.skipped), 'seconds': self.seconds}


class Worker:
    """A runner in namespaces of its own that is told what to run, piece by piece; the tests of a piece print before its counts."""

    def __init__(self, slow):
        asks, self.told = os.pipe()
        self.says, answers = os.pipe()
        env = {**os.environ, 'LCOW_SLOW': '%g' % slow}
        self.room = ns.Room([sys.executable, '-B', sys.argv[0], '--worker', '%d' % asks, '%d' % answers], env=env,
                            pass_fds=(asks, answers))
        for fd in (asks, answers):
            os.close(fd)
        self.answers = os.fdopen(self.says, 'rb')

    def run(self, names):
        """(lines printed, counts) of these tests; counts is None when the worker ended instead, or for the limit's sake."""
        os.write(self.told, ('\n'.join(names) + '\n\n').encode())
        timer = threading.Timer(settings.PIECE_LIMIT, self.room.process.kill)
        timer.start()
        out = []
        try:
            for line in self.answers:
                if line.startswith(b'\x1e'):
                    return out, json.loads(line[1:])
                out.append(line.decode(errors='replace'))
            return out, None
        finally:
            timer.cancel()

    def close(self):
        os.close(self.told)
        rest = self.answers.read().decode(errors='replace')
        self.room.close()
        return rest


def _serve(asks, answers, tests):
    """The other end of Worker."""
    for fd in (asks, answers):
        os.set_inheritable(fd, False)
    os.dup2(answers, 1)
    by_name = {t.id(): t for t in tests}
    names = []
    for line in os.fdopen(asks):
        if line.strip():
            names.append(line.strip())
            continue
        result = _Result()
        unittest.TestSuite([by_name[name] for name in names]).run(result)
        names.clear()
        print('\x1e' + json.dumps(result.counts()), flush=True)
    case.close_shared()
    sys.stdout.flush()
    # Threads that still read from a stuck shim must not keep the worker.
    os._exit(0)


def _pieces(tests):
    """Names that one worker runs one after the other: the tests of a class that share something, or one test. Long ones first."""
    pieces, shared = [], {}
    for test in tests:
        if getattr(test, 'together', False):
            shared.setdefault(type(test), []).append(test.id())
        else:
            pieces.append([test.id()])
    for names in shared.values():
        parts = -(-len(names) // _TOGETHER)
        size = -(-len(names) // parts)
        pieces += [names[at:at + size] for at in range(0, len(names), size)]
    return sorted(pieces, key=len, reverse=True)


class _Run:
    """All pieces on some workers."""

    def __init__(self, pieces, jobs, slow):
        self.todo = queue.SimpleQueue()
        for piece in pieces:
            self.todo.put(piece)
        self.lock = threading.Lock()
        self.sum = {'passed': 0, 'failed': 0, 'skipped': 0, 'seconds': {}}
        self.slow = slow
        self.workers = set()
        self.stopped = False
        self.threads = [threading.Thread(target=self._work) for _ in range(min(jobs, len(pieces)))]

    def _work(self):
        worker = None
        while True:
            try:
                piece = self.todo.get_nowait()
            except queue.Empty:
                break
            worker = worker or self._begin()
            out, counts = worker.run(piece)
            if counts is None:
                out += ['FAIL the worker ended, or took more than %d s: %s\n' % (settings.PIECE_LIMIT, ', '.join(piece)), worker.close()]
                self.workers.discard(worker)
                worker, counts = None, {'passed': 0, 'failed': len(piece), 'skipped': 0, 'seconds': {}}
            with self.lock:
                print(''.join(out), end='', flush=True)
                for key in ('passed', 'failed', 'skipped'):
                    self.sum[key] += counts[key]
                self.sum['seconds'].update(counts['seconds'])
        if worker:
            worker.close()

    def _begin(self):
        with self.lock:
            worker = Worker(self.slow)
            self.workers.add(worker)
            if self.stopped:
                worker.room.process.kill()
            return worker

    def stop(self, *_):
        """End all of it: a signal came."""
        self.stopped = True
        while not self.todo.empty():
            self.todo.get_nowait()
        for worker in self.workers:
            worker.room.process.kill()

    def run(self):
        for sig in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sig, self.stop)
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        return self.sum


def _alone(tests):
    """All tests in this process; for a look with a debugger."""
    result = _Result()
    try:
        unittest.TestSuite(tests).run(result)
    finally:
        case.close_shared()
    return result.counts()


def main(folder):
    """Entry of tests/integration/run."""
    parser = argparse.ArgumentParser(description='Integration tests of the shim. Runs as root, in namespaces of its own.',
                                     epilog='LCOW_RUNTIME, LCOW_BUILD, LCOW_BOOT_FILES, LCOW_SLOW: see lcowtest/settings.py')
    parser.add_argument('-k', metavar='PATTERN', action='append', default=[],
                        help='only tests whose module.class.name matches; may be repeated')
    parser.add_argument('-x', metavar='PATTERN', action='append', default=[], help='but not these; may be repeated')
    parser.add_argument('-j', '--jobs', type=int, default=settings.JOBS, metavar='N',
                        help='so many at a time (%(default)s here); 1: in one process, as a debugger wants it')
    parser.add_argument('--list', action='store_true', help='print the names and end')
    parser.add_argument('--slowest', action='store_true', help='say which tests took longest')
    parser.add_argument('--worker', type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if ns.inside():
        ns.enter()
        faulthandler.enable()
    suite = unittest.defaultTestLoader.discover(folder, 'test_*.py', folder)
    chosen = [t for t in _tests(suite) if (not options.k or _matches(t, options.k)) and not _matches(t, options.x)]
    if options.list:
        print('\n'.join(t.id() for t in chosen))
        return 0
    if options.worker:
        _serve(*options.worker, chosen)
    if not ns.inside():
        tools.fetch_for_tests()
        debs.fetch_for(chosen)
        if options.jobs == 1:
            ns.enter()    # starts this program again inside
    slow = settings.SLOW * load.factor(options.jobs)
    print('runtime %s, shim %s, %d at a time, limits times %.1f' % (settings.RUNTIME, settings.shim_binary(), options.jobs, slow),
          flush=True)
    begin = time.monotonic()
    counts = _alone(chosen) if options.jobs == 1 else _Run(_pieces(chosen), options.jobs, slow).run()
    if options.slowest:
        for name, seconds in sorted(counts['seconds'].items(), key=lambda kv: -kv[1])[:_SLOWEST]:
            print('%7.1f s  %s' % (seconds, name))
    print('%.0f s' % (time.monotonic() - begin))
    print('%d passed, %d failed%s' % (counts['passed'], counts['failed'],
                                      ', %d skipped' % counts['skipped'] if counts['skipped'] else ''), flush=True)
    os._exit(1 if counts['failed'] or not counts['passed'] else 0)
