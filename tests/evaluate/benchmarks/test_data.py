"""Finding items, and choosing a subset that is called one."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.benchmarks.rows import CHOICE, PROBLEM, write_rows

from sftprep.errors import EvaluationError, RecipeError
from sftprep.evaluate.benchmarks.data import choose, plan_task
from sftprep.evaluate.benchmarks.protocol import Item
from sftprep.evaluate.benchmarks.table import BENCHMARKS
from sftprep.recipe.sections import SEED_BENCHMARKS, BenchmarksSection, BenchmarkTask


def section(folder: Path | None, **more: Any) -> BenchmarksSection:
    return BenchmarksSection(data_dir=None if folder is None else str(folder), **more)


def choices(n: int, subject: str) -> list[dict[str, Any]]:
    return [{**CHOICE, "question": f"{subject} {i}?", "subject": subject} for i in range(n)]


def test_every_benchmark_of_the_recipe_has_a_row_and_starter_sets_have_no_published_size() -> None:
    assert set(SEED_BENCHMARKS) <= set(BENCHMARKS)
    sizes = {name: row.items for name, row in BENCHMARKS.items()}
    assert sizes["mmlu"] == 14042 and sizes["hellaswag"] == 10042 and sizes["gsm8k"] == 1319
    assert sizes["truthfulqa"] == 817 and sizes["humaneval"] == 164 and sizes["ifeval"] == 541
    assert {sizes[name] for name in sizes if name.startswith("starter_")} == {None}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_row_of_the_table_can_be_reported(name: str) -> None:
    row = BENCHMARKS[name]
    assert row.headline in row.flat
    assert row.name == name
    assert row.protocol_id.format(shots=row.few_shot).startswith(f"{name}/{row.few_shot}shot-")


def test_mmlu_is_read_from_one_file_per_subject_or_from_flat_files(tmp_path: Path) -> None:
    rows = {name: choices(3, name) for name in ("anatomy", "law")}
    for name, of_subject in rows.items():
        bare = [{k: v for k, v in row.items() if k != "subject"} for row in of_subject]
        write_rows(tmp_path / "a/mmlu/test" / f"{name}.jsonl", bare)
        write_rows(tmp_path / "a/mmlu/dev" / f"{name}.jsonl", bare)
    write_rows(tmp_path / "b/mmlu/test.jsonl", [*rows["anatomy"], *rows["law"]])
    write_rows(tmp_path / "b/mmlu/dev.jsonl", [*rows["anatomy"], *rows["law"]])
    task = BenchmarkTask(name="mmlu", few_shot=2)
    first, second = (plan_task(task, section(tmp_path / name)) for name in "ab")
    assert first.items == second.items
    assert first.data_sha256 == second.data_sha256
    assert first.protocol_id == "mmlu/2shot-letter/v1"


def test_a_single_packed_file_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(PROBLEM) + "\n").encode()))
    task = BenchmarkTask(name="gsm8k", path=str(path), few_shot=0)
    assert len(plan_task(task, section(None)).items) == 1


def test_missing_data_names_the_folder_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError) as caught:
        plan_task(BenchmarkTask(name="starter_math"), section(tmp_path))
    message = str(caught.value)
    assert str(tmp_path / "starter_math") in message
    assert "test.jsonl" in message and "benchmarks.data_dir" in message


def test_an_unreachable_hub_is_an_error_that_names_the_missing_folder(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(EvaluationError, match=r"benchmark humaneval.*hub cannot be reached"):
        plan_task(BenchmarkTask(name="humaneval"), section(tmp_path))


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(PROBLEM) + "\n{broken\n")
    task = BenchmarkTask(name="gsm8k", path=str(path), few_shot=0)
    with pytest.raises(EvaluationError, match=r"test\.jsonl:2: not JSON"):
        plan_task(task, section(None))


def test_an_unknown_benchmark_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="hellaswag"):
        plan_task(BenchmarkTask(name="helloswag"), section(None))


def test_a_subset_is_fixed_in_proportion_and_in_order() -> None:
    items = [Item(f"{c}{i}", c, {}) for c, n in (("a", 60), ("b", 30), ("c", 10)) for i in range(n)]
    chosen = choose(items, 10)
    assert Counter(item.cluster for item in chosen) == {"a": 6, "b": 3, "c": 1}
    assert [items.index(item) for item in chosen] == sorted(items.index(item) for item in chosen)
    assert chosen == choose(items, 10)
    assert chosen != items[:10]
    shuffled = items[::-1]
    assert {item.id for item in choose(shuffled, 10)} == {item.id for item in chosen}


@pytest.mark.parametrize("limit", [None, 5, 6])
def test_a_limit_that_does_not_bind_takes_everything(limit: int | None) -> None:
    items = [Item(str(i), "a", {}) for i in range(5)]
    assert choose(items, limit) == items


@pytest.mark.parametrize("limit", [1, 7, 56])
def test_a_limit_is_met_exactly_with_many_small_clusters(limit: int) -> None:
    items = [Item(f"{c}-{i}", str(c), {}) for c in range(57) for i in range(3)]
    assert len(choose(items, limit)) == limit
