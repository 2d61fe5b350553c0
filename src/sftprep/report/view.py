"""What each section of the report shows, as plain values and charts; None means "not run yet"."""

from typing import Any

from sftprep.diagnose.table import title_of
from sftprep.report.data_view import data_section
from sftprep.report.evaluation_view import benchmarks_section, validation_section
from sftprep.report.gathered import Gathered
from sftprep.report.models_view import models_section
from sftprep.report.provenance import cost_section, provenance_section
from sftprep.report.training_view import training_section
from sftprep.report.verdict_view import (
    rule_title,
    sign_off,
    subtitle,
    tiles,
    verdict_panel,
    watch_list,
)


def build(found: Gathered) -> dict[str, Any]:
    """All values of the template."""
    return {
        "title": found.run.root.resolve().name or "run",
        "subtitle": subtitle(found),
        "verdict": verdict_panel(found),
        "tiles": tiles(found),
        "watch": watch_list(found),
        "gate": gate_section(found),
        "diagnosis": diagnosis_section(found),
        "models": models_section(found),
        "training": training_section(found),
        "validation": validation_section(found),
        "benchmarks": benchmarks_section(found),
        "data": data_section(found),
        "cost": cost_section(found),
        "provenance": provenance_section(found),
        "problems": found.problems,
        "sign_off": sign_off(found),
    }


def gate_section(found: Gathered) -> dict[str, Any] | None:
    """Every rule with its title; None when the gate has not run."""
    if found.gate is None:
        return None
    return {"rules": [(rule_title(rule.rule), rule) for rule in found.gate.rules]}


def diagnosis_section(found: Gathered) -> dict[str, Any] | None:
    """Symptoms that are present, the causes weighed for each, and the proposed changes."""
    if found.diagnosis is None:
        return None
    present = [s for s in found.diagnosis.symptoms if s.presence == "present"]
    return {
        "symptoms": [
            {
                "title": title_of(s.id),
                "evidence": s.evidence,
                "findings": [f for f in found.diagnosis.findings if f.symptom == s.id],
            }
            for s in present
        ],
        "patch": found.diagnosis.patch,
    }
