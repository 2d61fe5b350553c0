"""Time of validation and benchmarks, by hand."""

import pytest

from sftprep.model.hardware import cpu_from_info, parse_hardware
from sftprep.model.later import Rates, Workload, later_stages, rates
from sftprep.model.sample import TokenFit
from sftprep.recipe.sections import DataSection, ModelSection, Recipe, Source

FIT = TokenFit(4.0, 0.0, (1, 1, 1, 1), 100.0, 10, True, supervised=0.5)  # answers of 50 tokens


def recipe(**benchmarks: bool) -> Recipe:
    return Recipe.model_validate(
        {
            "model": ModelSection(base="x"),
            "data": DataSection(sources=(Source(path="y"),)),
            "validation": {"samples": 20, "instruction_limit": 80, "max_new_tokens": 100},
            "benchmarks": benchmarks,
        }
    )


def test_reading_and_writing_are_added_up_for_both_models() -> None:
    work = [Workload("a", 10, 4_000, 0), Workload("b", 10, 4_000, 1_000)]
    found = later_stages(recipe(), work, Rates(0.01, 0.1, load=3.0), FIT, 500)
    validate, start, choice, writing = found
    # 500 held-out tokens on two models; 100 prompts: answers of 50 and of 100 tokens.
    assert validate.seconds == pytest.approx(2 * (500 * 0.01 + 3) + 100 * 150 * 0.1)
    assert start.seconds == pytest.approx(2 * 3)
    assert choice.seconds == pytest.approx(2 * 1_000 * 0.01)
    assert writing.seconds == pytest.approx(2 * 1_000 * 0.01 + 10 * (50 + 100) * 0.1)


def test_without_the_base_model_it_is_the_trained_one_alone() -> None:
    work = [Workload("b", 10, 4_000, 1_000)]
    found = later_stages(recipe(base_model=False), work, Rates(0.01, 0.1), FIT, 500)
    assert found[2].seconds == pytest.approx(1_000 * 0.01 + 10 * 50 * 0.1)


def test_what_cannot_be_counted_says_why_and_takes_no_time() -> None:
    work = [Workload("c", 0, 0, 0, "no items")]
    found = later_stages(recipe(), work, Rates(0.01, 0.1), FIT, 500)
    assert (found[2].seconds, found[2].problem) == (0.0, "no items")


def test_reading_the_items_and_loading_the_models_come_first() -> None:
    work = [
        Workload("a", 10, 0, 0, start_seconds=1.5), Workload("b", 10, 0, 0, start_seconds=0.5)
    ]  # fmt: skip
    start = later_stages(recipe(), work, Rates(0.01, 0.1, load=3.0), FIT, 0)[1]
    assert start.name == "benchmarks' start"
    assert start.seconds == pytest.approx(2 * 3 + 2)


def test_programs_are_run_for_each_model() -> None:
    work = [Workload("code", 10, 0, 0, programs=20)]
    found = later_stages(recipe(), work, Rates(0.01, 0.1, program=0.5), FIT, 0)
    assert found[-1].seconds == pytest.approx(2 * 20 * 0.5)


def test_loading_grows_with_the_weights_and_programs_share_the_cores() -> None:
    found = rates(0.0, 1_000_000_000, cpu_from_info("", cores=4, memory=8 << 30))
    assert found.load == pytest.approx(1 + 4)  # 4 GB at 1 GB/s
    assert found.program == pytest.approx(0.18 / 4)


def test_a_written_token_reads_the_weights_once_for_32_rows() -> None:
    h100 = parse_hardware("1xH100")
    found = rates(1e-5, 7_000_000_000, h100)
    # 14 GB of 16-bit weights at 3,350 GB/s, shared by 32 rows.
    assert found.write - found.read == pytest.approx(14e9 / 3350e9 / 32)
