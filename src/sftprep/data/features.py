"""What the comparisons between rows need of each row: keys and word hashes, a few numbers.

About 150 bytes per row in memory plus its word hashes on disk, so that a million rows fit.
"""

import re
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from sftprep.data.text import Words, folded_words, hashes_of, key, normal, word_hashes, words
from sftprep.data.wordstore import Texts, WordStore, sequence_key
from sftprep.records import Example, Message

Keys = NDArray[np.uint64]
PASSAGE_WORDS = 25  # a paragraph this long is a passage that questions are asked about
SHORT_QUESTION = (3, 8)  # words; from 8 words on, n-grams decide
SENTENCE_WORDS = 5
TEMPLATE_WORDS = 5
KEYS = ("row", "prompt", "response", "guard", "opening", "template")  # of `Features`: one per row
# Each begins with letters or a set of characters, which the search skips to: one pattern of all
# alternatives takes five times as long.
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CONTRACTED = re.compile(r"n['\u2019]t\b")
_SIGNS = re.compile(r"[-+*/%<>=!^&|]+")
_NEGATIONS = frozenset(("not", "no", "never", "without", "cannot"))
_SENTENCES = re.compile(r"[.:?!]+\s*")


@dataclass(frozen=True, slots=True)
class Features:
    """One row. Keys are 64-bit hashes of normal forms; 0 means none.

    `guard`: numbers, negations and operators: rows that differ in them are never merged.
    `opening`: the first user turn of a conversation with several. `template`: the first words of
    the question, with numbers masked. `passages`: long paragraphs of
    the prompt. `questions`: short sentences and lines of the prompt, for whole-question matches.
    """

    row: int
    prompt: int
    response: int
    guard: int
    opening: int
    template: int
    passages: tuple[int, ...]
    questions: tuple[int, ...]
    prompt_words: Words
    response_words: Words
    response_chars: int


def prompt_and_response(messages: Sequence[Message]) -> tuple[str, str]:
    """All turns but system turns up to the last answer, and the last answer."""
    last = max(i for i, m in enumerate(messages) if m.role == "assistant")
    before = [m.content for m in messages[:last] if m.role != "system"]
    return "\n\n".join(before), messages[last].content


def features_of(example: Example) -> Features:
    """Keys and word hashes of one row."""
    prompt, response = prompt_and_response(example.messages)
    users = [m.content for m in example.messages if m.role == "user"]
    normals = {m.content: normal(m.content) for m in example.messages}
    for text in (prompt, response):
        if text not in normals:
            normals[text] = normal(text)
    long_opening = len(users) > 1 and len(words(users[0])) >= 5
    return Features(
        row=row_key(example, normals),
        prompt=_digest(normals[prompt]),
        response=_digest(normals[response]),
        guard=_guard(prompt, response),
        opening=key(users[0]) if long_opening else 0,
        template=_template(users[0]) if users else 0,
        passages=_passages(prompt),
        questions=_questions(users),
        prompt_words=word_hashes(prompt),
        response_words=word_hashes(response),
        response_chars=len(response),
    )


def row_key(example: Example, normals: Mapping[str, str] | None = None) -> int:
    """Key of the whole conversation: equal for exact copies, whatever their case and spaces.

    Args:
        normals: normal forms of the contents, where they are known already.
    """
    known = normals or {m.content: normal(m.content) for m in example.messages}
    return _digest("\x1f".join(f"{m.role}\x1e{known[m.content]}" for m in example.messages))


