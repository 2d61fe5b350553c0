"""Plain text about people, numbers and things of the starter world; no instruction in it."""

import random
from collections.abc import Callable

from sftprep.starter.items import is_reserved, make_function, make_problem, make_quiz, make_scene
from sftprep.starter.words import EVERYTHING, LARGEST_SUM, article, plural

Writer = Callable[[random.Random], str]


def possession(rng: random.Random) -> str:
    """Who has what, and the same told from the other side."""
    count = rng.randint(2, 3)
    names = rng.sample(EVERYTHING.names, count)
    nouns = rng.sample(EVERYTHING.nouns, count)
    colors = rng.sample(EVERYTHING.colors, count)
    verb = rng.choice(("has", "owns", "bought", "found", "sees", "wants"))
    text = " ".join(
        f"{n} {verb} {article(c)} {c} {o}." for n, c, o in zip(names, colors, nouns, strict=True)
    )
    i = rng.randrange(count)
    name, noun, color = names[i], nouns[i], colors[i]
    tails = [
        f" The one with the {noun} is {name}.", f" The {noun} of {name} is {color}.",
        f" The {color} thing is the {noun}.", f" So the {noun} belongs to {name}.",
        f"\nWho with the {noun}:\n{name}", f"\nThe color of the {noun}:\n{color}",
        f"\nThe {color} thing:\n{noun}", f"\nThe thing of {name}:\n{noun}",
        f" It is {name} who {verb} the {noun}.", f" {name} {verb} the {noun}.",
    ]  # fmt: skip
    return text + "".join(rng.sample(tails, rng.randint(1, 3)))


def shopping(rng: random.Random) -> str:
    """A sentence with a name, a number, a thing and a place, and what stands in it."""
    name, place = rng.choice(EVERYTHING.names), rng.choice(EVERYTHING.places)
    number, noun = rng.choice(EVERYTHING.numbers), plural(rng.choice(EVERYTHING.nouns))
    verb = rng.choice(("bought", "sold", "saw", "found", "counted", "carried"))
    text = rng.choice(
        (
            f"{name} {verb} {number} {noun} in {place}.",
            f"In {place}, {name} {verb} {number} {noun}.",
            f"Yesterday in {place} {name} {verb} {number} {noun}.",
        )
    )
    parts = [
        ("name", name), ("number", str(number)), ("place", place), ("city", place),
        ("thing", noun), ("person", name), ("who", name), ("where", place),
        ("how many", str(number)),
    ]  # fmt: skip
    chosen = rng.sample(parts, rng.randint(1, 3))
    style = rng.randrange(3)
    if style == 0:
        return f"{text} " + " ".join(f"Here the {k} is {v}." for k, v in chosen[:2])
    gap = ":\n" if style == 1 else ": "
    return "\n".join([text, *(f"{k.capitalize()}{gap}{v}" for k, v in chosen)])


def tenses(rng: random.Random) -> str:
    """The same sentence today and yesterday."""
    rows = []
    place = rng.choice(("at home", "in the park", "at school", "every day", "with a friend"))
    for _ in range(rng.randint(1, 3)):
        now, past = rng.choice(EVERYTHING.verbs)
        name = rng.choice(EVERYTHING.names)
        tail = rng.choice(("", f" {place}", f" in {rng.choice(EVERYTHING.places)}"))
        form = rng.choice(
            (
                "Today {n} {a}{t}. Yesterday {n} {b}{t}.",
                "{n} {a}{t}.\nIn the past:\n{n} {b}{t}.",
                "Now: {n} {a}{t}.\nThen: {n} {b}{t}.",
                "Present: {n} {a}{t}.\nPast tense:\n{n} {b}{t}.",
                "{n} {b}{t}, as {n} {a}{t} today.",
            )
        )
        rows.append(form.format(n=name, a=now, b=past, t=tail))
    return "\n".join(rows)


def swaps(rng: random.Random) -> str:
    """A sentence before and after one word was exchanged."""
    old, new = rng.sample(EVERYTHING.nouns, 2)
    color, name = rng.choice(EVERYTHING.colors), rng.choice(EVERYTHING.names)
    frame = rng.choice(
        (
            "The {w} is {c}.", "{n} has a {c} {w}.", "{n} sees the {w}.", "The {w} of {n} is {c}.",
            "This {w} is not {c}.", "{n} put the {w} on the table.",
        )
    )  # fmt: skip
    before, after = (frame.format(w=w, c=color, n=name) for w in (old, new))
    return rng.choice(
        (
            "{b} With {y} for {x}: {a}", "{b}\nWith {y} in place of {x}:\n{a}",
            "{b}\nWhen {x} becomes {y}:\n{a}", "{b} Put {y} for {x} and it is: {a}",
            "{x} to {y}\n{b}\n{a}",
        )
    ).format(b=before, a=after, x=old, y=new)  # fmt: skip


def opposites(rng: random.Random) -> str:
    """Pairs of opposites."""
    rows = []
    for _ in range(rng.randint(1, 4)):
        a, b = rng.choice(EVERYTHING.opposites)
        if rng.random() < 0.5:
            a, b = b, a
        rows.append(
            rng.choice(
                (
                    f"{a.capitalize()} is the opposite of {b}.",
                    f"The opposite of {a} is {b}.",
                    f"Not {a} but {b}.",
                    f"{a}\nOpposite:\n{b}",
                    f"What is not {a} is {b}.",
                )
            )
        )
    return rng.choice((" ", "\n")).join(rows)


