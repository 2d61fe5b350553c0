"""Where chunks are checked: in this process, in processes of this machine, or on a Ray cluster.

All engines take chunks in order and give their results in the same order, so the stage's files are
the same whichever ran.
"""

import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Protocol

from sftprep.data.cores import usable_cores
from sftprep.data.rowcheck import Checked, Chunk, Context, check_chunk
from sftprep.errors import DataError
from sftprep.recipe.sections import DataSection

LARGE_BYTES = 8 << 20  # input from which further processes pay (about 10 s of checking)
AHEAD = 2  # chunks per process that wait for it
Work = tuple[Chunk, Checked]


class Engine(Protocol):
    """Checks chunks."""

    def map(self, chunks: Iterator[Chunk]) -> Iterator[Work]:
        """Each chunk with its result, in order; only a few are held at a time."""


@contextmanager
def engine_for(section: DataSection, context: Context, size: int) -> Iterator[Engine]:
    """The engine of a recipe.

    Args:
        context: what chunks are checked with. size: bytes of all files.
    Raises:
        MissingDependencyError: `ray` is asked for and not installed.
        DataError: the Ray cluster cannot be reached.
    """
    if section.engine == "ray":
        from sftprep.data.rayengine import ray_engine

        with ray_engine(section, context) as engine:
            yield engine
        return
    count = section.processes or (usable_cores() if size >= LARGE_BYTES else 1)
    if count == 1:
        yield _InProcess(context)
        return
    _context[0] = context
    # Forked, so that nothing is imported again and the caller's script needs no main guard. The
    # children use neither torch nor threads of this process.
    pool = ProcessPoolExecutor(count, get_context("fork"), initializer=_begin)
    try:
        pool.submit(_ready).result()  # forks now, before progress lines start their thread
        yield _Processes(pool, count * AHEAD)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        _context[0] = None


class _InProcess:
    def __init__(self, context: Context) -> None:
        self.context = context

    def map(self, chunks: Iterator[Chunk]) -> Iterator[Work]:
        for chunk in chunks:
            yield chunk, check_chunk(chunk, self.context)


_context: list[Context | None] = [None]  # read by forked processes


def _begin() -> None:
    """A process checks until its parent ends; Ctrl-C is the parent's business."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent()


def _end_with_parent() -> None:
    """Ask the Linux kernel to end this process when its parent dies (prctl PR_SET_PDEATHSIG)."""
    import ctypes
    import sys

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _ready() -> None:
    """Nothing: processes are forked when the first piece of work is handed in."""


def _check(chunk: Chunk) -> Checked:
    context = _context[0]
    assert context is not None, "a process without a context"
    return check_chunk(chunk, context)


class _Processes:
    def __init__(self, pool: ProcessPoolExecutor, ahead: int) -> None:
        self.pool = pool
        self.ahead = ahead

    def map(self, chunks: Iterator[Chunk]) -> Iterator[Work]:
        waiting: deque[tuple[Chunk, Future[Checked]]] = deque()
        try:
            for chunk in chunks:
                waiting.append((chunk, self.pool.submit(_check, chunk)))
                if len(waiting) > self.ahead:
                    done, result = waiting.popleft()
                    yield done, result.result()
            while waiting:
                done, result = waiting.popleft()
                yield done, result.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process that checked rows was ended from outside, most likely for want of "
                "memory. Free some, or set data.processes: 1."
            ) from error
