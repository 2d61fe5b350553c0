"""The first screen: the verdict, what fails and what to do, key figures, what else to know."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftprep.comparison.lines import value_text
from sftprep.diagnose.table import title_of
from sftprep.gate.benchmark_rules import above_chance, headline_metric, required_names
from sftprep.records import GateResult, Verdict
from sftprep.report.gathered import Gathered
from sftprep.report.redact import redact_text
from sftprep.report.summary import VERDICT_WORDS
from sftprep.store.durable import sha256_file

MEANING: Mapping[str, str] = {
    "pass": "This checkpoint can go on to preference optimisation.",
    "fail": "Do not start preference optimisation from this checkpoint.",
    "undecidable": "Not decided: something the gate asks for was not measured.",
}
STYLES: Mapping[str, str] = {"pass": "pass", "fail": "fail", "undecidable": "missing"}
WATCH_LIMIT = 6


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure; `status` is that of the rule behind it, empty when there is none."""

    name: str
    value: str
    note: str = ""
    status: str = ""


def rule_title(rule: str) -> str:
    """`data_not_leaking` as words: "Data not leaking"."""
    words = rule.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def verdict_panel(found: Gathered) -> dict[str, Any]:
    """Word, meaning, counts, the open rules worst first, the next command."""
    gate = found.gate
    if gate is None:
        sentence = "The stages that have run are shown below."
        return {"word": "GATE NOT RUN YET", "style": "missing", "meaning": sentence,
                "sentence": "", "open": (), "next": _next(found)}  # fmt: skip
    order = {"fail": 0, "missing": 1}
    todo = sorted((v for v in gate.rules if v.status != "pass"), key=lambda v: order[v.status])
    return {
        "word": VERDICT_WORDS[gate.verdict],
        "style": STYLES[gate.verdict],
        "meaning": MEANING[gate.verdict],
        "sentence": counts_sentence(gate),
        "open": _open_rules(todo),
        "next": _next(found),
    }


def _open_rules(todo: Sequence[Verdict]) -> list[tuple[str, Verdict, str]]:
    """(title, rule, title of an earlier rule with the very same remedy or nothing)."""
    rows, first = [], dict[str, str]()
    for rule in todo:
        title = rule_title(rule.rule)
        rows.append((title, rule, first.get(rule.remedy, "") if rule.remedy else ""))
        first.setdefault(rule.remedy, title)
    return rows


def counts_sentence(gate: GateResult) -> str:
    """`7 of 10 rules pass, 2 fail, 1 not measured.`"""
    counts = {s: sum(v.status == s for v in gate.rules) for s in ("pass", "fail", "missing")}
    parts = [f"{counts['pass']} of {len(gate.rules)} rules pass"]
    parts += [f"{counts['fail']} fail"] if counts["fail"] else []
    parts += [f"{counts['missing']} not measured"] if counts["missing"] else []
    return ", ".join(parts) + "."


def _next(found: Gathered) -> tuple[tuple[str, str], ...]:
    """(what for, command) of the next step."""
    root = redact_text(str(found.run.root))
    if found.gate is None:
        return (("Go on with the remaining stages", f"sftprep run {root}"),)
    if found.gate.verdict == "pass":
        baseline = f"{root}/checkpoints/sft_baseline"
        return (("After preference optimisation, look for losses",
                 f"sftprep compare {baseline} CANDIDATE"),)  # fmt: skip
    if found.diagnosis is not None and found.diagnosis.patch:
        return (
            ("Write a recipe with the proposed changes",
             f"sftprep diagnose {root} --apply next.yaml"),
            ("Run it into a new folder",
             "sftprep run next.yaml --set output.run_dir=runs/next"),
        )  # fmt: skip
    return (("Weigh the causes", f"sftprep diagnose {root}"),)


def subtitle(found: Gathered) -> str:
    """Base model and day: which run this is."""
    parts = []
    if found.recipe is not None:
        base = redact_text(found.recipe.model.base)
        local = Path(base).is_absolute() or base.startswith((".", "~"))
        parts.append(f"base model {'/'.join(Path(base).parts[-2:]) if local else base}")
    train = found.evidence.train
    if train is not None:
        parts.append(f"trained {train.started[:10]}" if train.started else "trained")
    return " · ".join(parts)


def tiles(found: Gathered) -> list[Tile]:
    """Perplexity, instruction following, benchmarks, training, rows: those that were measured."""
    evidence, shown = found.evidence, []
    status = {v.rule: v.status for v in found.gate.rules} if found.gate else {}
    if evidence.validation is not None:
        shown += _validation_tiles(found, status)
    if evidence.benchmarks:
        scored = [m for r in evidence.benchmarks.values() if (m := headline_metric(r))]
        full = sum(m.value is not None and m.complete for m in scored)
        asked = required_names(found.recipe) if found.recipe else tuple(evidence.benchmarks)
        shown.append(Tile("Benchmarks in full", f"{full} of {len(asked)}", _forgotten(found),
                          status.get("benchmarks_recorded", "")))  # fmt: skip
    if evidence.train is not None:
        steps = f"{evidence.train.steps:,} steps, {evidence.train.stopped.replace('_', ' ')}"
        shown.append(Tile("Training", duration(evidence.train.seconds), steps,
                          status.get("training_completed", "")))  # fmt: skip
    if evidence.data is not None:
        held = f"{evidence.data.validation:,} held out"
        shown.append(Tile("Training rows", f"{evidence.data.train:,}", held,
                          status.get("data_sufficient", "")))  # fmt: skip
    return shown


