"""Benchmark files with any value changed: items and questions, or one clear error."""

import json
from pathlib import Path

import pytest
from tests.faults.mutations import documents

from sftprep.errors import EvaluationError, SftprepError
from sftprep.evaluate.benchmarks.data import plan_task
from sftprep.evaluate.benchmarks.protocol import Setting
from sftprep.evaluate.benchmarks.table import BENCHMARKS
from sftprep.recipe.sections import BenchmarksSection, BenchmarkTask
from sftprep.starter import write_starter

NAMES = [name for name in BENCHMARKS if name.startswith("starter_")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter's benchmarks, eight items of each split."""
    root = tmp_path_factory.mktemp("starter")
    write_starter(root)
    for path in (root / "benchmarks").rglob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()[:8]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "benchmarks"


def planned(name: str, folder: Path) -> None:
    """Read the items of a benchmark and put the first two as questions."""
    plan = plan_task(BenchmarkTask(name=name), BenchmarksSection(data_dir=str(folder)))
    for item in plan.items[:2]:
        plan.benchmark.protocol.ask(item, Setting(str))


@pytest.mark.parametrize("name", NAMES)
def test_any_changed_value_ends_in_questions_or_one_clear_error(name: str, folder: Path) -> None:
    planned(name, folder)
    refused = 0
    for path in sorted((folder / BenchmarkTask(name=name).folder).glob("*.jsonl")):
        content = path.read_bytes()
        first, *rest = content.split(b"\n")
        for what, document in documents(json.loads(first)):
            path.write_bytes(b"\n".join([document, *rest]))
            try:
                planned(name, folder)
            except SftprepError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"{path.name}: {what}") from error
        path.write_bytes(content)
    assert refused > 10


@pytest.mark.parametrize(
    ("name", "file", "change"),
    [
        ("starter_endings", "validation", {"endings": [["a"], "b", "c", "d"]}),
        ("starter_truth", "validation", {"mc1_targets": {"choices": [[]], "labels": [1]}}),
        ("starter_truth", "validation", {"mc1_targets": {"choices": ["a"], "labels": [[]]}}),
        ("starter_constraints", "train", {"instruction_id_list": [[]]}),
    ],
)
def test_a_list_in_place_of_a_text_names_what_is_wrong(
    name: str, file: str, change: dict[str, object], folder: Path
) -> None:
    path = folder / BenchmarkTask(name=name).folder / f"{file}.jsonl"
    content = path.read_text(encoding="utf-8")
    first, *rest = content.split("\n")
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]), encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"choices|labels|endings\[0\]|instruction_id_list"):
        planned(name, folder)
    path.write_text(content, encoding="utf-8")
