"""The benchmark stage on a tiny model: results on disk, resumption, named subsets."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.benchmarks.rows import (
    CHOICE,
    CODE,
    CONSTRAINED,
    ENDING,
    PROBLEM,
    TRUTH,
    write_rows,
)

from sftprep.comparison.items import read_items
from sftprep.errors import Interrupted, RecipeError
from sftprep.evaluate import generation
from sftprep.evaluate.benchmarks import benchmark, flat_percentages
from sftprep.evaluate.benchmarks import run as stage
from sftprep.evaluate.benchmarks.at_work import ModelAtWork
from sftprep.evaluate.benchmarks.data import choose_sampling, plan_task
from sftprep.evaluate.benchmarks.journal import Answers, Journal, Lines
from sftprep.evaluate.benchmarks.table import find
from sftprep.evaluate.engine import Generation
from sftprep.evaluate.sandbox import UNSAFE, probe
from sftprep.progress import Progress
from sftprep.recipe.sections import (
    BenchmarksSection,
    BenchmarkTask,
    DataSection,
    ModelSection,
    Recipe,
)
from sftprep.records import TrainResult, to_dict
from sftprep.stop import StopSignal
from sftprep.store.durable import read_json, write_json
from sftprep.store.run import RunFolder

QUIET = Progress(quiet=True)
SETS: dict[str, tuple[str, dict[str, Any], str]] = {
    "starter_choice": ("test", CHOICE, "question"),
    "starter_endings": ("validation", ENDING, "ctx_a"),
    "starter_truth": ("validation", TRUTH, "question"),
    "starter_math": ("test", PROBLEM, "question"),
    "starter_code": ("test", CODE, "task_id"),
    "starter_constraints": ("train", CONSTRAINED, "prompt"),
}
FLAT = {
    "starter_choice", "starter_endings", "starter_truth_mc1", "starter_truth_mc2", "starter_math",
    "starter_code", "starter_constraints",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, saved_model: Path) -> RunFolder:
    """A run folder whose training is done, and five items for every starter set."""
    for name, (split, row, field) in SETS.items():
        rows = [{**row, field: f"{row[field]} {i}"} for i in range(5)]
        write_rows(tmp_path / "data" / name / f"{split}.jsonl", rows)
    found = RunFolder(tmp_path / "run")
    shutil.copytree(saved_model, found.root / "checkpoint")
    result = TrainResult("completed", 1, 1, 1.0, None, None, None, None, 1.0, 1, 1, "checkpoint")
    write_json(found.train_result, to_dict(result))
    return found


@pytest.fixture
def recipe(tmp_path: Path, saved_model: Path) -> Callable[..., Recipe]:
    """A recipe for these tasks."""

    def make(*names: str, **more: Any) -> Recipe:
        tasks = tuple(BenchmarkTask(name=name) for name in names)
        section = BenchmarksSection(tasks=tasks, data_dir=str(tmp_path / "data"), **more)
        data = DataSection(sources=({"path": "x.jsonl"},))  # type: ignore[arg-type]
        return Recipe(model=ModelSection(base=str(saved_model)), data=data, benchmarks=section)

    return make


def test_all_starter_sets_are_scored_for_both_models_and_written(
    run: RunFolder, recipe: Callable[..., Recipe]
) -> None:
    results = benchmark(recipe(*SETS), run, QUIET, StopSignal())
    assert set(results) == set(SETS)
    if results["starter_code"].metrics["pass@1"].value is None:
        pytest.skip("no sandbox holds on this machine")
    assert set(flat_percentages(results)) == FLAT
    for name, result in results.items():
        metric = result.metrics[result.headline]
        assert (metric.n, metric.n_total, metric.complete) == (5, 5, True)
        assert set(metric.hashes) == {"weights", "tokenizer", "chat_template", "data"}
        assert sum(result.outcomes.values()) == 5
        for folder in (run.benchmarks, run.benchmarks / "base"):
            assert len(read_items(folder / f"{name}.items.jsonl.gz")) == 5
            assert read_json(folder / f"{name}.json")["name"] == name
            assert not (folder / f"{name}.items.partial.jsonl").exists()
    # Both models are the same weights here, so every answer is the same.
    for name in SETS:
        if name != "starter_code":  # its records hold seconds
            items = f"{name}.items.jsonl.gz"
            base = (run.benchmarks / "base" / items).read_bytes()
            assert (run.benchmarks / items).read_bytes() == base


def test_a_finished_benchmark_is_not_redone_until_something_changes(
    run: RunFolder, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    wanted = recipe("starter_endings", base_model=False)
    written = run.benchmarks / "starter_endings.json"

    def redone() -> bool:
        before = written.stat().st_mtime_ns
        benchmark(wanted, run, QUIET, StopSignal())
        return written.stat().st_mtime_ns != before

    first = benchmark(wanted, run, QUIET, StopSignal())
    assert benchmark(wanted, run, QUIET, StopSignal()) == first
    assert not redone()
    changed = tmp_path / "data/starter_endings/validation.jsonl"
    changed.write_text(changed.read_text().replace("opens", "shuts"))
    assert redone()
    (run.benchmarks / "starter_endings.items.jsonl.gz").unlink()
    assert redone()
    assert not redone()


class StopAfter(StopSignal):
    """A signal that arrives at the n-th point where nothing is lost, as seen by the stage."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.points = points

    def check(self, doing: str) -> None:
        if "on the SFT model" in doing:
            self.points -= 1
        if self.points < 0:
            self.requested = "SIGTERM"
        super().check(doing)


