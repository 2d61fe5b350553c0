"""The two rules on benchmarks: what they say of subsets, chance, typical ranges and losses."""

from tests.gate.changes import forgotten, in_mmlu, without
from tests.gate.example_run import edit, items_of, write_items
from tests.gate.judging import verdict_of

from sftprep.store.run import RunFolder


def test_a_subset_is_named_and_accepted_only_when_asked(run: RunFolder) -> None:
    in_mmlu(complete=False, n=100, n_total=14042)(run)
    assert "mmlu: a subset (100 of 14042 items)" in verdict_of(run, "benchmarks_recorded").why
    allowed = verdict_of(run, "benchmarks_recorded", "gate.allow_subsets=true")
    assert allowed.status == "pass"
    assert "mmlu: a subset, 100 of 14042 items" in allowed.why


def test_a_benchmark_at_chance_is_said_to_be(run: RunFolder) -> None:
    in_mmlu(value=0.26, ci95=[0.22, 0.30])(run)
    assert verdict_of(run, "benchmarks_recorded").why.startswith("mmlu: at chance (25.0%); ")


def test_only_required_benchmarks_count_when_they_are_listed(run: RunFolder) -> None:
    without("benchmarks", "gsm8k.json")(run)
    found = verdict_of(run, "benchmarks_recorded", "gate.require_benchmarks=[mmlu]")
    assert found.status == "pass"


def test_a_pass_says_what_loss_it_cannot_exclude(run: RunFolder) -> None:
    why = verdict_of(run, "no_forgetting").why
    assert why == "no significant loss against the base model"  # every bound is above 0
    for folder in (run.benchmarks, run.benchmarks / "base"):
        write_items(folder / "mmlu.items.jsonl.gz", items_of("mmlu", [True] * 8, "acc"))
    # one-sided 95% bound at 0 flips of 8: z^2 / (8 + z^2) with z = 1.645
    assert verdict_of(run, "no_forgetting").why.endswith(
        "; not excluded: 25.3 points on mmlu (n 8)"
    )


def test_a_tolerated_loss_is_no_forgetting(run: RunFolder) -> None:
    forgotten(run)
    assert verdict_of(run, "no_forgetting", "gate.max_forgetting=0.13").status == "fail"
    found = verdict_of(run, "no_forgetting", "gate.max_forgetting=0.15")
    assert found.status == "pass"
    assert "by more than 15 points" in found.required


def test_a_score_below_its_typical_range_is_said_with_where_to_look(run: RunFolder) -> None:
    in_mmlu(value=0.29, ci95=[0.26, 0.32])(run)  # the base model has 42%, typical is 30-70%
    assert verdict_of(run, "benchmarks_recorded").why == (
        "mmlu: 29.0% is below the typical 30%-70%; the base model has 42.0%: review the data and "
        "the learning rate"
    )
    edit(run.benchmarks / "base" / "mmlu.json",
         lambda v: v["metrics"]["acc"].update(value=0.285, ci95=[0.25, 0.31]))  # fmt: skip
    assert verdict_of(run, "benchmarks_recorded").why.endswith(
        "the base model has 28.5%: review the choice of model.base"
    )


def test_forgetting_names_the_benchmark_and_its_loss(run: RunFolder) -> None:
    forgotten(run)
    found = verdict_of(run, "no_forgetting")
    assert found.why.startswith("mmlu -14.0 points (p < 0.001)")
    assert "learning_rate" in found.remedy
