"""Our engine against lm-evaluation-harness: same model, same real items, in turns.

    python benchmarks/evaluate_model.py --data FOLDER --out MODEL     (once)
    python benchmarks/evaluate.py --model MODEL --data FOLDER [--tasks mmlu ...] [--rounds 3]

`--data` holds the benchmarks as JSONL (mmlu/, hellaswag/, truthfulqa/, gsm8k/, humaneval/). Prompts
are those of our protocol modules, which the test suite holds equal to lm-eval's, string by string.
Before anything is timed the answers must agree: log-likelihoods to 1e-4, every greedy decision.
lm-eval's `hf` backend runs at the fastest of its batch sizes; both sides then take turns in one
process, the ratio is taken per round. Peak memory and start-up come from processes of their own.

On a GPU: `--device cuda --dtype bfloat16` (the agreement is then reported, not required), and
`--opponent vllm` where vLLM is installed. This has not been run on a GPU yet.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
TOLERANCE_NATS = 1e-4
BATCH_SIZES = {"score": (4, 16, 64), "generate": (8, 16, 32)}
SUBJECTS = ("anatomy", "high_school_psychology")
HELLASWAG_SHOTS = 10
END = "ld"
"""A random model never writes the published stop strings, so every answer would run to its limit.
One in 164 of the model's tokens holds these letters: answers end at different lengths."""
START_TASKS = ("mmlu", "hellaswag", "gsm8k", "truthfulqa")
THEIR_TASKS = ("mmlu", "hellaswag", "gsm8k", "truthfulqa_mc1", "truthfulqa_mc2")


@dataclass(frozen=True)
class Work:
    """What both sides are asked. `pairs`: for lm-eval, where it asks for more than we do."""

    kind: str
    requests: list[Any]
    pairs: list[tuple[str, Any]]


def plain(text: str) -> str:
    """No chat template: the capability benchmarks are asked in plain form."""
    return text


def items_of(name: str, data: Path, few_shot: int | None = None) -> Any:
    """(protocol, all items) of a benchmark."""
    from sftprep.evaluate.benchmarks.data import plan_task
    from sftprep.recipe.sections import BenchmarksSection, BenchmarkTask

    task = BenchmarkTask(name=name, few_shot=few_shot)
    plan = plan_task(task, BenchmarksSection(data_dir=str(data)))
    return plan.benchmark.protocol, list(plan.items)


def questions(protocol: Any, items: Sequence[Any]) -> list[Any]:
    """What the model is asked."""
    from sftprep.evaluate.benchmarks.protocol import Setting

    return [protocol.ask(item, Setting(chat=plain)) for item in items]


def scored(protocol: Any, items: Sequence[Any]) -> Work:
    """Log-likelihoods, one to one."""
    flat = [request for question in questions(protocol, items) for request in question.scores]
    return Work("score", flat, [(one.context, one.continuation) for one in flat])


def mmlu(data: Path, count: int) -> Work:
    """Five shots; two subjects whose prefixes are about as long as the mean of all 57."""
    protocol, items = items_of("mmlu", data)
    share = count // len(SUBJECTS)
    chosen = [[i for i in items if i.cluster == name][:share] for name in SUBJECTS]
    return scored(protocol, [item for own in chosen for item in own])


def hellaswag(data: Path, count: int) -> Work:
    """No shots, four endings."""
    protocol, items = items_of("hellaswag", data)
    return scored(protocol, items[:count])


def hellaswag_shots(data: Path, count: int) -> Work:
    """Ten shots drawn for every question on its own: only its four endings share them."""
    import random

    protocol, items = items_of("hellaswag", data)
    pool = [item.doc for item in items[count:]]
    draws = random.Random(0)
    shown = [replace(i, shots=tuple(draws.sample(pool, HELLASWAG_SHOTS))) for i in items[:count]]
    return scored(protocol, shown)


def truthfulqa(data: Path, count: int) -> Work:
    """Every answer once for us; lm-eval runs MC1 and MC2 as two tasks."""
    protocol, items = items_of("truthfulqa", data)
    chosen = items[:count]
    asked = questions(protocol, chosen)
    pairs = [
        (question.scores[0].context, f" {choice}")
        for item, question in zip(chosen, asked, strict=True)
        for kind in ("mc1_targets", "mc2_targets")
        for choice in item.doc[kind]["choices"]
    ]
    return Work("score", [r for question in asked for r in question.scores], pairs)


