"""Every row of the decision table: a run that shows the symptom, and for every cause one in which
it is found and one in which it is ruled out."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.diagnose.test_diagnose import rewrite_steps, rewrite_validation, wobble
from tests.gate.changes import (
    Change,
    both,
    forgotten,
    in_data,
    in_ledger,
    in_rates,
    in_sft,
    in_train,
)
from tests.gate.example_run import edit

from sftprep.diagnose import CASES, apply_patch, diagnose
from sftprep.diagnose.records import Diagnosis
from sftprep.recipe import load_recipe
from sftprep.store.run import RunFolder


def loss(at: Callable[[int], float | None]) -> Change:
    return lambda run: rewrite_steps(run, at)


def held_out(at: Callable[[int], float]) -> Change:
    return lambda run: rewrite_validation(run, at)


def kinds(*missing: str) -> Change:
    return lambda run: edit(
        run.data_report, lambda v: v["sections"].update(missing_kinds=list(missing))
    )


def recipe(before: str, after: str) -> Change:
    def change(run: RunFolder) -> None:
        text = run.recipe.read_text()
        assert before in text
        run.recipe.write_text(text.replace(before, after))

    return change


def sure_of(parameters: int, per_pass: int = 100) -> Change:
    return in_train(settings={"parameters": parameters, "steps_per_epoch": per_pass})


def planned(parameters: int) -> Change:
    return lambda run: edit(run.plan, lambda v: v.update(trained_parameters=parameters))


def mmlu(side: str, value: float) -> Change:
    def change(run: RunFolder) -> None:
        folder = run.benchmarks / "base" if side == "base" else run.benchmarks
        score = {"value": value, "ci95": [value - 0.03, value + 0.03]}
        edit(folder / "mmlu.json", lambda v: v["metrics"]["acc"].update(score))

    return change


def ignored(run: RunFolder) -> None:
    edit(run.validation, lambda v: v["sft"]["instruction_following"].update(value=0.2))


def one_spike(step: int) -> float:
    return 5.0 if step == 60 else 3.0 - 0.015 * step


FLAT = loss(lambda step: 3.0 + wobble(step))
RISING = loss(lambda step: 2.0 + 0.02 * step)
LATE_NAN = loss(lambda step: 2.0 - 0.005 * step if step < 90 else None)
FIRST_NAN = loss(lambda step: None if step < 3 else 2.0 - 0.01 * step)
JUMPY = loss(lambda step: 3.0 - 0.002 * step + (0.5 if step % 2 else -0.5))
OVERFIT = held_out(lambda step: 1.5 + 0.002 * step)
FALLING = held_out(lambda step: 4.0 - 0.01 * step)
HIGH = in_sft(perplexity=25.0)
MANY_ROWS = recipe("gradient_accumulation_steps: 4", "gradient_accumulation_steps: 16")
STOPPED_BY_SPIKE = both(
    loss(one_spike),
    in_train(flags=[{"id": "loss_spike", "step": 60, "evidence": "5.0", "cause": "c",
                     "remedy": "r", "action": "stop"}]),
)  # fmt: skip
INCOHERENT = in_rates(stopped=0.4)
WEAK = mmlu("sft", 0.27)

# Symptom -> a change of a healthy run that shows it. The healthy run itself shows none.
SYMPTOMS: dict[str, Change] = {
    "base_model_suspicious": in_train(base_validation_loss_nats=10.4),
    "training_unstable": LATE_NAN,
    "loss_not_decreasing": FLAT,
    "validation_rising": OVERFIT,
    "loss_oscillating": JUMPY,
    "validation_loss_high": HIGH,
    "instructions_ignored": ignored,
    "answers_incoherent": INCOHERENT,
    "benchmarks_lost": forgotten,
    "benchmarks_below_expected": WEAK,
}

# symptom/cause -> (a run in which it is found, a run in which it is ruled out).
CAUSES: dict[str, tuple[Change, Change]] = {
    "base_model_suspicious/model_not_loaded_as_pretrained": (
        in_train(base_validation_loss_nats=10.4),
        in_train(base_validation_loss_nats=2.0),  # the symptom is absent then: not weighed
    ),
    "training_unstable/learning_rate_too_high": (LATE_NAN, FIRST_NAN),
    "training_unstable/batch_too_small": (LATE_NAN, both(LATE_NAN, MANY_ROWS)),
    "training_unstable/weights_or_precision": (FIRST_NAN, LATE_NAN),
    "training_unstable/odd_batches": (STOPPED_BY_SPIKE, LATE_NAN),
    "loss_not_decreasing/learning_rate_too_high": (RISING, FLAT),
    "loss_not_decreasing/learning_rate_too_low": (FLAT, RISING),
    "loss_not_decreasing/data_quality": (
        both(FLAT, in_ledger(rejected={"gibberish": 9000})),
        FLAT,
    ),
    "loss_not_decreasing/model_not_loaded_as_pretrained": (
        both(FLAT, in_train(base_validation_loss_nats=10.4)),
        FLAT,
    ),
    "validation_rising/training_too_long": (
        held_out(lambda step: 1.5 + (0.004 * (step - 40)) ** 2 * 4),
        both(RISING, OVERFIT),
    ),
    "validation_rising/data_not_diverse": (both(OVERFIT, in_data(unique_prompts=900)), OVERFIT),
    "validation_rising/model_too_large_for_data": (
        both(OVERFIT, sure_of(7_000_000_000), planned(7_000_000_000)),
        both(OVERFIT, sure_of(1_000), planned(1_000)),
    ),
    "loss_oscillating/batch_too_small": (JUMPY, both(JUMPY, MANY_ROWS)),
    "loss_oscillating/learning_rate_too_high": (both(JUMPY, MANY_ROWS), JUMPY),
    "validation_loss_high/insufficient_training": (both(HIGH, FALLING), both(HIGH, OVERFIT)),
    "validation_loss_high/data_quality": (
        both(HIGH, in_data(flagged={"answers_conflict": 9000})),
        HIGH,
    ),
    "instructions_ignored/weak_instruction_signal": (
        both(ignored, in_sft(sensitivity_nats=0.02)),
        ignored,
    ),
    "instructions_ignored/format_inconsistent": (both(ignored, INCOHERENT), ignored),
    "instructions_ignored/insufficient_training": (
        both(ignored, FALLING),
        both(ignored, OVERFIT),
    ),
    "instructions_ignored/too_few_examples": (both(ignored, in_ledger(kept=300)), ignored),
    "answers_incoherent/end_of_turn_not_learned": (INCOHERENT, in_rates(empty=0.5)),
    "answers_incoherent/repetition_learned": (in_rates(repetitive=0.5), INCOHERENT),
    "answers_incoherent/empty_answers_learned": (in_rates(empty=0.5), INCOHERENT),
    "benchmarks_lost/trained_too_hard": (
        both(forgotten, sure_of(7_000_000_000)),
        both(forgotten, sure_of(1_800_000), recipe("2e-3", "1e-3")),
    ),
    "benchmarks_lost/data_lacks_capability": (
        both(forgotten, kinds("knowledge")),
        both(forgotten, kinds("code")),
    ),
    "benchmarks_below_expected/base_model_weak": (both(WEAK, mmlu("base", 0.26)), WEAK),
    "benchmarks_below_expected/lowered_by_training": (WEAK, both(WEAK, mmlu("base", 0.26))),
}


def status_of(diagnosis: Diagnosis, name: str) -> str | None:
    found = {f"{f.symptom}/{f.cause}": f.status for f in diagnosis.findings}
    return found.get(name)


def presence_of(diagnosis: Diagnosis, symptom: str) -> str:
    return {one.id: one.presence for one in diagnosis.symptoms}[symptom]


def test_a_healthy_run_shows_no_symptom(run: RunFolder) -> None:
    assert {one.presence for one in diagnose(run).symptoms} == {"absent"}


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_symptom(run: RunFolder, symptom: str) -> None:
    SYMPTOMS[symptom](run)
    assert presence_of(diagnose(run), symptom) == "present"


@pytest.mark.parametrize("name", CAUSES)
def test_cause_is_found(run: RunFolder, tmp_path: Path, name: str) -> None:
    CAUSES[name][0](run)
    diagnosis = diagnose(run)
    assert status_of(diagnosis, name) == "found"
    finding = next(f for f in diagnosis.findings if f"{f.symptom}/{f.cause}" == name)
    assert finding.evidence != ""
    assert finding.change != ""
    if finding.patch:
        apply_patch(run.recipe, finding.patch, tmp_path / "new.yaml")
        changed = load_recipe(tmp_path / "new.yaml").recipe.model_dump()
        assert changed != load_recipe(run.recipe).recipe.model_dump()


@pytest.mark.parametrize("name", CAUSES)
def test_cause_is_ruled_out(run: RunFolder, name: str) -> None:
    CAUSES[name][1](run)
    wanted = None if name.startswith("base_model_suspicious") else "ruled_out"
    assert status_of(diagnose(run), name) == wanted


def test_every_symptom_and_every_cause_of_the_table_has_its_cases(run: RunFolder) -> None:
    """A new row of the table without a run that shows it and one that does not fails here."""
    assert set(SYMPTOMS) == {case.id for case in CASES}
    weighed = set()
    for case in CASES:
        SYMPTOMS[case.id](run)
    both(FALLING, FLAT, forgotten, WEAK)(run)
    from sftprep.gate.evidence import load_evidence

    evidence = load_evidence(run, verify_checkpoint=False)
    loaded = load_recipe(run.recipe).recipe
    for case in CASES:
        weighed |= {f"{case.id}/{cause(loaded, evidence).cause}" for cause in case.causes}
    assert set(CAUSES) == weighed


def test_applying_the_diagnosis_writes_a_recipe_that_loads(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sftprep.cli.main import main

    RISING(run)
    new = tmp_path / "new.yaml"
    with pytest.raises(SystemExit) as ended:
        main(["diagnose", str(run.root), "--apply", str(new), "--json"])
    assert ended.value.code == 0
    patch = json.loads(capsys.readouterr().out)["patch"]
    assert patch["training.learning_rate"] == 1e-3
    assert load_recipe(new).recipe.training.learning_rate == 1e-3
    assert math.isclose(load_recipe(run.recipe).recipe.training.learning_rate, 2e-3)


def test_nothing_is_written_when_there_is_nothing_to_change(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sftprep.cli.main import main

    with pytest.raises(SystemExit):
        main(["diagnose", str(run.root), "--apply", str(tmp_path / "new.yaml")])
    assert "not written: no found cause asks for another recipe" in capsys.readouterr().err
    assert (tmp_path / "new.yaml").exists() is False
