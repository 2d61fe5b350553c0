"""The starter benchmarks have the keys of the public ones, and their answers are right."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sftprep.starter import write_starter
from sftprep.starter.benchmarks import benchmark_splits
from sftprep.starter.items import is_reserved

IFEVAL_IDS = {
    "change_case:english_capital",
    "change_case:english_lowercase",
    "punctuation:no_comma",
    "keywords:existence",
    "keywords:forbidden_words",
    "length_constraints:number_words",
    "startend:end_checker",
}


@pytest.fixture(scope="module")
def splits() -> dict[str, dict[str, list[Any]]]:
    return {name: dict(s) for name, s in benchmark_splits(0).items()}


def test_choice_items_have_four_different_choices_and_balanced_places(
    splits: dict[str, dict[str, list[Any]]],
) -> None:
    test = splits["starter_choice"]["test"]
    assert len(test) == 100
    assert Counter(item["answer"] for item in test) == {0: 25, 1: 25, 2: 25, 3: 25}
    for item in test:
        assert set(item) == {"question", "subject", "choices", "answer"}
        assert len(set(item["choices"])) == 4
    dev = Counter(item["subject"] for item in splits["starter_choice"]["dev"])
    assert dev == dict.fromkeys({item["subject"] for item in test}, 5)


def test_choice_answers_about_numbers_and_lists_are_right(
    splits: dict[str, dict[str, list[Any]]],
) -> None:
    ordinals = ["first", "second", "third", "fourth"]
    for item in splits["starter_choice"]["test"]:
        right = item["choices"][item["answer"]]
        if item["subject"] == "numbers":
            best = max if "largest" in item["question"] else min
            assert int(right) == best(int(c) for c in item["choices"])
        if item["subject"] == "lists":
            place = next(i for i, o in enumerate(ordinals) if f" {o} " in item["question"])
            words = item["question"].split(" of ")[1].rstrip("?").split(", ")
            assert right == words[place]


def test_no_choice_item_is_repeated_between_test_and_shots(
    splits: dict[str, dict[str, list[Any]]],
) -> None:
    for name in ("starter_choice", "starter_math", "starter_endings"):
        blocks = [{json.dumps(item) for item in items} for items in splits[name].values()]
        assert blocks[0] & blocks[1] == set()
        assert all(
            len(block) == len(items)
            for block, items in zip(blocks, splits[name].values(), strict=True)
        )


def test_math_answers_follow_from_the_working(splits: dict[str, dict[str, list[Any]]]) -> None:
    items = [*splits["starter_math"]["test"], *splits["starter_math"]["train"]]
    assert len(splits["starter_math"]["test"]) == 60
    for item in items:
        step = item["answer"].split("<<")[1].split(">>")[0]
        left, right = step.split("=")
        assert eval(left) == int(right)
        assert item["answer"].endswith(f"\n#### {right}")
        assert is_reserved(f"Question: {item['question']}\nAnswer: {item['answer']}")


def test_truth_items_have_one_best_answer_and_sorted_labels(
    splits: dict[str, dict[str, list[Any]]],
) -> None:
    items = splits["starter_truth"]["validation"]
    assert len(items) == 80
    for item in items:
        assert item["mc1_targets"]["labels"] == [1, 0, 0, 0]
        assert len(set(item["mc1_targets"]["choices"])) == 4
        labels = item["mc2_targets"]["labels"]
        assert labels == sorted(labels, reverse=True)
        assert len(set(item["mc2_targets"]["choices"])) == len(labels) == 5


def test_endings_are_balanced_and_different(splits: dict[str, dict[str, list[Any]]]) -> None:
    items = splits["starter_endings"]["validation"]
    assert Counter(item["label"] for item in items) == {"0": 25, "1": 25, "2": 25, "3": 25}
    for item in items:
        assert item["ctx"] == f"{item['ctx_a']} {item['ctx_b']}"
        assert len(set(item["endings"])) == 4


def test_constraints_are_kinds_that_ifeval_has(splits: dict[str, dict[str, list[Any]]]) -> None:
    items = splits["starter_constraints"]["train"]
    assert len(items) == 60
    assert len({item["key"] for item in items}) == 60
    assert {name for item in items for name in item["instruction_id_list"]} == IFEVAL_IDS
    for item in items:
        assert len(item["instruction_id_list"]) == len(item["kwargs"]) == 1
        assert len(item["kwargs"][0]) == 24


def test_every_canonical_solution_passes_its_own_test_and_an_empty_one_fails(
    splits: dict[str, dict[str, list[Any]]],
) -> None:
    items = splits["starter_code"]["test"]
    assert len({item["entry_point"] for item in items}) == len(items) == 20
    for item in items:
        for body, passes in ((item["canonical_solution"], True), ("    return None\n", False)):
            room: dict[str, Any] = {}
            exec(item["prompt"] + body + item["test"], room)  # noqa: S102 - our own functions
            candidate = room[item["entry_point"]]
            if passes:
                room["check"](candidate)
            else:
                with pytest.raises(AssertionError):
                    room["check"](candidate)


def test_a_folder_can_be_written_where_none_was(tmp_path: Path) -> None:
    write_starter(tmp_path / "a" / "b")
    names = {p.name for p in (tmp_path / "a" / "b" / "benchmarks").iterdir()}
    assert len(names) == 6
