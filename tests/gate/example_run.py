"""A run folder as the stages leave it: invented but plausible numbers of a small model."""

import gzip
import hashlib
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sftprep.records import (
    BenchmarkResult,
    DataReport,
    ItemRecord,
    Ledger,
    Metric,
    ModelValidation,
    RedFlag,
    Sample,
    StepRecord,
    TrainResult,
    ValidationResult,
    to_dict,
    to_json,
)
from sftprep.store.durable import commit_folder, write_json, write_text
from sftprep.store.run import RunFolder

RECIPE = """\
# A recipe as `sftprep run` leaves it.
model:
  base: models/starter-0.4m # recipe.yaml:2
data:
  sources: # recipe.yaml:4
  - path: data/instructions.jsonl
    licence: Apache-2.0
  minimum_rows: 1000 # recipe.yaml:6
training:
  learning_rate: 2e-3 # recipe.yaml:8
  batch_size: 8 # default
  gradient_accumulation_steps: 4 # default
  max_steps: {steps} # --set
  warmup_steps: 50 # default
validation:
  max_rows: 600 # default
benchmarks:
  tasks: [mmlu, gsm8k, truthfulqa] # recipe.yaml:15
gate:
  min_instruction_following: 0.5 # default
"""

# name -> (headline, items, chance, base accuracy, SFT accuracy, typical range)
BENCHMARKS: dict[str, tuple[str, int, float, float, float, tuple[float, float]]] = {
    "mmlu": ("acc", 800, 0.25, 0.42, 0.46, (0.3, 0.7)),
    "gsm8k": ("strict", 400, 0.0, 0.18, 0.31, (0.2, 0.6)),
    "truthfulqa": ("mc1", 300, 0.226, 0.30, 0.33, (0.3, 0.5)),
}
HASHES = {"data": "d" * 16, "template": "t" * 16, "tokenizer": "k" * 16}


def share(hits: int, n: int, chance: float | None, protocol: str, **more: Any) -> Metric:
    """A share with a plain normal interval."""
    value = hits / n
    stderr = math.sqrt(value * (1 - value) / n)
    interval = (max(0.0, value - 1.96 * stderr), min(1.0, value + 1.96 * stderr))
    values: dict[str, Any] = {
        "value": value, "stderr": stderr, "ci95": interval, "n": n, "n_total": n,
        "complete": True, "chance": chance, "protocol": protocol, "hashes": dict(HASHES),
    }  # fmt: skip
    return Metric(**(values | more))


def items_of(name: str, hits: list[bool], metric: str) -> list[ItemRecord]:
    """Items with ids that both models share."""
    return [
        ItemRecord(
            id=hashlib.sha256(f"{name} {number}".encode()).hexdigest()[:16],
            cluster="all",
            outcome="correct" if hit else "wrong",
            score=float(hit),
            prediction="A",
            gold="A" if hit else "B",
            loglikelihoods=None,
            text=None,
            prompt_sha256="p" * 64,
            extra={metric: float(hit), "mc2": 0.6 if hit else 0.4},
        )
        for number, hit in enumerate(hits)
    ]


