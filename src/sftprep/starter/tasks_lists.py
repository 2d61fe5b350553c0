"""Instruction tasks about lists of words. A maker returns (instruction, response)."""

import random

from sftprep.starter.words import ORDINALS, Pool, article, draw_list

Pair = tuple[str, str]


def _words(rng: random.Random, pool: Pool, low: int = 2, high: int = 4) -> list[str]:
    return draw_list(rng, pool.nouns, low, high)


def _ask(rng: random.Random, wordings: tuple[str, ...], line: str, **names: str) -> str:
    """Fill one wording; half of the wordings name the list in {line} themselves."""
    return rng.choice(wordings).format(line=line, **names)


def copy(rng: random.Random, pool: Pool) -> Pair:
    """Say the same words again."""
    line = ", ".join(_words(rng, pool, 2, 5))
    wordings = (
        "Repeat these words: {line}",
        "Copy this list: {line}",
        "Write the same words again: {line}",
        "Say exactly this: {line}",
        "Repeat after me: {line}",
        "Give back this list as it is: {line}",
    )
    return _ask(rng, wordings, line), line


def reverse(rng: random.Random, pool: Pool) -> Pair:
    """The words from back to front."""
    words = _words(rng, pool)
    wordings = (
        "Write these words backwards: {line}",
        "Reverse this list: {line}",
        "Put these words in reverse order: {line}",
        "Turn this list round: {line}",
        "Give the list from back to front: {line}",
        "List these words starting with the last one: {line}",
    )
    return _ask(rng, wordings, ", ".join(words)), ", ".join(words[::-1])


def sort(rng: random.Random, pool: Pool) -> Pair:
    """The words in alphabetical order."""
    words = _words(rng, pool)
    wordings = (
        "Sort these words: {line}",
        "Put these words in alphabetical order: {line}",
        "Arrange this list from a to z: {line}",
        "Write the words in the order of the alphabet: {line}",
        "Alphabetical order, please: {line}",
        "Order this list by the alphabet: {line}",
    )
    return _ask(rng, wordings, ", ".join(words)), ", ".join(sorted(words))


def count(rng: random.Random, pool: Pool) -> Pair:
    """How many words there are."""
    words = _words(rng, pool, 2, 5)
    wordings = (
        "How many words are in this list: {line}",
        "Count these words: {line}",
        "Give the number of words: {line}",
        "What is the count of this list: {line}",
        "Tell me how many words there are: {line}",
    )
    return _ask(rng, wordings, ", ".join(words)), str(len(words))


def nth(rng: random.Random, pool: Pool) -> Pair:
    """The first, second, third or last word."""
    words = _words(rng, pool, 3, 4)
    place = rng.randrange(len(words) + 1)
    name = "last" if place >= len(words) - 1 and rng.random() < 0.5 else None
    place = min(place, len(words) - 1)
    wordings = (
        "What is the {which} word of this list: {line}",
        "Give the {which} word: {line}",
        "Which word is the {which} one: {line}",
        "Pick the {which} word from {line}",
        "Find the {which} word in this list: {line}",
    )
    line = ", ".join(words)
    return _ask(rng, wordings, line, which=name or ORDINALS[place]), words[place]


def take(rng: random.Random, pool: Pool) -> Pair:
    """Exactly two words, from the front or from the end."""
    words = _words(rng, pool, 3, 5)
    front = rng.random() < 0.5
    wordings = (
        "Give the {which} two words: {line}",
        "Write only the {which} two words of this list: {line}",
        "Answer with exactly two words, the {which} two: {line}",
        "Keep the {which} two words: {line}",
        "What are the {which} two words of {line}",
    )
    chosen = words[:2] if front else words[-2:]
    which = "first" if front else "last"
    return _ask(rng, wordings, ", ".join(words), which=which), ", ".join(chosen)


def remove(rng: random.Random, pool: Pool) -> Pair:
    """The list without one of its words."""
    words = _words(rng, pool, 3, 4)
    gone = rng.choice(words)
    wordings = (
        "Remove {gone} from this list: {line}",
        "Write this list without {gone}: {line}",
        "Drop {gone}: {line}",
        "Leave out {gone}: {line}",
        "Take {gone} out of the list {line}",
    )
    rest = ", ".join(w for w in words if w != gone)
    return _ask(rng, wordings, ", ".join(words), gone=gone), rest


def brackets(rng: random.Random, pool: Pool) -> Pair:
    """Every word in square brackets."""
    words = _words(rng, pool)
    wordings = (
        "Put each word in brackets: {line}",
        "Write these words in brackets: {line}",
        "Answer in brackets: {line}",
        "Set brackets around each word: {line}",
        "Give this list with every word in brackets: {line}",
    )
    return _ask(rng, wordings, ", ".join(words)), " ".join(f"[{w}]" for w in words)


def points(rng: random.Random, pool: Pool) -> Pair:
    """One line with a dash for each word."""
    words = _words(rng, pool)
    wordings = (
        "Write this list with dashes: {line}",
        "Make points with dashes: {line}",
        "Put each word on its own line with a dash: {line}",
        "Turn this into a list with dashes: {line}",
        "List these words as points: {line}",
    )
    return _ask(rng, wordings, ", ".join(words)), "\n".join(f"- {w}" for w in words)


def join(rng: random.Random, pool: Pool) -> Pair:
    """The words with `and` between them."""
    words = _words(rng, pool)
    wordings = (
        "Join these words with and: {line}",
        "Write and between the words: {line}",
        "Connect the words of this list with and: {line}",
        "Put and between these words: {line}",
        "Use and in place of commas: {line}",
    )
    return _ask(rng, wordings, ", ".join(words)), " and ".join(words)


def pick_kind(rng: random.Random, pool: Pool) -> Pair:
    """The one word of a list that is of the given kind."""
    kinds = rng.sample(list(pool.categories), rng.choice((2, 3)))
    words = [rng.choice(pool.categories[k]) for k in kinds]
    i = rng.randrange(len(words))
    wordings = (
        "Which word is {a} {kind}: {line}",
        "Find the {kind}: {line}",
        "Pick the {kind} from this list: {line}",
        "Which of these is {a} {kind}: {line}",
        "Name the {kind} in the list {line}",
    )
    line = ", ".join(words)
    return _ask(rng, wordings, line, a=article(kinds[i]), kind=kinds[i]), words[i]
