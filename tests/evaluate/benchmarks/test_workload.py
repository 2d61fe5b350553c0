"""Counting what benchmarks will read and write, before anything runs."""

from pathlib import Path

import pytest

from sftprep.evaluate.benchmarks.protocol import Question
from sftprep.evaluate.benchmarks.workload import characters, workloads
from sftprep.evaluate.engine import GenerateRequest, ScoreRequest
from sftprep.recipe.sections import BenchmarksSection, BenchmarkTask


def choice(context: str, *answers: str) -> Question:
    return Question(scores=tuple(ScoreRequest(context, answer) for answer in answers))


def test_what_neighbours_share_is_read_once() -> None:
    # Shared: "Examples. Q: " (13). Own: "one" (3) and the answers " a" and " b" (4).
    own, neighbour = choice("Examples. Q: one", " a", " b"), choice("Examples. Q: two", " a", " b")
    assert characters(own, neighbour) == 3 + 4


def test_a_question_that_stands_alone_is_read_whole() -> None:
    own = choice("Q: one", " a")
    assert characters(own, own) == 6 + 2
    writing = Question(generate=GenerateRequest("Q: one", 16))
    assert characters(writing, Question(generate=GenerateRequest("W", 16))) == 6


def section(folder: Path | None, *names: str, limit: int | None = None) -> BenchmarksSection:
    return BenchmarksSection(
        tasks=tuple(BenchmarkTask(name=name) for name in names),
        data_dir=None if folder is None else str(folder),
        limit=limit,
    )


@pytest.mark.shared
def test_real_benchmarks_are_counted_in_full(shared: Path) -> None:
    folder = shared / "data" / "benchmarks"
    mmlu, gsm8k = workloads(section(folder, "mmlu", "gsm8k"))
    assert (mmlu.items, gsm8k.items) == (14_042, 1_319)
    assert mmlu.written_tokens == 0
    assert gsm8k.written_tokens > 1_319 * 100
    # All MMLU questions with their answers are about 7 million characters; the five examples of a
    # subject (1,000 to 15,000 characters) must not be counted once per question.
    assert 3_000_000 < mmlu.read < 14_000_000


@pytest.mark.shared
def test_a_limit_counts_only_its_items(shared: Path) -> None:
    (found,) = workloads(section(shared / "data" / "benchmarks", "truthfulqa", limit=10))
    assert (found.items, found.programs) == (10, 0)


@pytest.mark.shared
def test_every_sample_of_a_coding_benchmark_is_a_program_to_run(shared: Path) -> None:
    task = BenchmarkTask(name="humaneval", limit=10, samples=3)
    plain = section(shared / "data" / "benchmarks", "humaneval", limit=10)
    (one,) = workloads(plain)
    (three,) = workloads(plain.model_copy(update={"tasks": (task,)}))
    assert (one.programs, three.programs) == (10, 30)
    assert three.written_tokens == 3 * one.written_tokens
    assert one.start_seconds > 0


def test_what_is_not_on_this_machine_is_said(tmp_path: Path) -> None:
    (unset,) = workloads(section(None, "mmlu"))
    assert unset.problem is not None and "data_dir is not set" in unset.problem
    (missing,) = workloads(section(tmp_path, "mmlu"))
    assert missing.problem is not None and "mmlu" in missing.problem
    assert (missing.items, missing.read) == (0, 0)
