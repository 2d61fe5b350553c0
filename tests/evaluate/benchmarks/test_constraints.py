"""Every kind of instruction: one answer that follows it, one that does not."""

from typing import Any

import pytest

from sftprep.errors import EvaluationError
from sftprep.evaluate.benchmarks import constraints
from sftprep.evaluate.benchmarks.constraints import (
    CONSTRAINTS,
    LanguageUnknown,
    check_instructions,
)
from sftprep.evaluate.benchmarks.wording import count_capital_words, count_sentences

ENGLISH = "the quick brown fox jumps over the lazy dog near the river bank today"
GERMAN = "der schnelle braune Fuchs springt heute über den faulen Hund am Ufer des Flusses"

# instruction id: (arguments, an answer that follows, one that does not)
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "keywords:existence": ({"keywords": ["Cup", "mat"]}, "a cup on a MAT", "a cup"),
    "keywords:frequency": (
        {"keyword": "cup", "frequency": 2, "relation": "at least"}, "Cup, cupboard", "cup",
    ),
    "keywords:forbidden_words": ({"forbidden_words": ["cup"]}, "a cupboard", "A CUP!"),
    "keywords:letter_frequency": (
        {"letter": "e", "let_frequency": 2, "let_relation": "less than"}, "Eat", "Eel",
    ),
    "language:response_language": ({"language": "de"}, GERMAN, ENGLISH),
    "length_constraints:number_sentences": (
        {"num_sentences": 2, "relation": "less than"}, "Dr. A. Lee is in.", "One. Two!",
    ),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, "a\n***\nb", "a\n***\n***\nb"),
    "length_constraints:number_words": (
        {"num_words": 3, "relation": "at least"}, "it's here", "two words",
    ),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        'Now.\n\n"then, more', "Then.\n\nnow",
    ),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[a] [b]", "[a]"),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, "Hi\np. s. more", "Hi PS"),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n- b", "* a\n** b"),
    "detectable_format:constrained_response": ({}, "Well. My answer is no.", "no"),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, "*a* *b*", "*a* **"),
    "detectable_format:multiple_sections": (
        {"section_spliter": "SECTION", "num_sections": 2}, "SECTION 1\na\nSECTION 2", "SECTION 1",
    ),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "detectable_format:title": ({}, "<<A title>>\ntext", "<< >>"),
    "combination:two_responses": ({}, "one ****** two", "one ****** one"),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say hi."}, " say hi. Hi!", "Hi!"),
    "startend:end_checker": ({"end_phrase": "The end."}, 'So it was. the END."', "The end. Bye"),
    "startend:quotation": ({}, ' "yes" ', '"'),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 2, "capital_relation": "at least"}, "A BIG dog", "One DOG",
    ),
    "change_case:english_capital": ({}, ENGLISH.upper(), ENGLISH),
    "change_case:english_lowercase": ({}, ENGLISH, ENGLISH.title()),
    "punctuation:no_comma": ({}, "a; b", "a, b"),
}  # fmt: skip


def test_there_are_25_kinds_and_a_case_for_each() -> None:
    assert len(CONSTRAINTS) == 25
    assert set(CASES) == set(CONSTRAINTS)


@pytest.mark.parametrize("identity", CASES)
def test_a_check_tells_observance_from_neglect(identity: str) -> None:
    given, good, bad = CASES[identity]
    if "language" in identity or "english" in identity:
        pytest.importorskip("langdetect")
    assert check_instructions("p", good, [identity], [given]) == [True]
    assert check_instructions("p", bad, [identity], [given]) == [False]


@pytest.mark.parametrize("identity", CASES)
def test_an_empty_answer_follows_nothing(identity: str) -> None:
    given = CASES[identity][0]
    assert check_instructions("p", " \n", [identity], [given]) == [False]
    assert check_instructions("p", "", [identity], [given], loose=True) == [False]


def test_the_loose_reading_drops_first_line_last_line_and_asterisks() -> None:
    quoted = ["startend:quotation"]
    for text in ('Sure:\n"a"', '"a"\nBye', 'Sure:\n"a"\nBye', '*"a"*'):
        assert check_instructions("p", text, quoted, [{}]) == [False]
        assert check_instructions("p", text, quoted, [{}], loose=True) == [True]


def test_without_langdetect_a_language_is_unknown_not_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constraints, "language_detector", lambda: None)
    with pytest.raises(LanguageUnknown):
        check_instructions("p", "guten Tag", ["language:response_language"], [{"language": "de"}])
    # The case alone decides here, so nothing needs to be known about the language.
    assert check_instructions("p", "Abc", ["change_case:english_capital"], [{}]) == [False]


def test_an_unknown_instruction_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(EvaluationError, match="keywords:existence"):
        check_instructions("p", "text", ["keywords:rhyme"], [{}])


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0), ("One", 1), ("One. Two? Three!", 3), ("Mr. Lee met J. Doe, e.g. here.", 1),
        ("Pi is 3.14 and more.", 1), ("Wait... what?", 2), ('He said "No." Then left.', 2),
        ("It was I. You saw.", 2), ("See www.a.com now.", 1),
    ],
)  # fmt: skip
def test_sentences_are_counted(text: str, sentences: int) -> None:
    assert count_sentences(text) == sentences


@pytest.mark.parametrize(
    ("text", "words"), [("A BIG dog", 2), ("GPT-4, NASA!", 2), ("I'M", 2), ("a1 B2", 1), ("", 0)]
)
def test_capital_words_are_counted(text: str, words: int) -> None:
    assert count_capital_words(text) == words
