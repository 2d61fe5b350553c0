"""The split by groups, and the check that was written apart from it."""

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from sftprep.data.groups import Groups
from sftprep.data.leaks import FinalRow, find_leaks
from sftprep.data.split import Split, assign, draw, shares


def ids_of(count: int) -> NDArray[np.uint64]:
    return np.arange(count, dtype=np.uint64)


def split_of(
    count: int, pairs: list[tuple[int, int]], fraction: float = 0.2, seed: int = 0
) -> Split:
    ties = Groups(count)
    for a, b in pairs:
        ties.join(a, b)
    return assign(ids_of(count), np.ones(count, np.bool_), ties, fraction, seed)


def test_the_share_held_out_is_about_the_fraction() -> None:
    split = split_of(5000, [], 0.1)
    # binomial: 500 +- 21, five standard deviations
    assert 400 < int(split.validation.sum()) < 600


def test_related_rows_are_on_one_side() -> None:
    pairs = [(k, k + 1) for k in range(0, 1000, 2)]
    split = split_of(1000, pairs)
    assert all(split.validation[a] == split.validation[b] for a, b in pairs)
    assert 0 < int(split.validation.sum()) < 1000


def test_another_seed_gives_another_split_and_the_same_seed_the_same() -> None:
    first, again, other = (split_of(500, [], seed=seed).validation for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_adding_rows_moves_no_old_row() -> None:
    small, large = split_of(500, []), split_of(2000, [])
    assert np.array_equal(small.validation, large.validation[:500])


def test_a_group_above_one_percent_trains_whole_and_is_reported() -> None:
    split = split_of(1000, [(0, k) for k in range(1, 11)], 0.99)
    assert not split.validation[:11].any()
    assert [(g.rows, g.example_id) for g in split.large] == [(11, f"{0:016x}")]
    just_small = split_of(1000, [(0, k) for k in range(1, 10)], 0.999999)
    assert just_small.large == ()
    assert just_small.validation[:10].all()


def test_small_data_still_holds_out_one_group() -> None:
    split = split_of(3, [], 0.000001)
    assert int(split.validation.sum()) == 1
    smallest = min(range(3), key=lambda k: draw(f"{k:016x}", 0))
    assert bool(split.validation[smallest]) is True


def test_rows_that_are_not_kept_are_on_no_side() -> None:
    kept = np.array([True, False] * 50)
    split = assign(ids_of(100), kept, Groups(100), 0.5, 0)
    assert not split.validation[~kept].any()
    assert (split.groups[~kept] == -1).all()


def test_each_stratum_gets_about_its_share() -> None:
    split = split_of(4000, [], 0.1)
    strata = ["a" if k % 4 else "b" for k in range(4000)]
    counts = shares(strata, np.ones(4000, np.bool_), split.validation)
    assert list(counts) == ["a", "b"]
    assert 0.07 < counts["b"][1] / 1000 < 0.13


def leaks_of(
    train: list[tuple[str, str]], held: list[tuple[str, str]], threshold: float = 0.8
) -> list[tuple[int, int]]:
    """(held-out, training) indices; held-out rows count on from the training rows."""
    found = find_leaks(
        (FinalRow(len(train) + k, *row) for k, row in enumerate(held)),
        (FinalRow(k, *row) for k, row in enumerate(train)),
        threshold,
    )
    return [(leak.validation, leak.train) for leak in found]


def test_the_same_question_on_both_sides_leaks() -> None:
    train = [("Name a bird.", "Robin.")]
    assert leaks_of(train, [("name a bird", "Completely other words here.")]) == [(1, 0)]


def test_unlike_rows_do_not_leak() -> None:
    bird, fish = [("Name a bird.", "Robin.")], [("Name a fish.", "Trout.")]
    assert leaks_of(bird, fish) == []
    assert leaks_of([], fish) == []
    assert leaks_of(fish, []) == []


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_leaks_are_those_of_a_brute_force_search(threshold: float) -> None:
    rng = random.Random(4)
    words = [f"w{k}" for k in range(300)]
    texts = []
    for k in range(80):
        base = rng.sample(words, 30)
        texts.append([f"q{k}", *base])
        for changes in (0, 1, 4):
            copy = list(base)
            for place in rng.sample(range(30), changes):
                copy[place] = rng.choice(words)
            texts.append([f"q{k}v{changes}", *copy])
    train = [t for k, t in enumerate(texts) if k % 3]
    held = [t for k, t in enumerate(texts) if k % 3 == 0]

    def grams(text: list[str]) -> frozenset[tuple[str, str, str]]:
        return frozenset(zip(text, text[1:], text[2:], strict=False))

    truth = {
        len(train) + k
        for k, left in enumerate(map(grams, held))
        if any(len(left & g) / len(left | g) >= threshold for g in map(grams, train))
    }
    pairs = leaks_of(
        [(t[0], " ".join(t[1:])) for t in train], [(t[0], " ".join(t[1:])) for t in held], threshold
    )
    assert {row for row, _ in pairs} == truth
    assert threshold == 1.0 or len(truth) > 5
