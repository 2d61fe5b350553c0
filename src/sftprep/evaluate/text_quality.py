"""What is wrong with an answer, judged from its text alone. No model, no tensors."""

from sftprep.records import Outcome

LOOP_WORDS = 8
"""Longest repeated phrase looked for, in words."""
LOOP_REPEATS = 4
"""A phrase of two or more words said this many times in a row is a loop."""
WORD_REPEATS = 6
"""The same for a single word: "very very very" is still style."""
LOOP_CHARACTERS = 20
"""Longest repeated piece looked for inside one word, in characters."""
CHARACTER_REPEATS = 12
"""Repeats from which characters without spaces are a loop ("hahahaha", "======")."""
LONG_FACTOR = 3
LONG_EXTRA_WORDS = 20
"""An answer is over-long beyond LONG_FACTOR times the reference plus LONG_EXTRA_WORDS words."""


def normalise(text: str) -> str:
    """Text for exact comparison: no white space at the ends, single spaces inside."""
    return " ".join(text.split())


def exact_match(text: str, reference: str) -> Outcome:
    """`correct` or `wrong`; `unparsed` when there is no text to compare."""
    if not normalise(text):
        return "unparsed"
    return "correct" if normalise(text) == normalise(reference) else "wrong"


def is_empty(text: str) -> bool:
    """Whether nothing visible was written."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def is_repetitive(text: str) -> bool:
    """Whether a phrase is said over and over in a row (looping decoding).

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3: greedy
    text falls into loops; the limits above are our own.
    """
    words = text.split()
    for size in range(1, LOOP_WORDS + 1):
        repeats = WORD_REPEATS if size == 1 else LOOP_REPEATS
        if _longest_run(words, size) >= size * (repeats - 1):
            return True
    return any(_loops_inside(word) for word in words)


def _longest_run(items: list[str] | str, period: int) -> int:
    """Longest stretch in which every item equals the one `period` places before."""
    longest = run = 0
    for index in range(period, len(items)):
        run = run + 1 if items[index] == items[index - period] else 0
        longest = max(longest, run)
    return longest


def _loops_inside(word: str) -> bool:
    if len(word) < CHARACTER_REPEATS:
        return False
    return any(
        _longest_run(word, size) >= size * (CHARACTER_REPEATS - 1)
        for size in range(1, min(LOOP_CHARACTERS, len(word) // CHARACTER_REPEATS) + 1)
    )


def is_over_long(text: str, reference: str | None, *, hit_limit: bool) -> bool:
    """Whether an answer goes far beyond its reference; without one, whether it hit the limit."""
    if reference is None:
        return hit_limit
    allowed = LONG_FACTOR * len(reference.split()) + LONG_EXTRA_WORDS
    return len(text.split()) > allowed
