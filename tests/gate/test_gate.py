"""Every rule: a run that passes, fails, has no measurement, and holds NaN."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gate.changes import (
    Change,
    changed_weights,
    drop_rates,
    forgotten,
    in_data,
    in_following,
    in_ledger,
    in_mmlu,
    in_rates,
    in_save,
    in_sft,
    in_train,
    no_base,
    no_base_benchmarks,
    no_manifest,
    red_flag,
    unscored_items,
    without,
)
from tests.gate.example_run import edit, write_run
from tests.gate.judging import recipe_of, verdict_of

from sftprep.gate import GATE_RULES, Evidence, judge, judged, load_evidence
from sftprep.records import GateResult, from_dict
from sftprep.store.durable import read_json
from sftprep.store.run import RunFolder


def test_a_healthy_run_passes_every_rule(run: RunFolder) -> None:
    result = judge(recipe_of(run), run)
    assert [(v.rule, v.status) for v in result.rules] == [(name, "pass") for name in GATE_RULES]
    assert result.verdict == "pass"


def test_the_verdict_is_written_as_it_is_returned(run: RunFolder) -> None:
    result = judge(recipe_of(run), run)
    assert from_dict(GateResult, read_json(run.gate)) == result


CASES: dict[str, list[tuple[Change, str]]] = {
    "training_completed": [
        (in_train(stopped="early_stop"), "pass"),
        (in_train(stopped="red_flag"), "fail"),
        (in_train(stopped="max_time"), "fail"),
        (in_train(final_loss_nats=None), "fail"),
        (in_train(final_loss_nats=math.nan), "missing"),
        (in_train(final_loss_nats=math.inf), "missing"),
        (red_flag, "fail"),
        (without("train", "result.json"), "missing"),
    ],
    "validation_perplexity": [
        (in_sft(perplexity=19.9), "pass"),
        (in_sft(perplexity=20.0), "fail"),
        (in_sft(perplexity=math.nan), "missing"),
        (in_sft(perplexity=math.inf), "missing"),
        (lambda run: edit(run.validation, lambda v: v["base"].update(perplexity=3.0)), "fail"),
        (
            lambda run: edit(run.validation, lambda v: v["base"].update(perplexity=math.nan)),
            "missing",
        ),
        (no_base, "missing"),
        (without("validation.json"), "missing"),
    ],
    "instruction_following": [
        (in_following(value=0.5), "pass"),
        (in_following(value=0.49), "fail"),
        (in_following(value=math.nan), "missing"),
        (in_following(value=None), "missing"),
        (
            lambda run: edit(
                run.validation, lambda v: v["base"]["instruction_following"].update(value=0.81)
            ),
            "fail",
        ),
        (
            lambda run: edit(
                run.validation,
                lambda v: v["base"]["instruction_following"].update(value=math.nan),
            ),
            "missing",
        ),
        (no_base, "missing"),
        (without("validation.json"), "missing"),
    ],
    "responses_coherent": [
        (in_rates(stopped=0.9, empty=0.02, repetitive=0.05), "pass"),
        (in_rates(stopped=0.89), "fail"),
        (in_rates(empty=0.03), "fail"),
        (in_rates(repetitive=0.06), "fail"),
        (in_rates(stopped=math.nan), "missing"),
        (in_rates(empty=math.nan), "missing"),
        (in_rates(repetitive=math.nan), "missing"),
        (drop_rates, "missing"),
        (without("validation.json"), "missing"),
    ],
    "benchmarks_recorded": [
        (in_mmlu(chance=0.6), "pass"),
        (in_mmlu(value=math.nan), "missing"),
        (in_mmlu(value=None), "missing"),
        (in_mmlu(complete=False, n=100), "missing"),
        (unscored_items, "missing"),
        (without("benchmarks", "gsm8k.json"), "missing"),
    ],
    "no_forgetting": [
        (forgotten, "fail"),
        (without("benchmarks", "base", "mmlu.items.jsonl.gz"), "pass"),
        (in_mmlu(value=math.nan), "missing"),
        (without("benchmarks", "base", "mmlu.json"), "missing"),
        (no_base_benchmarks, "missing"),
    ],
    "checkpoint_saved": [
        (in_save(perplexity_reloaded=3.31 * 1.00009), "pass"),
        (in_save(perplexity_reloaded=3.32), "fail"),
        (in_save(perplexity_reloaded=math.nan), "missing"),
        (in_save(perplexity_reloaded=None), "fail"),
        (in_save(perplexity_recorded=math.nan), "missing"),
        (in_save(perplexity_recorded=0.0), "fail"),
        (in_save(loads=False), "fail"),
        (changed_weights, "fail"),
        (no_manifest, "fail"),
        (without("save.json"), "missing"),
    ],
    "data_sufficient": [
        (in_ledger(kept=1000), "pass"),
        (in_ledger(kept=999), "fail"),
        (in_data(unique_prompts=999), "fail"),
        (without("data", "report.json"), "missing"),
    ],
    "data_not_leaking": [
        (in_data(leaked_pairs=1), "fail"),
        (in_data(validation=0), "missing"),
        (without("data", "report.json"), "missing"),
    ],
    "data_not_contaminated": [
        (in_data(contaminated={"mmlu": 1}), "fail"),
        (in_data(contaminated={"mmlu": 0, "gsm8k": 0}), "missing"),
        (in_data(contaminated={}), "missing"),
        (without("data", "report.json"), "missing"),
    ],
}


@pytest.mark.parametrize(
    ("rule", "change", "status"),
    [(rule, change, status) for rule, cases in CASES.items() for change, status in cases],
)
def test_rule(run: RunFolder, rule: str, change: Change, status: str) -> None:
    change(run)
    found = verdict_of(run, rule)
    assert found.status == status
    assert (found.remedy == "") is (status == "pass")
    assert found.why != ""


def with_nan(kind: str, evidence: Evidence) -> Evidence:
    """A measurement that is not a number, as a caller's own table or a damaged store may give."""
    assert evidence.validation is not None
    assert evidence.checkpoint is not None
    assert evidence.train is not None
    validation, mmlu = evidence.validation, evidence.benchmarks["mmlu"]
    nan = math.nan
    following = replace(validation.sft.instruction_following, value=nan)
    rates = {"stopped": nan, "empty": nan, "repetitive": nan}
    acc = {**mmlu.metrics, "acc": replace(mmlu.metrics["acc"], value=nan)}
    changes: dict[str, dict[str, Any]] = {
        "validation_perplexity": {"perplexity": nan},
        "instruction_following": {"instruction_following": following},
        "responses_coherent": {"rates": rates},
    }
    sft = changes.get(kind, {})
    return replace(
        evidence,
        validation=replace(validation, sft=replace(validation.sft, **sft)),
        train=replace(evidence.train, final_loss_nats=nan),
        benchmarks={**evidence.benchmarks, "mmlu": replace(mmlu, metrics=acc)},
        checkpoint=replace(evidence.checkpoint, perplexity_reloaded=nan),
    )