def test_a_stopped_benchmark_continues_behind_its_last_finished_items(
    run: RunFolder, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "ITEMS_PER_SAVE", 2)
    wanted = recipe("starter_endings", base_model=False)
    with pytest.raises(Interrupted, match="starter_endings"):
        benchmark(wanted, run, QUIET, StopAfter(2))
    path = run.benchmarks / "starter_endings.items.partial.jsonl"
    header = path.read_text().splitlines()[0].partition(" ")[2]
    journal = Journal(path, json.loads(header)["key"])
    done = journal.start()
    assert sorted(done) == [0, 1]
    # A mark on a finished item shows afterwards that it was not asked again.
    journal.append([(1, replace(done[1], text="marked"))])
    path.write_bytes(path.read_bytes() + b'0123 {"torn')
    resumed = benchmark(wanted, run, QUIET, StopSignal())
    items = list(read_items(run.benchmarks / "starter_endings.items.jsonl.gz").values())
    assert [item.text for item in items] == [None, "marked", None, None, None]
    assert not path.exists()
    shutil.rmtree(run.benchmarks)
    fresh = benchmark(wanted, run, QUIET, StopSignal())
    assert resumed["starter_endings"].metrics == fresh["starter_endings"].metrics


def test_what_a_kill_right_after_the_result_left_is_cleared_away(
    run: RunFolder, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(lines: Lines) -> None:
        raise KeyboardInterrupt

    wanted = recipe("starter_endings", base_model=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lines, "remove", killed)
        benchmark(wanted, run, QUIET, StopSignal())
    left = run.benchmarks / "starter_endings.items.partial.jsonl"
    written = (run.benchmarks / "starter_endings.json").read_bytes()
    assert left.exists()
    benchmark(wanted, run, QUIET, StopSignal())
    assert not left.exists()
    assert (run.benchmarks / "starter_endings.json").read_bytes() == written


class KillAfterAnswers(StopSignal):
    """A signal that arrives while answers are written, once some are on disk."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def check(self, doing: str) -> None:
        if self.path.exists() and len(self.path.read_bytes().splitlines()) > 1:
            self.requested = "SIGTERM"
        super().check(doing)


def test_written_answers_outlive_a_stop_and_are_not_written_again(
    run: RunFolder, recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "MAX_ROWS", 1)
    wanted = recipe("starter_math", base_model=False)
    path = run.benchmarks / "starter_math.answers.partial.jsonl"
    with pytest.raises(Interrupted, match="starter_math"):
        benchmark(wanted, run, QUIET, KillAfterAnswers(path))
    header = path.read_text().splitlines()[0].partition(" ")[2]
    answers = Answers(path, json.loads(header)["key"])
    done = answers.start()
    assert 0 < len(done) < 5
    place, sample = next(iter(done))
    answers.append(place, sample, Generation("#### 5", 2, "eos"))  # shows that it is not redone
    result = benchmark(wanted, run, QUIET, StopSignal())["starter_math"]
    items = list(read_items(run.benchmarks / "starter_math.items.jsonl.gz").values())
    assert [item.text == "#### 5" for item in items].count(True) == 1
    assert items[place].outcome == "correct"
    assert result.metrics["exact_match_strict"].value == 0.2
    assert not path.exists()


def test_a_subset_is_named_a_subset(run: RunFolder, recipe: Callable[..., Recipe]) -> None:
    results = benchmark(
        recipe("starter_endings", base_model=False, limit=3), run, QUIET, StopSignal()
    )
    result = results["starter_endings"]
    metric = result.metrics["acc_norm"]
    assert (metric.n, metric.n_total, metric.complete) == (3, 5, False)
    assert result.note == "subset: 3 of 5 items. Not a starter_endings score."
    assert list(flat_percentages(results)) == ["starter_endings_subset"]


def test_samples_per_problem_are_drawn_and_named(
    run: RunFolder, recipe: Callable[..., Recipe]
) -> None:
    if probe() is None:
        pytest.skip("no sandbox holds on this machine")
    wanted = recipe("starter_code", base_model=False)
    task = wanted.benchmarks.tasks[0].model_copy(update={"samples": 5})
    section = wanted.benchmarks.model_copy(update={"tasks": (task,)})
    result = benchmark(wanted.model_copy(update={"benchmarks": section}), run, QUIET, StopSignal())
    metric = result["starter_code"].metrics["pass@5"]
    assert (metric.n, metric.protocol) == (5, "starter_code/0shot-base-n5-t0.2-p0.95/v1")
    records = read_items(run.benchmarks / "starter_code.items.jsonl.gz").values()
    assert all(len(json.loads(str(record.extra["texts"]))) == 5 for record in records)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("starter_math", {"samples": 3}, "answered once"),
        ("starter_math", {"temperature": 0.5}, "answered once"),
        ("starter_code", {"samples": 3, "temperature": 0}, "all the same"),
    ],
)
def test_samples_that_make_no_sense_are_refused(
    name: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        choose_sampling(find(name), BenchmarkTask(name=name, **more))


def test_without_a_sandbox_code_is_not_run_and_answers_wait_for_one(
    run: RunFolder, recipe: Callable[..., Recipe]
) -> None:
    section = recipe("starter_code").benchmarks
    plan = plan_task(section.tasks[0], section)
    ref = str(run.root / "checkpoint")
    model = ModelAtWork("SFT model", ref, run.benchmarks, ModelSection(base=ref), 8192)
    result = stage.score_plan(model, plan, None, QUIET, StopSignal())
    metric = result.metrics["pass@1"]
    assert (metric.value, metric.n, metric.complete) == (None, 0, False)
    assert "no sandbox" in str(result.note)
    assert flat_percentages({"starter_code": result}) == {}
    kept = run.benchmarks / "starter_code.answers.partial.jsonl"
    assert len(Answers(kept, result.settings["answers_key"]).start()) == 5
    model.loaded = None
    unsafe = stage.score_plan(model, plan, UNSAFE, QUIET, StopSignal())
    assert unsafe.settings["sandbox"] == "none"
    assert unsafe.metrics["pass@1"].n == 5
    assert model.loaded is None  # nothing was written again
    assert not kept.exists()


def test_a_broken_model_stops_the_stage_instead_of_scoring(
    run: RunFolder, recipe: Callable[..., Recipe]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from sftprep.errors import SftprepError

    path = run.root / "checkpoint/model.safetensors"
    weights = load_file(path)
    name = next(n for n in weights if "norm" in n)
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(SftprepError, match=r"(?i)nan|finite"):
        benchmark(recipe("starter_truth", base_model=False), run, QUIET, StopSignal())
    assert not (run.benchmarks / "starter_truth.json").exists()


def test_items_hold_what_a_paired_comparison_needs(
    run: RunFolder, recipe: Callable[..., Recipe]
) -> None:
    benchmark(recipe("starter_truth", base_model=False), run, QUIET, StopSignal())
    path = run.benchmarks / "starter_truth.items.jsonl.gz"
    record = next(iter(read_items(path).values()))
    assert record.loglikelihoods is not None and len(record.loglikelihoods) == 4
    assert len(record.prompt_sha256) == 64
    assert json.dumps(record.extra["mc2"]) != "null"
