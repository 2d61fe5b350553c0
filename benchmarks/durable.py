"""What durability costs: checkpoints, logs, listing; and memory of a million log lines.

usage: python benchmarks/durable.py [--only checkpoint|listing|log]
           [--megabytes 256] [--rounds 7] [--steps 1000000] [--folder DIR]
Raw and durable writes alternate; printed is the median ratio with the range over the rounds.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sftprep.gate.step_log import read_steps
from sftprep.records import StepRecord, to_json
from sftprep.store.durable import append_line, commit_folder, iterate_jsonl, verify_folder
from sftprep.store.versions import numbered_folders

FILES = 4  # weights and three optimizer tensors' worth
STEP = StepRecord.__dataclass_fields__


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def raw(folder: Path, block: bytes) -> None:
    """The least a careful writer does: write and fsync each file."""
    folder.mkdir()
    for number in range(FILES):
        with (folder / str(number)).open("xb") as handle:
            handle.write(block)
            handle.flush()
            os.fsync(handle.fileno())


def durable(folder: Path, block: bytes) -> None:
    """The same files through the store: manifest, hashes, rename."""
    with commit_folder(folder) as building:
        for number in range(FILES):
            (building / str(number)).write_bytes(block)


def overhead(root: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    """Durable over raw, alternating."""
    block = os.urandom((megabytes << 20) // FILES)
    ratios, verified, plain = [], [], []
    for number in range(rounds):
        order = (raw, durable) if number % 2 else (durable, raw)
        took = {}
        for work in order:
            folder = root / f"{work.__name__}-{number}"
            os.sync()
            took[work] = seconds(lambda: work(folder, block))  # noqa: B023
        verified.append(seconds(lambda: verify_folder(root / f"durable-{number}")))  # noqa: B023
        ratios.append(took[durable] / took[raw])
        plain.append(took[raw])
        for work in order:
            shutil.rmtree(root / f"{work.__name__}-{number}")
    return {
        "megabytes": megabytes,
        "raw_seconds": round(statistics.median(plain), 3),
        "durable_over_raw": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "verify_gb_per_second": round(megabytes / 1024 / statistics.median(verified), 2),
    }


def log(root: Path, steps: int) -> dict[str, Any]:
    """A step log of many lines: append, read in a stream, read as the gate does."""
    path = root / "steps.jsonl"
    values: dict[str, Any] = dict.fromkeys(STEP, 1)
    record = StepRecord(**values)
    line = to_json(record)[: -len("}")].split(",", 1)[1]
    few = min(steps, 20_000)
    appended = seconds(
        lambda: [append_line(root / "few.jsonl", to_json(record)) for _ in range(few)]
    )
    with path.open("w", encoding="utf-8") as handle:
        handle.writelines(f'{{"step": {n},{line}}}\n' for n in range(1, steps + 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    streamed = seconds(lambda: sum(1 for _ in iterate_jsonl(path)))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = seconds(lambda: read_steps(path))
    return {
        "steps": steps,
        "append_microseconds": round(appended / few * 1e6, 1),
        "stream_seconds": round(streamed, 1),
        "stream_extra_mib": (after - before) >> 10,
        "gate_read_seconds": round(read, 1),
        "gate_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def listing(root: Path) -> dict[str, float]:
    """Ten thousand checkpoints."""
    for step in range(10_000):
        (root / "list" / f"step-{step}").mkdir(parents=True)
    name = re.compile(r"step-(\d+)")
    return {"seconds": round(seconds(lambda: numbered_folders(root / "list", name)), 3)}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["checkpoint", "listing", "log"])
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        root = Path(scratch)
        works: dict[str, Callable[[], Any]] = {
            "checkpoint": lambda: overhead(root, given.megabytes, given.rounds),
            "listing": lambda: listing(root),
            "log": lambda: log(root, given.steps),
        }
        for name, work in works.items():
            if given.only in (None, name):
                print(json.dumps({name: work()}), flush=True)


if __name__ == "__main__":
    main()
