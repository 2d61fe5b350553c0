"""The training section: curves with red flags marked, and the numbers behind them."""

import math
from collections.abc import Sequence
from typing import Any

from sftprep.gate.step_log import StepLog
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
    log = evidence.steps
    if evidence.train is None and not log.total:
        return None
    return {
        "result": evidence.train,
        "lead": _lead(found),
        "charts": curves(log, flags, _best_step(found)) if log.total else [],
        "flags": list(enumerate(flags, start=1)),
        "table": _table(log),
        "steps": log.total,
        "bad": log.bad_losses,
    }


def _best_step(found: Gathered) -> int | None:
    return found.evidence.train.best_validation_step if found.evidence.train else None


def _lead(found: Gathered) -> str:
    """What training did to the held-out loss, in one sentence; empty when it is not known."""
    train = found.evidence.train
    if train is None:
        return "Training has not finished."
    ended = f"{train.steps:,} of {train.planned_steps:,} steps ({train.stopped.replace('_', ' ')})"
    parts = [f"{ended}, {train.tokens_supervised:,} supervised tokens."]
    before, after = train.base_validation_loss_nats, train.best_validation_loss_nats
    if before is not None and after is not None:
        parts.append(f"Held-out loss {before:.4g} before, {after:.4g} at its best")
        parts[-1] += "." if (step := train.best_validation_step) is None else f" (step {step:,})."
    return " ".join(parts)


def curves(log: StepLog, flags: Sequence[RedFlag], best: int | None = None) -> list[dict[str, Any]]:
    """Loss, learning rate, gradient norm and throughput over optimiser steps.

    Args:
        best: step of the best held-out loss, marked on the loss curve.
    """
    marks = [
        charts.Mark(float(f.step), f"{f.id} at step {f.step}: {f.evidence}", number=str(number))
        for number, f in enumerate(flags, start=1)
    ]
    stars = (
        [] if best is None else [charts.Mark(float(best), f"best held-out, step {best}", "best")]
    )
    steps = log.drawn()
    loss = [(float(s.step), s.loss_nats) for s in steps]
    held = [(float(s.step), s.validation_loss_nats or math.nan) for s in log.validated]
    evenly = [(float(s.step), s.loss_nats) for s in log.kept]
    smoothed = smooth(evenly, half_life=max(len(evenly) / 150, 1.0))
    lines = [
        charts.Series("training loss", loss, "faint"),
        charts.Series("smoothed", smoothed, "sft"),
        charts.Series("held-out loss", held, "held", dots=True),
    ]
    best_key = (("best", "best held-out"),) if best is not None else ()
    return [
        {
            "name": "Loss (nats per supervised token)",
            "svg": charts.line_chart("Training and held-out loss by step", lines, stars + marks),
            "legend": (("faint", "training, per step"), ("sft", "training, smoothed"),
                       ("held", "held out"), *best_key),
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


def _table(log: StepLog) -> list[dict[str, str]]:
    """Evenly spread steps, the last among them."""
    steps = log.drawn()
    if not steps:
        return []
    spread = log.kept[:: max(1, len(log.kept) // TABLE_ROWS)]
    last = [] if spread[-1].step == steps[-1].step else [steps[-1]]
    return [_table_row(step) for step in (*spread, *last)]


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
