"""Rows that keep what the base model could do before fine-tuning.

Without them the fine-tuned starter lost 23 points on word problems and 12 on story endings, and the
gate said so. They are not part of the held-out prompts: a story has several right endings, and the
benchmarks measure both abilities on reserved items that no row here repeats.
"""

import random
import re

from sftprep.starter.items import is_reserved, make_problem, make_scene
from sftprep.starter.words import HELD_OUT, Pool

_HELD_OUT_NUMBERS = frozenset(str(number) for number in HELD_OUT.numbers)
_HELD_OUT_WORDS = HELD_OUT.content_words()


def _is_free(text: str) -> bool:
    """Say whether a text uses neither reserved items nor held-out words and numbers."""
    words = set(re.findall(r"[a-z]+|\d+", text.lower()))
    singular = {word.removesuffix("s") for word in words}
    return not (words | singular) & (_HELD_OUT_NUMBERS | _HELD_OUT_WORDS)


def problem(rng: random.Random, pool: Pool) -> tuple[str, str]:
    """A word problem, answered with its working and the result behind `####`."""
    while True:
        made = make_problem(rng, pool)
        if not is_reserved(made.text) and _is_free(made.text):
            return made.question, f"{made.working}\n#### {made.answer}"


def ending(rng: random.Random, pool: Pool) -> tuple[str, str]:
    """The beginning of a small story, answered with an ending that follows from it."""
    forms = (
        "How does it go on? {text}",
        "Go on with the story: {text}",
        "{text}",
        "{title}: {text}",
    )
    form = rng.choice(forms)
    while True:
        made = make_scene(rng, pool)
        if not is_reserved(made.text) and _is_free(made.text):
            text = f"{made.opening} {made.who}"
            return form.format(text=text, title=made.subject.capitalize()), made.ending
