"""Quiz questions, word problems, scenes and functions of the starter world.

The pre-training text and the starter benchmarks draw from the same makers, as school books and
exams do. One item in ten, chosen by a checksum of its own text, is reserved: it is never written
into the pre-training text, and the benchmarks consist of nothing else.
"""

import random
import zlib
from dataclasses import dataclass

from sftprep.starter.words import (
    CATEGORIES,
    ORDINALS,
    Pool,
    article,
    category_of,
    draw_list,
    plural,
)

RESERVED_SHARE = 10


def is_reserved(text: str) -> bool:
    """Say whether an item belongs to the benchmarks: one in RESERVED_SHARE, by CRC-32."""
    return zlib.crc32(text.encode()) % RESERVED_SHARE == 0


@dataclass(frozen=True)
class Quiz:
    """A question with four choices; `answer` is the index of the right one."""

    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int

    @property
    def text(self) -> str:
        """Question, lettered choices, answer letter: one block, no newline at the end."""
        lines = [f"{letter}. {c}" for letter, c in zip("ABCD", self.choices, strict=True)]
        return "\n".join([self.question, *lines, f"Answer: {'ABCD'[self.answer]}"])


@dataclass(frozen=True)
class Problem:
    """A word problem with its worked answer in the form `... <<a+b=c>>c ...`."""

    question: str
    working: str
    answer: int

    @property
    def text(self) -> str:
        """Question and answer as a school book prints them."""
        return f"Question: {self.question}\nAnswer: {self.working}\n#### {self.answer}"


@dataclass(frozen=True)
class Scene:
    """The beginning of a small story, the ending that follows from it, and the subject."""

    subject: str
    opening: str
    who: str
    ending: str

    @property
    def text(self) -> str:
        """The whole small story."""
        return f"{self.opening} {self.who} {self.ending}"


@dataclass(frozen=True)
class Function:
    """A small Python function: signature with docstring, body, calls with their values.

    `calls` are shown in the docstring, `more_calls` are not.
    """

    name: str
    signature: str
    body: str
    calls: tuple[tuple[str, object], ...]
    more_calls: tuple[tuple[str, object], ...]

    @property
    def text(self) -> str:
        """The function as it stands in a file."""
        return self.signature + self.body


def _arrange(rng: random.Random, right: str, wrong: list[str]) -> tuple[tuple[str, ...], int]:
    choices = [right, *wrong]
    rng.shuffle(choices)
    return tuple(choices), choices.index(right)


def make_quiz(rng: random.Random, pool: Pool) -> Quiz:
    """Make one four-choice question about kinds, opposites, numbers or lists."""
    subject = rng.choice(("kinds", "members", "opposites", "numbers", "lists"))
    kinds = list(CATEGORIES)
    if subject == "kinds":
        noun = rng.choice(pool.nouns)
        right = category_of(noun)
        wrong = rng.sample([k for k in kinds if k != right], 3)
        question = f"What kind of thing is {article(noun)} {noun}?"
    elif subject == "members":
        kind = rng.choice(kinds)
        right = rng.choice(pool.categories[kind])
        others = [k for k in kinds if k != kind]
        wrong = [rng.choice(pool.categories[k]) for k in rng.sample(others, 3)]
        question = f"Which of these is {article(kind)} {kind}?"
    elif subject == "opposites":
        pair = rng.choice(pool.opposites)
        word, right = pair if rng.random() < 0.5 else pair[::-1]
        others_flat = [w for p in pool.opposites for w in p if w not in pair]
        wrong = rng.sample(others_flat, 3)
        question = f"What is the opposite of {word}?"
    elif subject == "numbers":
        numbers = rng.sample(pool.numbers, 4)
        largest = rng.random() < 0.5
        right = str(max(numbers) if largest else min(numbers))
        wrong = [str(n) for n in numbers if str(n) != right]
        question = f"Which number is the {'largest' if largest else 'smallest'}?"
    else:
        words = draw_list(rng, pool.nouns, 4, 4)
        place = rng.randrange(4)
        right, wrong = words[place], [w for i, w in enumerate(words) if i != place]
        question = f"What is the {ORDINALS[place]} word of {', '.join(words)}?"
    choices, answer = _arrange(rng, right, wrong)
    return Quiz(subject, question, choices, answer)


