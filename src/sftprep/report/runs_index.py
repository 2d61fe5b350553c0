"""`sftprep report RUNS/`: all runs below a folder in one sortable table, who passed, which is best.

Only small files are read (gate, validation, training result, benchmark results), never the step
log, so that a thousand runs take seconds.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sftprep.comparison.sources import metric_key
from sftprep.errors import SftprepError, StoreError
from sftprep.gate.judge import outdated
from sftprep.report.page import own_file, page
from sftprep.report.redact import redact_text
from sftprep.report.summary import VERDICT_WORDS
from sftprep.report.verdict_view import STYLES, duration, rule_title
from sftprep.store.durable import read_json, write_text
from sftprep.store.run import RunFolder

INDEX_NAME = "runs.html"
SKIPPED = ("superseded", "checkpoints", "train", "data", "benchmarks")
DEPTH = 3
ORDER = ("pass", "undecidable", "fail", None)
"""The rows stand in this order of verdicts, the best run first, until a heading is clicked."""


@dataclass(frozen=True, slots=True)
class Score:
    """One headline value in 0..1 and the question it answers (protocol, items)."""

    value: float
    question: tuple[str, int]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of the index; None is "not recorded"."""

    name: str
    root: Path
    verdict: str | None
    open_rules: tuple[str, ...] = ()
    perplexity: float | None = None
    bits_per_byte: float | None = None
    following: float | None = None
    started: str = ""
    seconds: float | None = None
    steps: int | None = None
    rows: int | None = None
    scores: Mapping[str, Score] = field(default_factory=dict)
    state: str = ""


def run_folders(root: Path, depth: int = DEPTH) -> list[Path]:
    """Folders below `root` that hold a run.json, at most `depth` levels down, sorted."""
    found: list[Path] = []
    for child in sorted(root.iterdir()) if root.is_dir() else ():
        if not child.is_dir() or child.is_symlink() or child.name in SKIPPED:
            continue
        if (child / "run.json").is_file():
            found.append(child)
        elif depth > 1:
            found += run_folders(child, depth - 1)
    return found


def write_index(root: Path) -> Path:
    """Write runs.html into `root`; returns its path.

    Raises:
        StoreError: no run is found below the folder, or the file cannot be written.
    """
    folders = run_folders(root)
    if not folders:
        raise StoreError(
            f"{root}: no run folder (a folder with run.json) in it or {DEPTH} levels below. "
            "Give the folder that holds your runs, or a recipe or run for one report."
        )
    target = root / INDEX_NAME
    write_text(target, page("index.html.jinja", build(root, [read_run(f, root) for f in folders])))
    return target


