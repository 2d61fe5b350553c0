"""Benchmark items inside training rows.

An item of 8 words or more: share of its 8-grams found in ONE row, each weighted by how rare it is
among the items (so stems such as "which of the following is not a" do not count). A shorter item:
the whole question is a sentence or line of the row's prompt. A row with other numbers than an
item of arithmetic is another exercise. Paraphrases are out of reach.

Sources: coverage by a single record, Tulu 3 (Lambert et al. 2024); rarity weights, as in decon
(Allen AI 2025); "any shared 8-gram" would flag 145 rows of a code set against HumanEval, none true.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftprep.data.features import SHORT_QUESTION, Table
from sftprep.data.load import SUFFIXES, read_rows
from sftprep.data.parse import RowError, row_object
from sftprep.data.text import Words, word_hashes, words
from sftprep.data.wordstore import Texts, sequence_key, shingle_hashes
from sftprep.recipe.sections import BenchmarksSection
from sftprep.records import Reason

GRAM = 8
MIN_GRAMS = 3  # matched 8-grams, so 10 words in a row or the whole item
_FEW_SHOT = ("train", "dev", "fewshot", "few_shot")
_QUESTION_KEYS = ("question", "prompt", "ctx", "text", "instruction", "query", "sentence", "input")
_NEEDS_CHOICES = frozenset({"following", "these", "below", "above"})


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark question."""

    benchmark: str
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that holds an item: coverage 0..1 and the words they share."""

    row: int
    item: Item
    coverage: float
    shared: str

    def reason(self) -> Reason:
        """The evidence in words."""
        text = " ".join(self.item.text.split())[:200]
        evidence = (
            f"{self.item.benchmark} {self.item.id}: {self.coverage:.0%} covered; "
            f"shared: '{self.shared}'; item: '{text}'"
        )
        return Reason("contaminated", evidence, round(self.coverage, 6))


@dataclass(frozen=True, slots=True)
class ItemSet:
    """Items of all benchmarks with data at hand; `not_checked`: name -> why."""

    items: tuple[Item, ...]
    checked: tuple[str, ...]
    not_checked: Mapping[str, str]


def load_items(section: BenchmarksSection) -> ItemSet:
    """Read the questions of every benchmark whose path the recipe knows.

    Splits for few-shot prompts (train, dev) are left out, unless a benchmark has nothing else.

    Raises:
        DataError: a file is there but cannot be read.
    """
    items: list[Item] = []
    checked: list[str] = []
    missing: dict[str, str] = {}
    for task in section.tasks:
        folder = task.path or (f"{section.data_dir}/{task.folder}" if section.data_dir else None)
        if folder is None:
            missing[task.name] = "no path known: set benchmarks.data_dir or the task's path"
            continue
        found = [] if not Path(folder).exists() else _items_below(task.name, Path(folder))
        if not found:
            missing[task.name] = f"no items found at {folder}"
            continue
        items += found
        checked.append(task.name)
    return ItemSet(tuple(items), tuple(dict.fromkeys(checked)), missing)


def _items_below(benchmark: str, path: Path) -> list[Item]:
    files = [path] if path.is_file() else sorted(
        p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES)
    )  # fmt: skip
    scored = [f for f in files if not _is_few_shot(f, path)] or files
    items = []
    for file in scored:
        for raw in read_rows(file):
            try:
                texts = _texts(row_object(raw))
            except RowError:
                continue
            items += [Item(benchmark, f"{file.name}:{raw.line}", text) for text in texts]
    return items


def _is_few_shot(file: Path, root: Path) -> bool:
    if file == root:
        return False
    parts = (*file.relative_to(root).parts[:-1], file.name.partition(".")[0])
    return any(part.lower() in _FEW_SHOT for part in parts)


def _texts(row: Mapping[str, Any]) -> list[str]:
    """The question; a short one also together with its choices, which make it a question."""
    question = _question(row)
    choices = row.get("choices", row.get("endings"))
    texts = [question] if question.strip() else []
    if texts and isinstance(choices, list) and len(words(question)) < GRAM:
        texts.append(f"{question} {', '.join(c for c in choices if isinstance(c, str))}")
    return texts


def _question(row: Mapping[str, Any]) -> str:
    for name in _QUESTION_KEYS:
        if isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])
    return "\n".join(value for value in row.values() if isinstance(value, str))


class ItemIndex:
    """8-grams of all items, sorted, with the items and weights behind each."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.words: list[Words] = [word_hashes(item.text) for item in items]
        ends = np.cumsum([len(w) for w in self.words])
        starts = ends - [len(w) for w in self.words]
        texts = Texts(np.concatenate(self.words), starts, ends)
        hashes, rows = texts.shingles(0, len(items), GRAM)
        flat, owners = distinct_pairs(hashes, rows)
        order = np.argsort(flat, kind="stable")
        self.grams: NDArray[np.uint64] = flat[order]
        self.owners: NDArray[np.int64] = owners[order]
        self.weights: NDArray[np.float64] = self._weights(flat, owners)[order]
        self.totals = np.bincount(self.owners, weights=self.weights, minlength=len(items))
        self.counts = np.bincount(self.owners, minlength=len(items))
        self.whole = self._whole_questions()

    def _weights(self, flat: NDArray[np.uint64], owners: NDArray[np.int64]) -> NDArray[np.float64]:
        """log(N / n) / log(N) for an 8-gram of n of the N items of its benchmark: 1 down to 0."""
        weights = np.ones(len(flat))
        names = np.array([item.benchmark for item in self.items])
        for name in dict.fromkeys(names.tolist()):
            mine = names[owners] == name
            size = int((names == name).sum())
            if size < 2:
                continue
            _, inverse, counts = np.unique(flat[mine], return_inverse=True, return_counts=True)
            weights[mine] = 1 - np.log(counts[inverse]) / math.log(size)
        return weights

    def _whole_questions(self) -> dict[int, int]:
        """Key of the whole question -> item, for short items that stand for themselves."""
        low, high = SHORT_QUESTION
        short = [k for k, hashes in enumerate(self.words) if low <= len(hashes) < high]
        keys = Counter(sequence_key(self.words[k]) for k in short)
        found = {}
        for index in short:
            whole = sequence_key(self.words[index])
            alone = _NEEDS_CHOICES.isdisjoint(words(self.items[index].text))
            if keys[whole] == 1 and alone:
                found[whole] = index
        return found