def write_items(path: Path, items: list[ItemRecord]) -> None:
    """The item file as the benchmark stage writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(to_json(item) + "\n" for item in items)


def paired_hits(n: int, base: float, sft: float, seed: int) -> tuple[list[bool], list[bool]]:
    """Right or wrong of two related models: most items agree."""
    draw = random.Random(seed)
    before = [number < round(base * n) for number in range(n)]
    draw.shuffle(before)
    after = list(before)
    wanted = round(sft * n) - sum(after)
    places = [i for i, hit in enumerate(after) if hit == (wanted < 0)]
    for index in draw.sample(places, abs(wanted)):
        after[index] = not after[index]
    right = [i for i, hit in enumerate(after) if hit]
    wrong = [i for i, hit in enumerate(after) if not hit]
    swaps = n // 50
    for one, other in zip(draw.sample(right, swaps), draw.sample(wrong, swaps), strict=True):
        after[one], after[other] = False, True
    return before, after


def write_benchmarks(run: RunFolder) -> None:
    """Results and items of SFT and base."""
    for seed, (name, row) in enumerate(BENCHMARKS.items()):
        headline, n, chance, base, sft, typical = row
        before, after = paired_hits(n, base, sft, seed)
        for folder, hits in ((run.benchmarks, after), (run.benchmarks / "base", before)):
            metrics = {headline: share(sum(hits), n, chance, f"{name}/v1")}
            if name == "truthfulqa":
                mean = sum(0.6 if hit else 0.4 for hit in hits) / n
                metrics["mc2"] = share(round(mean * n), n, 0.448, "truthfulqa/v1")
            result = BenchmarkResult(
                name=name,
                headline=headline,
                metrics=metrics,
                outcomes={"correct": sum(hits), "wrong": n - sum(hits), "unparsed": 0, "error": 0},
                seconds=12.5,
                model="sft" if folder is run.benchmarks else "base",
                typical_range=typical,
            )
            write_json(folder / f"{name}.json", to_dict(result))
            write_items(folder / f"{name}.items.jsonl.gz", items_of(name, hits, headline))


def write_steps(run: RunFolder, steps: int) -> None:
    """A loss that falls and levels off; validation every twentieth of the run."""
    draw = random.Random(5)
    lines = []
    every = max(1, steps // 20)
    for step in range(1, steps + 1):
        done = step / steps
        loss = 1.1 + 1.9 * math.exp(-6 * done) + draw.gauss(0, 0.05)
        held = 1.18 + 1.85 * math.exp(-6 * done) if step % every == 0 else None
        record = StepRecord(
            step=step,
            loss_sum_nats=loss * 4000,
            tokens_supervised=4000,
            tokens_real=8000,
            tokens_padding=100,
            learning_rate=2e-3 * min(1, 20 * done) * 0.5 * (1 + math.cos(math.pi * done)),
            grad_norm=0.8 + abs(draw.gauss(0, 0.1)),
            seconds=0.5 + abs(draw.gauss(0, 0.02)),
            memory_bytes=2 << 30,
            validation_sum_nats=None if held is None else held * 9000,
            validation_tokens=None if held is None else 9000,
        )
        lines.append(to_json(record))
    write_text(run.steps, "\n".join(lines) + "\n")


def write_run(root: Path, steps: int = 400) -> RunFolder:
    """A complete run that passes every rule."""
    run = RunFolder(root)
    write_text(run.recipe, RECIPE.format(steps=steps))
    flags = (
        RedFlag("loss_spike", steps // 3, "gradient norm 9.1, median 0.8", "a hard batch",
                "look at the batch; lower training.max_grad_norm", "warn"),
    )  # fmt: skip
    ledger = Ledger(14210, 12000, {"near_duplicate": 1700, "response_empty": 300,
                                   "toxic": 120, "too_long": 60}, 30, 0)  # fmt: skip
    sections = {
        "lengths": {"edges": [0, 64, 128, 192, 256], "counts": [900, 5200, 3900, 1400]},
        "categories": {"writing": 4100, "arithmetic": 3900, "facts": 4000},
    }
    data = DataReport(ledger, 11400, 600, 11020, 0, {"mmlu": 0, "gsm8k": 0, "truthfulqa": 0},
                      {"response_short": 210}, sections)  # fmt: skip
    write_json(run.data_report, to_dict(data))
    write_rejected(run.rejected_rows)
    write_steps(run, steps)
    write_text(run.flags, "".join(to_json(flag) + "\n" for flag in flags))
    train = TrainResult(
        "completed", steps, steps, 1.11, 3.1, 1.19, steps, steps, 0.5 * steps, 8000 * steps,
        4000 * steps, "train/checkpoints/best_validation/model", flags, "2026-01-05T09:00:00+00:00",
    )  # fmt: skip
    write_json(run.train_result, to_dict(train))
    write_validation(run)
    write_benchmarks(run)
    write_plan(run)
    write_save(run)
    write_state(run)
    return run


def write_rejected(path: Path) -> None:
    """Rejected rows in the columns of the data stage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"example_id": None, "kept_id": None, "dataset": "d", "file": "data/instructions.jsonl",
         "licence": None, "line": line, "reason": reason, "raw": raw,
         "reasons": json.dumps([{"id": reason, "evidence": evidence, "score": None}])}
        for line, reason, evidence, raw in (
            (12, "response_empty", "response has 0 characters",
             '{"instruction": "Name a colour.", "response": ""}'),
            (88, "near_duplicate", "Jaccard 0.91 with data/instructions.jsonl:17",
             '{"instruction": "Add 2 and 3.", "response": "5"}'),
        )
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_validation(run: RunFolder) -> None:
    """Base and SFT on the held-out rows, and sample answers."""
    sft = ModelValidation(3.31, 0.62, 1.197, 52000, 110000, share(412, 500, 0.0, "instructions/v1"),
                          {"stopped": 0.98, "empty": 0.0, "repetitive": 0.01, "over_long": 0.01},
                          {}, 0.84)  # fmt: skip
    base = ModelValidation(22.2, 1.61, 3.1, 52000, 110000, share(31, 500, 0.0, "instructions/v1"),
                           {"stopped": 0.11, "empty": 0.03, "repetitive": 0.55, "over_long": 0.9},
                           {}, 0.05)  # fmt: skip
    write_json(run.validation, to_dict(ValidationResult(sft, base, 40.0, 600, dict(HASHES))))
    samples = [
        Sample("Write one sentence about the sea.", "The sea is wide and blue.",
               "the sea the sea the sea the sea the", "The sea is calm at night.", "writing"),
        Sample("What is 12 plus 30?", "42", "What is 12 plus 31? What is", "12 plus 30 is 42.",
               "arithmetic", "correct"),
        Sample("Name the capital of France.", "Paris", "Name the capital of", "Paris.", "facts",
               "correct"),
        Sample("List two fruits.", None, None, "Apples and pears.", "writing"),
    ]  # fmt: skip
    write_text(run.samples, "".join(to_json(sample) + "\n" for sample in samples))


