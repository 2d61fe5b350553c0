"""Judging an answer from its text alone."""

import pytest

from sftprep.evaluate.text_quality import (
    exact_match,
    is_empty,
    is_over_long,
    is_repetitive,
    normalise,
)


def test_white_space_does_not_matter_for_exact_match() -> None:
    assert normalise("  a\n b\t c ") == "a b c"
    assert exact_match(" blue  sky\n", "blue sky") == "correct"
    assert exact_match("Blue sky", "blue sky") == "wrong"
    assert exact_match(" \n", "blue sky") == "unparsed"


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b"])
def test_invisible_text_is_empty(text: str) -> None:
    assert is_empty(text) is True


def test_a_single_letter_is_not_empty() -> None:
    assert is_empty("a") is False


@pytest.mark.parametrize(
    "text",
    [
        "the cat sat on " * 4,
        "no " * 6,
        "First a story. " + "She was very happy and " * 4 + "the end",
        "ha" * 12,
        "=" * 12,
    ],
)
def test_loops_are_found(text: str) -> None:
    assert is_repetitive(text) is True


@pytest.mark.parametrize(
    "text",
    [
        "",
        "very very very big",
        "the cat sat on the mat and the dog sat on the rug",
        "ha ha ha",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
        "row, row, row your boat",
        "aaaaaaaaaaa",
    ],
)
def test_ordinary_repetition_is_not_a_loop(text: str) -> None:
    assert is_repetitive(text) is False


def test_over_long_compares_with_the_reference() -> None:
    assert is_over_long("w " * 24, "one word less", hit_limit=True) is False
    assert is_over_long("w " * 30, "one word less", hit_limit=False) is True
    assert is_over_long("w " * 29, "one word less", hit_limit=False) is False


def test_without_a_reference_the_length_limit_decides() -> None:
    assert is_over_long("w", None, hit_limit=True) is True
    assert is_over_long("w " * 900, None, hit_limit=False) is False
