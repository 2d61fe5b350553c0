"""What the comparisons between rows need of each row: keys and word hashes, a few numbers.

About 150 bytes per row in memory plus its word hashes on disk, so that a million rows fit.
"""

import re
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from sftprep.data.text import WORD, Words, key, normal, word_hashes, words
from sftprep.data.wordstore import Texts, WordStore, sequence_key
from sftprep.records import Example

Keys = NDArray[np.uint64]
PASSAGE_WORDS = 25  # a paragraph this long is a passage that questions are asked about
SHORT_QUESTION = (3, 8)  # words; from 8 words on, n-grams decide
SENTENCE_WORDS = 5
_FIXED = re.compile(
    r"\d+(?:[.,]\d+)*|\b(?:not|no|never|without|cannot)\b|n['\u2019]t\b"
    r"|(?<=[\w)\]]) ?[-+*/%<>=!^&|]+ ?(?=[\w(\[])"
)
_SENTENCES = re.compile(r"[.:?!]+\s*")


@dataclass(frozen=True, slots=True)
class Features:
    """One row. Keys are 64-bit hashes of normal forms; 0 means none.

    `guard`: numbers, negations and operators: rows that differ in them are never merged.
    `opening`: the first user turn of a conversation with several. `passages`: long paragraphs of
    the prompt. `questions`: short sentences and lines of the prompt, for whole-question matches.
    """

    row: int
    prompt: int
    response: int
    guard: int
    opening: int
    passages: tuple[int, ...]
    questions: tuple[int, ...]
    prompt_words: Words
    response_words: Words
    response_chars: int


def prompt_and_response(example: Example) -> tuple[str, str]:
    """All turns but system turns up to the last answer, and the last answer."""
    last = max(i for i, m in enumerate(example.messages) if m.role == "assistant")
    before = [m.content for m in example.messages[:last] if m.role != "system"]
    return "\n\n".join(before), example.messages[last].content


def features_of(example: Example) -> Features:
    """Keys and word hashes of one row."""
    prompt, response = prompt_and_response(example)
    users = [m.content for m in example.messages if m.role == "user"]
    whole = "\x1f".join(f"{m.role}\x1e{normal(m.content)}" for m in example.messages)
    long_opening = len(users) > 1 and len(words(users[0])) >= 5
    return Features(
        row=int(xxhash.xxh3_64_intdigest(whole.encode("utf-8"))),
        prompt=key(prompt),
        response=key(response),
        guard=_guard(prompt, response),
        opening=key(users[0]) if long_opening else 0,
        passages=_passages(prompt),
        questions=_questions(users),
        prompt_words=word_hashes(prompt),
        response_words=word_hashes(response),
        response_chars=len(response),
    )


def _guard(prompt: str, response: str) -> int:
    parts = sorted(m.strip() for m in _FIXED.findall(prompt.lower()))
    parts += ["\x1f", *sorted(m.strip() for m in _FIXED.findall(response.lower()))]
    return int(xxhash.xxh3_64_intdigest("\x1e".join(parts).encode("utf-8")))


def _passages(prompt: str) -> tuple[int, ...]:
    lines = (line for line in prompt.split("\n") if len(line) >= 3 * PASSAGE_WORDS)
    return tuple({key(line) for line in lines if len(WORD.findall(line)) >= PASSAGE_WORDS})


def _questions(users: Sequence[str]) -> tuple[int, ...]:
    """Lines of 3 words or more; sentences and what follows a colon only from 5 words on, because
    "What do you do?" ends many a story."""
    low, high = SHORT_QUESTION
    found = set()
    for text in users:
        lines = [(line, low) for line in text[:4000].split("\n")]
        inner = [(part, SENTENCE_WORDS) for line, _ in lines for part in _SENTENCES.split(line)]
        for part, least in (*lines, *inner):
            if 0 < len(part) < 120:
                hashes = word_hashes(part)
                if least <= len(hashes) < high:
                    found.add(sequence_key(hashes))
    return tuple(found)


class Table:
    """Features of all rows by index, and what decides which of two copies stays."""

    def __init__(self, folder: Path) -> None:
        self.ids: list[str] = []
        self.strata: list[str] = []
        self._files = array("l")
        self._lines = array("q")
        self.allowed = array("b")
        self.flags = array("l")
        self.tokens = array("l")
        self.response_chars = array("l")
        self._keys = {n: array("Q") for n in ("row", "prompt", "response", "guard", "opening")}
        self._pairs = {n: (array("q"), array("Q")) for n in ("passages", "questions")}
        self._store = WordStore(folder / "words.bin")

    def __len__(self) -> int:
        return len(self.ids)

    def add(
        self,
        example: Example,
        features: Features,
        *,
        place: tuple[int, int],
        flags: int,
        tokens: int,
        allowed: bool,
    ) -> None:
        """Append a row.

        Args:
            place: (number of the file, line). flags: how many checks flagged it.
            allowed: its source may hold repeats.
        """
        index = len(self.ids)
        self.ids.append(example.id)
        self._files.append(place[0])
        self._lines.append(place[1])
        self.strata.append(sys.intern(f"{example.source.dataset}\x1f{example.category or ''}"))
        self.allowed.append(allowed)
        self.flags.append(flags)
        self.tokens.append(tokens)
        self.response_chars.append(features.response_chars)
        for name, values in self._keys.items():
            values.append(getattr(features, name))
        for name, (rows, keys) in self._pairs.items():
            found = getattr(features, name)
            rows.extend([index] * len(found))
            keys.extend(found)
        self._store.add(features.prompt_words, features.response_words)

    def keys(self, name: str) -> Keys:
        """One key per row: row, prompt, response, guard or opening."""
        return np.array(self._keys[name], dtype=np.uint64)

    def pairs(self, name: str) -> tuple[NDArray[np.int64], Keys]:
        """(row, key) pairs: passages or questions."""
        rows, keys = self._pairs[name]
        return np.array(rows, dtype=np.int64), np.array(keys, dtype=np.uint64)

    def views(self) -> tuple[Texts, Texts, Texts]:
        """Word hashes of prompts, answers, and both together."""
        return self._store.views()

    def order(self) -> NDArray[np.int64]:
        """Rows by preference: fewest flags, longest answer, lowest id, then place."""
        best = sorted(
            range(len(self.ids)),
            key=lambda i: (
                self.flags[i],
                -self.response_chars[i],
                self.ids[i],
                self._files[i],
                self._lines[i],
            ),
        )
        return np.array(best, dtype=np.int64)

    def close(self) -> None:
        """Close the file of word hashes."""
        self._store.close()
