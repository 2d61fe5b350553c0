"""The index over many runs: what it lists, which run is best, speed, sorting in a browser."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.report.test_browser import CONTRAST, browser
from tests.report.test_page import Elements

from sftprep.cli.main import main
from sftprep.errors import StoreError
from sftprep.report import write_index
from sftprep.report.runs_index import best_run, read_run

__all__ = ["browser"]  # the fixture


def write_small_run(
    root: Path, verdict: str | None, accuracy: float, following: float, complete: bool = True
) -> None:
    """The records the index reads, with one benchmark of 100 items."""
    documents: dict[str, Any] = {
        "run.json": {"version": 1, "stages": {"train": {"status": "stopped"}}},
        "validation.json": {
            "sft": {"perplexity": 10 * following, "bits_per_byte": 0.5,
                    "instruction_following": {"value": following}},
        },
        "train/result.json": {"started": "2026-01-05T09:00:00+00:00", "seconds": 90, "steps": 7},
        "benchmarks/quiz.json": {
            "name": "quiz", "headline": "acc",
            "metrics": {"acc": {"value": accuracy, "complete": complete, "unit": "share",
                                "protocol": "quiz/v1", "n": 100}},
        },
    }  # fmt: skip
    if verdict is not None:
        rules = [{"rule": "checkpoint_saved", "status": "pass" if verdict == "pass" else "fail"}]
        documents["gate.json"] = {"verdict": verdict, "rules": rules}
    for name, document in documents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_small_run(tmp_path / "a", "pass", 0.40, 0.9)
    write_small_run(tmp_path / "b" / "second", "pass", 0.60, 0.7)
    write_small_run(tmp_path / "c", "fail", 0.90, 0.8)
    write_small_run(tmp_path / "d", None, 0.10, 0.2)
    (tmp_path / "a" / "report.html").write_text("report")
    return tmp_path


def test_every_run_is_listed_with_its_verdict_and_what_is_open(runs: Path) -> None:
    text = Elements(write_index(runs).read_text(encoding="utf-8")).text
    assert "4 SFT runs" in text and "2 pass" in text and "1 fail" in text
    assert "Checkpoint saved" in text and "train: stopped" in text


def test_the_best_run_passes_and_has_the_highest_mean_of_shared_benchmarks(runs: Path) -> None:
    rows = [read_run(runs / name, runs) for name in ("a", "b/second", "c", "d")]
    best, how = best_run(rows)
    assert best is not None and best.name == "b/second"
    assert how == "mean of quiz, which every passing run scored in full"


def test_a_subset_is_no_benchmark_and_instruction_following_decides(runs: Path) -> None:
    write_small_run(runs / "b" / "second", "pass", 0.60, 0.7, complete=False)
    best, how = best_run([read_run(runs / name, runs) for name in ("a", "b/second")])
    assert best is not None and best.name == "a"
    assert how.startswith("instruction following")


def test_without_a_passing_run_there_is_no_best(runs: Path) -> None:
    assert best_run([read_run(runs / "c", runs)]) == (None, "")


def test_a_damaged_record_leaves_a_gap_and_not_a_crash(runs: Path) -> None:
    for name in ("gate.json", "validation.json", "run.json", "benchmarks/quiz.json"):
        (runs / "a" / name).write_text("{torn", encoding="utf-8")
    assert "no verdict" in write_index(runs).read_text(encoding="utf-8")


def test_hostile_names_and_scores_stay_text(runs: Path) -> None:
    write_small_run(runs / "<img src=x onerror=alert(1)>", "pass", float("nan"), 0.5)
    found = Elements(write_index(runs).read_text(encoding="utf-8"))
    assert "img" not in found.tags
    assert "<img src=x onerror=alert(1)>" in found.text


def test_a_folder_without_runs_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no run folder \(a folder with run.json\)"):
        write_index(tmp_path)


def test_the_command_writes_the_index(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["report", str(runs)])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip().endswith("runs.html")


def test_a_thousand_runs_take_seconds(tmp_path: Path) -> None:
    for number in range(1000):
        write_small_run(tmp_path / f"run-{number:04d}", "pass", number / 1000, 0.5)
    started = time.process_time()
    path = write_index(tmp_path)
    assert time.process_time() - started < 10
    assert path.stat().st_size < 2_000_000


def names(page: Any) -> list[str]:
    found: list[str] = page.locator("table.index tbody tr:visible th").all_inner_texts()
    return [text.split()[0] for text in found]


def test_the_table_sorts_and_filters_by_mouse_and_by_keyboard(browser: Any, runs: Path) -> None:
    page = browser.new_page()
    noise: list[str] = []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.goto(write_index(runs).as_uri())
    assert names(page) == ["b/second", "a", "c", "d"]  # the best, what passes, the rest
    page.get_by_role("button", name="quiz").click()
    assert names(page) == ["c", "b/second", "a", "d"]
    page.get_by_role("button", name="quiz").press("Enter")
    assert names(page) == ["d", "a", "b/second", "c"]
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("quiz")
    page.get_by_label("Verdict").select_option("pass")
    assert names(page) == ["a", "b/second"]
    page.get_by_label("Find").fill("second")
    assert names(page) == ["b/second"]
    assert page.locator("#count").inner_text() == "1 of 4 runs shown"
    assert noise == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_index_has_the_contrast_that_wcag_aa_asks_for(
    browser: Any, runs: Path, scheme: str
) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(write_index(runs).as_uri())
    assert page.evaluate(CONTRAST) == []
    page.close()
