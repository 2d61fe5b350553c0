"""The comparison as a page: verdict, lost metrics, flipped items, hostile text."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from tests.gate.example_run import edit, write_run
from tests.report.test_page import PAYLOADS, Elements

from sftprep.comparison import compare
from sftprep.report import write_comparison_report
from sftprep.store.run import RunFolder


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("compare") / "baseline", steps=20)


def worsened(baseline: RunFolder, root: Path, answer: str) -> RunFolder:
    """A copy in which the first 40 right answers of gsm8k became wrong ones."""
    shutil.copytree(baseline.root, root)
    path = root / "benchmarks" / "gsm8k.items.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    right = [item for item in items if item["outcome"] == "correct"]
    for item in right[:40]:
        item.update(outcome="wrong", score=0.0, text=answer)
        item["extra"] = {"strict": 0.0, "mc2": 0.4}
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(item) + "\n" for item in items)
    score = (len(right) - 40) / len(items)
    edit(root / "benchmarks" / "gsm8k.json",
         lambda v: v["metrics"]["strict"].update(value=score, ci95=[score, score]))  # fmt: skip
    return RunFolder(root)


def page_of(baseline: RunFolder, candidate: RunFolder, target: Path) -> str:
    comparison = compare(baseline.root, candidate.root)
    return write_comparison_report(comparison, target).read_text(encoding="utf-8")


def test_a_lost_metric_stands_first_with_its_flipped_items(
    baseline: RunFolder, tmp_path: Path
) -> None:
    page = page_of(baseline, worsened(baseline, tmp_path / "worse", "Nineteen."), tmp_path / "c")
    text = Elements(page).text
    top = text[: text.index("Change per metric")]
    assert "REGRESSED" in top and "gsm8k" in top and "-10.00" in top  # 40 of 400 items
    assert "gsm8k: 40 right before and wrong after, the first 5" in text
    assert text.count("Nineteen.") == 5


def test_the_bound_that_decides_stands_beside_the_wider_interval(
    baseline: RunFolder, tmp_path: Path
) -> None:
    comparison = compare(baseline.root, baseline.root)
    page = write_comparison_report(comparison, tmp_path / "c").read_text()
    # no flip among 400: z^2 / (400 + z^2) is 0.95 points two-sided and 0.67 one-sided, margin 1.00
    cells = ("+0.00 [-0.95, +0.95]", "-0.67", "1.00", "0 / 0")
    assert "".join(f'<td class="n">{cell}</td>' for cell in cells) in page


def test_the_same_run_twice_loses_nothing_and_lists_no_items(
    baseline: RunFolder, tmp_path: Path
) -> None:
    text = Elements(page_of(baseline, baseline, tmp_path / "c")).text
    assert "regressed" not in text[: text.index("Method")]
    assert "Items that went wrong" not in text


def test_bare_numbers_give_a_page_with_their_warning(baseline: RunFolder, tmp_path: Path) -> None:
    flat = tmp_path / "numbers.json"
    flat.write_text(json.dumps({"mmlu": 20.0}))
    with pytest.warns(UserWarning, match="bare numbers"):
        comparison = compare(baseline.root, flat)
    text = Elements(write_comparison_report(comparison, tmp_path / "c").read_text()).text
    assert "bare numbers" in text and "20.0%" in text


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_answers_add_no_element_and_no_attribute(
    baseline: RunFolder, tmp_path: Path, payload: str
) -> None:
    plain = Elements(page_of(baseline, worsened(baseline, tmp_path / "a", "x"), tmp_path / "1"))
    hostile = page_of(baseline, worsened(baseline, tmp_path / "b", payload), tmp_path / "2")
    assert Elements(hostile).tags == plain.tags
    assert Elements(hostile).attributes == plain.attributes
    assert "script" not in plain.tags
