"""The data stage on the starter: what was planted is found, and the good rows are left alone."""

from typing import Any

import pytest

from sftprep.data.prepare import prepare
from sftprep.progress import Progress
from sftprep.recipe.sections import Recipe
from sftprep.records import DataReport
from sftprep.starter import MODEL_DIR, write_starter
from sftprep.stop import StopSignal
from sftprep.store.run import RunFolder

# A cut that leaves a whole sentence, an insult at the end of a story, a contradiction to a long
# answer or to a row dropped for another reason are missed.
RECALL = {"response_truncated": 0.9, "toxic": 0.95, "answer_contradicts": 0.95}
PRECISION = {"answer_contradicts": 0.98}  # a missed insult may contradict the row it was made from
# The generator also repeats itself and now and then writes a benchmark's opening: such findings are
# right, but nobody planted them.
UNPLANTED_TOO = ("duplicate_exact", "duplicate_near", "benchmark_leak")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DataReport:
    folder = tmp_path_factory.mktemp("planted")
    write_starter(folder)
    recipe = Recipe.model_validate(
        {
            "model": {"base": str(MODEL_DIR)},
            "data": {
                "sources": [
                    {
                        "path": str(folder / "instructions.jsonl"),
                        "name": "starter",
                        "labels": str(folder / "planted.json"),
                    }
                ],
                "max_bad_fraction": 0.02,
            },
            "training": {"max_length": 256},
            "benchmarks": {
                "data_dir": str(folder / "benchmarks"),
                "tasks": ["starter_choice", "starter_math"],
            },
        }
    )
    return prepare(recipe, RunFolder(folder / "run"), Progress(quiet=True), StopSignal())


def planted(report: DataReport) -> dict[str, dict[str, Any]]:
    return {row["kind"]: row for row in report.sections["planted"]}


def test_every_planted_kind_is_found(report: DataReport) -> None:
    found = planted(report)
    assert len(found) == 15
    missed = {k: r for k, r in found.items() if not r["recall"] >= RECALL.get(k, 0.99)}
    assert missed == {}


def test_what_is_found_was_planted(report: DataReport) -> None:
    found = planted(report)
    counted = {k: r for k, r in found.items() if k not in UNPLANTED_TOO}
    wrong = {k: r for k, r in counted.items() if not r["precision"] >= PRECISION.get(k, 0.99)}
    assert wrong == {}


def test_enough_good_rows_are_left(report: DataReport) -> None:
    # 15,880 rows, 940 planted to be dropped; the generator repeats itself in at most 240 more
    assert report.ledger.kept >= 14_700
    assert report.unique_prompts >= 10_000
    assert report.leaked_pairs == 0
