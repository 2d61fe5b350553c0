"""Everything sftprep raises on purpose.

    SftprepError                  exit 2: the user can mend it
    |-- RecipeError               a key or value of the recipe, with file and line
    |-- DataError                 a row, file or share of rows
    |-- ModelError                a folder, hub id, tokenizer or template
    |-- StoreError                the run folder: unreadable, unwritable, foreign
    |   |-- RunLockedError        another process works on it
    |   |-- DiskFullError         no space, or over quota
    |   `-- CorruptError          a file that does not match its manifest
    |-- TrainingError             non-finite loss, failed self-check, out of memory
    |-- EvaluationError           non-finite score, unusable benchmark file
    |-- OutOfMemoryError          this machine's memory is too small for what was asked
    |-- MissingDependencyError    an optional package, with the pip line
    `-- Interrupted               exit 75: stopped on request, the same command resumes

A message says what, where, the value, and what to change. The command line prints it without a
traceback. Our own mistakes are `assert`s and keep their traceback.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_UNDECIDABLE = 3
EXIT_RESUMABLE = 75


class SftprepError(Exception):
    """Base of every error a user can mend."""

    exit_code: int = EXIT_USER_ERROR


class RecipeError(SftprepError):
    """A recipe that cannot be used; the message starts with `file:line: key:`."""


class DataError(SftprepError):
    """Training or evaluation data that cannot be used."""


class ModelError(SftprepError):
    """A model, tokenizer or chat template that cannot be used."""


class StoreError(SftprepError):
    """A run folder or file that cannot be read or written."""


class RunLockedError(StoreError):
    """Another process holds the run folder."""


class DiskFullError(StoreError):
    """The disk is full or a quota is reached."""


class CorruptError(StoreError):
    """A committed file no longer matches its manifest."""


class TrainingError(SftprepError):
    """Training cannot start or go on."""


class EvaluationError(SftprepError):
    """A score cannot be computed or trusted."""


class OutOfMemoryError(SftprepError):
    """Not enough memory, on the host or a device."""


class MissingDependencyError(SftprepError):
    """An optional package is needed; the message holds the pip line."""


class Interrupted(SftprepError):
    """The user or the scheduler asked to stop; the run folder is resumable."""

    exit_code = EXIT_RESUMABLE


class SftprepWarning(UserWarning):
    """A setting that has no effect, or a promise that is weaker than usual."""


@contextmanager
def library_failures(doing: str) -> Iterator[None]:
    """Turn what libraries raise at their own end into errors that a user can act on.

    Memory that cannot be had is a MemoryError in Python, a RuntimeError in torch and an OSError
    where a file is mapped. The tokenizers library, written in Rust, panics where a tokenizer's own
    pattern takes too many steps; Python sees a BaseException that no `except Exception` catches.

    Args:
        doing: for the message, e.g. `while scoring`.
    Raises:
        OutOfMemoryError: this machine has not enough memory for it.
        StoreError: the system refused a file; the message names it.
        ModelError: a library panicked.
    """
    try:
        yield
    except BaseException as error:
        if _is_memory(error):
            raise OutOfMemoryError(
                f"out of memory {doing}. End other programs, use a larger machine, or lower "
                "training.batch_size, training.max_length or data.processes. Finished work is kept."
            ) from error
        if isinstance(error, OSError) and error.errno is not None:
            name = error.filename if isinstance(error.filename, str) else "a file"
            raise StoreError(
                f"{name}: {error.strerror} {doing}. Check that the path is what its name says and "
                "that you may read and write it."
            ) from error
        if type(error).__name__ != "PanicException":
            raise
        raise ModelError(
            f"a library gave up {doing} ({error}). Most likely the tokenizer is damaged or "
            "hostile: check tokenizer.json of the model, or set model.tokenizer."
        ) from error


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    said = "allocate memory" in text or "out of memory" in text or "bad_alloc" in text
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)
