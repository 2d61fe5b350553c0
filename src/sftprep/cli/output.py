"""How the command line prints: JSON on stdout, everything else on stderr."""

import json
import os
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from sftprep.errors import SftprepError
from sftprep.progress import Progress, show


def progress_for() -> Progress:
    """Progress on stderr."""
    return Progress()


def print_json(value: Any) -> None:
    """One strict JSON document on stdout."""
    if is_dataclass(value) and not isinstance(value, type):
        from sftprep.records import to_dict

        value = to_dict(value)
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str))


def fail(error: SftprepError, progress: Progress) -> int:
    """Print one clear message, without a traceback unless SFTPREP_TRACEBACK is set."""
    if os.environ.get("SFTPREP_TRACEBACK"):
        raise error
    print(show(f"sftprep: {error}"), file=sys.stderr)
    return error.exit_code


def relative(path: Path) -> str:
    """A path as the user would type it from here."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)
