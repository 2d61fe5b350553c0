"""Answers equal `transformers.generate`; stopping, cutting and memory behave as promised."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sftprep.errors import EvaluationError, Interrupted
from sftprep.evaluate.engine import Engine, GenerateRequest, Generation
from sftprep.evaluate.scoring import takes_trees
from sftprep.evaluate.slots import SlotCache
from sftprep.progress import Progress
from sftprep.stop import StopSignal

Make = Callable[..., Engine]
WORDS = ("cat", "dog", "park", "bird", "apples", "pears", "one", "two", "three", "red", "blue")


def prompts(count: int, seed: int = 0, start: str = "") -> list[str]:
    draw = random.Random(seed)
    return [start + " ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]


def generate(engine: Engine, asked: list[GenerateRequest]) -> list[Generation]:
    return engine.generate(asked, Progress(quiet=True), StopSignal(), "writing")


def reference(engine: Engine, prompt: str, tokens: int) -> list[int]:
    """Greedy ids by transformers, one prompt at a time."""
    ids = torch.tensor([engine.tokenizer.encode(prompt)])
    out = engine.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens
    )
    return [int(token) for token in out[0, ids.shape[1] :]]


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral_window", "gemma3", "bloom"])
def test_greedy_answers_equal_transformers_token_by_token(make_engine: Make, name: str) -> None:
    engine = make_engine(name)
    asked = prompts(6)
    found = generate(engine, [GenerateRequest(prompt, 20) for prompt in asked])
    for prompt, one in zip(asked, found, strict=True):
        ids = reference(engine, prompt, 20)
        assert one.text == engine.tokenizer.decode(ids, skip_special_tokens=True)
        assert one.tokens == len(ids)
        assert one.stop == ("eos" if ids[-1] == 1 else "length")


def test_answers_do_not_depend_on_batch_size_order_or_a_shared_beginning(make_engine: Make) -> None:
    block = "Question: What is the answer? Answer: seven pears.\n\n"
    asked = [
        GenerateRequest(p, n) for p, n in zip(prompts(10, start=block), [5, 15] * 5, strict=True)
    ]
    alone = make_engine()
    expected = [generate(alone, [one])[0] for one in asked]
    for budget in (1, 256, 8192):
        engine = make_engine(max_tokens_per_batch=budget)
        assert generate(engine, asked) == expected
        assert generate(engine, asked[::-1]) == expected[::-1]


def test_an_answer_ends_at_an_end_token_of_generation_config(make_engine: Make) -> None:
    engine = make_engine()
    free = reference(engine, "The cat", 20)
    end = free[6]
    engine.model.generation_config.eos_token_id = [1, end]
    again = Engine(engine.model, engine.tokenizer)
    found = generate(again, [GenerateRequest("The cat", 20)])[0]
    first = free.index(end)
    assert found == Generation(engine.tokenizer.decode(free[:first]), first + 1, "eos")


def test_a_stop_string_ends_the_answer_and_is_cut_off(make_engine: Make) -> None:
    engine = make_engine()
    whole = generate(engine, [GenerateRequest("One day", 40)])[0].text
    word = whole[17:20]
    found = generate(engine, [GenerateRequest("One day", 40, stop=("never", word))])[0]
    assert found.text == whole[: whole.index(word)]
    assert found.stop == "stop_string"
    assert found.tokens < 40


def test_of_two_stop_strings_the_earlier_place_counts(make_engine: Make) -> None:
    engine = make_engine()
    whole = generate(engine, [GenerateRequest("One day", 40)])[0].text
    late, early = whole[20:23], whole[8:11]
    found = generate(engine, [GenerateRequest("One day", 40, stop=(late, early))])[0]
    assert found.text == whole[: min(whole.index(late), whole.index(early))]


def test_a_special_token_given_as_stop_string_ends_the_answer(make_engine: Make) -> None:
    engine = make_engine()
    free = reference(engine, "The dog", 20)
    assert 2 not in free
    with torch.no_grad():
        engine.model.lm_head.weight[2] = engine.model.lm_head.weight[free[4]] * 1.5
    longer = generate(engine, [GenerateRequest("The dog", 20)])[0]
    found = generate(engine, [GenerateRequest("The dog", 20, stop=("<pad>",))])[0]
    assert found.stop == "stop_string"
    assert longer.text.startswith(found.text)


def test_a_long_prompt_is_cut_from_the_left_to_make_room(make_engine: Make) -> None:
    engine = make_engine()
    text = "The dog ran to the park and back again. " * 20
    ids = engine.tokenizer.encode(text)[-(engine.max_length - 30) :]
    out = engine.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=30)
    found = generate(engine, [GenerateRequest(text, 30)])[0]
    expected = engine.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
    assert found.text == expected


def test_more_new_tokens_than_the_context_holds_keep_half_of_it_for_the_prompt(
    make_engine: Make,
) -> None:
    engine = make_engine()
    text = "The dog ran to the park and back again. " * 20
    found = generate(engine, [GenerateRequest(text, 1000)])[0]
    assert (found.tokens, found.stop) == (engine.max_length // 2, "length")


def test_a_rendered_prompt_is_not_given_a_second_bos(make_engine: Make) -> None:
    engine = make_engine()
    one = generate(engine, [GenerateRequest("<s>The cat", 12, add_special_tokens=False)])
    two = generate(engine, [GenerateRequest("The cat", 12)])
    assert one == two


def test_asking_for_no_tokens_is_an_error(make_engine: Make) -> None:
    with pytest.raises(EvaluationError, match="request 0: max_new_tokens is 0"):
        generate(make_engine(), [GenerateRequest("The cat", 0)])


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_broken_weights_are_refused_with_the_prompt(make_engine: Make, name: str) -> None:
    engine = make_engine(name)
    takes_trees(engine)
    with torch.no_grad():
        engine.model.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(EvaluationError, match=r"prompt 0 \('The cat'\).*not finite"):
        generate(engine, [GenerateRequest("The cat", 5)])


def test_when_memory_runs_out_fewer_rows_give_the_same_answers(make_engine: Make) -> None:
    engine = make_engine()
    asked = [GenerateRequest(prompt, 15) for prompt in prompts(16)]
    expected = generate(engine, asked)
    refused = []

    def limited(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].shape[0] > 5:
            refused.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory.")

    engine.model.register_forward_pre_hook(limited, with_kwargs=True)
    assert generate(engine, asked) == expected
    assert len(refused) > 0 and engine.max_tokens_per_batch < 8192


def test_a_single_answer_that_does_not_fit_is_an_error_that_says_so(make_engine: Make) -> None:
    engine = make_engine()
    takes_trees(engine)

    def refuse(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    engine.model.register_forward_pre_hook(refuse, with_kwargs=True)
    with pytest.raises(EvaluationError, match="out of memory while writing a single answer"):
        generate(engine, [GenerateRequest("The cat", 5)])


def test_a_requested_stop_interrupts_between_tokens(make_engine: Make) -> None:
    signal = StopSignal()
    signal.request("SIGTERM")
    with pytest.raises(Interrupted, match="stopped by SIGTERM while writing"):
        make_engine().generate(
            [GenerateRequest("The cat", 5)], Progress(quiet=True), signal, "writing"
        )


def test_sampled_answers_depend_on_their_seed_and_not_on_the_batch(make_engine: Make) -> None:
    engine = make_engine()
    asked = [GenerateRequest("The cat", 12, temperature=1.0, seed=seed) for seed in range(6)]
    together = generate(engine, asked)
    assert together == [generate(engine, [one])[0] for one in asked]
    assert len({one.text for one in together}) > 1


def test_sampling_from_the_best_token_alone_is_greedy(make_engine: Make) -> None:
    engine = make_engine()
    greedy = generate(engine, [GenerateRequest("The cat", 12)])
    tiny = generate(engine, [GenerateRequest("The cat", 12, temperature=1.0, top_p=1e-6)])
    assert tiny == greedy


def test_draws_follow_the_models_shares(make_engine: Make) -> None:
    """Two tokens with scores log 3 and 0: the first has a share of 3/4."""
    import numpy as np

    from sftprep.evaluate.decoding import draw
    from sftprep.evaluate.writing import Writing

    request = GenerateRequest("x", 1, temperature=1.0)
    row = Writing(0, request, np.zeros(1, np.int32), 1, frozenset(), np.random.default_rng(0))
    logits = torch.tensor([0.0, float(np.log(3.0))])
    share = sum(draw(logits, row) for _ in range(4000)) / 4000
    assert share == pytest.approx(0.75, abs=0.03)


def test_room_is_made_only_for_the_rows_that_are_left() -> None:
    cache = SlotCache(8)
    states = [(torch.rand(8, 2, 5, 4), torch.rand(8, 2, 5, 4)) for _ in range(3)]
    cache.fill(0, 8, states, 0)
    cache.keep(2)
    cache.begin_step(torch.tensor([5, 5]), cache.capacity + 1)
    for layer, (keys, values) in enumerate(states):
        assert cache.keys_SHCD[layer].shape[0] == cache.values_SHCD[layer].shape[0] == 2
        torch.testing.assert_close(cache.keys_SHCD[layer][:, :, :5], keys[:2])
        torch.testing.assert_close(cache.values_SHCD[layer][:, :, :5], values[:2])
