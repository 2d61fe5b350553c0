"""compare(): what it reads, what it refuses, what it says."""

import math
from pathlib import Path
from typing import Any

import pytest
from tests.comparison.candidates import checkpoint_of, row, worsen
from tests.gate.example_run import edit, write_items

from sftprep.comparison import compare, comparison_lines
from sftprep.errors import CorruptError, EvaluationError, SftprepWarning, StoreError
from sftprep.store.run import RunFolder


def test_a_run_against_itself_has_no_flips_and_no_regression(
    run: RunFolder, other: RunFolder
) -> None:
    comparison = compare(run.root, other.root)
    assert comparison.regressed is False
    assert {c.metric for c in comparison.changes} == {
        "mmlu", "gsm8k", "truthfulqa_mc1", "truthfulqa_mc2", "validation_perplexity",
        "instruction_following",
    }  # fmt: skip
    assert (row(comparison, "mmlu").worse, row(comparison, "mmlu").better) == (0, 0)
    assert row(comparison, "mmlu").outcome == "no_loss_beyond_margin"


def test_a_clear_loss_on_one_benchmark_is_a_regression(run: RunFolder, other: RunFolder) -> None:
    worsen(other, "mmlu", 0.06)
    comparison = compare(run.root, other.root)
    assert comparison.outcome == "regressed"
    found = row(comparison, "mmlu")
    assert (found.outcome, found.worse, found.better) == ("regressed", 48, 0)
    assert found.change == pytest.approx(-0.06)


def test_a_loss_below_the_margin_is_not_a_regression(run: RunFolder, other: RunFolder) -> None:
    worsen(other, "mmlu", 0.06)
    comparison = compare(run.root, other.root, margins={"mmlu": 0.1})
    assert row(comparison, "mmlu").outcome == "no_loss_beyond_margin"
    assert row(comparison, "mmlu").why == "worse beyond chance, but by less than the margin"


def test_too_few_items_read_as_cannot_tell_not_as_fine(run: RunFolder, other: RunFolder) -> None:
    worsen(other, "truthfulqa", 0.01, "mc1")
    found = row(compare(run.root, other.root), "truthfulqa_mc1")
    assert found.outcome == "cannot_tell"
    assert found.detectable > found.margin


def test_perplexity_is_compared_on_its_logarithm(run: RunFolder, other: RunFolder) -> None:
    edit(other.validation, lambda v: v["sft"].update(perplexity=3.31 * 1.2))
    found = row(compare(run.root, other.root), "validation_perplexity")
    assert found.change == pytest.approx(-math.log(1.2))
    assert found.outcome == "regressed"


def test_a_better_perplexity_is_no_loss(run: RunFolder, other: RunFolder) -> None:
    edit(other.validation, lambda v: v["sft"].update(perplexity=3.0))
    assert row(compare(run.root, other.root), "validation_perplexity").outcome == (
        "no_loss_beyond_margin"
    )


def test_instruction_following_without_items_uses_the_unpaired_test(
    run: RunFolder, other: RunFolder
) -> None:
    edit(other.validation, lambda v: v["sft"]["instruction_following"].update(value=0.6))
    found = row(compare(run.root, other.root), "instruction_following")
    assert (found.outcome, found.method) == ("regressed", "not paired: Agresti-Caffo")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("protocol", "mmlu/v2", "protocol 'mmlu/v1' against 'mmlu/v2'"),
        ("few_shot", 5, "few_shot 0 against 5"),
        ("hashes", {"data": "x" * 16}, "data dddddddddddd against xxxxxxxxxxxx"),
        ("hashes", {"template": "y" * 16}, "template tttttttttttt against yyyyyyyyyyyy"),
    ],
)
def test_different_questions_are_refused_by_name(
    run: RunFolder, other: RunFolder, key: str, value: Any, named: str
) -> None:
    edit(other.benchmarks / "mmlu.json", lambda v: v["metrics"]["acc"].update({key: value}))
    with pytest.raises(EvaluationError, match=named):
        compare(run.root, other.root)


def test_other_weights_are_the_point_and_not_refused(run: RunFolder, other: RunFolder) -> None:
    for folder, weights in ((run, "1" * 16), (other, "2" * 16)):
        edit(
            folder.benchmarks / "mmlu.json",
            lambda v, w=weights: v["metrics"]["acc"]["hashes"].update(weights=w),  # type: ignore[misc]
        )
    assert compare(run.root, other.root).regressed is False


def test_the_same_weights_have_lost_nothing_however_few_the_items(
    run: RunFolder, other: RunFolder
) -> None:
    assert compare(run.root, other.root).outcome == "cannot_tell"
    for folder in (run, other):
        edit(folder.benchmarks / "mmlu.json",
             lambda v: v["metrics"]["acc"]["hashes"].update(weights="1" * 16))  # fmt: skip
    assert compare(run.root, other.root).outcome == "no_loss_beyond_margin"


def test_another_tokenizer_is_refused_for_perplexity_only(run: RunFolder, other: RunFolder) -> None:
    edit(other.benchmarks / "mmlu.json",
         lambda v: v["metrics"]["acc"]["hashes"].update(tokenizer="z"))  # fmt: skip
    assert compare(run.root, other.root).regressed is False
    edit(other.validation, lambda v: v["hashes"].update(tokenizer="z"))
    with pytest.raises(EvaluationError, match="validation_perplexity: tokenizer"):
        compare(run.root, other.root)


def test_a_metric_that_the_candidate_lacks_is_cannot_tell(run: RunFolder, other: RunFolder) -> None:
    (other.benchmarks / "mmlu.json").unlink()
    comparison = compare(run.root, other.root)
    assert row(comparison, "mmlu").outcome == "cannot_tell"
    assert comparison.outcome == "cannot_tell"


