"""Tokens counted by pieces are the tokens the tokenizer gives for the whole text."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from sftprep.data.piececount import GPT_2, LLAMA_3, LONGEST_PIECE, QWEN_2, piece_counter

WORDS = ["the", "cat's", "don't", "12345", "x+y", "(a)", "end.", "\n", "\n\n", "  ", "\t", "A",
         "...", "<s>", "r\n", "'ll", "=", "_", "9", " ", "if x:\n    y"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(st.characters(max_codepoint=127), max_size=5))


def split(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def whole(use_regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


STEPS = {
    "gpt-2": whole(True),
    "starter": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), split(r"\n"), whole(True)]),
    "gpt-2 spelt out": pre_tokenizers.Sequence([split(GPT_2), whole(False)]),
    "llama-3": pre_tokenizers.Sequence([split(LLAMA_3), whole(False)]),
    "qwen-2": pre_tokenizers.Sequence([split(QWEN_2), whole(False)]),
}


@dataclass(frozen=True, eq=False)
class Wrapped:
    """A tokenizer as transformers wraps it."""

    backend_tokenizer: Any
    added_tokens_decoder: Any


def trained(steps: Any, *added: Any, normalizer: Any = None) -> Wrapped:
    """A byte-level BPE tokenizer whose merges would run over spaces if the pattern let them."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizer
    backend.pre_tokenizer = steps
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    lines = ["the cat's end. (a) x+y 12345 don't ...\n\n    if x:\n    y", "I'll  the  end \t A"]
    backend.train_from_iterator(lines * 20, trainer)
    backend.add_special_tokens([AddedToken("<s>", special=True), *added])
    return Wrapped(backend, backend.get_added_tokens_decoder())


@pytest.mark.parametrize("name", STEPS)
def test_pieces_add_up_to_the_whole(name: str) -> None:
    tokenizer = trained(STEPS[name], normalizer=normalizers.NFC() if name == "qwen-2" else None)
    counter = piece_counter(tokenizer)
    assert counter is not None

    @given(st.sampled_from(["", " "]), TEXTS)
    def check(joint: str, parts: list[str]) -> None:
        text = joint.join(parts)
        expected = len(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)
        assert counter.count(text) == expected
        assert counter.count(text) == expected  # now from memory

    check()


def test_long_pieces_are_counted_and_not_remembered() -> None:
    counter = piece_counter(trained(STEPS["gpt-2"]))
    assert counter is not None
    text = "a" * (LONGEST_PIECE + 1)
    assert counter.count(f"{text} b") == counter.count(text) + counter.count("x b") - 1  # type: ignore[operator]
    assert text not in counter._first


def test_other_text_than_ascii_is_left_to_the_tokenizer() -> None:
    counter = piece_counter(trained(STEPS["gpt-2"]))
    assert counter is not None
    assert counter.count("caf\u00e9 noir") is None


@pytest.mark.parametrize(
    "tokenizer",
    [
        trained(whole(False)),  # merges run over spaces
        trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),  # each piece would get a space
        trained(pre_tokenizers.Sequence([split(r"\s+\w"), whole(True)])),  # not a known pattern
        trained(pre_tokenizers.Metaspace()),
        trained(whole(True), AddedToken("<two words>")),
        trained(whole(True), AddedToken("<x>", lstrip=True)),
        trained(whole(True), normalizer=normalizers.Lowercase()),
    ],
    ids=["no pattern", "prefix space", "own pattern", "metaspace", "spaced", "strips", "lowercase"],
)
def test_tokenizers_that_cannot_be_cut_have_no_counter(tokenizer: Wrapped) -> None:
    assert piece_counter(tokenizer) is None
