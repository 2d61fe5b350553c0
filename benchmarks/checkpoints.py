"""What a checkpoint costs: against writing the same bytes, and how long training waits for it.

In turns, on the same disk: (a) the bytes of a step checkpoint written and synced once, (b) a whole
checkpoint: copied, written, synced, hashed and committed, with `latest` beside it. The training
loop waits for the copy only; the rest runs beside it. The copy alone is timed too (c), as the
least that a loop can wait.

    python benchmarks/checkpoints.py --folder runs/scratch --rounds 5
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import train as speed
from train_rows import make_run, prepare, recipe_of


def raw_write(folder: Path, source: Path) -> float:
    """Seconds to write and sync the files of a checkpoint again, from memory."""
    contents = [p.read_bytes() for p in sorted(source.rglob("*")) if p.is_file()]
    folder.mkdir()
    begin = time.monotonic()
    for number, content in enumerate(contents):
        with (folder / str(number)).open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    spent = time.monotonic() - begin
    shutil.rmtree(folder)
    return spent


def copy_seconds(session: Any) -> float:
    """Seconds to copy weights and moments into fresh memory."""
    tensors = [*session.model.parameters()]
    for state in session.optimizer.state.values():
        tensors += [state["exp_avg"], state["exp_avg_sq"]]
    begin = time.monotonic()
    copies = [t.detach().clone() for t in tensors]
    spent = time.monotonic() - begin
    del copies
    return spent


def save_one(session: Any, saver: Any) -> tuple[float, float, Path]:
    """Take a step and save: seconds the loop waits, seconds in all, the checkpoint."""
    from sftprep.data.pack import assemble
    from sftprep.train.state import RandomStates
    from sftprep.train.step import run_step

    documents = session.plan.micro_batches(session.state.step + 1, 0)
    run_step(session, [assemble(session.plan.cache, d) for d in documents])
    session.state.step += 1
    begin = time.monotonic()
    saver.save(RandomStates.capture())
    copied = time.monotonic()
    saver.wait()
    ended = time.monotonic()
    folder = session.run.train_checkpoints / f"step-{session.state.step}"
    return copied - begin, ended - begin, folder


def measure(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Alternating rounds after one to warm up."""
    from sftprep.progress import Progress
    from sftprep.stop import StopSignal
    from sftprep.train.saving import Saver
    from sftprep.train.session import open_session

    options = speed.parse(["--rows", "200", f"--hidden={asked.hidden}"])
    speed.settle_precision(options)
    facts = prepare(folder, options)
    recipe = recipe_of(folder, options, 1000, async_checkpoints="on")
    session = open_session(recipe, make_run(folder, folder), Progress(quiet=True), StopSignal())
    saver = Saver(session)
    rounds = []
    for _ in range(asked.rounds + 1):
        waits, whole, newest = save_one(session, saver)
        rounds.append((raw_write(folder / "raw", newest), whole, waits, copy_seconds(session)))
    size = sum(p.stat().st_size for p in newest.rglob("*") if p.is_file())
    saver.close()
    raw, whole, waits, copied = zip(*rounds[1:], strict=True)
    ratios = [a / b for a, b in zip(whole, raw, strict=True)]
    return {
        **facts,
        "checkpoint_mib": size >> 20,
        "raw_write_and_sync_seconds": [round(v, 2) for v in raw],
        "checkpoint_seconds": [round(v, 2) for v in whole],
        "loop_waits_seconds": [round(v, 3) for v in waits],
        "copy_alone_seconds": [round(v, 3) for v in copied],
        "ratios": [round(v, 2) for v in ratios],
        "median_ratio": round(statistics.median(ratios), 2),
    }


def main() -> None:
    """Measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        print(json.dumps(measure(Path(place), asked)))


if __name__ == "__main__":
    main()
