"""Finished items survive a kill, a torn line and a changed byte; nothing foreign is taken over."""

from dataclasses import replace
from pathlib import Path

import pytest

from sftprep.comparison.items import read_items
from sftprep.evaluate.benchmarks.journal import Journal, read_result, write_items, write_result
from sftprep.records import BenchmarkResult, ItemRecord

RECORD = ItemRecord("id", "all", "correct", 1.0, "é\n", "A", (-0.1, -1.5), None, "00", {"acc": 1.0})


def records(n: int) -> list[ItemRecord]:
    return [replace(RECORD, id=f"id{i}") for i in range(n)]


def filled(path: Path, n: int) -> Journal:
    journal = Journal(path / "x.items.partial.jsonl", "key")
    assert journal.start() == {}
    journal.append(enumerate(records(n)))
    return journal


def test_finished_items_are_found_again(tmp_path: Path) -> None:
    assert filled(tmp_path, 3).start() == dict(enumerate(records(3)))


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_done_again_and_the_file_can_be_continued(
    tmp_path: Path, cut: int
) -> None:
    journal = filled(tmp_path, 3)
    raw = journal.path.read_bytes()
    journal.path.write_bytes(raw[:-cut])
    kept = 3 if cut == 1 else 2  # cut 1: only the newline is missing
    assert journal.start() == dict(enumerate(records(kept)))
    journal.append([(3, RECORD)])
    assert sorted(journal.start()) == [*range(kept), 3]


def test_a_changed_byte_ends_what_is_trusted(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    lines = journal.path.read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b'"score": 1.0', b'"score": 0.0')
    journal.path.write_bytes(b"\n".join(lines))
    assert journal.start() == dict(enumerate(records(1)))


def test_a_journal_of_other_inputs_is_not_taken_over(tmp_path: Path) -> None:
    journal = filled(tmp_path, 3)
    assert Journal(journal.path, "other key").start() == {}


def test_items_are_read_back_by_the_comparison_and_equal_items_give_equal_bytes(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        write_items(tmp_path / f"{name}.items.jsonl.gz", records(2))
    first, second = (tmp_path / f"{name}.items.jsonl.gz" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert list(read_items(first).values()) == records(2)


def test_a_result_counts_only_with_its_own_key(tmp_path: Path) -> None:
    path = tmp_path / "mmlu.json"
    result = BenchmarkResult("mmlu", "acc", {}, {}, 1.0, "m", settings={"key": "k"})
    write_result(path, result)
    assert read_result(path, "k") == result
    assert read_result(path, "other") is None
    path.write_text("{half")
    assert read_result(path, "k") is None
