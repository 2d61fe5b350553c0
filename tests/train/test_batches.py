"""Which documents a step sees."""

from typing import Any

import numpy as np
import pytest

from sftprep.data.pack import TokenCache
from sftprep.recipe.sections import TrainingSection
from sftprep.train.batches import StepPlan, prefetched


def cache(documents: int = 50, length: int = 10) -> TokenCache:
    total = documents * length
    return TokenCache(
        np.arange(total, dtype=np.int32),
        np.ones(total, bool),
        np.arange(0, total + 1, length),
        tuple(map(str, range(documents))),
        "",
    )


def plan(world_size: int = 1, **changes: Any) -> StepPlan:
    # 50 documents of 10 tokens: 25 rows of 20; 2 x 2 rows a step: 7 steps an epoch
    settings: dict[str, Any] = {
        "max_length": 20,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": None,
        "epochs": 3,
        **changes,
    }
    return StepPlan(cache(), TrainingSection(**settings), world_size)


def seen(of: StepPlan, steps: range, ranks: int = 1) -> list[int]:
    found = [
        d
        for step in steps
        for rank in range(ranks)
        for micro in of.micro_batches(step, rank)
        for d in micro.tolist()
    ]
    return sorted(found)


def test_steps_follow_from_epochs() -> None:
    assert (plan().steps_per_epoch, plan().total_steps) == (7, 21)


def test_a_step_is_described_by_its_tokens_rows_and_fill() -> None:
    # 500 tokens over 7 steps; 25 rows of 20 over 7 steps, all full
    assert plan().words() == (
        "a step holds 71 tokens on average, 71 of them supervised, in 3.6 rows of 20, "
        "filled to 100.0%"
    )


def test_part_of_an_epoch_is_possible() -> None:
    assert plan(epochs=0.5).total_steps == 4


def test_max_steps_is_taken_as_it_is() -> None:
    assert plan(max_steps=100, epochs=None).total_steps == 100


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_each_epoch_sees_every_document_once(epoch: int) -> None:
    steps = range(7 * epoch + 1, 7 * epoch + 8)
    assert seen(plan(), steps) == list(range(50))


def test_ranks_together_see_every_document_once() -> None:
    of = plan(world_size=2)
    assert of.steps_per_epoch == 4
    assert seen(of, range(1, 5), ranks=2) == list(range(50))


def test_rows_are_spread_evenly_over_the_steps_of_an_epoch() -> None:
    of = plan()
    sizes = [sum(len(m) for m in of.micro_batches(step, 0)) // 2 for step in range(1, 8)]
    assert sorted(sizes) == [3, 3, 3, 4, 4, 4, 4]


def test_a_step_needs_no_earlier_step() -> None:
    straight = plan()
    for step in range(1, 12):
        straight.micro_batches(step, 0)
    jumped = plan()
    for a, b in zip(straight.micro_batches(12, 0), jumped.micro_batches(12, 0), strict=True):
        assert a.tolist() == b.tolist()


def test_epochs_have_different_orders() -> None:
    of = plan()
    first, second = (of.micro_batches(step, 0)[0].tolist() for step in (1, 8))
    assert first != second


def test_fewer_rows_than_micro_batches_leave_none_empty() -> None:
    of = plan(batch_size=100, gradient_accumulation_steps=50)
    micro = of.micro_batches(1, 0)
    assert (of.steps_per_epoch, len(micro)) == (1, 25)


def test_pieces_hold_every_document_once_within_the_budget() -> None:
    whole = plan(batch_size=100, gradient_accumulation_steps=2)
    cut = plan(batch_size=100, gradient_accumulation_steps=2)
    cut.piece_tokens = 60
    pieces, lengths = cut.micro_batches(1, 0), cut.cache.lengths
    documents = sorted(d for m in whole.micro_batches(1, 0) for d in m.tolist())
    assert sorted(d for p in pieces for d in p.tolist()) == documents
    assert len(pieces) > 2
    assert all(lengths[p].sum() <= 60 or len(p) == 1 for p in pieces)


def test_prefetching_gives_the_plan_in_order() -> None:
    of = plan()
    found = [[b.documents.tolist() for b in step] for step in prefetched(of, 1, 7, 0)]
    assert sorted(d for step in found for micro in step for d in micro) == list(range(50))
