"""Train, kill, continue, for hours: memory stays flat, nothing leaks, every run ends bit-equal.

usage: python scripts/soak.py [--minutes 120] [--out soak.json]      (CPU; `make soak`)
Each cycle runs a small pipeline through training in a process of its own, is killed (signal 9) or
stopped (signal 15) at a random moment until it finishes by itself, and is compared with the
undisturbed run. After each cycle: peak memory of the children, processes, open files and temporary
folders that are left, bytes in the run folder.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.faults.tiny import CLOCKS, write_inputs  # noqa: E402

COMMAND = [sys.executable, "-m", "sftprep", "run"]
MAX_ATTEMPTS = 40
EXIT_RESUMABLE = 75
# Peak memory of the children, second half of the cycles over first; allocators vary by a few
# percent. A cycle's peak is that of many processes when it was killed often: single cycles differ.
GROWTH = 1.05


def weights(run: Path) -> str:
    """sha256 over all checkpoint tensors and the step log without clock readings."""
    total = hashlib.sha256()
    for path in sorted((run / "train" / "checkpoints").glob("step-*/**/*.safetensors")):
        total.update(path.relative_to(run).as_posix().encode() + path.read_bytes())
    for line in (run / "train" / "steps.jsonl").read_text(encoding="utf-8").splitlines():
        row = {k: v for k, v in json.loads(line).items() if k not in CLOCKS}
        total.update(json.dumps(row).encode())
    return total.hexdigest()


def attempt(recipe: Path, seconds: float | None, number: signal.Signals) -> tuple[int, int, float]:
    """One process: (exit status, peak memory in KiB, seconds). `seconds` None: left alone."""
    started = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, str(recipe), "--until", "train"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    timer = threading.Timer(seconds or 0.0, os.killpg, (process.pid, number))
    if seconds is not None:
        timer.start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # the id stays taken: no wrong kill
    timer.cancel()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_maxrss, time.monotonic() - started


def left_behind(before: set[int], work: Path) -> dict[str, int]:
    """Processes of this session, open files, temporary folders and bytes that are left."""
    own = [p for p in Path("/proc").glob("[0-9]*") if _is_ours(p, work)]
    return {
        "processes": len(own),
        "open_files": len(list(Path("/proc/self/fd").iterdir())) - len(before),
        "temporary_in_run": len(list((work / "run").rglob(".tmp-*"))),
        "temporary_elsewhere": len(list((work / "tmp").iterdir())),
        "run_bytes": sum(p.stat().st_size for p in (work / "run").rglob("*") if p.is_file()),
    }


def _is_ours(process: Path, work: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return str(work).encode() in words and process.name != str(os.getpid())


def cycle(recipe: Path, chance: random.Random, whole_seconds: float) -> dict[str, Any]:
    """From an empty run folder to the end, killed again and again.

    `whole_seconds`: the fastest whole run so far; a run that was not disturbed updates it, so that
    kills still hit when the machine becomes faster.
    """
    shutil.rmtree(recipe.parent / "run", ignore_errors=True)
    kills = stops = peak = 0
    for _ in range(MAX_ATTEMPTS):
        number = chance.choice((signal.SIGKILL, signal.SIGTERM))
        seconds = chance.uniform(0.3, 1.1) * whole_seconds
        code, memory, spent = attempt(recipe, seconds, number)
        peak = max(peak, memory)
        if code == 0:
            fastest = min(whole_seconds, spent) if kills + stops == 0 else whole_seconds
            return {"kills": kills, "stops": stops, "peak_kib": peak, "whole_seconds": fastest}
        assert code in (-signal.SIGKILL, -signal.SIGTERM, EXIT_RESUMABLE), f"exit {code}"
        kills += number == signal.SIGKILL
        stops += number == signal.SIGTERM
    raise SystemExit(f"not finished after {MAX_ATTEMPTS} attempts")


def main() -> None:
    """Cycle until the time is over; exit 1 on any difference or leak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    ends = time.monotonic() + 60 * given.minutes
    cycles = []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "tmp").mkdir()
        os.environ["TMPDIR"] = str(work / "tmp")
        recipe = write_inputs(work)
        code, _, seconds = attempt(recipe, None, signal.SIGKILL)
        assert code == 0, f"the undisturbed run exits {code}"
        expected = weights(work / "run")
        descriptors = {int(p.name) for p in Path("/proc/self/fd").iterdir()}
        while time.monotonic() < ends:
            found = cycle(recipe, chance, seconds)
            seconds = found["whole_seconds"]
            found["equal"] = weights(work / "run") == expected
            cycles.append(found | left_behind(descriptors, work))
            print(json.dumps(cycles[-1]), flush=True)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    middle = (len(cycles) + 1) // 2
    peaks = [
        max(c["peak_kib"] for c in part) for part in (cycles[:middle], cycles[middle:]) if part
    ]
    summary = {
        "cycles": len(cycles),
        "kills": sum(c["kills"] for c in cycles),
        "stops": sum(c["stops"] for c in cycles),
        "bit_equal": sum(c["equal"] for c in cycles),
        "peak_kib_of_the_halves": peaks,
        "run_bytes_min_and_max": [f(c["run_bytes"] for c in cycles) for f in (min, max)],
        "left": {k: max(c[k] for c in cycles) for k in ("processes", "open_files",
                 "temporary_in_run", "temporary_elsewhere")},
        "own_peak_kib": own,
    }  # fmt: skip
    given.out.write_text(json.dumps({"summary": summary, "cycles": cycles}, indent=1) + "\n")
    print(json.dumps(summary, indent=1))
    clean = all(v <= 0 for v in summary["left"].values())
    flat = peaks[-1] <= GROWTH * peaks[0]
    raise SystemExit(0 if clean and flat and summary["bit_equal"] == len(cycles) else 1)


if __name__ == "__main__":
    main()
