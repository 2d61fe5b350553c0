"""The decision table: symptoms seen, causes weighed, patches that load."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.gate.changes import drop_rates, forgotten
from tests.gate.example_run import edit

from sftprep.diagnose import CASES, Diagnosis, apply_patch, diagnose, diagnosis_lines
from sftprep.errors import RecipeError
from sftprep.recipe import load_recipe
from sftprep.records import to_json
from sftprep.store.run import RunFolder


def rewrite_steps(run: RunFolder, loss: Callable[[int], float | None]) -> None:
    """Set the training loss of every step, in nats; None is written as null."""
    rows = [json.loads(line) for line in run.steps.read_text().splitlines()]
    for row in rows:
        value = loss(row["step"])
        row["loss_sum_nats"] = None if value is None else value * row["tokens_supervised"]
    run.steps.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rewrite_validation(run: RunFolder, loss: Callable[[int], float]) -> None:
    rows = [json.loads(line) for line in run.steps.read_text().splitlines()]
    for row in rows:
        if row["validation_tokens"]:
            row["validation_sum_nats"] = loss(row["step"]) * row["validation_tokens"]
    run.steps.write_text("".join(json.dumps(row) + "\n" for row in rows))


def found(diagnosis: Diagnosis) -> dict[str, str]:
    return {f"{f.symptom}/{f.cause}": f.status for f in diagnosis.findings}


def presence(diagnosis: Diagnosis) -> dict[str, str]:
    return {s.id: s.presence for s in diagnosis.symptoms}


def wobble(step: int) -> float:
    return 0.01 * (step % 3 - 1)


def test_a_healthy_run_has_no_symptom_and_no_patch(run: RunFolder) -> None:
    diagnosis = diagnose(run)
    assert set(presence(diagnosis).values()) == {"absent"}
    assert (diagnosis.findings, diagnosis.patch) == ((), {})


def test_a_flat_calm_loss_asks_for_a_higher_learning_rate(run: RunFolder) -> None:
    run.recipe.write_text(run.recipe.read_text().replace("2e-3", "1e-6"))
    rewrite_steps(run, lambda step: 3.0 + wobble(step))
    diagnosis = diagnose(run)
    assert presence(diagnosis)["loss_not_decreasing"] == "present"
    assert found(diagnosis)["loss_not_decreasing/learning_rate_too_low"] == "found"
    assert found(diagnosis)["loss_not_decreasing/learning_rate_too_high"] == "ruled_out"
    assert diagnosis.patch["training.learning_rate"] == 5e-5  # the stage document's value


def test_a_rising_loss_asks_for_a_lower_learning_rate(run: RunFolder) -> None:
    rewrite_steps(run, lambda step: 2.0 + 0.02 * step)
    diagnosis = diagnose(run)
    assert found(diagnosis)["loss_not_decreasing/learning_rate_too_high"] == "found"
    assert found(diagnosis)["loss_not_decreasing/learning_rate_too_low"] == "ruled_out"
    assert diagnosis.patch["training.learning_rate"] == 1e-3
    assert diagnosis.patch["training.warmup_steps"] == 100


def test_a_loss_that_becomes_nan_is_unstable_and_not_decreasing(run: RunFolder) -> None:
    rewrite_steps(run, lambda step: 2.0 if step < 90 else None)
    diagnosis = diagnose(run)
    assert presence(diagnosis)["training_unstable"] == "present"
    assert presence(diagnosis)["loss_not_decreasing"] == "present"
    assert "NaN" not in to_json(diagnosis)


def test_a_base_model_at_uniform_loss_was_not_loaded(run: RunFolder) -> None:
    rewrite_steps(run, lambda step: 10.3 + wobble(step))
    edit(run.train_result, lambda v: v.update(base_validation_loss_nats=10.4))
    diagnosis = diagnose(run)
    assert found(diagnosis)["loss_not_decreasing/model_not_loaded_as_pretrained"] == "found"
    assert presence(diagnosis)["base_model_suspicious"] == "present"


def test_many_rejected_rows_point_at_the_data(run: RunFolder) -> None:
    rewrite_steps(run, lambda step: 3.0 + wobble(step))
    edit(run.data_report, lambda v: v["ledger"].update(rejected={"gibberish": 9000}))
    assert found(diagnose(run))["loss_not_decreasing/data_quality"] == "found"
    run.data_report.unlink()
    assert found(diagnose(run))["loss_not_decreasing/data_quality"] == "not_decidable"


def test_a_rising_held_out_loss_asks_to_end_at_its_best_step(run: RunFolder) -> None:
    rewrite_validation(run, lambda step: 1.5 + (0.004 * (step - 40)) ** 2 * 4)
    diagnosis = diagnose(run)
    assert presence(diagnosis)["validation_rising"] == "present"
    assert found(diagnosis)["validation_rising/training_too_long"] == "found"
    assert diagnosis.patch["training.max_steps"] == 40
    assert diagnosis.patch["training.early_stopping_patience"] == 3


def test_few_distinct_prompts_are_a_cause_of_overfitting(run: RunFolder) -> None:
    rewrite_validation(run, lambda step: 1.5 + 0.002 * step)
    edit(run.data_report, lambda v: v.update(unique_prompts=900))
    assert found(diagnose(run))["validation_rising/data_not_diverse"] == "found"


def test_a_jumping_loss_asks_for_more_accumulation(run: RunFolder) -> None:
    rewrite_steps(run, lambda step: 3.0 - 0.015 * step + (0.5 if step % 2 else -0.5))
    diagnosis = diagnose(run)
    assert presence(diagnosis)["loss_oscillating"] == "present"
    assert diagnosis.patch["training.gradient_accumulation_steps"] == 8


def test_a_stopping_flag_means_unstable(run: RunFolder) -> None:
    flag = {"id": "loss_spike", "step": 9, "evidence": "8.1", "cause": "c", "remedy": "r",
            "action": "stop"}  # fmt: skip
    edit(run.train_result, lambda v: v.update(flags=[flag]))
    diagnosis = diagnose(run)
    assert presence(diagnosis)["training_unstable"] == "present"
    assert diagnosis.patch["training.learning_rate"] == 1e-3


def test_a_falling_loss_of_mixed_tasks_is_neither_unstable_nor_oscillating(run: RunFolder) -> None:
    # ends at a tenth of where it began, with noise of half its level: the starter's healthy run
    rewrite_steps(run, lambda step: 0.2 + 2.5 * 0.9**step + 0.1 * (-1) ** step)
    diagnosis = diagnose(run)
    assert presence(diagnosis)["training_unstable"] == "absent"
    assert presence(diagnosis)["loss_oscillating"] == "absent"


def test_the_warm_up_tells_which_rate_was_too_high(run: RunFolder) -> None:
    rates = {}
    rows = [json.loads(line) for line in run.steps.read_text().splitlines()]
    for row in rows:
        rates[row["step"]] = row["learning_rate"] = 2e-3 * min(1.0, row["step"] / 50)
    run.steps.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewrite_steps(run, lambda step: 3.0 - 0.05 * step if step <= 20 else 2.0 + 0.1 * (step - 20))
    diagnosis = diagnose(run)
    # lowest in the second fifth of 50 warm-up steps: half the rate of step 20
    assert diagnosis.patch["training.learning_rate"] == pytest.approx(rates[20] / 2, rel=0.01)


def test_a_flag_that_no_case_knows_is_reported_with_its_own_remedy(run: RunFolder) -> None:
    flag = {"id": "throughput_collapse", "step": 50, "evidence": "half the speed",
            "cause": "the disk is slow", "remedy": "move the data", "action": "warn"}  # fmt: skip
    run.flags.write_text(json.dumps(flag) + "\n")
    diagnosis = diagnose(run)
    assert presence(diagnosis)["throughput_collapse"] == "present"
    assert diagnosis.findings[-1].cause == "the disk is slow"
    assert diagnosis.findings[-1].change == "move the data"


def test_every_red_flag_of_training_is_named_by_at_most_one_case() -> None:
    from sftprep.train.redflags import RED_FLAGS

    named = [flag for case in CASES for flag in case.flags]
    assert len(named) == len(set(named))
    assert set(named) <= {rule.id for rule in RED_FLAGS}


def test_a_high_perplexity_while_still_falling_asks_for_more_steps(run: RunFolder) -> None:
    rewrite_validation(run, lambda step: 4.0 - 0.01 * step)
    edit(run.validation, lambda v: v["sft"].update(perplexity=25.0))
    diagnosis = diagnose(run)
    assert found(diagnosis)["validation_loss_high/insufficient_training"] == "found"
    assert diagnosis.patch == {"training.max_steps": 200}


def test_answers_that_ignore_a_swapped_instruction_show_a_weak_signal(run: RunFolder) -> None:
    def change(v: Any) -> None:
        v["sft"]["instruction_following"]["value"] = 0.2
        v["sft"]["sensitivity_nats"] = 0.02
        v["sft"]["rates"]["stopped"] = 0.4

    edit(run.validation, change)
    diagnosis = diagnose(run)
    assert found(diagnosis)["instructions_ignored/weak_instruction_signal"] == "found"
    assert found(diagnosis)["instructions_ignored/format_inconsistent"] == "found"
    assert found(diagnosis)["answers_incoherent/end_of_turn_not_learned"] == "found"
    assert found(diagnosis)["answers_incoherent/repetition_learned"] == "ruled_out"


def test_lost_benchmarks_ask_for_the_usual_rate_of_the_size(run: RunFolder) -> None:
    forgotten(run)  # trained at 2e-3; the preset below 50M parameters has 1e-3
    edit(run.train_result, lambda v: v.update(settings={"parameters": 1_800_000}))
    diagnosis = diagnose(run)
    assert presence(diagnosis)["benchmarks_lost"] == "present"
    assert diagnosis.patch["training.learning_rate"] == 1e-3


def test_without_evidence_nothing_is_claimed(run: RunFolder) -> None:
    for path in (run.steps, run.flags, run.train_result, run.validation, run.data_report):
        path.unlink()
    for path in run.benchmarks.glob("*.json"):
        path.unlink()
    diagnosis = diagnose(run)
    assert set(presence(diagnosis).values()) == {"not_decidable"}
    assert (diagnosis.findings, diagnosis.patch) == ((), {})


def test_missing_rates_are_not_decidable(run: RunFolder) -> None:
    drop_rates(run)
    assert presence(diagnose(run))["answers_incoherent"] == "not_decidable"


def test_symptom_ids_are_unique_and_every_case_weighs_a_cause() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert all(len(case.causes) >= 1 for case in CASES)


def test_a_run_without_a_recipe_is_a_recipe_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        diagnose(RunFolder(tmp_path))


def test_a_patch_keeps_comments_and_everything_else(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "new.yaml"
    apply_patch(run.recipe, {"training.learning_rate": 5e-5, "training.weight_decay": 0.1}, out)
    before, after = run.recipe.read_text().splitlines(), out.read_text().splitlines()
    assert [line for line in after if line not in before] == [
        "  learning_rate: 5e-05 # changed by sftprep diagnose",
        "  weight_decay: 0.1",
    ]
    assert [line for line in before if line not in after] == [
        "  learning_rate: 2e-3 # recipe.yaml:8"
    ]
    changed = load_recipe(out).recipe
    assert (changed.training.learning_rate, changed.training.weight_decay) == (5e-5, 0.1)
    assert changed.data == load_recipe(run.recipe).recipe.data


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"training.learning_rate": -1}, "training.learning_rate"),
        ({"training.learnin_rate": 1e-5}, "training.learnin_rate"),
        ({"learning_rate": 1e-5}, r"expected section\.key"),
        ({"training.learning_rate": math.nan}, "training.learning_rate"),
    ],
)
def test_a_patch_that_breaks_the_recipe_writes_nothing(
    run: RunFolder, tmp_path: Path, patch: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        apply_patch(run.recipe, patch, tmp_path / "new.yaml")
    assert (tmp_path / "new.yaml").exists() is False


def test_a_section_that_is_not_there_is_added(run: RunFolder, tmp_path: Path) -> None:
    text = run.recipe.read_text().partition("validation:")[0]
    run.recipe.write_text(text)
    apply_patch(run.recipe, {"validation.samples": 3}, tmp_path / "new.yaml")
    assert load_recipe(tmp_path / "new.yaml").recipe.validation.samples == 3


def test_lines_name_symptoms_causes_and_changes(run: RunFolder) -> None:
    rewrite_steps(run, lambda step: 2.0 + 0.02 * step)
    lines = diagnosis_lines(diagnose(run))
    assert lines[0].startswith(f"1 of {len(CASES)} symptoms present")
    assert any("learning_rate_too_high (found, high confidence)" in line for line in lines)
    assert "  training.learning_rate: 0.001" in lines


def overfitted_run(run: RunFolder, trained: int | None) -> None:
    """Held-out loss rises from step 40 on; plan.json names this many trained parameters."""
    rewrite_validation(run, lambda step: 1.0 + abs(step - 40) / 40)
    result = json.loads(run.train_result.read_text())
    result |= {"tokens_supervised": 400_000, "steps": 100, "base_validation_loss_nats": 2.0}
    result["settings"] = {**result.get("settings", {}), "steps_per_epoch": 25}
    run.train_result.write_text(json.dumps(result))
    if trained is not None:
        run.plan.write_text(json.dumps({"trained_parameters": trained}))


@pytest.mark.parametrize(
    ("trained", "status"),
    # One pass has 100,000 supervised tokens of 2 nats: 288,539 bits. At 2 bits a parameter that is
    # the room of 144,270 parameters.
    [(144_000, "ruled_out"), (145_000, "found"), (None, "not_decidable")],
)
def test_a_model_with_room_for_all_its_data_may_be_too_large(
    run: RunFolder, trained: int | None, status: str
) -> None:
    overfitted_run(run, trained)
    findings = found(diagnose(run))
    assert findings["validation_rising/model_too_large_for_data"] == status
