"""Too little memory, for real: the command line in a child that may have only so much more.

usage: python -m tests.faults.starve WORK_FOLDER STAGE MIB[,MIB...]
The limit is on addresses (RLIMIT_AS), set before the stage begins in a child that has loaded every
library. Each child must finish, or exit 2 with a message and no traceback; afterwards the command
without a limit must end like the undisturbed run. Prints one JSON line per limit; exit 1 on a
violation.
"""

import json
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from tests.faults.crash import compared, finish, in_child, preload, restore, watched
from tests.faults.tiny import outcome, write_inputs

from sftprep.cli import main as command_line
from sftprep.pipeline.stages import TABLE


def starved(recipe: Path, stage: str, spare_bytes: int, said: Path) -> int:
    """The command with `spare_bytes` of addresses beyond those in use; what it says goes to a file.

    Raises:
        AssertionError: the command line let an exception through.
    """
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + spare_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        command_line(["run", str(recipe), "--until", stage])
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("no exit status")


def attempt(work: Path, recipe: Path, stage: str, mib: int, expected: dict[str, Any]) -> Any:
    """One limit: what happened, and what is wrong with it."""
    kept, said = work / "before", work / "said"
    restore(kept, recipe.parent / "run")
    code, _ = in_child(lambda: starved(recipe, stage, mib << 20, said))
    text = said.read_text(encoding="utf-8", errors="replace")
    wrong = compared(recipe, stage, expected, {"mib": mib})
    if code not in (0, 2) or "Traceback" in text:
        wrong.append({"code": code, "said": text[-3000:]})
    return {"mib": mib, "exit": code, "said": text.strip().splitlines()[-1:], "wrong": wrong}


def main() -> None:
    """Each limit in turn."""
    work, stage, limits = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
    torch.set_num_threads(1)
    recipe, note = write_inputs(work / "in"), work / "note"
    folder = recipe.parent / "run"
    before = [row.name for row in TABLE].index(stage)
    in_child(lambda: finish(recipe, TABLE[before - 1].name))
    shutil.copytree(folder, work / "before")
    in_child(lambda: watched(recipe, stage, lambda n: None, note))
    preload(json.loads(note.read_text(encoding="utf-8"))[1])
    expected = outcome(folder)
    results = [attempt(work, recipe, stage, int(mib), expected) for mib in limits]
    for result in results:
        print(json.dumps(result), flush=True)
    raise SystemExit(any(result["wrong"] for result in results))


if __name__ == "__main__":
    main()
