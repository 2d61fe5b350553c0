"""Padding of a sample's documents, by hand and against the grouping that attention really makes."""

import random
from dataclasses import replace

import numpy as np
import pytest
from tests.model.jobs import LLAMA

from sftprep.model.hardware import cpu_from_info
from sftprep.model.padding import SHORT_TOKENS, Padding, groups_of, paddings
from sftprep.model.sample import token_fit
from sftprep.model.settings import job_for
from sftprep.recipe.sections import TrainingSection


def test_equal_documents_need_no_padding() -> None:
    # Every token of a document of 100 has 100 scores.
    assert set(paddings((100,) * 50, 2, 500)) == {Padding(1.0, 100.0)}


def test_few_unequal_documents_share_a_call_and_are_padded_to_the_longest() -> None:
    # A row of 300 holds 200 and 100: padded to 2 x 200 places, so 400 / 300, and 2 x 200^2 scores.
    assert set(paddings((200, 100), 1, 300)) == {Padding(400 / 300, 2 * 200**2 / 300)}


def test_long_documents_keep_no_scores() -> None:
    assert set(paddings((SHORT_TOKENS + 1,) * 4, 2, 512)) == {Padding(1.0, 0.0)}


def test_every_micro_batch_is_looked_at() -> None:
    # Rows of 200 hold either 2 x 100 or one of 200, which keeps twice the scores.
    assert {one.score_span for one in paddings((100, 100, 200), 1, 200)} == {100.0, 200.0}


def test_pieces_of_a_micro_batch_are_looked_at_one_by_one() -> None:
    # documents of 200 and 100 in one pass are padded to 200; pieces of 200 hold one length each
    lengths = (200, 100, 100, 200, 100, 100)
    assert max(one.score_span for one in paddings(lengths, 4, 200)) > 200
    assert {one.score_span for one in paddings(lengths, 4, 200, 200)} == {200.0, 100.0}


def test_a_last_small_piece_does_not_count() -> None:
    # pieces of 110 and 10: ten documents of 1 would be one score per token
    assert set(paddings((100, *(1,) * 20), 1, 120, 110)) == {
        Padding(11 * 100 / 110, 11 * 100**2 / 110)
    }


def test_documents_that_training_rejects_are_left_out() -> None:
    assert set(paddings((10, 10, 900), 1, 100)) == {Padding(1.0, 10.0)}
    assert paddings((900,), 1, 100) == (Padding(1.0, 0.0),)


def test_the_fullest_micro_batch_counts_for_the_plan() -> None:
    # Padded places weigh 4 x 4,096 values in Llama-2-7B's layer, a score 32 (one per head).
    fit = token_fit([("a", "b")], None)
    assert fit is not None
    fit = replace(fit, row_lengths=(100, 100, 200))
    training = TrainingSection(batch_size=1, max_length=200)
    found, _, _ = job_for(LLAMA, LLAMA.parameters, training, cpu_from_info("", 1, 1 << 40), fit)
    assert (found.places, found.score_span) == (1.0, 200.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_groups_are_those_of_attention(seed: int) -> None:
    from sftprep.model.attention import LONGEST_BY_PRODUCTS, make_layout

    rng = random.Random(seed)
    lengths = sorted((rng.randint(1, 600) for _ in range(rng.randint(1, 300))), reverse=True)
    layout = make_layout(np.array(lengths, np.int64))
    assert groups_of(lengths) == [(one.documents, one.longest) for one in layout.buckets]
    assert SHORT_TOKENS == LONGEST_BY_PRODUCTS
