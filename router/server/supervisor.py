"""Several workers on one socket: forked before any event loop exists, replaced when they die, drained together.

A worker that cannot start (uvicorn's exit code 3) would not start the next time either, so that ends the program. The
workers hold the reading end of a pipe whose writing end is only here: should this process be killed, they drain by
themselves.
"""

import contextlib
import math
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from uvicorn.config import STARTUP_FAILURE

Run = Callable[
    [int, Path | None, int | None], int
]  # (index, directory of the siblings' sockets, lifeline) -> exit code

SETTLED = 5.0  # a worker that lived this long was not killed by its start
SLOWEST = 5.0  # seconds between two starts of one that keeps dying
AFTER_DRAIN = 2.0  # a worker still there this long after its drain is killed


class Supervisor:
    def __init__(self, count: int, run: Run, drain: float) -> None:
        self.run = run
        self.drain = drain
        self.directory = Path(tempfile.mkdtemp(prefix="router-"))  # mode 0700
        self.lifeline, self._held = os.pipe()
        self.wakeup, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self.workers: dict[int, tuple[int, float]] = {}  # pid -> (index, started)
        self.due: dict[int, float] = dict.fromkeys(range(count), 0.0)  # index -> when to start it
        self.deaths = [0] * count  # in a row, each soon after its start
        self.told: signal.Signals | None = None
        self.kill_at = math.inf
        self.code = 0

    def supervise(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._signalled)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        try:
            while self.workers or self.told is None:
                self._start_due()
                self._wait()
                self._reap()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
        return self.code

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return  # it only ends the wait
        if number == signal.SIGHUP:
            for pid in self.workers:
                os.kill(pid, number)
            return
        if self.told is None or number == signal.SIGINT:
            self._tell(signal.Signals(number))

    def _tell(self, number: signal.Signals) -> None:
        """Pass on the word to stop; nobody is started from now on."""
        self.told = number
        self.due.clear()
        self.kill_at = time.monotonic() + (self.drain if number == signal.SIGTERM else 0.0) + AFTER_DRAIN
        for pid in self.workers:
            os.kill(pid, number)

    def _start_due(self) -> None:
        now = time.monotonic()
        if now >= self.kill_at:
            for pid in self.workers:
                os.kill(pid, signal.SIGKILL)
            self.kill_at = math.inf
        for index in [index for index, at in self.due.items() if at <= now]:
            if self.told is None:
                del self.due[index]
                self._start(index)

    def _start(self, index: int) -> None:
        # Between the fork and the child's own handlers a signal must neither be lost nor run the parent's.
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        pid = os.fork()
        if pid == 0:
            self._become_worker(index, signals)
        self.workers[pid] = (index, time.monotonic())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def _become_worker(self, index: int, signals: set[signal.Signals]) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*signals, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            for each in (self._held, self.wakeup, self._waker):
                os.close(each)
            code = self.run(index, self.directory, self.lifeline)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:  # noqa: BLE001 - the last door of the process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # the parent's clean-up is not this process's to run

    def _wait(self) -> None:
        now = time.monotonic()
        soonest = min([*self.due.values(), self.kill_at, now + 60.0])
        if select.select([self.wakeup], [], [], max(0.0, soonest - now))[0]:
            os.read(self.wakeup, 512)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (worker := self.workers.pop(pid, None)) is not None:
                self._buried(*worker, os.waitstatus_to_exitcode(status))

    def _buried(self, index: int, started: float, code: int) -> None:
        if self.told is not None:
            return
        if code == STARTUP_FAILURE:
            self.code = code
            self._tell(signal.SIGTERM)
            return
        now = time.monotonic()
        self.deaths[index] = 0 if now - started > SETTLED else self.deaths[index] + 1
        delay = min(SLOWEST, 0.1 * 2 ** self.deaths[index]) if self.deaths[index] > 1 else 0.0
        self.due[index] = now + delay
        with contextlib.suppress(OSError):
            sys.stderr.write(f"worker {index} ended ({code}); another starts in {delay:.1f} s\n")


def supervise(count: int, run: Run, drain: float) -> int:
    return Supervisor(count, run, drain).supervise()
