"""A plan corrected by measured steps: every number by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from sftprep.model.calibrate import (
    LEAST_SECONDS,
    MOST_SECONDS,
    Measured,
    calibrated,
    rounds,
    saves,
    seconds_to_spend,
    why_not_measured,
)
from sftprep.model.hardware import parse_hardware
from sftprep.model.plan import Plan, make_plan
from sftprep.recipe.load import load_recipe
from sftprep.recipe.sections import Recipe, TrainingSection

MEASURED = Measured(
    steps=5, tokens=5_000, seconds=10.0, validation_tokens=1_000, validation_seconds=0.5,
    save_seconds=2.0, start_seconds=3.0, total_steps=100, tokens_per_epoch=50_000,
    steps_per_epoch=50, held_out_tokens=4_000, resident_bytes=1 << 28, peak_bytes=1 << 30,
    keep_seconds=1.0, finish_seconds=0.5, swapped_tokens=1_000,
)  # fmt: skip


def plan_for(tmp_path: Path, rows: Path, hardware: str = "1xH100@3.6") -> tuple[Plan, Recipe]:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{base: Qwen/Qwen2.5-0.5B}}\ndata: {{sources: [{rows}]}}\n")
    recipe = load_recipe(path, ["training.validate_every=40", "training.save_every=50"]).recipe
    return make_plan(recipe, None, parse_hardware(hardware)), recipe


def test_the_time_is_put_together_from_what_was_measured(tmp_path: Path, rows_file: Path) -> None:
    plan, recipe = plan_for(tmp_path, rows_file)
    after = calibrated(plan, recipe.training, MEASURED)
    assert after.time is not None and after.volume is not None
    # 100 steps of 1,000 tokens at 2 ms; 4 passes (base, 40, 80, 100) over 4,000 held-out tokens and
    # 3 over 1,000 swapped ones at 0.5 ms; 2 checkpoints of 2 s; 3 models of 1 s; 0.5 s to check.
    assert after.time.expected == pytest.approx(200 + 8 + 1.5 + 4 + 3 + 0.5)
    assert after.time.validation == pytest.approx(9.5)
    assert after.time.tokens_per_second == pytest.approx(500)
    assert (after.volume.steps, after.volume.tokens, after.volume.epochs) == (100, 100_000, 2.0)
    assert after.tokens_measured is True
    assert after.dollars == pytest.approx(217 * 3.6 / 3600)
    assert after.time.low < after.time.expected < after.time.high


def test_on_a_cpu_the_measured_peak_takes_the_formulas_place(
    tmp_path: Path, rows_file: Path
) -> None:
    plan, recipe = plan_for(tmp_path, rows_file, "cpu-64GB")
    after = calibrated(plan, recipe.training, MEASURED)
    assert (after.memory["total"], after.memory["formula"]) == (1 << 30, plan.memory["total"])
    gpu, recipe = plan_for(tmp_path, rows_file)
    assert calibrated(gpu, recipe.training, MEASURED).memory == gpu.memory


def test_operations_follow_the_real_tokens(tmp_path: Path, rows_file: Path) -> None:
    plan, recipe = plan_for(tmp_path, rows_file)
    assert plan.flops is not None and plan.volume is not None
    after = calibrated(plan, recipe.training, MEASURED)
    assert after.flops == pytest.approx(plan.flops / plan.volume.tokens * 100_000)


@pytest.mark.parametrize(
    ("steps", "every", "expected"), [(100, 40, 4), (100, 50, 3), (10, 100, 2), (100, 100, 2)]
)
def test_validations_are_the_base_model_the_regular_ones_and_the_last(
    steps: int, every: int, expected: int
) -> None:
    assert rounds(TrainingSection(validate_every=every), steps) == expected


@pytest.mark.parametrize(("steps", "every", "expected"), [(100, 40, 3), (100, 50, 2), (10, 50, 1)])
def test_checkpoints_are_the_regular_ones_and_the_last(
    steps: int, every: int, expected: int
) -> None:
    assert saves(TrainingSection(save_every=every), steps) == expected


@pytest.mark.parametrize(
    ("expected", "seconds"), [(10, LEAST_SECONDS), (1000, 30), (1e6, MOST_SECONDS)]
)
def test_the_look_takes_a_small_share_of_the_run(expected: float, seconds: float) -> None:
    assert seconds_to_spend(expected) == pytest.approx(seconds)


def test_what_is_not_measured_says_why(tmp_path: Path, rows_file: Path) -> None:
    plan, _ = plan_for(tmp_path, rows_file)
    many, _ = plan_for(tmp_path, rows_file, "8xH100")
    assert why_not_measured(plan, True, True) is None
    reasons = [
        why_not_measured(plan, False, True),
        why_not_measured(many, True, True),
        why_not_measured(plan, True, False),
        why_not_measured(replace(plan, fits=False), True, True),
        why_not_measured(plan, True, True, processes=2),
    ]
    words = [
        "not for this machine", "more than one device", "not prepared", "would not fit",
        "more than one device or process",
    ]  # fmt: skip
    assert all(word in str(reason) for word, reason in zip(words, reasons, strict=True))


def test_neither_short_runs_nor_steps_of_many_minutes_are_tried(
    tmp_path: Path, rows_file: Path
) -> None:
    plan, _ = plan_for(tmp_path, rows_file)
    assert plan.time is not None and plan.volume is not None
    short = replace(plan, time=replace(plan.time, expected=44.0))
    assert "less than 45 seconds" in str(why_not_measured(short, True, True))
    # 65,536 tokens a step at 100 a second: three steps are 33 minutes.
    slow = replace(plan, time=replace(plan.time, tokens_per_second=100.0))
    assert "33 minutes" in str(why_not_measured(slow, True, True))
