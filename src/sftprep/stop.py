"""Stopping on request: SIGTERM, SIGINT and SIGUSR1 set a flag that every long loop polls."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sftprep.errors import EXIT_RESUMABLE, Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignal:
    """`requested` turns true at the first signal; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.requested: str | None = None

    def request(self, name: str) -> None:
        """Ask for a stop; a second request exits with the resumable status."""
        if self.requested is not None:
            os._exit(EXIT_RESUMABLE)
        self.requested = name

    def check(self, doing: str) -> None:
        """Raise at a point where nothing is lost.

        Raises:
            Interrupted: a stop was requested.
        """
        if self.requested is not None:
            raise Interrupted(
                f"stopped by {self.requested} while {doing}. Run the same command to continue."
            )


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
