"""Words of texts: the quick way for plain ASCII gives what the pattern gives."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.data.leaks import _words
from sftprep.data.text import folded_words

ASCII = st.text(st.characters(max_codepoint=127))


@given(ASCII)
def test_words_of_plain_ascii_are_runs_of_letters_digits_and_underscores(text: str) -> None:
    expected = re.findall(r"[a-z0-9_]+", text.lower())
    assert folded_words(text) == expected
    assert _words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Caf\u00e9 au lait", ["caf\u00e9", "au", "lait"]),
        ("\uff21B 1", ["ab", "1"]),  # a wide letter is folded
        ("\u4f60\u597d ok", ["\u4f60", "\u597d", "ok"]),  # unspaced scripts: one word per character
    ],
)
def test_words_of_other_scripts(text: str, expected: list[str]) -> None:
    assert folded_words(text) == expected
