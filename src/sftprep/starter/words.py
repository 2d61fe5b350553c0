"""The small world of the starter: its words, and which of them the instruction data may use.

Every table is split by position: each fourth entry is held out of the instruction data, so that
held-out prompts are made only of words that fine-tuning has never seen. The pre-training text
uses all of them; a base model knows its words, what it lacks is the idea of an instruction.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

HELD_OUT_EVERY = 4

T = TypeVar("T")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ANIMALS = _words(
    "fox cow dog goat horse bear wolf lion tiger frog duck owl eagle whale shark zebra "
    "monkey rabbit mouse snake lizard turtle crab bee ant spider camel deer pig hen "
    "swan otter seal moose panda koala raven beetle donkey parrot"
)
FOODS = _words(
    "apple pear plum peach grape lemon melon mango cherry banana bread cheese rice soup "
    "butter honey sugar salt egg onion carrot potato tomato bean corn nut cake pie jam yogurt "
    "olive garlic pasta noodle waffle cookie fig date kiwi radish"
)
TOOLS = _words(
    "hammer saw drill axe shovel rake ladder wrench clamp knife needle rope nail screw "
    "chisel brush ruler pencil pen chalk lever pump torch vise file hook anvil spade "
    "trowel wedge sieve funnel"
)
CLOTHES = _words(
    "hat coat shirt sock shoe boot glove scarf belt dress skirt jacket vest cap tie robe "
    "sweater apron helmet sandal cloak hood mitten blouse"
)
FURNITURE = _words(
    "table chair bed desk lamp sofa shelf stool bench cabinet mirror carpet curtain clock "
    "drawer pillow blanket cradle couch bookcase wardrobe dresser cupboard mattress"
)
VEHICLES = _words(
    "car bus train boat ship bike truck plane tram van taxi tractor wagon canoe sled rocket "
    "scooter ferry raft jeep cart yacht kayak glider"
)

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animal": ANIMALS,
    "food": FOODS,
    "tool": TOOLS,
    "garment": CLOTHES,
    "furnishing": FURNITURE,
    "vehicle": VEHICLES,
}

NAMES = _words(
    "Ann Tom Eva Max Lea Ben Mia Sam Ida Leo Zoe Jim Kim Dan Amy Bob Sue Ned Liz Roy "
    "Peter Clara Oscar Nora David Helen Frank Julia Simon Alice Henry Laura Victor Emma "
    "Walter Ruth Hugo Greta Felix Irene"
)
PLACES = _words(
    "Rome Paris London Berlin Madrid Vienna Oslo Cairo Lima Tokyo Delhi Athens Dublin Prague "
    "Lisbon Warsaw Boston Sydney Geneva Havana"
)
COLORS = _words("red blue green black white brown yellow purple orange gray pink golden")

# Pairs, both directions are used.
OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("fast", "slow"), ("high", "low"),
    ("old", "new"), ("wet", "dry"), ("hard", "soft"), ("rich", "poor"),
    ("happy", "sad"), ("full", "empty"), ("light", "dark"), ("loud", "quiet"),
    ("strong", "weak"), ("early", "late"), ("clean", "dirty"), ("wide", "narrow"),
    ("good", "bad"), ("long", "short"), ("near", "far"), ("brave", "timid"),
    ("left", "right"), ("open", "closed"), ("sweet", "sour"), ("smooth", "rough"),
)  # fmt: skip

# (present, past) in the third person.
VERBS = (
    ("walks", "walked"), ("plays", "played"), ("cooks", "cooked"), ("paints", "painted"),
    ("works", "worked"), ("sings", "sang"), ("runs", "ran"), ("swims", "swam"),
    ("sleeps", "slept"), ("talks", "talked"), ("dances", "danced"), ("jumps", "jumped"),
    ("reads", "read"), ("laughs", "laughed"), ("waits", "waited"), ("climbs", "climbed"),
    ("rests", "rested"), ("travels", "traveled"), ("smiles", "smiled"), ("shouts", "shouted"),
    ("drives", "drove"), ("studies", "studied"), ("eats", "ate"), ("whispers", "whispered"),
    ("rides", "rode"), ("hides", "hid"), ("falls", "fell"), ("skates", "skated"),
    ("wins", "won"), ("flies", "flew"), ("stands", "stood"), ("coughs", "coughed"),
)  # fmt: skip

NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
ORDINALS = ("first", "second", "third", "fourth", "fifth")

LARGEST_SUM = 59  # sums and differences stay at or below it; comparisons go up to 99

# Two-digit numbers that never occur in the instruction data, neither in a prompt nor in an answer.
HELD_OUT_NUMBERS = (
    13, 16, 22, 24, 29, 31, 35, 37, 38, 42, 46, 47, 51, 53, 58, 64, 66, 69, 72, 75, 81, 87, 93, 98,
)  # fmt: skip
TRAINING_NUMBERS = tuple(n for n in range(2, 100) if n not in HELD_OUT_NUMBERS)


@dataclass(frozen=True)
class Pool:
    """The words and numbers one split may use; `held_out` says which split it is."""

    held_out: bool
    categories: dict[str, tuple[str, ...]]
    names: tuple[str, ...]
    places: tuple[str, ...]
    colors: tuple[str, ...]
    opposites: tuple[tuple[str, str], ...]
    verbs: tuple[tuple[str, str], ...]
    numbers: tuple[int, ...]

    @cached_property
    def nouns(self) -> tuple[str, ...]:
        """All nouns of all categories."""
        return tuple(word for words in self.categories.values() for word in words)

    def content_words(self) -> frozenset[str]:
        """Every word of the pool in lower case: what the other split must not contain."""
        pairs = [word for pair in (*self.opposites, *self.verbs) for word in pair]
        words = (*self.nouns, *self.names, *self.places, *self.colors, *pairs)
        return frozenset(word.lower() for word in words)


def _pick(entries: Sequence[T], held_out: bool) -> tuple[T, ...]:
    last = HELD_OUT_EVERY - 1
    return tuple(e for i, e in enumerate(entries) if (i % HELD_OUT_EVERY == last) == held_out)


def _pool(held_out: bool) -> Pool:
    return Pool(
        held_out=held_out,
        categories={kind: _pick(words, held_out) for kind, words in CATEGORIES.items()},
        names=_pick(NAMES, held_out),
        places=_pick(PLACES, held_out),
        colors=_pick(COLORS, held_out),
        opposites=_pick(OPPOSITES, held_out),
        verbs=_pick(VERBS, held_out),
        numbers=HELD_OUT_NUMBERS if held_out else TRAINING_NUMBERS,
    )


TRAINING = _pool(held_out=False)
HELD_OUT = _pool(held_out=True)
EVERYTHING = Pool(
    held_out=False,
    categories=CATEGORIES,
    names=NAMES,
    places=PLACES,
    colors=COLORS,
    opposites=OPPOSITES,
    verbs=VERBS,
    numbers=tuple(range(2, 100)),
)


def category_of(noun: str) -> str:
    """The category a noun belongs to; KeyError for a word that is no noun of this world."""
    return _CATEGORY_OF[noun]


_CATEGORY_OF = {word: kind for kind, words in CATEGORIES.items() for word in words}


def article(word: str) -> str:
    """`a` or `an`, by the first letter (no word of this world needs the exception)."""
    return "an" if word[0] in "aeiou" else "a"


_IRREGULAR = {
    "deer": "deer", "moose": "moose", "mouse": "mice",
    "knife": "knives", "shelf": "shelves", "wolf": "wolves", "potato": "potatoes",
    "tomato": "tomatoes", "mango": "mangoes", "scarf": "scarves",
}  # fmt: skip


def plural(noun: str) -> str:
    """The plural: the few irregular ones by name, the rest by the rules of spelling."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def draw_list(rng: random.Random, words: Sequence[str], low: int, high: int) -> list[str]:
    """Draw low..high different words of which no two begin with the same letter.

    Different initials keep alphabetical order a matter of the first letter alone, which a
    model of 1.8M parameters can learn for a word it has seen only in pre-training.
    """
    size = rng.randint(low, high)
    chosen: list[str] = []
    initials: set[str] = set()
    while len(chosen) < size:
        word = rng.choice(words)
        if word[0] not in initials:
            chosen.append(word)
            initials.add(word[0])
    return chosen
