"""Plain text about lists of words: order, number, case, places. No instruction, no answer to one.

Every fact is stated in several wordings. Running text and notes both occur, because a model that
has seen a result only in the middle of a sentence does not find it at the start of a line.
"""

import random
from collections.abc import Callable

from sftprep.starter.words import (
    EVERYTHING,
    NUMBER_WORDS,
    ORDINALS,
    article,
    category_of,
    draw_list,
    plural,
)

Fact = tuple[tuple[str, ...], str]  # several names of one property of a list, and its value


def _facts(rng: random.Random, words: list[str]) -> list[Fact]:
    """All properties of a list the text talks about; the wording is drawn by the caller."""
    place = rng.randrange(len(words))
    gone = words[place]
    rest = [w for w in words if w != gone]
    line = ", ".join(words)
    absent = rng.choice(EVERYTHING.nouns)
    while absent in words:
        absent = rng.choice(EVERYTHING.nouns)
    asked = rng.choice((gone, absent))
    kind = _kind(gone)
    of_kind = ", ".join(w for w in words if _kind(w) == kind)
    new = [absent if w == gone else w for w in words]
    return [
        (("as it is", "the same again", "repeated", "copied"), line),
        (("backwards", "in reverse", "turned round", "from back to front"),
         ", ".join(words[::-1])),
        (("in the order of the alphabet", "sorted", "in alphabetical order", "from a to z"),
         ", ".join(sorted(words))),
        (("the number of words", "the count", "how many words there are"),
         str(len(words))),
        (("in capital letters", "in capitals", "in upper case"), line.upper()),
        ((f"the {ORDINALS[place]} word", f"word number {place + 1}", f"in place {place + 1}"),
         gone),
        (("the last word", "the word at the end"), words[-1]),
        (("the first word", "the word at the beginning"), words[0]),
        ((f"without {gone}", f"with {gone} removed", f"after {gone} is dropped"),
         ", ".join(rest)),
        ((f"with {absent} for {gone}", f"with {absent} in place of {gone}",
          f"when {gone} becomes {absent}"), ", ".join(new)),
        (("in brackets", "each word in brackets"), " ".join(f"[{w}]" for w in words)),
        (("joined by and", "with and between the words"), " and ".join(words)),
        (("with dashes", "as points"), "\n".join(f"- {w}" for w in words)),
        (("the first two words", "the first two"), ", ".join(words[:2])),
        (("the last two words", "the last two"), ", ".join(words[-2:])),
        ((f"the word after {words[0]}", f"what follows {words[0]}"), words[1]),
        ((f"the {kind}", f"which is {article(kind)} {kind}", f"only {kind}"), of_kind),
        ((f"whether {asked} is in it", f"is {asked} there", f"does it hold {asked}"),
         "yes" if asked == gone else "no"),
    ]  # fmt: skip


def _kind(word: str) -> str:
    return "name" if word[0].isupper() else category_of(word)


def _some_words(rng: random.Random) -> list[str]:
    source = EVERYTHING.nouns if rng.random() < 0.85 else EVERYTHING.names
    return draw_list(rng, source, 2, 5)


def list_prose(rng: random.Random) -> str:
    """A list and some of its properties in sentences."""
    words = _some_words(rng)
    start = rng.choice(
        ("The list {0}", "The words {0}", "Here stand {0}: they", "On the page is {0}, which")
    ).format(", ".join(words))
    verb = "has" if start.startswith(("The list", "On")) else "have"
    parts = [f"{start} {verb} {NUMBER_WORDS[len(words)]} words."]
    for wordings, value in rng.sample(_facts(rng, words), rng.randint(2, 4)):
        wording = rng.choice(wordings)
        form = rng.choice(("{0}: {1}.", "{0} it is {1}.", "{0} we read {1}.", "{0}, {1}."))
        parts.append(form.format(wording.capitalize(), value.replace("\n", " ")))
    return " ".join(parts)


def list_notes(rng: random.Random) -> str:
    """A list and some of its properties as notes, a heading and a line each."""
    words = _some_words(rng)
    lines = [rng.choice(("Words: {0}", "List: {0}", "{0}", "### Words:\n{0}", "the words {0}"))
             .format(", ".join(words))]  # fmt: skip
    gap = rng.choice((":\n", ": ", ":\n", "\n"))
    for wordings, value in rng.sample(_facts(rng, words), rng.randint(2, 5)):
        wording = rng.choice(wordings)
        if rng.random() < 0.5:
            wording = wording.capitalize()
        prefix = rng.choice(("", "", "", "### "))
        lines.append(f"{prefix}{wording}{gap}{value}")
    return rng.choice(("\n", "\n", "\n\n")).join(lines)


