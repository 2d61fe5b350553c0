"""The text the starter base model is pre-trained on: an endless, seeded stream of documents."""

import itertools
import random
from collections.abc import Iterator

from sftprep.starter.text_lists import LIST_TEXTS, echo
from sftprep.starter.text_world import WORLD_TEXTS

TEXTS = (*LIST_TEXTS, *WORLD_TEXTS)

# Marks of the fine-tuning template. Never written: a base model must not know the form.
FORBIDDEN = ("### Instruction", "### Response")


def documents(seed: int, easy: int = 0) -> Iterator[str]:
    """Yield documents without end; the same seed gives the same documents.

    Each is 10 to 300 characters of plain English, notes, sums, quiz sheets or Python. Among the
    first `easy` documents lists written twice are frequent, from all of them down to none more
    than usual: they teach a model to look back and copy. Without that start it had not learned
    to copy after 2.5M tokens; with a sudden end of it, it forgot.
    """
    rng = random.Random(f"starter text {seed}")
    weights = [weight for weight, _ in TEXTS]
    for number in itertools.count():
        ((_, drawn),) = rng.choices(TEXTS, weights)
        text = (echo if rng.random() < 1.0 - number / max(easy, 1) else drawn)(rng)
        assert not any(mark in text for mark in FORBIDDEN), text
        yield text
