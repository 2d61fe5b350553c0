"""Host waits, recompilations and time by kernel inside our training step on a GPU.

After warm-up any recompilation is an error. Every place of our code at which the host waits for the
device is listed with how often it did (`torch.cuda.set_sync_debug_mode`): one per step is ours,
where loss and gradient norm are read together. The options are those of benchmarks/train.py.

    python benchmarks/gpu_profile.py --hidden 2048 --layers 16 --batch 16
"""

import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import train as speed
from train_rows import make_run, prepare, recipe_of

WARM_STEPS, PROFILED_STEPS = 8, 5
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


def stepper(session: Any) -> Callable[[], None]:
    """A function that takes the session's next step; its batches are assembled beforehand."""
    from sftprep.data.pack import assemble
    from sftprep.train.step import run_step

    ready = [
        [assemble(session.plan.cache, d) for d in session.plan.micro_batches(number, 0)]
        for number in range(1, WARM_STEPS + 2 * PROFILED_STEPS + 1)
    ]

    def step() -> None:
        run_step(session, ready[session.state.step])
        session.state.step += 1

    return step


def places_that_wait(step: Callable[[], None]) -> dict[str, int]:
    """How often each line made the host wait, over PROFILED_STEPS."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        for _ in range(PROFILED_STEPS):
            step()
        torch.cuda.set_sync_debug_mode("default")
    found = [w for w in caught if "synchroniz" in str(w.message)]
    return dict(Counter(f"{Path(w.filename).name}:{w.lineno}" for w in found))


def main() -> None:
    """Warm up, forbid recompilation, profile, print JSON and the table of kernels."""
    from sftprep.progress import Progress
    from sftprep.stop import StopSignal
    from sftprep.train.session import open_session

    options = speed.parse(["--device=cuda", "--shape=packed", *sys.argv[1:]])
    speed.settle_precision(options)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        facts = prepare(folder, options)
        recipe = recipe_of(folder, options, 1000)
        session = open_session(recipe, make_run(folder, folder), Progress(), StopSignal())
        step = stepper(session)
        for _ in range(WARM_STEPS):
            step()
        torch.compiler.set_stance("fail_on_recompile")
        places = places_that_wait(step)
        torch.cuda.reset_peak_memory_stats()
        with torch.profiler.profile() as profile:
            for _ in range(PROFILED_STEPS):
                step()
    calls = Counter({event.key: event.count for event in profile.key_averages()})
    found = {
        "steps": PROFILED_STEPS,
        "host_waits": places,
        "driver_waits": {name: calls[name] for name in WAITS},
        "allocated_gib": round(torch.cuda.memory_allocated() / 2**30, 1),
    }
    print(json.dumps({**facts, **found}))
    print(profile.key_averages().table(sort_by="device_time_total", row_limit=25))


if __name__ == "__main__":
    main()
