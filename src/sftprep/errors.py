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
    |-- MissingDependencyError    an optional package, with the pip line
    `-- Interrupted               exit 75: stopped on request, the same command resumes

A message says what, where, the value, and what to change. The command line prints it without a
traceback. Our own mistakes are `assert`s and keep their traceback.
"""

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


class MissingDependencyError(SftprepError):
    """An optional package is needed; the message holds the pip line."""


class Interrupted(SftprepError):
    """The user or the scheduler asked to stop; the run folder is resumable."""

    exit_code = EXIT_RESUMABLE


class SftprepWarning(UserWarning):
    """A setting that has no effect, or a promise that is weaker than usual."""
