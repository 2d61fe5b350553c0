"""Instruction tasks about words, numbers and sentences. A maker returns (instruction, response)."""

import random

from sftprep.starter.words import LARGEST_SUM, Pool, article, category_of, plural

Pair = tuple[str, str]


def _phrase(rng: random.Random, pool: Pool) -> str:
    words = rng.sample(pool.nouns, rng.randint(1, 4))
    return rng.choice((" ", ", ")).join(words)


def upper(rng: random.Random, pool: Pool) -> Pair:
    """Small letters to capitals."""
    phrase = _phrase(rng, pool)
    wording = rng.choice(
        (
            "Write in capital letters: {p}",
            "Change to upper case: {p}",
            "Put this in capitals: {p}",
            "Use only capital letters: {p}",
            "Make every letter a capital: {p}",
        )
    )
    return wording.format(p=phrase), phrase.upper()


def lower(rng: random.Random, pool: Pool) -> Pair:
    """Capitals to small letters."""
    phrase = _phrase(rng, pool)
    wording = rng.choice(
        (
            "Write in small letters: {p}",
            "Change to lower case: {p}",
            "Put this in small letters: {p}",
            "Use no capital letters: {p}",
            "Make every letter small: {p}",
        )
    )
    return wording.format(p=phrase.upper()), phrase


def letter(rng: random.Random, pool: Pool) -> Pair:
    """The first letter of a word."""
    noun = rng.choice(pool.nouns)
    wording = rng.choice(
        (
            "What is the first letter of {w}?",
            "Which letter does {w} begin with?",
            "Give the first letter of the word {w}.",
            "The word {w} begins with which letter?",
            "Name the letter at the beginning of {w}.",
            "With what letter does the word {w} start?",
        )
    )
    return wording.format(w=noun), noun[0]


def classify(rng: random.Random, pool: Pool) -> Pair:
    """The kind of a thing, free or out of two."""
    noun = rng.choice(pool.nouns)
    right = category_of(noun)
    wrong = rng.choice([k for k in pool.categories if k != right])
    one, two = rng.sample((right, wrong), 2)
    wording = rng.choice(
        (
            "What kind of thing is {a} {w}?",
            "Is {a} {w} {b} {one} or {c} {two}?",
            "Classify the word {w} as {one} or {two}.",
            "{w}: {one} or {two}?",
            "Name the kind of {w}: {one}, {two}",
            "Does {w} belong to {ones} or {twos}? Name the kind.",
        )
    )
    return wording.format(
        a=article(noun), w=noun, one=one, two=two, b=article(one), c=article(two),
        ones=plural(one), twos=plural(two),
    ), right  # fmt: skip


def add(rng: random.Random, pool: Pool) -> Pair:
    """The sum of two numbers, up to LARGEST_SUM."""
    while True:
        a, b = rng.choice(pool.numbers), rng.choice(pool.numbers)
        if a + b <= LARGEST_SUM and (pool.held_out or a + b in pool.numbers):
            break
    wording = rng.choice(
        (
            "What is {a} plus {b}?",
            "Add {a} and {b}.",
            "{a} + {b} = ?",
            "Find the sum of {a} and {b}.",
            "How much is {a} and {b} together?",
        )
    )
    return wording.format(a=a, b=b), str(a + b)


def compare(rng: random.Random, pool: Pool) -> Pair:
    """The larger or the smaller of two numbers."""
    a, b = rng.sample(pool.numbers, 2)
    large = rng.random() < 0.5
    wording = rng.choice(
        (
            "Which number is {which}, {a} or {b}?",
            "Give the {which} number: {a}, {b}",
            "{a} or {b}: which one is {which}?",
            "Of {a} and {b}, name the {which} one.",
            "Pick the {which} of {a} and {b}.",
        )
    )
    which = "larger" if large else "smaller"
    return wording.format(a=a, b=b, which=which), str(max(a, b) if large else min(a, b))


def extract(rng: random.Random, pool: Pool) -> Pair:
    """A name, a number or a city out of one sentence."""
    name, place = rng.choice(pool.names), rng.choice(pool.places)
    number, noun = rng.choice(pool.numbers), plural(rng.choice(pool.nouns))
    verb = rng.choice(("bought", "sold", "wanted", "found", "counted"))
    text = rng.choice(
        (
            f"{name} {verb} {number} {noun} in {place}.",
            f"In {place}, {name} {verb} {number} {noun}.",
        )
    )
    which, answer = rng.choice((("name", name), ("number", str(number)), ("city", place)))
    wording = rng.choice(
        (
            "Find the {which} in this sentence: {t}",
            "Which {which} is in this text? {t}",
            "Write only the {which}: {t}",
            "Give me the {which} from this sentence. {t}",
            "{t} What is the {which} in it?",
        )
    )
    return wording.format(which=which, t=text), answer


def replace(rng: random.Random, pool: Pool) -> Pair:
    """The sentence with one word exchanged."""
    old, new = rng.sample(pool.nouns, 2)
    frame = rng.choice(("The {w} is {c}.", "{n} has a {c} {w}.", "{n} sees the {w}."))
    name, color = rng.choice(pool.names), rng.choice([c for c in pool.colors if c[0] != "o"])
    before, after = (frame.format(w=w, c=color, n=name) for w in (old, new))
    wording = rng.choice(
        (
            "Replace {x} with {y}: {t}",
            "Change {x} to {y}: {t}",
            "Put {y} in place of {x}: {t}",
            "Write {y} for {x} in this sentence: {t}",
            "Rewrite with {y} in place of {x}. {t}",
        )
    )
    return wording.format(x=old, y=new, t=before), after


def tense(rng: random.Random, pool: Pool) -> Pair:
    """The sentence in the past tense."""
    now, past = rng.choice(pool.verbs)
    name = rng.choice(pool.names)
    tail = rng.choice(("", " at home", " at school", f" in {rng.choice(pool.places)}"))
    wording = rng.choice(
        (
            "Change to the past tense: {t}",
            "Write this in the past: {t}",
            "Put this sentence in the past tense: {t}",
            "Say that it was yesterday: {t}",
            "Rewrite in the past tense. {t}",
        )
    )
    return wording.format(t=f"{name} {now}{tail}."), f"{name} {past}{tail}."