def _validation_tiles(found: Gathered, status: Mapping[str, str]) -> list[Tile]:
    assert found.evidence.validation is not None
    sft, base = found.evidence.validation.sft, found.evidence.validation.base
    limits = found.recipe.gate if found.recipe else None
    most = f" · limit {limits.max_validation_perplexity:g}" if limits else ""
    least = f" · at least {limits.min_instruction_following:.0%}" if limits else ""
    before = base.instruction_following if base else None
    return [
        Tile("Held-out perplexity", f"{sft.perplexity:.4g}",
             (f"base {base.perplexity:.4g}" if base else "base not measured") + most,
             status.get("validation_perplexity", "")),
        Tile("Instruction following", value_text(sft.instruction_following.value, "share"),
             (f"base {value_text(before.value, 'share')}" if before else "base not measured")
             + least, status.get("instruction_following", "")),
    ]  # fmt: skip


def _forgotten(found: Gathered) -> str:
    for rule in found.gate.rules if found.gate else ():
        if rule.rule == "no_forgetting" and rule.status != "missing":
            return rule.measured.partition(",")[0]
    return "required by the gate"


def duration(seconds: float | None) -> str:
    """`42 s`, `12.5 min`, `3.2 h` or `1.4 days`."""
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def watch_list(found: Gathered) -> list[tuple[str, str]]:
    """(text, section) of what does not decide the verdict and should still be known."""
    evidence, notes = found.evidence, list[tuple[str, str]]()
    flags = evidence.train.flags if evidence.train and evidence.train.flags else evidence.flags
    if flags:
        names = ", ".join(dict.fromkeys(flag.id.replace("_", " ") for flag in flags))
        notes.append((f"{_count(len(flags), 'red flag')} during training: {names}", "training"))
    present = [] if found.diagnosis is None else [
        title_of(s.id) for s in found.diagnosis.symptoms if s.presence == "present"
    ]  # fmt: skip
    if present and found.gate and found.gate.verdict == "pass":
        notes.append((f"The diagnosis sees: {', '.join(present)}", "gate"))
    chance = [n for n, r in evidence.benchmarks.items()
              if (m := headline_metric(r)) and above_chance(m) is False]  # fmt: skip
    if chance:
        notes.append((f"Not above chance: {', '.join(chance)}", "benchmarks"))
    subsets = [n for n, r in evidence.benchmarks.items()
               if (m := headline_metric(r)) and not m.complete]  # fmt: skip
    if subsets:
        notes.append((f"A subset only: {', '.join(subsets)}", "benchmarks"))
    notes += _data_notes(found) + _model_notes(found)
    if found.problems:
        notes.append((f"{_count(len(found.problems), 'file')} could not be read", "provenance"))
    return notes[:WATCH_LIMIT]


def _data_notes(found: Gathered) -> list[tuple[str, str]]:
    """What the data stage's own questions found wanting, unless a rule of the gate says so too."""
    rows = found.evidence.data.sections.get("health") if found.evidence.data else None
    lacking = [
        f"Data: {row.get('question')}: {row.get('measured')}"
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, Mapping) and row.get("ok") is False and row.get("wanted") == "none"
    ]
    return [(text, "data") for text in lacking]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _model_notes(found: Gathered) -> list[tuple[str, str]]:
    """What the models stage said about the base model's licence when it is not plain."""
    for row in (found.models or {}).get("ranking", ()) or ():
        if not isinstance(row, Mapping) or row.get("role") != "base":
            continue
        for aspect in row.get("aspects") or ():
            if isinstance(aspect, Mapping) and aspect.get("name") == "licence" and aspect.get(
                "standing"
            ) not in ("good", None):  # fmt: skip
                return [(f"Licence of the base model: {aspect.get('text')}", "models")]
    return []


def sign_off(found: Gathered) -> dict[str, str] | None:
    """What a person signs: the verdict and the sha256 of the manifest of the checkpoint.

    The manifest holds the sha256 of every file of the checkpoint, so one hash names them all.
    """
    if found.gate is None:
        return None
    manifest = found.run.baseline / "MANIFEST.json"
    known = manifest.is_file()
    return {
        "verdict": VERDICT_WORDS[found.gate.verdict],
        "hash": sha256_file(manifest) if known else "no checkpoint was exported",
    }
