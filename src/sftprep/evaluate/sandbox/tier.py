"""Which layers this machine offers, and how a process is started inside them."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sftprep.evaluate.sandbox import landlock, seccomp
from sftprep.evaluate.sandbox.confine import Confinement

HERE = Path(__file__).resolve().parent
INSIDE_PYTHON = "/opt/py"
INSIDE_CODE = "/opt/sandbox"
LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")

TierName = Literal["bwrap+landlock+seccomp", "bwrap+seccomp", "landlock+seccomp", "none"]


@dataclass(frozen=True, slots=True)
class SandboxTier:
    """The layers around model code. `none` only by the user's explicit request."""

    name: TierName

    @property
    def bubblewrap(self) -> bool:
        """Own namespaces for processes, network and files."""
        return self.name.startswith("bwrap")

    @property
    def landlock(self) -> bool:
        """No file access but reading the interpreter."""
        return "landlock" in self.name

    @property
    def seccomp(self) -> bool:
        """No new process, no socket, none of the other refused system calls."""
        return "seccomp" in self.name


UNSAFE = SandboxTier("none")
"""Resource limits only: the code can read and write whatever the user can."""


def candidates() -> tuple[SandboxTier, ...]:
    """Tiers whose parts are there, strongest first; `run.probe` finds out which really hold."""
    if not sys.platform.startswith("linux") or not seccomp.supported():
        return ()
    has_landlock, has_bwrap = landlock.abi() >= 1, shutil.which("bwrap") is not None
    found: list[SandboxTier] = []
    if has_bwrap and has_landlock:
        found.append(SandboxTier("bwrap+landlock+seccomp"))
    if has_landlock:
        found.append(SandboxTier("landlock+seccomp"))
    if has_bwrap:
        found.append(SandboxTier("bwrap+seccomp"))
    return tuple(found)


def interpreter() -> tuple[Path, Path]:
    """The real interpreter behind a virtual environment: (executable, prefix)."""
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    return executable, Path(sys.base_prefix).resolve()


def environment(prefix: str) -> dict[str, str]:
    """Everything the inner processes see; nothing of the caller's environment."""
    return {
        "PATH": "/usr/bin",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "LD_LIBRARY_PATH": f"{prefix}/lib",
    }


@dataclass(frozen=True, slots=True)
class Launch:
    """How one of the two programs is started."""

    program: Literal["solver.py", "checker.py"]
    fds: tuple[int, ...]
    tier: SandboxTier
    cpu_seconds: int
    preload: tuple[str, ...]

    def arguments(self, folder: str, prefix: str) -> list[str]:
        """What follows the interpreter on the command line."""
        rules = Confinement(
            self.tier.landlock,
            self.tier.seccomp,
            (prefix, *LIBRARIES),
            self.cpu_seconds,
            self.preload,
        )
        numbers = [str(fd) for fd in self.fds]
        text = json.dumps(rules._asdict())
        return ["-I", "-S", "-B", f"{folder}/{self.program}", *numbers, text]


def imports_in(texts: Iterable[str]) -> tuple[str, ...]:
    """Names of modules that these texts seem to import (by pattern; nothing is parsed or run)."""
    pattern = re.compile(r"^[ \t]*(?:from|import)[ \t]+([A-Za-z_]+)", re.MULTILINE)
    return tuple(sorted({name for text in texts for name in pattern.findall(text)}))


def plain_command(launch: Launch) -> list[str]:
    """Start the program directly; it closes itself in."""
    executable, prefix = interpreter()
    return [str(executable), *launch.arguments(str(HERE), str(prefix))]


def _inside(path: Path, prefix: Path) -> str:
    return str(path) if prefix == Path("/usr") else f"{INSIDE_PYTHON}/{path.relative_to(prefix)}"


def _file_tree(prefix: Path) -> list[str]:
    """bwrap options for a root with the interpreter at a neutral place and the libraries."""
    if prefix == Path("/usr"):
        options = ["--ro-bind", "/usr", "/usr"]
    else:
        options = ["--ro-bind", str(prefix), INSIDE_PYTHON]
    for name in LIBRARIES:
        path = Path(name)
        if path.is_symlink():
            options += ["--symlink", os.readlink(path), name]  # noqa: PTH115
        elif path.is_dir() and not (prefix == Path("/usr") and name.startswith("/usr/")):
            options += ["--ro-bind", name, name]
    return options


def bwrap_command(launch: Launch) -> list[str]:
    """Start the program in namespaces of its own; it still closes itself in.

    bwrap must be started with an empty environment: it stays process 1 inside, with its environment
    in memory.
    """
    executable, prefix = interpreter()
    shown = "/usr" if prefix == Path("/usr") else INSIDE_PYTHON
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent"]
    command += ["--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--clearenv"]
    for name, value in environment(shown).items():
        command += ["--setenv", name, value]
    command += _file_tree(prefix)
    command += ["--ro-bind", str(HERE), INSIDE_CODE]
    command += ["--dir", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]
    inner = launch.arguments(INSIDE_CODE, shown)
    return [*command, _inside(executable, prefix), *inner]
