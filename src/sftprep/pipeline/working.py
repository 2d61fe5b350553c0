"""At work in a folder: checked, locked, cleared up, watched; signals and failures are ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from sftprep.errors import StoreError
from sftprep.stop import StopSignal, handling_signals, stall_seconds, watching
from sftprep.store.durable import TEMPORARY, free_bytes, storage_errors, sweep_temporary
from sftprep.store.lock import LOCK, locked
from sftprep.store.run import RunFolder

MINIMUM_FREE_BYTES = 64 << 20  # less than this cannot even hold logs and a small checkpoint


@contextmanager
def at_work(folder: RunFolder) -> Iterator[StopSignal]:
    """Hold a run folder for this process; nothing is written before everything is checked.

    Raises:
        StoreError: somebody's files or links are in it, another version wrote it, or the disk is
            nearly full.
        RunLockedError: another process works on it.
    """
    stop = StopSignal()
    _check_foreign(folder)
    limit = stall_seconds()
    with locked(folder.root), handling_signals(stop), watching(stop, limit):
        _check_space(folder)
        stages = folder.stages()  # refuses other versions before anything is written
        sweep_temporary(folder.root)
        _check_links(folder)
        if not folder.state.exists():
            folder.keep(stages)  # from now on the folder is known as ours
        yield stop


def _check_foreign(folder: RunFolder) -> None:
    """A folder with somebody's files is no place for a run: nothing there may be overwritten.

    Raises:
        StoreError: names one of the files.
    """
    if folder.state.exists() or not folder.root.exists():
        return
    with storage_errors(folder.root):
        strangers = sorted(
            p.name
            for p in folder.root.iterdir()
            if p.name != LOCK and not p.name.startswith(TEMPORARY)
        )
    if strangers:
        raise StoreError(
            f"{folder.root}: this folder holds other files ({strangers[0]}) and no run.json. "
            "Choose a new, empty folder."
        )


def _check_links(folder: RunFolder) -> None:
    """What is written into a run folder stays in it; the run folder itself may be a link.

    Raises:
        StoreError: names a link.
    """
    for pattern in ("*", "*/*"):
        for path in sorted(folder.root.glob(pattern)):
            if path.is_symlink():
                raise StoreError(
                    f"{path}: a link inside a run folder is refused, because files would be "
                    "written to where it leads. Put the whole run folder there instead."
                )


def _check_space(folder: RunFolder) -> None:
    free = free_bytes(folder.root)
    if free < MINIMUM_FREE_BYTES:
        raise StoreError(
            f"{folder.root}: only {free >> 20} MiB free on the disk, at least "
            f"{MINIMUM_FREE_BYTES >> 20} MiB are needed. Free some space or change output.run_dir."
        )
