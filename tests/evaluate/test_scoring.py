"""Scores equal a plain forward pass per request; the plan shares what can be shared."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sftprep.errors import EvaluationError
from sftprep.evaluate.engine import Engine, Score, ScoreRequest
from sftprep.evaluate.scoring import takes_trees
from sftprep.evaluate.sharing import Tree, Work, common_prefix, distinct, families, tree_row
from sftprep.progress import Progress
from sftprep.stop import StopSignal

Make = Callable[..., Engine]
SHOTS = "Question: What is the answer? Answer: seven pears.\n\n" * 2
WORDS = ("cat", "dog", "park", "bird", "apples", "pears", "one", "two", "three", "red", "blue")


def requests(count: int = 24, seed: int = 0) -> list[ScoreRequest]:
    """Multiple choice with a shared few-shot block, letters and longer endings."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        question = " ".join(draw.choices(WORDS, k=draw.randint(1, 9)))
        context = f"{SHOTS}Question: {question}? Answer:"
        if draw.random() < 0.5:
            found += [ScoreRequest(context, f" {letter}") for letter in "ABCD"]
        else:
            ends = [" ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(3)]
            found += [ScoreRequest(context, f" {end}") for end in ends]
    return found


def score(engine: Engine, asked: list[ScoreRequest]) -> list[Score]:
    return engine.score(asked, Progress(quiet=True), StopSignal(), "scoring")


def plain(engine: Engine, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """One forward pass of one request by transformers alone."""
    full = (context + continuation)[-(engine.max_length + 1) :]
    with torch.no_grad():
        logits = engine.model(torch.tensor([full[:-1]])).logits[0, -len(continuation) :]
    logprobs = torch.log_softmax(logits.float(), -1)
    wanted = torch.tensor(continuation)
    total = logprobs.gather(1, wanted[:, None]).sum().item()
    return total, bool((logits.argmax(-1) == wanted).all())


def reference(engine: Engine, request: ScoreRequest) -> tuple[float, bool]:
    context = engine.tokenizer.encode(request.context)
    whole = engine.tokenizer.encode(request.context + request.continuation)
    return plain(engine, context, whole[len(context) :])


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral_window", "gemma3", "bloom"])
def test_scores_equal_one_plain_pass_per_request(make_engine: Make, name: str) -> None:
    engine, asked = make_engine(name), requests()
    found = score(engine, asked)
    for request, one in zip(asked, found, strict=True):
        value, greedy = reference(engine, request)
        assert one.loglikelihood == pytest.approx(value, abs=1e-4)
        assert one.is_greedy == greedy


def test_models_without_usable_position_ids_are_scored_row_by_row(make_engine: Make) -> None:
    for name in ("llama", "gpt2", "mistral_window", "gemma3"):
        assert takes_trees(make_engine(name)) is True
    assert takes_trees(make_engine("bloom")) is False


def test_batch_size_and_order_change_no_decision(make_engine: Make) -> None:
    asked = requests()
    expected = score(make_engine(max_tokens_per_batch=8192), asked)
    shuffled = list(range(len(asked)))
    random.Random(1).shuffle(shuffled)
    for budget in (256, 1024):
        found = score(make_engine(max_tokens_per_batch=budget), [asked[i] for i in shuffled])
        for index, one in zip(shuffled, found, strict=True):
            assert one.loglikelihood == pytest.approx(expected[index].loglikelihood, abs=1e-4)
            assert one.is_greedy == expected[index].is_greedy
            assert one.tokens == expected[index].tokens


def test_the_most_likely_token_is_greedy(make_engine: Make) -> None:
    engine = make_engine()
    context = engine.tokenizer.encode("The cat sat")
    best = int(engine.model(torch.tensor([context])).logits[0, -1].argmax())
    word = engine.tokenizer.decode([best])
    assert engine.tokenizer.encode("The cat sat" + word) == [*context, best]
    assert score(engine, [ScoreRequest("The cat sat", word)])[0].is_greedy is True


def test_white_space_at_the_end_of_a_context_moves_to_the_continuation(make_engine: Make) -> None:
    one, two = score(
        make_engine(), [ScoreRequest("The cat ", "sat"), ScoreRequest("The cat", " sat")]
    )
    assert one == two


def test_an_empty_context_is_the_bos_token(make_engine: Make) -> None:
    engine = make_engine()
    ids = engine.tokenizer.encode("The cat", add_special_tokens=False)
    value, greedy = plain(engine, [0], ids)
    found = score(engine, [ScoreRequest("", "The cat")])[0]
    assert found.loglikelihood == pytest.approx(value, abs=1e-4)
    assert (found.is_greedy, found.tokens) == (greedy, len(ids))


def test_a_text_that_starts_with_bos_gets_no_second_one(make_engine: Make) -> None:
    one, two = score(
        make_engine(), [ScoreRequest("<s>The cat", " sat"), ScoreRequest("The cat", " sat")]
    )
    assert one.loglikelihood == pytest.approx(two.loglikelihood, abs=1e-5)


def test_a_long_context_is_cut_from_the_left(make_engine: Make) -> None:
    engine = make_engine()
    request = ScoreRequest("The dog ran to the park and back again. " * 30 + "A", " small bird")
    assert len(engine.tokenizer.encode(request.context)) > engine.max_length
    value, _ = reference(engine, request)
    assert score(engine, [request])[0].loglikelihood == pytest.approx(value, abs=1e-4)


def test_equal_requests_get_equal_scores(make_engine: Make) -> None:
    request = ScoreRequest("The cat", " sat on the mat")
    one, two = score(make_engine(), [request, request])
    assert one == two


def test_the_same_tokens_cut_at_another_place_are_scored_on_their_own(make_engine: Make) -> None:
    engine = make_engine()
    asked = [ScoreRequest("The cat", " sat"), ScoreRequest("The", " cat sat")]
    for request, one in zip(asked, score(engine, asked), strict=True):
        assert one.loglikelihood == pytest.approx(reference(engine, request)[0], abs=1e-4)


def test_no_requests_give_no_scores(make_engine: Make) -> None:
    assert score(make_engine(), []) == []


@pytest.mark.parametrize("text", ["", "<s>"])
def test_a_continuation_without_tokens_is_refused_by_name(make_engine: Make, text: str) -> None:
    context = "The cat" if not text else ""
    with pytest.raises(EvaluationError, match=r"request 1 .*no token of its own"):
        score(make_engine(), [ScoreRequest("The", " cat"), ScoreRequest(context, text)])


def test_a_continuation_longer_than_the_context_is_refused(make_engine: Make) -> None:
    with pytest.raises(EvaluationError, match=r"request 0 .*sees 128 at once"):
        score(make_engine(), [ScoreRequest("The cat", " sat on the mat" * 60)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_refused_with_the_request(make_engine: Make, value: float) -> None:
    engine = make_engine()
    with torch.no_grad():
        engine.model.lm_head.weight[7] = value
    with pytest.raises(EvaluationError, match=r"request 0 .*'The cat'.*' sat'.*log-likelihood is"):
        score(engine, [ScoreRequest("The cat", " sat")])


def test_when_memory_runs_out_smaller_batches_give_the_same_scores(make_engine: Make) -> None:
    engine, asked = make_engine(), requests()
    expected = score(engine, asked)
    refused = []

    def limited(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].numel() > 200:
            refused.append(kwargs["input_ids"].numel())
            raise torch.OutOfMemoryError("CUDA out of memory.")

    engine.model.register_forward_pre_hook(limited, with_kwargs=True)
    found = score(engine, asked)
    assert refused and engine.max_tokens_per_batch < 8192
    for one, two in zip(found, expected, strict=True):
        assert one.loglikelihood == pytest.approx(two.loglikelihood, abs=1e-4)


def test_a_single_row_that_does_not_fit_is_an_error_that_says_so(make_engine: Make) -> None:
    engine = make_engine()

    def refuse(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    takes_trees(engine)
    engine.model.register_forward_pre_hook(refuse, with_kwargs=True)
    with pytest.raises(EvaluationError, match="out of memory with a single row of"):
        score(engine, [ScoreRequest("The cat", " sat")])


def test_other_runtime_errors_pass_through(make_engine: Make) -> None:
    engine = make_engine()
    takes_trees(engine)

    def fail(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        raise RuntimeError("shape mismatch")

    engine.model.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        score(engine, [ScoreRequest("The cat", " sat")])


def work(*ids: int, context: int) -> Work:
    return Work(np.asarray(ids, np.int32), context)


def test_requests_that_differ_in_their_last_token_are_one_pass(make_engine: Make) -> None:
    from sftprep.evaluate.encode import encode_requests

    engine = make_engine()
    asked = [ScoreRequest("The answer is", f" {letter}") for letter in "ABCD"]
    encoded = encode_requests(engine.tokenizer, asked, range(4), engine.max_length)
    works = distinct(range(4), encoded)
    shared = {tuple(one.full[:-1]) for one in encoded}
    assert len(works) == len(shared)
    assert sorted(i for w in works for found in w.last.values() for i in found) == [0, 1, 2, 3]


def test_common_prefix_counts_equal_leading_tokens() -> None:
    a, b = np.asarray([1, 2, 3, 4], np.int32), np.asarray([1, 2, 9], np.int32)
    assert common_prefix(a, b, 10) == 2
    assert common_prefix(a, a, 3) == 3
    assert common_prefix(a, b, 1) == 1


def test_endings_of_one_context_become_one_tree() -> None:
    works = [work(1, 2, 3, 7, context=3), work(1, 2, 3, 8, 9, context=3)]
    (family,) = families(works)
    assert [len(tree.works) for tree in family.trees] == [2]
    assert family.prefix == 2 and family.prefix_pays(budget=1024) is False


def test_a_shared_block_becomes_a_prefix_and_questions_become_trees() -> None:
    block = tuple(range(100, 300))
    works = [
        work(*block, 1, 1, 1, 1, 5, context=204),
        work(*block, 1, 1, 1, 1, 6, context=204),
        work(*block, 2, 2, 2, 2, 5, context=204),
        work(*block, 3, 3, 3, 3, 5, context=204),
    ]
    (family,) = families(works)
    assert family.prefix == 200
    assert [len(tree.works) for tree in family.trees] == [2, 1, 1]
    assert family.prefix_pays(budget=1024) is True


def test_a_question_that_fills_a_pass_gets_one_for_its_long_beginning() -> None:
    block = tuple(range(600))
    endings = [work(*block, 700 + i, 5, context=600) for i in range(4)]
    (family,) = families(endings)
    assert (len(family.trees), family.prefix) == (1, 599)
    assert family.prefix_pays(budget=1024) is True
    assert family.prefix_pays(budget=8192) is False
    (single,) = families(endings[:1])
    assert single.prefix_pays(budget=1024) is False


def test_a_tree_row_holds_equal_beginnings_once_and_reads_the_predicting_columns() -> None:
    first = Work(np.asarray([1, 2, 3, 7], np.int32), 3, {40: [0], 41: [1]})
    second = Work(np.asarray([1, 2, 3, 8, 9], np.int32), 3, {42: [2]})
    third = Work(np.asarray([1, 2, 3, 8, 6], np.int32), 4, {43: [3]})
    (family,) = families([first, third, second])
    row = tree_row(family.trees[0], 0)
    assert row.ids.tolist() == [1, 2, 3, 7, 8, 6, 9]
    assert row.positions.tolist() == [0, 1, 2, 3, 3, 4, 4]
    assert row.ends.tolist() == [7, 7, 7, 4, 7, 6, 7]
    asked = [
        (int(row.read[slot]), token)
        for slot, token in zip(row.slots, row.tokens.tolist(), strict=True)
    ]
    assert asked == [(2, 7), (3, 40), (3, 41), (4, 6), (5, 43), (2, 8), (4, 9), (6, 42)]


def test_a_tree_hanging_on_a_prefix_keeps_what_is_behind_it() -> None:
    first = Work(np.asarray([1, 2, 3, 7], np.int32), 3, {40: [0]})
    second = Work(np.asarray([1, 2, 3, 8], np.int32), 3, {41: [1]})
    row = tree_row(Tree((first, second)), 2)
    assert row.ids.tolist() == [3, 7, 8]
    assert row.positions.tolist() == [0, 1, 1]
    assert row.ends.tolist() == [3, 2, 3]
    assert row.read.tolist() == [0, 1, 2]


def test_a_token_that_shares_the_top_score_is_greedy_only_when_it_is_the_first(
    make_engine: Make,
) -> None:
    engine = make_engine()
    with torch.no_grad():
        engine.model.lm_head.weight.zero_()
    first = engine.tokenizer.decode([0], skip_special_tokens=False)
    found = score(engine, [ScoreRequest("The cat", " sat"), ScoreRequest("The cat", first)])
    assert [one.is_greedy for one in found] == [False, True]