def find_contaminated(table: Table, items: Sequence[Item], threshold: float) -> list[Hit]:
    """Rows that hold a benchmark item: the best hit per row and benchmark.

    Args:
        table: features of all rows. items: benchmark questions. threshold: weighted share of an
            item's 8-grams in one row, 0..1.
    """
    if not items or not len(table):
        return []
    index = ItemIndex(items)
    _, _, both = table.views()
    best: dict[tuple[int, str], tuple[float, int]] = {}
    for row, item, coverage in [*_covered(both, index, threshold), *_equal(table, index)]:
        if coverage < 1 and not _has_numbers(both.row(row), items[item].text):
            continue
        slot = (row, items[item].benchmark)
        best[slot] = max(best.get(slot, (0.0, -1)), (coverage, item))
    return [
        Hit(row, items[item], coverage, _shared(both.row(row), index.words[item], items[item].text))
        for (row, _), (coverage, item) in sorted(best.items())
    ]


NUMBERS_SHARED = 0.5  # of an item's different numbers: with fewer it is another exercise


def _has_numbers(row: Words, item: str) -> bool:
    """The row holds enough of the item's numbers to be the item, not a like one with others."""
    numbers = sorted({word for word in words(item) if word.isdigit()})
    if not numbers:
        return True
    return float(np.isin(word_hashes(" ".join(numbers)), row).mean()) >= NUMBERS_SHARED


def _covered(texts: Texts, index: ItemIndex, threshold: float) -> list[tuple[int, int, float]]:
    found: list[tuple[int, int, float]] = []
    if len(index.grams) == 0:
        return found
    for first, last in texts.pieces():
        hashes, rows = texts.shingles(first, last, GRAM)
        left = np.searchsorted(index.grams, hashes, side="left")
        right = np.searchsorted(index.grams, hashes, side="right")
        hit = np.flatnonzero(right > left)
        if len(hit) == 0:
            continue
        counts = (right - left)[hit]
        where = np.repeat(left[hit], counts) + _counting(counts)
        owners, places = distinct_pairs(np.repeat(rows[hit], counts), where)
        found += _score(owners, places, index, threshold)
    return found


def distinct_pairs(left: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Different (left, right) pairs, sorted by left, then right."""
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    new = np.ones(len(left), dtype=np.bool_)
    new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return left[new], right[new]


def _counting(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0..c-1 for each count c, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1]) - np.repeat(ends - counts, counts)


def _score(
    rows: NDArray[np.int64], where: NDArray[np.int64], index: ItemIndex, threshold: float
) -> list[tuple[int, int, float]]:
    """Sum the weights of distinct 8-grams per (row, item)."""
    slots = rows * len(index.items) + index.owners[where]
    names, inverse = np.unique(slots, return_inverse=True)
    weight = np.bincount(inverse, weights=index.weights[where])
    number = np.bincount(inverse)
    item = names % len(index.items)
    total = index.totals[item]
    share = np.divide(weight, total, out=np.zeros(len(weight)), where=total > 0)
    enough = number >= np.minimum(MIN_GRAMS, index.counts[item])
    hits = np.flatnonzero((share >= threshold) & (share > 0) & enough)
    return [
        (int(names[k]) // len(index.items), int(item[k]), min(1.0, float(share[k]))) for k in hits
    ]


def _equal(table: Table, index: ItemIndex) -> list[tuple[int, int, float]]:
    if not index.whole:
        return []
    rows, keys = table.pairs("questions")
    wanted = np.isin(keys, np.array(list(index.whole), dtype=np.uint64))
    pairs = zip(rows[wanted].tolist(), keys[wanted].tolist(), strict=True)
    return [(row, index.whole[key], 1.0) for row, key in pairs]


def _shared(row: Words, item: Words, text: str) -> str:
    """The longest run of the item's words that the row holds."""
    n = min(GRAM, len(item))
    inside = np.isin(shingle_hashes(item, n), shingle_hashes(row, n))
    best_start, best_end, start = 0, 0, None
    for place, found in enumerate([*inside.tolist(), False]):
        if found and start is None:
            start = place
        elif not found and start is not None:
            if place - start > best_end - best_start:
                best_start, best_end = start, place
            start = None
    run = words(text)[best_start : best_end + n - 1] if best_end else []
    return " ".join(run[:40])
