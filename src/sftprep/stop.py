"""Stopping: SIGTERM, SIGINT and SIGUSR1 set a flag that every long loop polls; hangs are ended."""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sftprep.errors import EXIT_RESUMABLE, Interrupted, StoreError

STDERR = 2  # the descriptor: it works where no Python object does
STALL_VARIABLE = "SFTPREP_STALL_SECONDS"
STALL_SECONDS = 4 * 3600.0  # longer than the longest silent call into a library
# Slurm signals every process of a step and torchrun passes its copy on: one signal, heard twice.
REPEAT_SECONDS = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignal:
    """`requested` turns true at the first signal; a later second signal ends the process at once.

    Every look is a sign of life for the watchdog.
    """

    alive_at: float = 0.0

    def __init__(self) -> None:
        self.requested: str | None = None
        self.requested_at = 0.0

    def request(self, name: str) -> None:
        """Ask for a stop; a second request exits with the resumable status."""
        now = time.monotonic()
        if self.requested is None:
            self.requested, self.requested_at = name, now
        elif now - self.requested_at > REPEAT_SECONDS:
            os._exit(EXIT_RESUMABLE)

    def check(self, doing: str) -> None:
        """Raise at a point where nothing is lost.

        Raises:
            Interrupted: a stop was requested.
        """
        self.alive()
        if self.requested is not None:
            raise Interrupted(
                f"stopped by {self.requested} while {doing}. Run the same command to continue."
            )

    def alive(self) -> None:
        """Note a sign of life."""
        self.alive_at = time.monotonic()


def stall_seconds() -> float:
    """Seconds without a sign of life after which a process counts as hung; 0 turns it off.

    Raises:
        StoreError: the environment variable is not a number of at least 0.
    """
    text = os.environ.get(STALL_VARIABLE, str(STALL_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise StoreError(f"{STALL_VARIABLE}={text!r}: give seconds, or 0 for no limit.")
    return seconds


@contextmanager
def watching(stop: StopSignal, seconds: float) -> Iterator[None]:
    """End a hung process with the stacks of all its threads on stderr and the resumable status.

    A thread looks for signs of life. Where it cannot run, because a library hangs while holding the
    interpreter's lock, faulthandler's own thread ends the process after twice the time (status 1).
    """
    if seconds == 0:
        yield
        return
    stop.alive()
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=STDERR)
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(stop, seconds, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        faulthandler.cancel_dump_traceback_later()


def _watch(stop: StopSignal, seconds: float, ended: threading.Event) -> None:
    while not ended.wait(min(seconds / 4, 10.0)):
        faulthandler.dump_traceback_later(2 * seconds, exit=True, file=STDERR)
        silent = time.monotonic() - stop.alive_at
        if silent > seconds:
            faulthandler.dump_traceback(all_threads=True, file=STDERR)
            print(
                f"sftprep: no progress for {silent:.0f} s; the stacks above show where it hangs. "
                f"Run the same command to continue; {STALL_VARIABLE} sets the limit.",
                file=sys.__stderr__,
                flush=True,
            )
            os._exit(EXIT_RESUMABLE)


@contextmanager
def handling_signals(stop: StopSignal) -> Iterator[None]:
    """Route the stop signals of this (main) thread to `stop`; restore the handlers after."""

    def handle(number: int, frame: FrameType | None) -> None:
        stop.request(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
