"""Chunks checked by Ray Data: on a Ray of this machine or on a cluster (`ray://HOST:PORT`).

This process reads and cuts the files, which costs microseconds per row; the workers parse, check,
tokenise and hash, which costs about a millisecond; results come back in order. Files of the recipe
are therefore only read here, and the cluster needs sftprep[ray] installed and nothing else.
"""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from sftprep.data.rowcheck import Checked, Chunk, Context, check_chunk
from sftprep.errors import DataError, MissingDependencyError
from sftprep.recipe.sections import DataSection

if TYPE_CHECKING:
    from sftprep.data.engine import Engine, Work

KNOCK_SECONDS = 10.0
CHUNKS_PER_WORKER = 8  # in one window: 8,000 rows each, so that nobody waits long at its end


@contextmanager
def ray_engine(section: DataSection, context: Context) -> Iterator["Engine"]:
    """An engine on Ray; a Ray that was already running in this process is used and left running.

    Raises:
        MissingDependencyError: no `ray` here. DataError: the cluster cannot be reached.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            "data.engine: ray needs the package `ray`: pip install 'sftprep[ray]', or use "
            "data.engine: local."
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _start(section)
    try:
        cluster: Any = ray  # its annotations are incomplete
        cores = int(cluster.cluster_resources().get("CPU", 1))
        workers = section.processes or max(1, cores)
        yield _Ray(context, workers)
    finally:
        if ours:
            ray.shutdown()


def _start(section: DataSection) -> None:
    import ray

    address = section.ray_address
    handler = signal.getsignal(signal.SIGTERM)
    here: dict[str, Any] = {} if address else {"num_cpus": section.processes}
    try:
        if address is not None and address != "auto":
            _knock(address)
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            configure_logging=False,
            **here,
        )
    except Exception as error:  # Ray raises plain Exception when a node starts too slowly
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"data.ray_address: {address or 'this machine'}: Ray cannot be started or reached "
            f"({first}). Correct the address, or use data.engine: local."
        ) from error

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray puts in its own; ours stops resumably


def _knock(address: str) -> None:
    """Ray itself tries for minutes to reach an address where nobody answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("write it as ray://HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


class _Ray:
    def __init__(self, context: Context, workers: int) -> None:
        import ray

        self.workers = workers
        self.context = ray.put(context)

    def map(self, chunks: Iterator[Chunk]) -> Iterator["Work"]:
        import ray.data

        ray.data.DataContext.get_current().execution_options.preserve_order = True
        ray.data.DataContext.get_current().enable_progress_bars = False
        size = self.workers * CHUNKS_PER_WORKER
        while window := list(islice(chunks, size)):
            rows = [{"number": number, "chunk": chunk} for number, chunk in enumerate(window)]
            data = ray.data.from_items(rows, override_num_blocks=len(rows))
            done = data.map(partial(_check, context=self.context), concurrency=self.workers)
            for number, row in enumerate(done.iter_rows()):
                assert row["number"] == number, "Ray gave the chunks out of order"
                yield window[number], row["checked"]


def _check(row: dict[str, Any], context: Any) -> dict[str, Any]:
    """One chunk on a worker."""
    checked: Checked = check_chunk(row["chunk"], _context_of(context))
    return {"number": row["number"], "checked": checked}


@lru_cache(maxsize=1)
def _context_of(reference: Any) -> Context:
    """What a worker checks with, fetched once: a tokenizer takes longer to unpack than a chunk."""
    import ray

    found: Context = ray.get(reference)
    return found
