"""What a run folder has recorded, loaded once. A file that cannot be read is a problem, not a 0."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sftprep.comparison.items import (
    ITEMS,
    VALIDATION_ITEMS,
    ItemScores,
    benchmark_scores,
    validation_correct,
    validation_nats,
)
from sftprep.comparison.sources import benchmark_results, record_of
from sftprep.errors import CorruptError, SftprepError
from sftprep.gate.step_log import StepLog, read_steps
from sftprep.records import (
    BenchmarkResult,
    DataReport,
    RedFlag,
    TrainResult,
    ValidationResult,
    from_dict,
)
from sftprep.store.durable import read_json, read_jsonl, verify_folder
from sftprep.store.run import RunFolder

SAVE_RECORD = "save.json"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """The exported baseline. `fault`: why its files do not match their manifest, None when fine."""

    loads: bool
    perplexity_recorded: float
    perplexity_reloaded: float
    fault: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the rules read. None or empty: that stage has not recorded anything."""

    run: RunFolder
    data: DataReport | None = None
    train: TrainResult | None = None
    steps: StepLog = field(default_factory=StepLog)
    flags: tuple[RedFlag, ...] = ()
    validation: ValidationResult | None = None
    benchmarks: Mapping[str, BenchmarkResult] = field(default_factory=dict)
    base_benchmarks: Mapping[str, BenchmarkResult] = field(default_factory=dict)
    checkpoint: SavedCheckpoint | None = None
    problems: Mapping[str, str] = field(default_factory=dict)

    def scores(self, benchmark: str, *, base: bool) -> ItemScores | None:
        """Headline scores by item, or None when no item file was kept.

        Raises:
            StoreError: the item file cannot be read.
        """
        results = self.base_benchmarks if base else self.benchmarks
        path = _benchmark_folder(self.run, base) / f"{benchmark}{ITEMS}"
        if benchmark not in results or not path.is_file():
            return None
        headline = results[benchmark].headline
        return benchmark_scores(path, headline, headline)

    def followed(self, *, base: bool) -> ItemScores | None:
        """Instructions followed (1) or not (0), or None when no rows were kept.

        Raises:
            StoreError: the file of rows cannot be read.
        """
        path = self.run.root / VALIDATION_ITEMS
        return validation_correct(path, base=base) if path.is_file() else None

    def nats(self, *, base: bool) -> ItemScores | None:
        """Minus the nats of each held-out row with its tokens, or None when no rows were kept.

        Raises:
            StoreError: the file of rows cannot be read.
        """
        path = self.run.root / VALIDATION_ITEMS
        return validation_nats(path, base=base) if path.is_file() else None


def _benchmark_folder(run: RunFolder, base: bool) -> Path:
    return run.benchmarks / "base" if base else run.benchmarks


def load_evidence(run: RunFolder, *, verify_checkpoint: bool = True) -> Evidence:
    """Read every record of a run. Unreadable files end up in `problems` by stage name.

    Args:
        verify_checkpoint: hash the exported files and compare them with their manifest.
    """
    problems: dict[str, str] = {}

    def read(name: str, path: Path, load: Callable[[], T], empty: T) -> T:
        try:
            return load() if path.exists() else empty
        except SftprepError as error:
            problems[name] = str(error)
            return empty

    return Evidence(
        run=run,
        data=read("data", run.data_report, lambda: record_of(DataReport, run.data_report), None),
        train=read(
            "train", run.train_result, lambda: record_of(TrainResult, run.train_result), None
        ),
        steps=read("steps", run.steps, lambda: read_steps(run.steps), StepLog()),
        flags=read("flags", run.flags, lambda: read_flags(run.flags), ()),
        validation=read(
            "validation", run.validation, lambda: record_of(ValidationResult, run.validation), None
        ),
        benchmarks=read(
            "benchmarks", run.benchmarks, lambda: benchmark_results(run.benchmarks), {}
        ),
        base_benchmarks=read(
            "base benchmarks",
            run.benchmarks / "base",
            lambda: benchmark_results(run.benchmarks / "base"),
            {},
        ),
        checkpoint=read(
            "checkpoint",
            run.root / SAVE_RECORD,
            lambda: _read_checkpoint(run, verify_checkpoint),
            None,
        ),
        problems=problems,
    )


def read_flags(path: Path) -> tuple[RedFlag, ...]:
    """Red flags of a run, in the order they fired.

    Raises:
        CorruptError: a line is not a red flag.
    """
    try:
        return tuple(from_dict(RedFlag, row) for row in read_jsonl(path))
    except (ValueError, TypeError) as error:
        raise CorruptError(f"{path}: a line is not a red flag record.") from error


def _read_checkpoint(run: RunFolder, verify: bool) -> SavedCheckpoint:
    saved = read_json(run.root / SAVE_RECORD)
    fault = None
    try:
        if verify:
            verify_folder(run.baseline)
    except SftprepError as error:
        fault = str(error)
    try:
        return SavedCheckpoint(
            loads=saved["loads"] is True,
            perplexity_recorded=_number(saved["perplexity_recorded"]),
            perplexity_reloaded=_number(saved["perplexity_reloaded"]),
            fault=fault,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(
            f"{run.root / SAVE_RECORD}: not a save record. Run `sftprep save RUN`."
        ) from error


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
