"""Perplexity is the definition's, whatever the batches."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sftprep.data.render import render_many
from sftprep.errors import EvaluationError
from sftprep.evaluate.engine import Engine
from sftprep.evaluate.perplexity import (
    RowLoss,
    by_category,
    perplexity_of,
    row_losses,
    supervised_bytes,
    worst_rows,
)
from sftprep.progress import Progress
from sftprep.records import Example, Message, SourceRef
from sftprep.stop import StopSignal

Make = Callable[..., Engine]
WORDS = ("cat", "dog", "park", "bird", "apples", "pears", "one", "two", "three", "red", "blue")


def talk(question: str, answer: str) -> tuple[Message, ...]:
    return (Message("user", question, False), Message("assistant", answer, True))


def talks(count: int = 30) -> list[tuple[Message, ...]]:
    draw = random.Random(0)
    return [
        talk(" ".join(draw.choices(WORDS, k=draw.randint(1, 8))),
             " ".join(draw.choices(WORDS, k=draw.randint(1, 12))))
        for _ in range(count)
    ]  # fmt: skip


def losses(engine: Engine, conversations: list[tuple[Message, ...]]) -> list[RowLoss]:
    return row_losses(engine, conversations, Progress(quiet=True), StopSignal(), "perplexity")


def example(number: int, category: str | None) -> Example:
    source = SourceRef("d", "f.jsonl", number)
    return Example(f"id{number}", source, talk("q", "a"), category=category)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral_window", "gemma3", "bloom"])
def test_losses_equal_a_plain_transformers_loop(make_engine: Make, name: str) -> None:
    engine, rows = make_engine(name), talks()
    for found, one in zip(losses(engine, rows), render_many(rows, engine.tokenizer), strict=True):
        ids = torch.from_numpy(one.ids.astype(np.int64))[None]
        labels = ids.clone()
        labels[0, ~torch.from_numpy(one.supervised)] = -100
        with torch.no_grad():
            mean = engine.model(input_ids=ids, labels=labels).loss.item()
        assert found.tokens == int(one.supervised.sum())
        assert found.nats == pytest.approx(mean * found.tokens, rel=1e-5)


def test_perplexity_does_not_depend_on_batch_size_or_order(make_engine: Make) -> None:
    rows = talks()
    expected = perplexity_of(losses(make_engine(), rows)).perplexity
    for budget in (1, 300):
        again = losses(make_engine(max_tokens_per_batch=budget), rows[::-1])
        assert perplexity_of(again).perplexity == pytest.approx(expected, rel=1e-6)


def test_a_model_that_knows_nothing_has_the_vocabulary_size_as_perplexity(
    make_engine: Make,
) -> None:
    engine = make_engine()
    with torch.no_grad():
        engine.model.lm_head.weight.zero_()
    found = perplexity_of(losses(engine, [talk("cat", "dog")]))
    assert found.perplexity == pytest.approx(engine.model.config.vocab_size, rel=1e-6)
    expected = found.tokens * math.log2(engine.model.config.vocab_size) / len(b"dog")
    assert found.bits_per_byte == pytest.approx(expected, rel=1e-6)
    assert found.bytes == 3


def test_perplexity_weighs_tokens_not_rows() -> None:
    """Rows of 1 and 3 tokens with 4 and 0 nats: exp((4 + 0) / 4) = e, never exp((4 + 0) / 2)."""
    found = perplexity_of([RowLoss(4.0, 1, 2), RowLoss(0.0, 3, 6)])
    assert found.perplexity == pytest.approx(math.e, rel=1e-12)
    assert found.nll_nats == 1.0
    assert found.bits_per_byte == pytest.approx(4 / math.log(2) / 8, rel=1e-12)


def test_bytes_are_those_of_the_supervised_answers() -> None:
    messages = (
        Message("user", "??", False),
        Message("assistant", "é", False),
        Message("assistant", "abc", True),
    )
    assert supervised_bytes(messages, "responses") == 3
    assert supervised_bytes(messages, "all_turns") == 5
    assert supervised_bytes(messages, "full") == 7


def test_categories_are_summed_on_their_own() -> None:
    found = by_category(
        [example(1, "a"), example(2, None), example(3, "a")],
        [RowLoss(2.0, 1, 1), RowLoss(0.0, 5, 5), RowLoss(2.0, 3, 3)],
    )
    assert list(found) == ["a", "none"]
    assert found["a"]["rows"] == 2 and found["a"]["tokens"] == 4
    assert found["a"]["perplexity"] == pytest.approx(math.e)
    assert found["none"]["perplexity"] == 1.0


def test_worst_rows_are_sorted_by_loss_per_token() -> None:
    rows = [example(1, None), example(2, None), example(3, None)]
    found = worst_rows(rows, [RowLoss(3.0, 3, 1), RowLoss(4.0, 2, 1), RowLoss(9.0, 90, 1)], 2)
    assert [(row["line"], row["nll_nats"]) for row in found] == [(2, 2.0), (1, 1.0)]


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no held-out response has a token to score"):
        perplexity_of([])


def test_a_perplexity_beyond_numbers_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="the model is broken"):
        perplexity_of([RowLoss(1e6, 1, 1)])
    with pytest.raises(EvaluationError, match="the model is broken"):
        perplexity_of([RowLoss(math.nan, 1, 1)])


def test_a_broken_model_is_refused_with_the_row(make_engine: Make) -> None:
    engine = make_engine()
    with torch.no_grad():
        engine.model.lm_head.weight[3] = float("nan")
    with pytest.raises(EvaluationError, match="held-out row 0: its loss is"):
        losses(engine, [talk("cat", "dog")])


def test_a_row_longer_than_the_context_is_refused(make_engine: Make) -> None:
    with pytest.raises(
        EvaluationError, match=r"held-out row 1: \d+ tokens, but the model sees 128"
    ):
        losses(make_engine(), [talk("cat", "dog"), talk("cat", "dog " * 200)])