def make_problem(rng: random.Random, pool: Pool) -> Problem:
    """Make one word problem of one or two steps with numbers up to 20."""
    name, other = rng.sample(pool.names, 2)
    things = plural(rng.choice(pool.nouns))
    a, b, c = rng.randint(3, 12), rng.randint(2, 9), rng.randint(2, 6)
    form = rng.randrange(4)
    if form == 0:
        question = f"{name} has {a} {things}. {other} gives {name} {b} more {things}."
        step, total = f"{a}+{b}", a + b
    elif form == 1:
        question = f"{name} has {a + b} {things}. {name} gives {b} {things} to {other}."
        step, total = f"{a + b}-{b}", a
    elif form == 2:
        question = f"{name} has {a} {things} and buys {b} {things}. Then {name} buys {c} more."
        step, total = f"{a}+{b}+{c}", a + b + c
    else:
        question = f"{name} had {a + c} {things}, lost {c} {things} and found {b} {things}."
        step, total = f"{a + c}-{c}+{b}", a + b
    question += f" How many {things} does {name} have now?"
    spaced = step.replace("+", " + ").replace("-", " - ")
    working = f"{name} has {spaced} = <<{step}={total}>>{total} {things}."
    return Problem(question, working, total)


# subject: (why, what follows). One row of causes fits every row of endings of its subject.
SCRIPTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "thirst": (
        ("is thirsty after the long walk", "has a dry mouth", "wants something to drink"),
        ("drinks a glass of water.", "fills a cup with cold water.", "takes a sip of tea."),
    ),
    "hunger": (
        ("is hungry at noon", "has not eaten all day", "smells fresh bread"),
        ("eats some bread and soup.", "makes a plate of rice.", "sits down to eat."),
    ),
    "cold": (
        ("is cold in the snow", "feels the icy wind", "goes out in winter"),
        ("puts on a warm coat.", "pulls on a pair of gloves.", "ties a thick scarf."),
    ),
    "tired": (
        ("is tired after work", "cannot stay awake", "yawns all evening"),
        ("goes to bed early.", "falls asleep on the sofa.", "sleeps until morning."),
    ),
    "rain": (
        ("sees dark clouds in the sky", "hears the rain outside", "walks in the rain"),
        ("opens an umbrella.", "takes an umbrella along.", "runs home to stay dry."),
    ),
    "dirt": (
        ("has mud on both hands", "comes home covered in dust", "spills ink on the floor"),
        ("washes with soap.", "cleans it with a wet cloth.", "scrubs until it is clean."),
    ),
    "dark": (
        ("cannot see in the dark room", "enters a cellar without windows", "reads at night"),
        ("turns on the light.", "lights a candle.", "switches on a torch."),
    ),
    "late": (
        ("is late for school", "has only one minute left", "sees the bus leaving"),
        ("starts to run.", "runs to the stop.", "hurries along the street."),
    ),
    "broken": (
        ("has a broken chair", "finds a loose board", "sees that the shelf is broken"),
        ("repairs it with a hammer.", "takes some nails to fix it.", "mends it with glue."),
    ),
    "garden": (
        ("sees dry flowers in the garden", "plants a small tree", "cares for the roses"),
        ("waters the plants.", "pours water on the roots.", "digs the soil with a spade."),
    ),
}  # fmt: skip


def make_scene(rng: random.Random, pool: Pool) -> Scene:
    """Make one small story of cause and consequence."""
    subject = rng.choice(list(SCRIPTS))
    causes, endings = SCRIPTS[subject]
    name = rng.choice(pool.names)
    when = rng.choice(("", f"In {rng.choice(pool.places)}, ", "Today ", "Now ", "Once more "))
    return Scene(subject, f"{when}{name} {rng.choice(causes)}.", name, rng.choice(endings))


def make_function(rng: random.Random) -> Function:
    """Make one small function of a number or of a list."""
    n = rng.randint(2, 30)
    letters = list("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz")
    forms: tuple[tuple[str, str, str, str, tuple[tuple[str, object], ...]], ...] = (
        (f"add_{n}", "x", f"Return x plus {n}.", f"return x + {n}", (("3", 3 + n), ("0", n))),
        (f"subtract_{n}", "x", f"Return x minus {n}.", f"return x - {n}",
         (("40", 40 - n), ("0", -n))),
        (f"times_{n}", "x", f"Return x times {n}.", f"return x * {n}", (("2", 2 * n), ("0", 0))),
        (f"above_{n}", "x", f"Say whether x is larger than {n}.", f"return x > {n}",
         (("1", False), (str(n), False), (str(n + 1), True))),
        (f"first_{n}", "words", f"Return the first {n} words.", f"return words[:{n}]",
         (("['a']", ["a"]), (repr(letters), letters[:n]))),
        (f"repeat_{n}", "word", f"Return word repeated {n} times.", f"return word * {n}",
         (("''", ""), ("'ab'", "ab" * n))),
    )  # fmt: skip
    name, argument, doc, body, calls = rng.choice(forms)
    call, value = calls[0]
    signature = (
        f'def {name}({argument}):\n    """{doc}\n    >>> {name}({call})\n    {value!r}\n    """\n'
    )
    return Function(name, signature, f"    {body}\n", calls[:1], calls[1:])
