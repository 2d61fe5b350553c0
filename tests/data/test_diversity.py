"""Crowds, templates, topics and the coverage of the benchmarks' domains."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.data.check_cases import example
from tests.data.data_rows import clean_rows, pair, write_jsonl

from sftprep.data.conversation import Row
from sftprep.data.coverage import Variety, facts_of
from sftprep.data.diversity import Surplus, Topics, distinct, surplus, topics
from sftprep.data.text import word_hashes
from sftprep.data.wordstore import Texts
from sftprep.records import DataReport
from sftprep.store.run import RunFolder

Prepare = Callable[..., tuple[DataReport, RunFolder]]


def test_rows_beyond_the_limit_of_their_group_are_surplus_and_the_preferred_ones_are_not() -> None:
    keys, order = np.array([7, 7, 0, 7, 9, 0]), np.array([3, 0, 1, 2, 4, 5])
    assert surplus(keys, order, 2) == {1: Surplus(first=3, size=3)}
    assert surplus(keys, order, 3) == {}
    assert surplus(np.zeros(6, np.int64), order, 1) == {}


def test_rows_that_do_not_count_are_in_no_group() -> None:
    assert surplus(np.array([7, 7, 7]), np.array([0, 2]), 2) == {}


def test_the_effective_number_of_equal_clusters_is_their_number() -> None:
    assert math.isclose(Topics((5, 5, 5, 5), (0, 1, 2, 3)).effective, 4.0)
    assert math.isclose(Topics((8,), (0,)).effective, 1.0)
    assert Topics((), ()).effective == 0.0


def texts_of(prompts: list[str]) -> Texts:
    words = [word_hashes(text) for text in prompts]
    ends = np.cumsum([len(w) for w in words]).astype(np.int64)
    starts = ends - np.array([len(w) for w in words], dtype=np.int64)
    return Texts(np.concatenate(words), starts, ends)


def test_two_subjects_are_more_varied_than_one() -> None:
    birds = [f"robin wren heron egg nest wing z{k}" for k in range(40)]
    tools = [f"hammer nail screw saw drill bolt y{k}" for k in range(40)]
    one = topics(texts_of([*birds, *birds]), np.arange(80))
    two = topics(texts_of([*birds, *tools]), np.arange(80))
    assert sum(one.sizes) == sum(two.sizes) == 80
    assert len(two.central) == len(two.sizes)
    assert topics(texts_of(birds), np.arange(5)).sizes == ()


def test_distinct_n_is_the_share_of_different_ngrams_of_the_rows_that_count() -> None:
    # Rows 0 and 2: 6 words, 3 of them different; 4 pairs (a b, b a, a b, b c), 3 of them different.
    answers = texts_of(["a b a", "z z z z", "a b c"])
    expected = {"distinct_1": 0.5, "distinct_2": 0.75, "distinct_3": 1.0}
    assert distinct(answers, np.array([0, 2])) == expected
    assert distinct(answers, np.array([], dtype=np.int64))["distinct_1"] is None


def test_coverage_says_what_is_missing_against_the_benchmarks() -> None:
    variety = Variety()
    maths = facts_of(Row(example("How many are 3 + 4?", "7")))
    code = facts_of(Row(example("Write a Python function that adds.", "def f(): ...")))
    for facts in [maths] * 300 + [code]:
        variety.add(facts, None, refused=False)
    status = {row["domain"]: row["status"] for row in variety.coverage()}
    assert (status["maths"], status["code"], status["truthfulness"]) == (
        "present", "thin", "missing",
    )  # fmt: skip


def test_the_waterfall_sums_exactly_and_health_is_told(tmp_path: Path, run_data: Prepare) -> None:
    rows = [*clean_rows(60), pair("Name it now.", "N/A"), pair("Name it.", ""), *clean_rows(3)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    path.write_text(path.read_text() + "{bad\n")
    report, _ = run_data(path, max_bad_fraction=0.5, minimum_rows=61)
    steps = {row["step"]: row["rows"] for row in report.sections["waterfall"]}
    lost = [*report.ledger.rejected.values(), report.ledger.quarantined]
    assert steps["read"] == 66
    assert steps["read"] - sum(lost) == steps["train"] + steps["validation"] == 60
    after = [rows for step, rows in steps.items() if step.startswith("after")]
    assert after[-1] == 60
    health = {row["question"]: row["ok"] for row in report.sections["health"]}
    assert (health["rows kept"], health["unique prompts"]) == (False, False)