# Rules with a measurement that may be NaN; files that hold NaN are refused when they are read.
ON_NAN = (
    "training_completed", "validation_perplexity", "instruction_following", "responses_coherent",
    "benchmarks_recorded", "checkpoint_saved",
)  # fmt: skip


@pytest.mark.parametrize("rule", ON_NAN)
def test_nan_is_on_the_failing_side(run: RunFolder, rule: str) -> None:
    evidence = with_nan(rule, load_evidence(run))
    result = judged(recipe_of(run), evidence, {rule: GATE_RULES[rule]})
    assert [verdict.status for verdict in result.rules] == ["fail"]


def test_every_rule_has_a_failing_and_a_missing_case() -> None:
    assert list(CASES) == list(GATE_RULES)
    for rule, cases in CASES.items():
        statuses = {status for _, status in cases} | ({"fail"} if rule in ON_NAN else set())
        assert {"fail", "missing"} <= statuses, rule


def test_missing_makes_it_undecidable_and_fail_wins(run: RunFolder) -> None:
    without("benchmarks", "gsm8k.json")(run)
    assert judge(recipe_of(run), run).verdict == "undecidable"
    in_ledger(kept=3)(run)
    assert judge(recipe_of(run), run).verdict == "fail"


@pytest.mark.parametrize(
    ("change", "code"),
    [(None, 0), (in_ledger(kept=3), 1), (without("benchmarks", "gsm8k.json"), 3)],
)
def test_the_exit_code_is_the_verdict(
    run: RunFolder, change: Change | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from sftprep.cli.main import main

    if change is not None:
        change(run)
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(run.root), "--json"])
    assert ended.value.code == code
    verdict = json.loads(capsys.readouterr().out)["gate"]["verdict"]
    assert verdict == {0: "pass", 1: "fail", 3: "undecidable"}[code]


