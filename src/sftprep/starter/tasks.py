"""The task kinds of the starter instruction data, and the good rows made of them."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from sftprep.starter import tasks_kept, tasks_lists, tasks_words
from sftprep.starter.words import HELD_OUT, TRAINING, Pool

Maker = Callable[[random.Random, Pool], tuple[str, str]]
Row = dict[str, str]

HELD_OUT_PER_KIND = 32


@dataclass(frozen=True)
class Kind:
    """One kind of task: its name (the `category` of a row), its maker, its number of good rows.

    `held_out` is false for kinds without prompts of held-out words, see `tasks_kept`.
    """

    name: str
    make: Maker
    rows: int
    held_out: bool = True


# The numbers follow difficulty and the number of different prompts the training words allow.
KINDS: tuple[Kind, ...] = (
    Kind("copy", tasks_lists.copy, 450),
    Kind("reverse", tasks_lists.reverse, 700),
    Kind("sort", tasks_lists.sort, 1300),
    Kind("count", tasks_lists.count, 500),
    Kind("nth", tasks_lists.nth, 700),
    Kind("take", tasks_lists.take, 500),
    Kind("remove", tasks_lists.remove, 900),
    Kind("brackets", tasks_lists.brackets, 450),
    Kind("points", tasks_lists.points, 450),
    Kind("join", tasks_lists.join, 450),
    Kind("pick_kind", tasks_lists.pick_kind, 900),
    Kind("upper", tasks_words.upper, 600),
    Kind("lower", tasks_words.lower, 450),
    Kind("letter", tasks_words.letter, 350),
    Kind("classify", tasks_words.classify, 600),
    Kind("add", tasks_words.add, 850),
    Kind("compare", tasks_words.compare, 500),
    Kind("extract", tasks_words.extract, 500),
    Kind("replace", tasks_words.replace, 500),
    Kind("tense", tasks_words.tense, 450),
    Kind("problem", tasks_kept.problem, 900, held_out=False),
    Kind("ending", tasks_kept.ending, 2600, held_out=False),
)


def _rows(rng: random.Random, kind: Kind, pool: Pool, number: int, taken: set[str]) -> list[Row]:
    rows: list[Row] = []
    while len(rows) < number:
        instruction, response = kind.make(rng, pool)
        if instruction not in taken:
            taken.add(instruction)
            rows.append({"instruction": instruction, "response": response, "category": kind.name})
    return rows


def good_rows(seed: int) -> list[Row]:
    """All good training rows in random order; no two have the same instruction."""
    rng = random.Random(f"starter instructions {seed}")
    taken: set[str] = set()
    rows = [row for kind in KINDS for row in _rows(rng, kind, TRAINING, kind.rows, taken)]
    rng.shuffle(rows)
    return rows


def held_out_rows(seed: int) -> list[Row]:
    """HELD_OUT_PER_KIND prompts of each kind, of words and numbers no training row contains."""
    rng = random.Random(f"starter held-out {seed}")
    taken: set[str] = set()
    kinds = [kind for kind in KINDS if kind.held_out]
    return [row for kind in kinds for row in _rows(rng, kind, HELD_OUT, HELD_OUT_PER_KIND, taken)]
