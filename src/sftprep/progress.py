"""Progress of long work with rate and ETA: a live bar on a terminal, plain lines elsewhere.

Everything printed here goes to stderr, so that `--json` on stdout stays clean.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # Rich takes 0.1 s to load: only when something is printed
    from rich.console import Console
    from rich.progress import Progress as RichProgress

PLAIN_EVERY_SECONDS = 10.0


def show(text: str) -> str:
    """Make text from data or models harmless on a terminal: control and bidi codes as \\xNN."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


class Task(Protocol):
    """A counted piece of work."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count finished units; `note` replaces the text shown beside the bar."""


class _SilentTask:
    def advance(self, count: int = 1, note: str = "") -> None:
        """Counts nothing, prints nothing."""


@dataclass
class _PlainTask:
    label: str
    total: int
    unit: str
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        now = time.monotonic()
        if now - self.printed >= PLAIN_EVERY_SECONDS or self.done == self.total:
            self.printed = now
            print(self._line(now, note), file=sys.stderr, flush=True)

    def _line(self, now: float, note: str) -> str:
        elapsed = max(now - self.started, 1e-9)
        rate = self.done / elapsed
        left = (self.total - self.done) / rate if rate else float("inf")
        eta = f"ETA {left:.0f} s" if self.done < self.total else f"took {elapsed:.1f} s"
        line = f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.1f}/s, {eta}"
        return show(f"{line}  {note}" if note else line)


@dataclass
class _RichTask:
    bar: "RichProgress"
    identity: object
    started: float = field(default_factory=time.monotonic)
    done: int = 0

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        rate = self.done / max(time.monotonic() - self.started, 1e-9)
        text = f"{rate:.1f}/s {show(note)}".strip()
        self.bar.update(self.identity, advance=count, note=text)  # type: ignore[arg-type]


class Progress:
    """Where stages report. `quiet` prints nothing (used by the Python API and tests)."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    @cached_property
    def console(self) -> "Console":
        """Where lines and bars go."""
        from rich.console import Console

        return Console(stderr=True, quiet=self.quiet, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """One plain line; the text may hold anything."""
        from rich.text import Text

        self.console.print(Text(show(text)))

    @contextmanager
    def task(self, label: str, total: int, unit: str = "items") -> Iterator[Task]:
        """Count `total` units of work under a label."""
        if self.quiet:
            yield _SilentTask()
            return
        if not self.console.is_terminal:
            yield _PlainTask(label, total, unit)
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with RichProgress(*columns, console=self.console, transient=True) as bar:
            identity = bar.add_task(show(label), total=total, note="")
            yield _RichTask(bar, identity)