def generated(name: str) -> Callable[[Path, int], Work]:
    """Greedy answers in the published form, ended by `END`, too."""

    def make(data: Path, count: int) -> Work:
        protocol, items = items_of(name, data)
        plain = [question.generate for question in questions(protocol, items[:count])]
        asked = [replace(one, stop=(*one.stop, END)) for one in plain]
        pairs: list[tuple[str, Any]] = []
        for one in asked:
            settings = {"until": list(one.stop), "max_gen_toks": one.max_new_tokens}
            pairs.append((one.prompt, {**settings, "do_sample": False}))
        return Work("generate", asked, pairs)

    return make


TASKS: dict[str, tuple[Callable[[Path, int], Work], int]] = {
    "mmlu": (mmlu, 80),
    "truthfulqa": (truthfulqa, 20),
    "hellaswag": (hellaswag, 40),
    "hellaswag_10shot": (hellaswag_shots, 10),
    "gsm8k": (generated("gsm8k"), 32),
    "humaneval": (generated("humaneval"), 32),
}


def load(model: str, device: str, dtype: str) -> Any:
    """An engine around the model folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sftprep.evaluate.engine import Engine

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(device)
    return Engine(loaded, AutoTokenizer.from_pretrained(model))


def ours(engine: Any, work: Work) -> list[Any]:
    """Answers of our engine, one per pair that lm-eval is asked."""
    from sftprep.progress import Progress
    from sftprep.stop import StopSignal

    quiet, stop = Progress(quiet=True), StopSignal()
    if work.kind == "generate":
        return [one.text for one in engine.generate(work.requests, quiet, stop, "benchmark")]
    found = engine.score(work.requests, quiet, stop, "benchmark")
    by_pair = {
        (request.context, request.continuation): (one.loglikelihood, one.is_greedy)
        for request, one in zip(work.requests, found, strict=True)
    }
    return [by_pair[pair] for pair in work.pairs]


def theirs(other: Any, work: Work) -> list[Any]:
    """Answers of lm-eval's model."""
    from lm_eval.api.instance import Instance

    method = "generate_until" if work.kind == "generate" else "loglikelihood"
    asked = [Instance(method, {}, pair, 0) for pair in work.pairs]
    found: list[Any] = getattr(other, method)(asked, disable_tqdm=True)
    return found


def opponent(engine: Any, options: argparse.Namespace, batch_size: int) -> Any:
    """lm-eval's `hf` model around the same weights, or its `vllm` model of the same folder."""
    if options.opponent == "vllm":
        from lm_eval.models.vllm_causallms import VLLM

        return VLLM(options.model, dtype=options.dtype, gpu_memory_utilization=0.4)
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=batch_size)


def agreement(mine: list[Any], other: list[Any], kind: str) -> dict[str, Any]:
    """How far the answers are apart."""
    pairs = list(zip(mine, other, strict=True))
    if kind == "generate":
        return {
            "answers": len(pairs),
            "characters": spread([len(text) for text in mine]),
            "useful_share_of_steps_at_16": useful_share([len(text) for text in mine], 16),
            "different_answers": sum(a != b for a, b in pairs),
        }
    return {
        "requests": len(pairs),
        "largest_gap_nats": max(abs(a[0] - b[0]) for a, b in pairs),
        "different_decisions": sum(a[1] != b[1] for a, b in pairs),
    }


def useful_share(lengths: Sequence[int], rows: int) -> float:
    """Of the steps of batches that run to their longest answer, those that write something."""
    batches = [lengths[i : i + rows] for i in range(0, len(lengths), rows)]
    return round(sum(lengths) / sum(max(one) * len(one) for one in batches), 2)


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median with smallest and largest."""
    rounded = [round(value, 2) for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("median", "least", "most"), rounded, strict=True))


def compare(engine: Any, work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """Agreement first; then the fastest batch size; then both in turns.

    The runs that agreed are the first round.
    """
    mine: list[Any] = []
    first = timed(lambda: mine.extend(ours(engine, work)))
    sizes = BATCH_SIZES[work.kind] if options.opponent == "hf" else (1,)
    tried: dict[int, tuple[float, float]] = {}
    for size in sizes:
        other = opponent(engine, options, size)
        found: list[Any] = []
        tried[size] = timed(lambda o=other, f=found: f.extend(theirs(o, work)))  # type: ignore[misc]
        close = agreement(mine, found, work.kind)
        shown = [round(one, 1) for one in (*first, *tried[size])]
        print(f"batch {size}: wall, processor of ours, theirs {shown}", close, file=sys.stderr)
        exact = options.dtype == "float32" and work.kind == "score"
        if exact and (close["largest_gap_nats"] > TOLERANCE_NATS or close["different_decisions"]):
            raise SystemExit(f"scores differ: {close}; nothing was timed")
    best = min(tried, key=lambda size: tried[size][0])
    other = opponent(engine, options, best)
    rounds = [(first, tried[best])]
    for _ in range(options.rounds - 1):
        rounds.append((timed(lambda: ours(engine, work)), timed(lambda: theirs(other, work))))
    return {
        **close,
        "opponent_seconds_by_batch_size": {size: round(t[0], 1) for size, t in tried.items()},
        "opponent_batch_size": best,
        "ours_seconds": spread([a[0] for a, _ in rounds]),
        "opponent_seconds": spread([b[0] for _, b in rounds]),
        "times_faster": spread([b[0] / a[0] for a, b in rounds]),
        "times_faster_processor": spread([b[1] / a[1] for a, b in rounds]),
    }


def own_process(*arguments: str) -> dict[str, Any]:
    """Run this script again for one number."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_megabytes(options: argparse.Namespace, side: str, task: str, size: int) -> None:
    """Print what one run of one side adds to the resident memory of a process with the model."""
    make, count = TASKS[task]
    engine = load(options.model, options.device, options.dtype)
    work = make(options.data, options.items or count)
    other = opponent(engine, options, size) if side == "theirs" else None
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far (Linux)
    before = resident_megabytes("VmRSS")
    if other is None:
        ours(engine, work)
    else:
        theirs(other, work)
    added = resident_megabytes("VmHWM") - before
    print(json.dumps({"loaded_mb": round(before), "added_mb": round(added)}))


