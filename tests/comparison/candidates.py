"""Candidates that lost something, and one metric of a comparison."""

import json
from pathlib import Path
from typing import Any

from tests.gate.example_run import edit, items_of, write_items

from sftprep.comparison import Comparison
from sftprep.comparison.items import read_items
from sftprep.report import archive_logs, baseline_metrics
from sftprep.store.durable import write_json
from sftprep.store.run import RunFolder


def worsen(run: RunFolder, name: str, share_lost: float, metric: str = "acc") -> None:
    """Turn this share of all items from right to wrong."""
    path = run.benchmarks / f"{name}.json"
    value = json.loads(path.read_text())
    n = value["metrics"][metric]["n"]
    hits = round(value["metrics"][metric]["value"] * n)
    lost = round(share_lost * n)
    items = read_items(run.benchmarks / f"{name}.items.jsonl.gz")
    scores = [item.score == 1.0 for item in items.values()]
    left = lost
    for index, hit in enumerate(scores):
        if hit and left:
            scores[index], left = False, left - 1
    write_items(run.benchmarks / f"{name}.items.jsonl.gz", items_of(name, scores, metric))
    edit(path, lambda v: v["metrics"][metric].update(value=(hits - lost) / n))


def row(comparison: Comparison, metric: str) -> Any:
    return next(change for change in comparison.changes if change.metric == metric)


def checkpoint_of(run: RunFolder, folder: Path) -> Path:
    folder.mkdir()
    write_json(folder / "baseline_metrics.json", baseline_metrics(run))
    archive_logs(run, folder / "training_logs")
    return folder
