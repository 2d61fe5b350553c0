"""The training section: curves with red flags marked, and the numbers behind them."""

import math
from collections.abc import Sequence
from typing import Any

from sftprep.records import RedFlag, StepRecord
from sftprep.report import charts
from sftprep.report.gathered import Gathered
from sftprep.report.scale import Point, smooth

TABLE_ROWS = 20
SMALL_WIDTH = 330


def training_section(found: Gathered) -> dict[str, Any] | None:
    """Curves, red flags and a table of about twenty steps; None when nothing was trained."""
    evidence = found.evidence
    flags = evidence.train.flags if evidence.train and evidence.train.flags else evidence.flags
    if evidence.train is None and not evidence.steps:
        return None
    return {
        "result": evidence.train,
        "charts": curves(evidence.steps, flags) if evidence.steps else [],
        "flags": flags,
        "table": _table(evidence.steps),
        "steps": len(evidence.steps),
        "bad": sum(not math.isfinite(s.loss_nats) for s in evidence.steps),
    }


def curves(steps: Sequence[StepRecord], flags: Sequence[RedFlag]) -> list[dict[str, Any]]:
    """Loss, learning rate, gradient norm and throughput over optimiser steps."""
    marks = [charts.Mark(float(f.step), f"{f.id} at step {f.step}: {f.evidence}") for f in flags]
    loss = [(float(s.step), s.loss_nats) for s in steps]
    held = [(float(s.step), v) for s in steps if (v := s.validation_loss_nats) is not None]
    smoothed = smooth(loss, half_life=max(len(loss) / 150, 1.0))
    lines = [
        charts.Series("training loss", loss, "faint"),
        charts.Series("smoothed", smoothed, "sft"),
        charts.Series("held-out loss", held, "held", dots=True),
    ]
    return [
        {
            "name": "Loss (nats per supervised token)",
            "svg": charts.line_chart("Training and held-out loss by step", lines, marks),
            "legend": (("faint", "training, per step"), ("sft", "training, smoothed"),
                       ("held", "held out")),
        },
        {
            "name": "Learning rate",
            "svg": _single("Learning rate", [(float(s.step), s.learning_rate) for s in steps]),
            "legend": (),
        },
        {
            "name": "Gradient norm",
            "svg": _single("Gradient norm", [(float(s.step), s.grad_norm) for s in steps], marks),
            "legend": (),
        },
        {
            "name": "Tokens per second",
            "svg": _single("Tokens per second", _throughput(steps)),
            "legend": (),
        },
    ]  # fmt: skip


def _single(title: str, points: Sequence[Point], marks: Sequence[charts.Mark] = ()) -> Any:
    line = charts.Series(title, points, "thin")
    return charts.line_chart(f"{title} by step", [line], marks, width=SMALL_WIDTH, height=190)


def _throughput(steps: Sequence[StepRecord]) -> list[Point]:
    return [(float(s.step), s.tokens_real / s.seconds) for s in steps if s.seconds > 0]


def _table(steps: Sequence[StepRecord]) -> list[dict[str, str]]:
    """Evenly spread steps, and every step with a validation when these are few."""
    if not steps:
        return []
    stride = max(1, len(steps) // TABLE_ROWS)
    chosen = sorted({*range(0, len(steps), stride), len(steps) - 1})
    return [_table_row(steps[index]) for index in chosen]


def _table_row(step: StepRecord) -> dict[str, str]:
    held = step.validation_loss_nats
    return {
        "step": f"{step.step:,}",
        "loss": f"{step.loss_nats:.4f}",
        "held": "" if held is None else f"{held:.4f}",
        "rate": f"{step.learning_rate:.3g}",
        "norm": f"{step.grad_norm:.3g}",
        "tokens": f"{step.tokens_real:,}",
        "seconds": f"{step.seconds:.2f}",
    }
