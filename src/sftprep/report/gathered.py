"""Everything the report shows, read once; a part that is absent or unreadable is said so."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sftprep.comparison.sources import record_of
from sftprep.diagnose import Diagnosis, diagnosed
from sftprep.errors import SftprepError
from sftprep.gate.evidence import Evidence, load_evidence
from sftprep.gate.judge import outdated
from sftprep.recipe import load_recipe
from sftprep.recipe.sections import Recipe
from sftprep.records import GateResult, Sample, from_dict
from sftprep.store.durable import read_json, read_jsonl
from sftprep.store.run import RunFolder

REJECTED_READ = 20_000
"""Rejected rows looked at for examples; the ledger holds the exact counts."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that does not train, as shown: why, where it stood, its raw text."""

    reason: str
    evidence: str
    place: str
    raw: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """A run as the report sees it."""

    run: RunFolder
    evidence: Evidence
    recipe: Recipe | None = None
    gate: GateResult | None = None
    diagnosis: Diagnosis | None = None
    samples: tuple[Sample, ...] = ()
    rejected: Mapping[str, tuple[RejectedRow, ...]] = field(default_factory=dict)
    plan: Mapping[str, Any] | None = None
    models: Mapping[str, Any] | None = None
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_gate(run: RunFolder) -> GateResult | None:
    """The recorded verdict, or None when the gate has not judged what the run holds now.

    Raises:
        SftprepError: gate.json or run.json cannot be read.
    """
    if not run.gate.is_file():
        return None
    found: GateResult = record_of(GateResult, run.gate)
    return None if outdated(found.judged, run.stages()) else found


def gather(run: RunFolder, examples_per_reason: int = 2) -> Gathered:
    """Read a run folder in whatever state it is; nothing here raises on a damaged file."""
    evidence = load_evidence(run, verify_checkpoint=False)
    problems = list(evidence.problems.values())

    def attempt(load: Any, empty: Any) -> Any:
        try:
            return load()
        except (SftprepError, ValidationError, ValueError, OSError, TypeError) as error:
            problems.append(str(error))
            return empty

    recipe = attempt(lambda: load_recipe(run.recipe).recipe, None) if run.recipe.exists() else None
    diagnosis = attempt(lambda: diagnosed(recipe, evidence), None) if recipe else None
    samples = attempt(lambda: _samples(run.samples), ())
    rejected = attempt(lambda: _rejected(run.rejected_rows, examples_per_reason), {})
    plan = attempt(lambda: read_json(run.plan), None) if run.plan.is_file() else None
    models = attempt(lambda: read_json(run.models), None) if run.models.is_file() else None
    return Gathered(
        run=run,
        evidence=evidence,
        recipe=recipe,
        gate=attempt(lambda: read_gate(run), None),
        diagnosis=diagnosis,
        samples=samples,
        rejected=rejected,
        plan=plan if isinstance(plan, dict) else None,
        models=models if isinstance(models, dict) else None,
        stages=attempt(run.stages, {}),
        problems=tuple(problems),
    )


def _samples(path: Path) -> tuple[Sample, ...]:
    return tuple(from_dict(Sample, row) for row in read_jsonl(path))


def _rejected(path: Path, per_reason: int) -> dict[str, tuple[RejectedRow, ...]]:
    """A few rejected rows per first reason, from the head of the file."""
    if not path.is_file():
        return {}
    found: dict[str, list[RejectedRow]] = {}
    for row in _rejected_rows(path):
        kept = found.setdefault(row.reason, [])
        if len(kept) < per_reason:
            kept.append(row)
    return {name: tuple(rows) for name, rows in found.items()}


def _rejected_rows(path: Path) -> Iterator[RejectedRow]:
    import pyarrow.parquet as pq

    columns = ["reason", "reasons", "file", "line", "raw"]
    read = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1000, columns=columns):
            for row in batch.to_pylist():
                first = (json.loads(row["reasons"]) or [{}])[0]
                place = f"{Path(row['file']).name}:{row['line']}"
                yield RejectedRow(row["reason"], str(first.get("evidence", "")), place, row["raw"])
            read += batch.num_rows
            if read >= REJECTED_READ:
                return
