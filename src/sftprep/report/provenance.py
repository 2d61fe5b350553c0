"""The sections "predicted and actual cost" and "provenance"."""

from collections.abc import Mapping
from typing import Any

from sftprep.report.gathered import Gathered
from sftprep.report.metadata import recipe_with_origins
from sftprep.report.redact import redact, redact_text

GIB = 1 << 30


def cost_section(found: Gathered) -> dict[str, Any] | None:
    """Rows (name, predicted, actual) from plan.json and the training record."""
    plan = found.plan
    if plan is None:
        return None
    time, actual = _table(plan.get("time")), _table(plan.get("actual"))
    memory, volume = _table(plan.get("memory")), _table(plan.get("volume"))
    peak = found.evidence.steps.peak_memory_bytes
    rows = [
        ("training time", _span(time), _hours(actual.get("seconds"))),
        ("tokens per second", _count(time.get("tokens_per_second")),
         _count(actual.get("tokens_per_second"))),
        ("optimiser steps", _count(volume.get("steps")), _count(actual.get("steps"))),
        ("tokens", _count(volume.get("tokens")), _count(actual.get("tokens"))),
        ("memory per device", _gib(memory.get("total")), _gib(peak)),
        ("cost", _dollars(plan.get("dollars")), ""),
        ("disk", _gib(plan.get("disk_bytes")), ""),
    ]  # fmt: skip
    return {
        "lead": _cost_lead(time, actual),
        "rows": [row for row in rows if row[1] or row[2]],
        "hardware": str(plan.get("hardware_label") or ""),
        "stage": str(plan.get("stage_document") or ""),
        "warnings": [str(text) for text in plan.get("warnings") or ()],
    }


def _cost_lead(time: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    """Predicted against actual training time in one sentence; empty when one is not recorded."""
    expected, took = _positive(time.get("expected")), _positive(actual.get("seconds"))
    if expected is None or took is None:
        return ""
    low, high = _positive(time.get("low")), _positive(time.get("high"))
    place = ""
    if low is not None and high is not None:
        side = "below" if took < low else "above" if took > high else "inside"
        place = f", {side} the predicted range"
    return f"Training took {_hours(took)}, {took / expected:.2f} times the expected time{place}."


def _positive(value: Any) -> float | None:
    return float(value) if _is_number(value) and value > 0 else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> str:
    return f"{value:,.0f}" if _is_number(value) else ""


def _gib(value: Any) -> str:
    return f"{value / GIB:.2f} GiB" if _is_number(value) and value > 0 else ""


def _dollars(value: Any) -> str:
    return f"${value:,.2f}" if _is_number(value) else ""


def _hours(value: Any) -> str:
    if not _is_number(value):
        return ""
    return f"{value / 3600:.2f} h" if value >= 5400 else f"{value:,.0f} s"


def _span(time: Mapping[str, Any]) -> str:
    expected = _hours(time.get("expected"))
    low, high = _hours(time.get("low")), _hours(time.get("high"))
    return f"{expected} ({low} to {high})" if expected and low and high else expected


def provenance_section(found: Gathered) -> dict[str, Any] | None:
    """Stages, versions, hardware, recipe with origins; nothing secret."""
    environment: Mapping[str, Any] = {}
    for entry in found.stages.values():
        if isinstance(entry.get("environment"), Mapping):
            environment = redact(entry["environment"])
    recipe = recipe_with_origins(found.run, found.recipe) if found.recipe else {}
    if not (environment or recipe or found.stages):
        return None
    facts = [(k, str(v)) for k, v in environment.items() if not isinstance(v, Mapping)]
    versions = [(k, str(v)) for k, v in _table(environment.get("versions")).items()]
    return {
        "folder": redact_text(str(found.run.root)),
        "stages": [
            (name, _status(name, e), _moment(e.get("started")), _hours(e.get("seconds")),
             str(e.get("fingerprint", "")))
            for name, e in found.stages.items()
        ],
        "facts": facts,
        "versions": versions,
        "recipe": [(key, str(row["value"]), row["origin"]) for key, row in recipe.items()],
        "validation_hashes": sorted(
            (str(k), str(v)) for k, v in found.evidence.validation.hashes.items()
        ) if found.evidence.validation else [],
    }  # fmt: skip


def _status(name: str, entry: Mapping[str, Any]) -> str:
    """A stage's state; the report is being written while this page is made."""
    status = str(entry.get("status", ""))
    return "this page" if name == "report" and status == "running" else status


def _moment(value: Any) -> str:
    """`2026-01-05 09:00:00` of an ISO time in UTC."""
    return str(value or "").partition("+")[0].replace("T", " ")
