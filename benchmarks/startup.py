"""How long commands that need no tensors take to start: `--help` of every command, and real calls.

usage: python benchmarks/startup.py [--rounds 5] [--markdown]
Wall and processor seconds of whole processes, median over the rounds after one to warm up, and
whether the process loaded torch or NumPy. The run folder is an invented one of 400 steps
(tests/gate/example_run.py).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import typer  # noqa: E402
from tests.gate.example_run import write_run  # noqa: E402

from sftprep.cli.main import app  # noqa: E402

BAR_SECONDS = 0.5
LOADED = ("torch", "numpy", "pydantic")
CALL = f"""
import sys
from sftprep.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*(m for m in {LOADED} if m in sys.modules), file=sys.stderr)
"""


def calls(folder: Path) -> list[list[str]]:
    """The command lines to measure."""
    run, again = str(folder / "run"), str(folder / "again")
    names = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    return [
        ["--version"],
        ["--help"],
        *([name, "--help"] for name in names),
        ["schema"],
        ["schema", "--check", f"{run}/gate.json"],
        ["run", f"{run}/recipe.yaml", "--dry-run"],
        ["init", "--base", str(folder / "model"), "--data", str(folder / "rows.jsonl"),
         "--out", str(folder / "new.yaml")],
        ["diagnose", run],
        ["compare", run, again],
        ["gate", run],
        ["report", str(folder)],
        ["report", run],
    ]  # fmt: skip


def prepare(folder: Path) -> None:
    """Two runs whose recipe names a model that is there, the model, and a row."""
    run = write_run(folder / "run")
    text = run.recipe.read_text(encoding="utf-8")
    found = text.replace("models/starter-0.4m", str(folder / "model"))
    assert found != text
    run.recipe.write_text(found, encoding="utf-8")
    shutil.copytree(folder / "run", folder / "again")
    shutil.copytree(ROOT / "src" / "sftprep" / "starter" / "model", folder / "model")
    rows = '{"instruction": "Say a.", "response": "a"}\n'
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")


def once(words: list[str]) -> tuple[float, float, int, str]:
    """One process: wall seconds, processor seconds, exit status, what it loaded."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    return wall, used.ru_utime + used.ru_stime, process.returncode, said.splitlines()[-1]


def measure(words: list[str], folder: Path, rounds: int) -> dict[str, Any]:
    """Median over the rounds."""
    _, _, code, loaded = once(words)
    taken = [once(words)[:2] for _ in range(rounds)]
    wall, processor = (statistics.median(column) for column in zip(*taken, strict=True))
    shown = " ".join(words).replace(f"{folder}/", "").replace(str(folder), "RUNS")
    return {
        "command": shown,
        "wall": round(wall, 2),
        "processor": round(processor, 2),
        "met": wall < BAR_SECONDS,
        "exit": code,
        "loads": loaded,
    }


def main() -> None:
    """Print a line per command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        for words in calls(folder):
            row = measure(words, folder, given.rounds)
            line = " | ".join(str(v) for v in row.values())
            print(f"| {line} |" if given.markdown else json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