def write_plan(run: RunFolder) -> None:
    """The part of plan.json that the report shows."""
    write_json(run.plan, {
        "hardware_label": "2 CPU cores, 24 GiB", "stage_document": "4 minutes of training",
        "memory": {"total": 3 << 30}, "volume": {"steps": 400, "tokens": 3_200_000},
        "time": {"expected": 230.0, "low": 150.0, "high": 400.0, "tokens_per_second": 14000.0},
        "actual": {"seconds": 200.0, "steps": 400, "tokens": 3_200_000, "tokens_per_second": 16000},
        "dollars": 0.02, "disk_bytes": 1 << 28, "warnings": ["4.2 passes over the data"],
    })  # fmt: skip


def write_save(run: RunFolder) -> None:
    """An exported checkpoint with its manifest and what reloading it showed."""
    with commit_folder(run.baseline, replace=True) as folder:
        (folder / "config.json").write_text("{}", encoding="utf-8")
        (folder / "model.safetensors").write_bytes(b"weights")
    write_json(run.root / "save.json", {
        "path": "checkpoints/sft_baseline", "loads": True, "perplexity_recorded": 3.31,
        "perplexity_reloaded": 3.31001, "sha256": {},
    })  # fmt: skip


def write_state(run: RunFolder) -> None:
    """run.json as the pipeline leaves it."""
    environment = {"versions": {"sftprep": "0.1.0", "torch": "2.13"}, "cpu_count": 2,
                   "platform": "Linux", "processor": "a processor"}  # fmt: skip
    for stage in ("data", "plan", "train", "validate", "benchmark", "save"):
        run.mark(stage, "running", f"{stage:f<16}", environment=environment)
        run.mark(stage, "done", f"{stage:f<16}", seconds=12.5)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file in place; NaN is written as Python's json does."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