def test_an_empty_run_folder_is_undecidable_without_an_error(tmp_path: Path) -> None:
    filled = write_run(tmp_path / "full", steps=30)
    result = judge(recipe_of(filled), RunFolder(tmp_path / "empty"))
    assert result.verdict == "undecidable"
    assert {v.status for v in result.rules} == {"missing"}


def test_a_damaged_record_is_missing_with_its_file_named(run: RunFolder) -> None:
    run.validation.write_text("{torn", encoding="utf-8")
    found = verdict_of(run, "validation_perplexity")
    assert found.status == "missing"
    assert "validation.json: not valid JSON" in found.why


def test_no_rules_at_all_are_not_a_pass(run: RunFolder) -> None:
    assert judge(recipe_of(run), run, {}).verdict == "undecidable"


def test_the_perplexity_remedy_reads_the_curve(run: RunFolder) -> None:
    in_sft(perplexity=25.0)(run)
    lines = run.steps.read_text().splitlines()
    run.steps.write_text("\n".join(lines[:20]) + "\n")  # cut while the loss still falls steeply
    assert verdict_of(run, "validation_perplexity").remedy == (
        "raise training.max_steps (60 -> 120): the held-out loss was still falling at the last "
        "validation"
    )


def test_the_training_remedy_is_that_of_its_red_flag(run: RunFolder) -> None:
    red_flag(run)
    assert verdict_of(run, "training_completed").remedy == "halve the rate"


def test_a_step_written_twice_counts_once_and_null_is_nan(run: RunFolder) -> None:
    from sftprep.gate.step_log import read_steps

    last = run.steps.read_text().splitlines()[-1]
    with run.steps.open("a") as out:
        out.write(last.replace('"grad_norm": ', '"grad_norm": null, "was": ') + "\n")
    steps = read_steps(run.steps).kept
    assert [step.step for step in steps] == list(range(1, 61))
    assert math.isnan(steps[-1].grad_norm) is True


def test_the_data_remedy_counts_what_is_missing_and_blames_the_checks_only_for_enough(
    run: RunFolder,
) -> None:
    in_ledger(kept=100)(run)  # 1,000 asked for, 2,180 rejected
    assert verdict_of(run, "data_sufficient").remedy == (
        "add about 900 rows with prompts of their own under data.sources; most rejected rows fell "
        "to 'near_duplicate' (1,700): see data/rejected.parquet"
    )
    in_ledger(rejected={"near_duplicate": 12})(run)
    assert verdict_of(run, "data_sufficient").remedy == (
        "add about 900 rows with prompts of their own under data.sources"
    )


def test_ignored_instructions_of_an_overfitted_run_do_not_ask_for_more_training(
    run: RunFolder,
) -> None:
    in_following(value=0.2)(run)
    assert verdict_of(run, "instruction_following").remedy.endswith(
        "train longer: raise training.max_steps (60 -> 120)"
    )
    rows = [json.loads(line) for line in run.steps.read_text().splitlines()]
    for row in rows:
        if row["validation_tokens"]:
            row["validation_sum_nats"] = (1 + abs(row["step"] - 30)) * row["validation_tokens"]
    run.steps.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert verdict_of(run, "instruction_following").remedy.endswith(
        "end training near step 30, where the held-out loss was lowest"
    )
