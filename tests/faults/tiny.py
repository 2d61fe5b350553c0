"""A whole pipeline small enough to be run hundreds of times: 31,000 weights, 80 rows, 6 steps."""

import json
from pathlib import Path
from typing import Any

from sftprep.starter import write_starter
from sftprep.store.durable import parse_json

RECIPE = """\
model:
  base: {base}
data:
  sources: [{{path: {data}}}]
  minimum_rows: 10
  max_bad_fraction: 0.5
training:
  learning_rate: 1e-3
  batch_size: 2
  gradient_accumulation_steps: 2
  max_steps: 6
  warmup_steps: 1
  max_length: 256
  validate_every: 3
  save_every: 2
  precision: fp32
validation:
  max_rows: 8
  samples: 2
  max_new_tokens: 4
benchmarks:
  data_dir: {benchmarks}
  limit: 2
  tasks: [starter_choice]
output:
  run_dir: {run}
"""
PLACES = ("north", "south", "east", "west", "middle", "left", "right", "top")
THINGS = ("apple", "bridge", "candle", "drum", "engine", "feather", "garden", "hammer", "island")
# Clock readings and places: everything else of a continued run equals the undisturbed one.
CLOCKS = frozenset({
    "seconds", "started", "at", "date", "finished", "duration", "duration_seconds", "created",
    "tokens_per_second", "training_seconds", "memory_bytes",
})  # fmt: skip
# These hold measured speed, free memory or hashes of files with dates in them.
MEASURED = ("plan.json", "training_metadata.json", "save.json")


def write_rows(path: Path, count: int = 80) -> None:
    """Rows that differ enough to survive the checks."""
    rows = []
    for i in range(count):
        thing, place = THINGS[i % len(THINGS)], PLACES[i // len(THINGS) % len(PLACES)]
        rows.append({
            "instruction": f"Where is the {thing} number {i} kept in the {place} house?",
            "response": f"The {thing} with number {i} is kept in the {place} house, shelf {i * 7}.",
        })  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_inputs(folder: Path) -> Path:
    """Base model, data, benchmarks and recipe below `folder`; returns the recipe."""
    from tests.train.runs import write_base

    folder.mkdir(parents=True, exist_ok=True)
    base = write_base(folder / "base", max_position_embeddings=2048, dropout=0.1)
    write_starter(folder / "starter")
    write_rows(folder / "rows.jsonl")
    recipe = folder / "recipe.yaml"
    text = RECIPE.format(
        base=base,
        data=folder / "rows.jsonl",
        benchmarks=folder / "starter" / "benchmarks",
        run=folder / "run",
    )
    recipe.write_text(text, encoding="utf-8")
    return recipe


def without_clocks(value: Any) -> Any:
    """JSON values without readings of a clock."""
    if isinstance(value, dict):
        return {k: without_clocks(v) for k, v in value.items() if k not in CLOCKS}
    if isinstance(value, list):
        return [without_clocks(v) for v in value]
    return value


def outcome(run: Path) -> dict[str, Any]:
    """What must be equal: every file by content; JSON without clock readings."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_dir() or name in (".lock", "run.json", "recipe.yaml"):
            continue
        if path.name == "events.jsonl":  # tells of every attempt, also where it is archived
            continue
        if "tensorboard" in name or name.endswith((".html", ".md", ".svg", "MANIFEST.json")):
            found[name.rpartition("/")[0] if "tensorboard" in name else name] = "there"
        elif name.endswith(MEASURED):
            found[name] = "there"
        elif name.endswith(".json"):
            found[name] = without_clocks(parse_json(path.read_bytes()))
        elif name.endswith(".jsonl") and ".partial." not in name:
            lines = path.read_bytes().split(b"\n")
            found[name] = [without_clocks(parse_json(line)) for line in lines if line]
        else:
            found[name] = path.read_bytes()
    return found