def test_a_candidate_score_that_is_nan_is_refused_by_file(run: RunFolder, other: RunFolder) -> None:
    edit(other.benchmarks / "mmlu.json",
         lambda v: v["metrics"]["acc"].update(value=math.nan))  # fmt: skip
    with pytest.raises(CorruptError, match="NaN is not JSON"):
        compare(run.root, other.root)


def test_items_on_one_side_only_make_it_cannot_tell(run: RunFolder, other: RunFolder) -> None:
    from sftprep.comparison.items import read_items

    path = other.benchmarks / "mmlu.items.jsonl.gz"
    write_items(path, list(read_items(path).values())[:700])
    found = row(compare(run.root, other.root), "mmlu")
    assert (found.outcome, found.why) == (
        "cannot_tell",
        "100 of 800 items only on one side",
    )


def test_a_saved_checkpoint_compares_like_its_run_folder(
    run: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    worsen(other, "mmlu", 0.06)
    saved = checkpoint_of(run, tmp_path / "sft_baseline")
    from_checkpoint = compare(saved, other.root)
    assert from_checkpoint.changes == compare(run.root, other.root).changes
    from_file = compare(saved / "baseline_metrics.json", other.root)
    assert from_file.changes == from_checkpoint.changes


def test_bare_numbers_warn_and_borrow_n_from_the_other_side(run: RunFolder, tmp_path: Path) -> None:
    flat = tmp_path / "flat.json"
    flat.write_text('{"mmlu": 30.0, "hellaswag": 70.0}')
    with pytest.warns(SftprepWarning, match="bare numbers"):
        comparison = compare(run.root, flat)
    assert row(comparison, "mmlu").outcome == "regressed"
    assert len(comparison.warnings) == 1


def test_two_files_of_bare_numbers_cannot_be_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"mmlu": 45.2}')
    (tmp_path / "b.json").write_text('{"mmlu": 20.0}')
    with pytest.warns(SftprepWarning):
        comparison = compare(tmp_path / "a.json", tmp_path / "b.json")
    assert (comparison.outcome, comparison.changes[0].why) == (
        "cannot_tell",
        "no number of items",
    )


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no baseline_metrics\.json"):
        compare(tmp_path, tmp_path)


def test_truncated_items_are_corrupt(run: RunFolder, other: RunFolder) -> None:
    path = other.benchmarks / "mmlu.items.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptError, match="truncated"):
        compare(run.root, other.root)


def test_a_bare_number_that_is_nan_is_refused(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "flat.json").write_text('{"mmlu": NaN}')
    with pytest.raises(CorruptError, match="NaN is not JSON"):
        compare(run.root, tmp_path / "flat.json")


@pytest.mark.parametrize("confidence", [0.5, 1.0, math.nan])
def test_a_confidence_outside_its_range_is_refused(run: RunFolder, confidence: float) -> None:
    with pytest.raises(EvaluationError, match="confidence is"):
        compare(run.root, run.root, confidence=confidence)


def test_lines_say_the_verdict_first_and_what_cannot_tell_would_need(
    run: RunFolder, other: RunFolder
) -> None:
    worsen(other, "mmlu", 0.06)
    lines = comparison_lines(compare(run.root, other.root))
    assert lines[0].startswith("REGRESSED: ")
    assert any(line.startswith("mmlu ") and "48/0" in line for line in lines)
    assert any("Smallest loss found with 80% power" in line for line in lines)


def test_lines_hold_no_escape_codes_from_file_names(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m.json"
    path.write_text('{"mmlu": 45.2}')
    with pytest.warns(SftprepWarning):
        lines = comparison_lines(compare(path, run.root))
    assert not any("\x1b" in line for line in lines)


def test_a_hash_that_only_one_side_has_is_said(run: RunFolder, other: RunFolder) -> None:
    edit(other.benchmarks / "mmlu.json", lambda v: v["metrics"]["acc"]["hashes"].pop("data"))
    comparison = compare(run.root, other.root)
    assert comparison.warnings == (
        "only one side recorded these hashes, so they are not compared: mmlu (data).",
    )


def test_margins_are_read_as_typed() -> None:
    from sftprep.comparison import read_margins

    assert read_margins(["0.02", "mmlu=0.005"]) == {"": 0.02, "mmlu": 0.005}
    with pytest.raises(EvaluationError, match="margin 'mmlu=a'"):
        read_margins(["mmlu=a"])


def test_a_margin_of_an_unknown_metric_is_said_and_a_negative_one_refused(
    run: RunFolder, other: RunFolder
) -> None:
    comparison = compare(run.root, other.root, margins={"mmul": 0.1})
    assert comparison.warnings[0].startswith("margin of mmul is not used: the baseline has gsm8k")
    with pytest.raises(EvaluationError, match=r"margin of mmlu is -0\.1"):
        compare(run.root, other.root, margins={"mmlu": -0.1})


@pytest.mark.parametrize(("lost", "code"), [(0.0, 3), (0.06, 1)])
def test_the_exit_code_tells_regressed_from_cannot_tell(
    run: RunFolder, other: RunFolder, lost: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from sftprep.cli.main import main

    worsen(other, "mmlu", lost)
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(run.root), str(other.root)])
    assert ended.value.code == code
    assert capsys.readouterr().out != ""


def test_with_wide_margins_the_exit_code_is_0(run: RunFolder, other: RunFolder) -> None:
    from sftprep.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["compare", str(run.root), str(other.root), "--margin", "0.2"])
    assert ended.value.code == 0