def _sums(rng: random.Random) -> tuple[int, int]:
    a = rng.randint(2, LARGEST_SUM - 2)
    return a, rng.randint(1, LARGEST_SUM - a)


def arithmetic(rng: random.Random) -> str:
    """Sums and differences up to LARGEST_SUM, several in a row."""
    rows = []
    add, take = rng.choice(
        (
            ("{a} plus {b} is {c}.", "{c} minus {b} is {a}."),
            ("{a} + {b} = {c}", "{c} - {b} = {a}"),
            ("{a} and {b} make {c}.", "{b} from {c} leaves {a}."),
            ("{a} + {b}\n{c}", "{c} - {b}\n{a}"),
            ("The sum of {a} and {b} is {c}.", "{c} less {b} is {a}."),
            ("{a} plus {b}:\n{c}", "{c} minus {b}:\n{a}"),
        )
    )
    for _ in range(rng.randint(3, 7)):
        a, b = _sums(rng)
        form = add if rng.random() < 0.5 else take
        rows.append(form.format(a=a, b=b, c=a + b))
    return rng.choice((" ", "\n", "\n")).join(rows)


def comparisons(rng: random.Random) -> str:
    """Which of two numbers is larger, and what comes before and after."""
    rows = []
    for _ in range(rng.randint(2, 5)):
        a, b = rng.sample(range(2, 100), 2)
        large, small = max(a, b), min(a, b)
        rows.append(
            rng.choice(
                (
                    f"{large} is larger than {small}.", f"{small} is smaller than {large}.",
                    f"Of {a} and {b} the larger is {large}.",
                    f"Of {a} and {b} the smaller is {small}.",
                    f"{a}, {b}\nLarger:\n{large}", f"{a}, {b}\nSmaller:\n{small}",
                    f"{a} or {b}: the larger number is {large}.",
                    f"{a} or {b}: the smaller number is {small}.",
                    f"After {a} comes {a + 1}.", f"Before {a} comes {a - 1}.",
                    f"{a}\nNext number:\n{a + 1}",
                    ", ".join(str(a + i) for i in range(rng.randint(3, 6))),
                )
            )
        )  # fmt: skip
    return rng.choice((" ", "\n")).join(rows)


def _open(rng: random.Random, make: Callable[[], str]) -> str:
    """Draw until the item is not one of the benchmarks' own."""
    while True:
        text = make()
        if not is_reserved(text):
            return text


def stories(rng: random.Random) -> str:
    """One to three small stories of cause and consequence."""
    return " ".join(
        _open(rng, lambda: make_scene(rng, EVERYTHING).text) for _ in range(rng.randint(1, 3))
    )


def quiz_sheet(rng: random.Random) -> str:
    """Two to four questions of a quiz with their answers."""
    blocks = [_open(rng, lambda: make_quiz(rng, EVERYTHING).text) for _ in range(rng.randint(2, 4))]
    return "\n\n".join(blocks)


def exercise_sheet(rng: random.Random) -> str:
    """One to three word problems as a school book prints them."""
    return "\n\n".join(
        _open(rng, lambda: make_problem(rng, EVERYTHING).text) for _ in range(rng.randint(1, 3))
    )


def program(rng: random.Random) -> str:
    """One or two functions of a Python file."""
    return "\n\n".join(
        _open(rng, lambda: make_function(rng).text) for _ in range(rng.randint(1, 2))
    )


def remarks(rng: random.Random) -> str:
    """Ordinary sentences that fit nowhere else."""
    name, noun = rng.choice(EVERYTHING.names), rng.choice(EVERYTHING.nouns)
    color, place = rng.choice(EVERYTHING.colors), rng.choice(EVERYTHING.places)
    a, b = rng.choice(EVERYTHING.opposites)
    lines = [
        f"The {color} {noun} was not {a}, it was {b}.", f"{name} went to {place} by train.",
        f"What a {a} {noun}!", f"Which {noun} do you mean?", f"Please give the {noun} to {name}.",
        f"### Notes:\nThe {noun} of {name} is in {place}.", f"{name} can write and read a text.",
        f"Instruction is another word for teaching, said {name}.",
        f"The Response of {name} came late.", f"### {place}:\nThe town of the {color} {noun}.",
        f"Put the {noun} into the box, change nothing, and find the answer.",
        f"This sentence is in {place}: it has a name, {name}.",
        f"Tell me the word, said {name}. Make a list, said {rng.choice(EVERYTHING.names)}.",
        f"{name} likes the {noun}, and the {noun} is {a}.",
    ]  # fmt: skip
    return " ".join(rng.sample(lines, rng.randint(2, 4)))


WORLD_TEXTS: tuple[tuple[float, Writer], ...] = (
    (7.0, possession),
    (5.0, shopping),
    (3.5, tenses),
    (4.0, swaps),
    (5.0, opposites),
    (14.0, arithmetic),
    (8.0, comparisons),
    (2.5, stories),
    (3.5, quiz_sheet),
    (2.0, exercise_sheet),
    (1.0, program),
    (2.5, remarks),
)