def read_run(folder: Path, root: Path) -> RunRow:
    """One row from the small records of a run; what cannot be read is left out."""
    run = RunFolder(folder)
    gate, train = _read(run.gate), _read(run.train_result)
    sft = _table(_read(run.validation).get("sft"))
    following = _table(sft.get("instruction_following"))
    rules = [rule for rule in gate.get("rules") or () if isinstance(rule, Mapping)]
    stages = _table(_read(run.state).get("stages"))
    verdict = None if _outdated(gate, stages) else gate.get("verdict")
    return RunRow(
        name=str(folder.relative_to(root)),
        root=folder,
        verdict=verdict if verdict in VERDICT_WORDS else None,
        open_rules=tuple(str(r.get("rule")) for r in rules if r.get("status") != "pass"),
        perplexity=_number(sft.get("perplexity")),
        bits_per_byte=_number(sft.get("bits_per_byte")),
        following=_number(following.get("value")),
        started=str(train.get("started") or "")[:16].replace("T", " "),
        seconds=_number(train.get("seconds")),
        steps=_whole(train.get("steps")),
        rows=_whole(_read(run.data_report).get("train")),
        scores=_scores(run.benchmarks),
        state=_state(stages),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return _table(read_json(path)) if path.is_file() else {}
    except SftprepError:
        return {}


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _outdated(gate: Mapping[str, Any], stages: Mapping[str, Any]) -> bool:
    entries = {name: entry for name, entry in stages.items() if isinstance(entry, Mapping)}
    return outdated(_table(gate.get("judged")), entries)


def _number(value: Any) -> float | None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if real and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _state(stages: Mapping[str, Any]) -> str:
    """The stage a run stands at when it has no verdict: `train: stopped`."""
    for name, entry in reversed(list(stages.items())):
        return f"{name}: {_table(entry).get('status', 'unknown')}"
    return "nothing run"


def _scores(folder: Path) -> dict[str, Score]:
    """Headline scores of full sets; a subset does not stand in for a benchmark."""
    found = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        result = _read(path)
        headline, name = str(result.get("headline")), str(result.get("name"))
        metric = _table(_table(result.get("metrics")).get(headline))
        value = _number(metric.get("value"))
        if value is not None and metric.get("complete") and metric.get("unit") == "share":
            question = (str(metric.get("protocol")), int(metric.get("n") or 0))
            found[metric_key(name, headline, headline)] = Score(value, question)
    return found


def best_run(rows: Sequence[RunRow]) -> tuple[RunRow | None, str]:
    """The best passing run and how it was chosen.

    Highest mean over the benchmarks that every passing run scored in full, in the same protocol
    and number of items; ties and runs without a common benchmark go by instruction following.
    """
    passed = [row for row in rows if row.verdict == "pass"]
    if not passed:
        return None, ""
    shared = [key for key in passed[0].scores if _same_question(key, passed)]

    def merit(row: RunRow) -> tuple[float, float]:
        mean = sum(row.scores[key].value for key in shared) / len(shared) if shared else 0.0
        return (mean, row.following if row.following is not None else -1.0)

    how = "instruction following: the passing runs share no benchmark"
    if shared:
        how = f"mean of {', '.join(shared)}, which every passing run scored in full"
    return max(passed, key=merit), how


def _same_question(key: str, rows: Sequence[RunRow]) -> bool:
    questions = {row.scores[key].question if key in row.scores else None for row in rows}
    return len(questions) == 1 and None not in questions


def build(root: Path, rows: Sequence[RunRow]) -> dict[str, Any]:
    """All values of the template."""
    best, how = best_run(rows)
    rows = sorted(rows, key=lambda row: (row is not best, ORDER.index(row.verdict), row.name))
    keys = sorted({key for row in rows for key in row.scores})
    counts = {word: sum(row.verdict == word for row in rows) for word in VERDICT_WORDS}
    script = own_file("index.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {
        "folder": redact_text(str(root)),
        "total": len(rows),
        "counts": counts | {"none": sum(row.verdict is None for row in rows)},
        "best": best.name if best else "",
        "best_report": _link(best, root) if best else "",
        "how": how,
        "keys": keys,
        "rows": [_shown(row, root, keys, row is best) for row in rows],
        "script": Markup(script),  # our own file, named by its hash in the page's policy
        "digest": digest,
    }


def _link(row: RunRow, root: Path) -> str:
    report = row.root / "report.html"
    if not report.is_file():
        return ""
    return "/".join(_quoted(part) for part in report.relative_to(root).parts)


def _quoted(part: str) -> str:
    from urllib.parse import quote

    return quote(part, safe="")


def _shown(row: RunRow, root: Path, keys: Sequence[str], best: bool) -> dict[str, Any]:
    scores = [row.scores.get(key) for key in keys]
    return {
        "name": row.name,
        "link": _link(row, root),
        "best": best,
        "style": STYLES.get(row.verdict or "", "none"),
        "word": VERDICT_WORDS.get(row.verdict or "", "no verdict").lower(),
        "open": ", ".join(map(rule_title, row.open_rules)) if row.verdict else row.state,
        "cells": [
            _cell(row.perplexity, "{:.4g}"),
            _cell(row.bits_per_byte, "{:.3f}"),
            _cell(row.following, "{:.1%}"),
            *(_cell(score.value if score else None, "{:.1%}") for score in scores),
            _cell(row.rows, "{:,}"),
            _cell(row.steps, "{:,}"),
            (_sort_key(row.seconds), "" if row.seconds is None else duration(row.seconds)),
        ],
        "started": row.started,
    }


def _cell(value: float | None, form: str) -> tuple[str, str]:
    """(sort key, text); a value that is not recorded sorts last and shows a dash."""
    return (_sort_key(value), "–" if value is None else form.format(value))


def _sort_key(value: float | None) -> str:
    return "" if value is None else repr(float(value))
