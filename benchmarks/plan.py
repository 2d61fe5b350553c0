"""Predicted against measured: memory of a training step, and the time of a run after calibration.

    python benchmarks/plan.py memory --model M --rows ROWS.json [--cases a,b] [--shapes cpu|gpu]
    python benchmarks/plan.py time --model M --rows ROWS.json

Each case is a random model of some shape with the tokenizer of M, the plan that sftprep makes for
it, and a few steps of sftprep's own training on ROWS, in a process of its own. Two measures:
what torch's allocator holds at its peak (CPU: summed from its events; GPU: max_memory_allocated)
against the plan's `tensors`, and, on a CPU, the peak of resident memory against `total`. The last
step is the one of the whole epoch whose documents need most, because it decides the peak of a run.

Cases in bf16 are left out where the processor has no unit for it. The gpu shapes need a GPU and
have not been run on one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS = 3
ROWS = 1000
ROW_BYTES = 900  # longer rows are left out, so that every row fits into max_length


@dataclass(frozen=True)
class Case:
    """One shape with its settings."""

    layers: int
    hidden: int
    ffn: int
    vocab: int
    heads: int
    kv_heads: int
    settings: dict[str, Any]
    tied: bool = True


def _settings(rows: int, length: int = 512, **more: Any) -> dict[str, Any]:
    base = {"batch_size": rows, "gradient_accumulation_steps": 1, "max_length": length,
            "gradient_checkpointing": "off", "precision": "fp32"}  # fmt: skip
    return base | more


LORA = {"method": "lora", "lora_rank": 16}
ON = {"gradient_checkpointing": "on"}
BF16 = {"precision": "bf16"}
CPU_CASES: dict[str, Case] = {
    "4M full": Case(4, 256, 688, 4096, 8, 4, _settings(4)),
    "4M full + checkpointing": Case(4, 256, 688, 4096, 8, 4, _settings(4, **ON)),
    "4M full + 2 micro-batches": Case(
        4, 256, 688, 4096, 8, 4, _settings(4, gradient_accumulation_steps=2)
    ),
    "4M LoRA": Case(4, 256, 688, 4096, 8, 4, _settings(4, **LORA)),
    "22M full": Case(6, 512, 1376, 8192, 8, 4, _settings(2)),
    "22M full + bf16": Case(6, 512, 1376, 8192, 8, 4, _settings(2, **BF16)),
    "22M full + bf16 + checkpointing": Case(6, 512, 1376, 8192, 8, 4, _settings(2, **BF16, **ON)),
    "22M LoRA": Case(6, 512, 1376, 8192, 8, 4, _settings(2, **LORA)),
    "22M LoRA + checkpointing": Case(6, 512, 1376, 8192, 8, 4, _settings(2, **LORA, **ON)),
    "22M LoRA + bf16": Case(6, 512, 1376, 8192, 8, 4, _settings(2, **LORA, **BF16)),
    "63M full + wide": Case(4, 1024, 2752, 16000, 16, 8, _settings(1)),
    "25M full + untied": Case(6, 512, 1376, 8192, 8, 8, _settings(2), tied=False),
}
GPU_CASES: dict[str, Case] = {
    "0.5B full": Case(24, 896, 4864, 151936, 14, 2, _settings(8, 2048, **BF16)),
    "1.2B full + checkpointing": Case(
        16, 2048, 8192, 128256, 32, 8, _settings(8, 2048, **BF16, **ON)
    ),
    "1.2B LoRA": Case(16, 2048, 8192, 128256, 32, 8, _settings(4, 2048, **LORA, **BF16)),
    "3.2B full + checkpointing": Case(
        28, 3072, 8192, 128256, 24, 8, _settings(4, 2048, **BF16, **ON)
    ),
    "6.7B LoRA + checkpointing": Case(
        32, 4096, 11008, 32000, 32, 32, _settings(8, 2048, **LORA, **BF16, **ON), tied=False
    ),
    "6.7B full + checkpointing": Case(
        32, 4096, 11008, 32000, 32, 32, _settings(4, 2048, **BF16, **ON), tied=False
    ),
}
# Steps of each timed run: about a minute on one core.
TIMED: dict[str, tuple[Case | None, dict[str, Any], int]] = {
    "given model + full": (None, _settings(3, 512, learning_rate=1e-4), 150),
    "given model + LoRA": (None, _settings(3, 512, learning_rate=1e-4, **LORA), 120),
    "22M + full": (CPU_CASES["22M full"], _settings(2), 30),
    "22M + full + bf16": (CPU_CASES["22M full + bf16"], _settings(2, **BF16), 30),
    "22M + LoRA + checkpointing": (CPU_CASES["22M LoRA"], _settings(2, **LORA, **ON), 20),
}


def main() -> None:
    """Parse, run every case in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("memory", "time"))
    parser.add_argument("--model", required=True, help="folder with tokenizer (and weights)")
    parser.add_argument("--rows", required=True, help="instruction rows, any known format")
    parser.add_argument("--shapes", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--cases", help="only these, separated by commas")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        work = memory_of if options.what == "memory" else time_of
        print(json.dumps(work(options.child, options)))
        return
    names = chosen(options)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            found = in_process(name, options, Path(folder) / str(number))
            shown = show_memory if options.what == "memory" else show_time
            worst = max(worst, shown(name, found))
    print(f"largest deviation: {worst:.1%}")


def chosen(options: argparse.Namespace) -> list[str]:
    """The cases asked for that this machine computes at a reasonable speed."""
    from sftprep.model.hardware import detect_hardware

    settings = {name: case.settings for name, case in CPU_CASES.items()}
    if options.what == "time":
        settings = {name: given for name, (_, given, _) in TIMED.items()}
    elif options.shapes == "gpu":
        settings = {name: case.settings for name, case in GPU_CASES.items()}
    if options.cases is not None:
        return [name for name in settings if name in options.cases.split(",")]
    fast = detect_hardware().bf16
    return [name for name, given in settings.items() if fast or given["precision"] != "bf16"]


def in_process(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One case in a fresh Python."""
    folder.mkdir()
    given = {"--model": options.model, "--rows": options.rows, "--shapes": options.shapes}
    given |= {"--child": name, "--folder": str(folder)}
    words = [word for pair in given.items() for word in pair]
    command = [sys.executable, __file__, options.what, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def show_memory(name: str, found: dict[str, Any]) -> float:
    """Print a row; the larger of its two deviations."""
    pairs = [(found["tensors"], found["allocator_peak"])]
    if found["resident_peak"]:
        pairs.append((found["total"], found["resident_peak"]))
    cells = [f"{p / 1e6:9.0f} {m / 1e6:9.0f} {p / m - 1:+7.1%}" for p, m in pairs]
    print(f"{name:34}", " | ".join(cells), flush=True)
    print(json.dumps({"case": name, **found}), file=sys.stderr)
    return max(abs(p / m - 1) for p, m in pairs)


def show_time(name: str, found: dict[str, Any]) -> float:
    """Print a row; the deviation of the calibrated time."""
    formula, planned, actual = found["formula"], found["planned"], found["actual"]
    print(f"{name:34} formula {formula:7.1f} s  calibrated {planned:7.1f} s  took {actual:7.1f} s "
          f"({planned / actual - 1:+.1%})", flush=True)  # fmt: skip
    return float(abs(planned / actual - 1))


def prepared(case: Case | None, settings: dict[str, Any], options: argparse.Namespace) -> Any:
    """A recipe and a run folder with prepared rows, as the data stage would leave them."""
    from sftprep.data.formats import detect_format, to_example
    from sftprep.data.load import read_rows
    from sftprep.data.parse import parse_object
    from sftprep.data.storage import write_examples
    from sftprep.recipe.sections import Recipe, Source
    from sftprep.records import SourceRef
    from sftprep.store.run import RunFolder

    folder, path = Path(options.folder), Path(options.rows)
    base = options.model if case is None else str(random_model(case, options.model, folder))
    raws = [raw for raw in read_rows(path) if raw.size < ROW_BYTES]
    rows = [parse_object(raw.data) for raw in raws]
    kind = detect_format(rows, str(path))
    source = Source(path=str(path))
    examples = [
        to_example(row, kind, source, SourceRef(path.name, str(path), raw.line))
        for row, raw in zip(rows, raws, strict=True)
    ]
    run = RunFolder(folder / "run")
    run.data.mkdir(parents=True)
    write_examples(run.train_rows, examples[100:ROWS])
    write_examples(run.validation_rows, examples[:100])
    recipe = Recipe.model_validate(
        {"model": {"base": base}, "data": {"sources": [str(path)]}, "training": settings}
    )
    return recipe, run


def random_model(case: Case, like: str, folder: Path) -> Path:
    """A Llama of this shape with random weights and the tokenizer of `like`."""
    import shutil

    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    out = folder / "model"
    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=case.layers, hidden_size=case.hidden, intermediate_size=case.ffn,
        vocab_size=case.vocab, num_attention_heads=case.heads, num_key_value_heads=case.kv_heads,
        tie_word_embeddings=case.tied, max_position_embeddings=4096, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config)
    if torch.cuda.is_available():
        model = model.to(torch.bfloat16)
    model.save_pretrained(out)
    for file in Path(like).glob("*token*"):
        shutil.copy(file, out / file.name)
    return out


def memory_of(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The plan of a case, and the two peaks of its training."""
    from sftprep.model.footprint import peak_bytes, release, reset_peak, settle_allocator

    settle_allocator(os.environ)
    import torch

    from sftprep.model.plan import make_plan
    from sftprep.progress import Progress
    from sftprep.stop import StopSignal
    from sftprep.train.batches import prefetched
    from sftprep.train.session import open_session
    from sftprep.train.step import run_step

    case = (CPU_CASES if options.shapes == "cpu" else GPU_CASES)[name]
    recipe, run = prepared(case, case.settings | {"max_steps": 1000}, options)
    need = make_plan(recipe, run).memory
    cuda = torch.cuda.is_available()
    session = open_session(recipe, run, Progress(quiet=True), StopSignal())
    release()
    reset_peak()  # the start-up self-check is over; what counts is training
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    steps = session.plan.steps_per_epoch
    chosen = [*range(1, STEPS), max(range(1, steps + 1), key=lambda n: fullness(session, n, case))]
    for step in chosen:
        batches = next(prefetched(session.plan, step, step, 0))
        run_step(session, batches)
        session.state.step += 1
    if cuda:
        live, resident = int(torch.cuda.max_memory_allocated()), None
    else:
        resident = peak_bytes()
        live = allocator_peak(session, batches)
    return {"tensors": need["tensors"], "total": need["total"], "allocator_peak": live,
            "resident_peak": resident, "need": dict(need)}  # fmt: skip


def fullness(session: Any, step: int, case: Case) -> int:
    """Values that attention keeps for the fullest micro-batch of a step: the peak of a run."""
    from sftprep.model.padding import SHORT_TOKENS, groups_of

    width = 2 * case.hidden * (case.heads + case.kv_heads) // case.heads
    found = 0
    for documents in session.plan.micro_batches(step, 0):
        lengths = sorted(session.plan.cache.lengths[documents].tolist(), reverse=True)
        found = max(
            found,
            sum(n * long * (width + case.heads * long * (long <= SHORT_TOKENS))
                for n, long in groups_of(lengths)),
        )  # fmt: skip
    return found


def allocator_peak(session: Any, batches: Any) -> int:
    """Bytes that torch's CPU allocator holds at the peak of one step."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from sftprep.train.step import run_step

    held = sum(p.numel() * p.element_size() for p in session.model.parameters())
    for state in session.optimizer.state.values():
        held += sum(t.numel() * t.element_size() for t in state.values() if torch.is_tensor(t))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run_step(session, batches)
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return held + peak


def time_of(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The plan before and after calibration, and the seconds that training took."""
    from sftprep.model.footprint import settle_allocator

    settle_allocator(os.environ)
    from sftprep.model.calibrate import calibrated, seconds_to_spend
    from sftprep.model.plan import make_plan
    from sftprep.progress import Progress
    from sftprep.stop import StopSignal
    from sftprep.train.loop import train
    from sftprep.train.probe import probe

    case, settings, steps = TIMED[name]
    more = {"max_steps": steps, "warmup_steps": 10, "validate_every": steps // 5,
            "save_every": steps // 2}  # fmt: skip
    recipe, run = prepared(case, settings | more, options)
    quiet, stop = Progress(quiet=True), StopSignal()
    plan = make_plan(recipe, run)
    formula = plan.time.expected if plan.time else 0.0
    measured = probe(recipe, run, quiet, stop, seconds_to_spend(formula))
    planned = calibrated(plan, recipe.training, measured).time
    assert planned is not None
    result = train(recipe, run, quiet, stop)
    return {"formula": formula, "planned": planned.expected, "actual": result.seconds}


if __name__ == "__main__":
    main()