def resident_megabytes(field: str) -> float:
    """A field of /proc/self/status: VmRSS (now) or VmHWM (peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {field}; memory is measured on Linux only")


def start_up(options: argparse.Namespace, side: str) -> None:
    """Print the seconds until four benchmarks are loaded and could be asked, imports included."""
    if side == "ours":
        import sftprep.evaluate.scoring  # noqa: F401 - the engine, as a run imports it

        for name in START_TASKS:
            items_of(name, options.data)
    else:
        import lm_eval.evaluator
        import lm_eval.models.huggingface  # noqa: F401 - the model class, as a run imports it
        from lm_eval.tasks import TaskManager

        with tempfile.TemporaryDirectory() as folder:
            lines = ["group: local", "task:"]
            for name in THEIR_TASKS:
                kind = "group" if name == "mmlu" else "task"
                path = options.data / name.partition("_mc")[0]
                shots = ", num_fewshot: 5" if name == "mmlu" else ""
                lines.append(f"  - {{{kind}: {name}, dataset_path: {path}{shots}}}")
            (Path(folder) / "local.yaml").write_text("\n".join(lines) + "\n")
            TaskManager(include_path=folder).load(["local"])
    print(json.dumps({"seconds": time.perf_counter() - STARTED}))


def compare_start_up(options: argparse.Namespace) -> dict[str, Any]:
    """Both in turns, each in a process of its own; the first round warms the disk cache."""
    common = ("--model", options.model, "--data", str(options.data), "--start-up")
    rounds = []
    for _ in range(options.rounds + 1):
        sides = [own_process(*common, side)["seconds"] for side in ("ours", "theirs")]
        rounds.append((sides[0], sides[1]))
    kept = rounds[1:]
    return {
        "ours_seconds": spread([a for a, _ in kept]),
        "opponent_seconds": spread([b for _, b in kept]),
        "times_faster": spread([b / a for a, b in kept]),
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder made by evaluate_model.py")
    parser.add_argument("--data", required=True, type=Path, help="folder with the benchmarks")
    parser.add_argument("--tasks", nargs="*", default=[*TASKS, "start_up"])
    parser.add_argument("--items", type=int, help="items per task; default: the task's own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--opponent", choices=("hf", "vllm"), default="hf")
    parser.add_argument("--start-up", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """One JSON line per task."""
    options = parse()
    logging.disable(logging.WARNING)
    if options.start_up:
        start_up(options, options.start_up)
        return
    import torch

    torch.set_num_threads(options.threads)
    if options.peak:
        side, task, size = options.peak
        peak_megabytes(options, side, task, int(size))
        return
    engine = load(options.model, options.device, options.dtype)
    for task in options.tasks:
        if task == "start_up":
            print(json.dumps({"task": task, **compare_start_up(options)}), flush=True)
            continue
        make, count = TASKS[task]
        row = compare(engine, make(options.data, options.items or count), options)
        print(json.dumps({"task": task, **row}), file=sys.stderr, flush=True)  # memory comes next
        items = [] if options.items is None else ["--items", str(options.items)]
        common = ["--model", options.model, "--data", str(options.data), *items, "--peak"]
        for side in ("ours", "theirs") if options.device == "cpu" else ():
            row[f"memory_{side}"] = own_process(
                *common, side, task, str(row["opponent_batch_size"])
            )
        print(json.dumps({"task": task, **row}), flush=True)


if __name__ == "__main__":
    main()