def _digest(text: str) -> int:
    return int(xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")))


def _template(text: str) -> int:
    """Key of the first TEMPLATE_WORDS words, digits masked; 0 for a shorter text."""
    found = words(text[:400])[:TEMPLATE_WORDS]
    if len(found) < TEMPLATE_WORDS:
        return 0
    return key(re.sub(r"\d", "0", " ".join(found)))


def _guard(prompt: str, response: str) -> int:
    return _digest("\x1e".join([*_fixed(prompt), "\x1f", *_fixed(response)]))


def _fixed(text: str) -> list[str]:
    """Numbers, negations, and operators between two operands: what no copy may change."""
    found = _NUMBER.findall(text)
    if not _NEGATIONS.isdisjoint(words(text)):
        found += [word for word in words(text) if word in _NEGATIONS]
    found += _CONTRACTED.findall(text.lower())
    for match in _SIGNS.finditer(text):
        before = text[max(0, match.start() - 2) : match.start()].removesuffix(" ")[-1:]
        after = text[match.end() : match.end() + 2].removeprefix(" ")[:1]
        if _is_operand(before, ")]") and _is_operand(after, "(["):
            found.append(match.group())
    return sorted(found)


def _is_operand(character: str, brackets: str) -> bool:
    return character != "" and (character.isalnum() or character in f"_{brackets}")


def _passages(prompt: str) -> tuple[int, ...]:
    lines = (line for line in prompt.split("\n") if len(line) >= 3 * PASSAGE_WORDS)
    return tuple({key(line) for line in lines if len(words(line)) >= PASSAGE_WORDS})


def _questions(users: Sequence[str]) -> tuple[int, ...]:
    """Lines of 3 words or more; sentences and what follows a colon only from 5 words on, because
    "What do you do?" ends many a story."""
    low, high = SHORT_QUESTION
    found: set[int] = set()
    for text in users:
        for line in text[:4000].split("\n"):
            parts = _SENTENCES.split(line)
            pieces = [(line, low)]
            if len(parts) > 1:
                pieces += [(part, SENTENCE_WORDS) for part in parts]
            for part, least in pieces:
                if 0 < len(part) < 120:
                    asked = folded_words(part)
                    if least <= len(asked) < high:
                        found.add(sequence_key(hashes_of(asked)))
    return tuple(found)


def id_text(number: int) -> str:
    """An example's id as people read it: 16 hex digits."""
    return f"{number:016x}"


class Ids:
    """Example ids of all rows, 8 bytes each; in the order of their texts."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, row: int) -> str:
        return id_text(self._numbers[row])

    def extend(self, texts: Iterable[str]) -> None:
        """Append ids of 16 hex digits."""
        self._numbers.extend(int(text, 16) for text in texts)

    def numbers(self) -> Keys:
        """One number per row: uint64 [rows]."""
        return np.array(self._numbers, dtype=np.uint64)


class Table:
    """Features of all rows by index, and what decides which of two copies stays."""

    def __init__(self, folder: Path) -> None:
        self.ids = Ids()
        self.strata: list[str] = []
        self._files = array("q")
        self._lines = array("q")
        self.allowed = array("b")
        self.weights = array("d")
        self.flags = array("q")
        self.tokens = array("q")
        self.response_chars = array("q")
        self._keys = {n: array("Q") for n in KEYS}
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
        self.ids.extend([example.id])
        self._files.append(place[0])
        self._lines.append(place[1])
        self.strata.append(sys.intern(f"{example.source.dataset}\x1f{example.category or ''}"))
        self.allowed.append(allowed)
        self.weights.append(1.0)
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

    def extend(self, batch: Any) -> None:
        """Append the rows of an Arrow batch of `spool.kept_schema`."""
        first = len(self.ids)
        self.ids.extend(batch["id"].to_pylist())
        names = zip(batch["dataset"].to_pylist(), batch["category"].to_pylist(), strict=True)
        self.strata.extend(
            sys.intern(f"{dataset}\x1f{category or ''}") for dataset, category in names
        )
        numbers: tuple[tuple[array[int], str], ...] = (
            (self._files, "file_number"), (self._lines, "line"), (self.flags, "flag_count"),
            (self.tokens, "tokens"), (self.response_chars, "response_chars"),
            *((self._keys[name], f"key_{name}") for name in self._keys),
        )  # fmt: skip
        for values, column in numbers:
            values.frombytes(batch[column].to_numpy().tobytes())
        self.allowed.extend(batch["allowed"].to_pylist())
        self.weights.frombytes(batch["weight"].to_numpy().tobytes())
        for name, (rows, keys) in self._pairs.items():
            offsets = batch[name].offsets.to_numpy()
            owners = np.repeat(np.arange(first, first + batch.num_rows), np.diff(offsets))
            rows.frombytes(owners.astype(np.int64).tobytes())
            keys.frombytes(batch[name].flatten().to_numpy().tobytes())
        words = batch["words"]
        self._store.extend(
            words.flatten().to_numpy(),
            words.offsets.to_numpy() - words.offsets[0].as_py(),
            batch["prompt_words"].to_numpy(),
        )

    def keys(self, name: str) -> Keys:
        """One key per row: row, prompt, response, guard, opening or template."""
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
        flags, chars, files, lines = (
            np.array(values, dtype=np.int64)
            for values in (self.flags, self.response_chars, self._files, self._lines)
        )
        return np.lexsort((lines, files, self.ids.numbers(), -chars, flags))

    def close(self) -> None:
        """Close the file of word hashes."""
        self._store.close()