def list_drill(rng: random.Random) -> str:
    """One property of several lists in a row, as a table."""
    index = rng.randrange(len(_facts(rng, _some_words(rng))))
    arrow = rng.choice((" -> ", " = ", "\n", "\n\n"))
    joint = rng.choice((", ", ": ", ": ", " of "))
    rows = []
    for _ in range(rng.randint(1, 4)):
        words = _some_words(rng)
        wordings, value = _facts(rng, words)[index]
        head = rng.choice(wordings)
        rows.append(f"{head}{joint}{', '.join(words)}{arrow}{value}")
    return rng.choice(("\n", "\n\n")).join(rows)


def odd_one(rng: random.Random) -> str:
    """Two or three words of one kind and one of another."""
    kind, other = rng.sample(list(EVERYTHING.categories), 2)
    words = rng.sample(EVERYTHING.categories[kind], rng.choice((2, 3)))
    stranger = rng.choice(EVERYTHING.categories[other])
    mixed = [*words, stranger]
    rng.shuffle(mixed)
    line = ", ".join(mixed)
    return rng.choice(
        (
            "Among {line} the odd one out is {s}, {a} {o}; the others are {k}.",
            "{line}: all are {k} but {s}, which is {a} {o}.",
            "{line}\nOdd one out:\n{s}",
            "{line}\nThe word that is different:\n{s}",
            "Of {line} only {s} is no {kind}.",
        )
    ).format(
        line=line, s=stranger, k=plural(kind), a=article(other), o=other, kind=kind
    )  # fmt: skip


def word_card(rng: random.Random) -> str:
    """What is known about one word: kind, letters, capitals."""
    noun = rng.choice(EVERYTHING.nouns)
    kind = category_of(noun)
    other = rng.choice([k for k in EVERYTHING.categories if k != kind])
    facts = [
        f"{article(noun).capitalize()} {noun} is {article(kind)} {kind}.",
        f"{article(noun).capitalize()} {noun} is {article(kind)} {kind}, not {article(other)} "
        f"{other}.",
        f"The word {noun} begins with {noun[0]}.",
        f"The first letter of {noun} is {noun[0]}.",
        f"In capitals {noun} is {noun.upper()}.",
        f"{noun.upper()} in small letters is {noun}.",
        f"{noun.upper()} is {noun}",
        f"{noun}\nIn capital letters:\n{noun.upper()}",
        f"{noun.upper()}\nIn small letters:\n{noun}",
        f"{noun}\nKind:\n{kind}",
        f"{noun}\nFirst letter:\n{noun[0]}",
        f"Many {plural(noun)}, one {noun}.",
        f"{plural(noun).capitalize()} are {plural(kind)}.",
        f"{noun} belongs to the {plural(kind)}.",
        f"{noun} is spelled {' '.join(noun)}.",
    ]
    joint = rng.choice((" ", "\n"))
    return joint.join(rng.sample(facts, rng.randint(2, 5)))


def case_pairs(rng: random.Random) -> str:
    """Words and small phrases in both cases."""
    rows = []
    up = rng.random() < 0.5
    for _ in range(rng.randint(3, 6)):
        words = rng.sample((*EVERYTHING.nouns, *EVERYTHING.colors), rng.randint(1, 4))
        joint = rng.choice((" ", ", "))
        low = joint.join(words)
        rows.append((low, low.upper()) if up else (low.upper(), low))
    arrow = rng.choice((" - ", "\n", " = ", ": "))
    head = "Capital letters" if up else "Small letters"
    return "\n".join([head, *(f"{a}{arrow}{b}" for a, b in rows)])


def category_list(rng: random.Random) -> str:
    """Words of one kind in alphabetical order, or a piece of the dictionary."""
    if rng.random() < 0.5:
        kind = rng.choice(list(EVERYTHING.categories))
        words = sorted(rng.sample(EVERYTHING.categories[kind], rng.randint(4, 9)))
        return f"{plural(kind).capitalize()} from a to z: {', '.join(words)}."
    words = sorted(rng.sample(EVERYTHING.nouns, rng.randint(6, 12)))
    return "Dictionary\n" + "\n".join(words)


def echo(rng: random.Random) -> str:
    """A list and the same list again on the next line."""
    line = ", ".join(_some_words(rng))
    return f"{line}\n{line}"


LIST_TEXTS: tuple[tuple[float, Callable[[random.Random], str]], ...] = (
    (6.0, list_prose),
    (16.0, list_notes),
    (3.0, echo),
    (16.0, list_drill),
    (5.0, odd_one),
    (13.0, word_card),
    (3.0, case_pairs),
    (3.0, category_list),
)
