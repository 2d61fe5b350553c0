"""The same decisions whatever the batch size and the number of ranks."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.evaluate.benchmarks.rows import CONSTRAINED, ENDING, PROBLEM, TRUTH, write_rows

from sftprep.comparison.items import read_items
from sftprep.errors import EvaluationError
from sftprep.evaluate import generation, scoring
from sftprep.evaluate.benchmarks.at_work import ModelAtWork
from sftprep.evaluate.benchmarks.data import plan_task
from sftprep.evaluate.benchmarks.journal import Answers, Journal
from sftprep.evaluate.benchmarks.run import answer_all
from sftprep.evaluate.engine import Engine
from sftprep.evaluate.rows import Row
from sftprep.evaluate.team import Team, contiguous, interleaved
from sftprep.progress import Progress
from sftprep.recipe.sections import BenchmarksSection, BenchmarkTask, ModelSection, Recipe
from sftprep.records import ItemRecord, TrainResult, to_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import write_json

ONE_RANK = Path(__file__).with_name("one_rank.py")
SETS: dict[str, tuple[str, dict[str, Any], str]] = {
    "starter_endings": ("validation", ENDING, "ctx_a"),
    "starter_truth": ("validation", TRUTH, "question"),
    "starter_math": ("test", PROBLEM, "question"),
    "starter_constraints": ("train", CONSTRAINED, "prompt"),
}


def ask(engine: Engine, name: str, section: BenchmarksSection, limit: int) -> list[ItemRecord]:
    """Records of a benchmark's first items, by an engine at hand."""
    plan = plan_task(BenchmarkTask(name=name, limit=limit), section)
    model = ModelAtWork("m", "ref", Path(), ModelSection(base="ref"), 8192, loaded=engine)
    with TemporaryDirectory() as folder:
        journal, answers = Journal(Path(folder) / "a", "key"), Answers(Path(folder) / "b", "key")
        quiet = Progress(quiet=True)
        return answer_all(model, plan, None, journal, answers, quiet, StopSignal())


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mmlu_cloze", "hellaswag", "truthfulqa", "mmlu"])
def test_real_items_are_decided_alike_in_passes_of_one_four_and_64_rows(
    shared: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shared / "models/tinystories-656k"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    section = BenchmarksSection(data_dir=str(shared / "data/benchmarks"))
    expected: list[ItemRecord] = []
    for rows in (1, 4, 64):
        monkeypatch.setattr(scoring, "batches", lambda all_rows, *_, n=rows: in_groups(all_rows, n))
        engine = Engine(model, tokenizer)
        found = ask(engine, name, section, 64)
        expected = expected or found
        assert_same(expected, found)


def in_groups(rows: Sequence[Row], size: int) -> list[list[int]]:
    """Passes of so many rows, longest first."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    return [order[i : i + size] for i in range(0, len(order), size)]


def assert_same(one: list[ItemRecord], two: list[ItemRecord]) -> None:
    assert len(one) == len(two) > 0
    for a, b in zip(one, two, strict=True):
        assert (a.id, a.outcome, a.prediction, a.text) == (b.id, b.outcome, b.prediction, b.text)
        assert a.score == pytest.approx(b.score)
        if a.loglikelihoods is not None:
            assert a.loglikelihoods == pytest.approx(b.loglikelihoods, abs=1e-4)


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_answers_do_not_depend_on_how_many_are_written_together(
    make_engine: Callable[..., Engine],
    tmp_path: Path,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("one", "two", "three", "dog", "cat", "apples", "pears", "bird", "red")
    asked = [f"{a} and {b}?" for a in words for b in words if a != b]
    write_rows(
        tmp_path / "starter_math/test.jsonl", [{**PROBLEM, "question": one} for one in asked]
    )
    section = BenchmarksSection(data_dir=str(tmp_path))
    together = ask(make_engine(), "starter_math", section, len(asked))
    assert len(together) == len(asked) == 72
    monkeypatch.setattr(generation, "MAX_ROWS", rows)
    assert_same(ask(make_engine(), "starter_math", section, len(asked)), together)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_ranks(size: int, recipe: Path, run: Path) -> list[subprocess.CompletedProcess[str]]:
    """The stage as torchrun would start it."""
    world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, str(ONE_RANK), str(recipe), str(run)],
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    errors = [one.communicate(timeout=240)[1] for one in started]
    return [
        subprocess.CompletedProcess(one.args, one.returncode, None, text)
        for one, text in zip(started, errors, strict=True)
    ]


@pytest.fixture
def prepared(tmp_path: Path, saved_model: Path) -> Path:
    """A recipe with four sets and a checkpoint in two run folders."""
    for name, (split, row, field) in SETS.items():
        rows = [{**row, field: f"{row[field]} {'cat ' * i}"} for i in range(7)]
        write_rows(tmp_path / "data" / name / f"{split}.jsonl", rows)
    values = {
        "model": {"base": str(saved_model)},
        "data": {"sources": ["x.jsonl"]},
        "benchmarks": {
            "tasks": list(SETS), "data_dir": str(tmp_path / "data"), "base_model": False,
        },
    }  # fmt: skip
    recipe = Recipe.model_validate(values)
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    for name in ("one", "two"):
        shutil.copytree(saved_model, tmp_path / name / "checkpoint")
        done = TrainResult("completed", 1, 1, 1.0, None, None, None, None, 1.0, 1, 1, "checkpoint")
        write_json(tmp_path / name / "train/result.json", to_dict(done))
    return tmp_path


def test_two_ranks_decide_like_one(prepared: Path) -> None:
    recipe = prepared / "recipe.json"
    for size, name in ((1, "one"), (2, "two")):
        for one in run_ranks(size, recipe, prepared / name):
            assert one.returncode == 0, one.stderr[-2000:]
    for name in SETS:
        items = f"benchmarks/{name}.items.jsonl.gz"
        assert_same(
            list(read_items(prepared / "one" / items).values()),
            list(read_items(prepared / "two" / items).values()),
        )


def test_shares_keep_requests_with_one_context_together() -> None:
    contexts = ["b", "a", "b", "c", "a", "c", "b", "d"]
    shares = contiguous(contexts, 3)
    assert sorted(i for share in shares for i in share) == list(range(8))
    assert [{contexts[i] for i in share} for share in shares] == [{"a", "b"}, {"c"}, {"d"}]
    assert contiguous([], 2) == [[], []]


def test_long_and_short_requests_are_dealt_out() -> None:
    assert interleaved([5, 9, 1, 7], 2) == [[1, 0], [3, 2]]


def test_a_rank_that_fails_is_named() -> None:
    from sftprep.evaluate.team import Failure, _raise

    with pytest.raises(EvaluationError, match="rank 3: out of memory"):
        _raise([[], Failure(3, "out of memory")], None)


def test_a_team_of_one_loads_a_plain_engine(saved_model: Path) -> None:
    engine = Team().load(str(saved_model), ModelSection(base=str(saved_model)))
    assert type(engine) is Engine
