"""Sign-flip permutation and bootstrap of many items at once."""

from typing import Any

RESAMPLES = 9999
RANDOM_SEED = 0  # signs and draws are the same in every run
EXACT_UP_TO = 13
"""Items that changed: with no more than this all 2^n sign flips are tried (8,192 at most)."""

TIE = 1e-12  # sums that differ by less than this share of all changes are equal


def sign_flip_p(values: Any) -> float:
    """One-sided p of the sign-flip test for "the sum is below 0"; 1.0 when nothing changed.

    Exact for up to 13 items that changed, otherwise (hits + 1) / (9,999 + 1) over random flips. An
    item without change is the same with either sign, so it is left out. A flip takes twice the
    value off the sum, so a flipped sum is at most the observed one where the flipped values sum
    to 0 or more.

    Args:
        values: NumPy array of changes, one per item.
    Source: the paired permutation test, as `scipy.stats.permutation_test` does it.
    """
    import numpy as np

    changed = values[values != 0]
    if not len(changed):
        return 1.0
    least = -TIE * float(np.abs(changed).sum())
    if len(changed) <= EXACT_UP_TO:
        flips = np.arange(1 << len(changed))[:, None] >> np.arange(len(changed)) & 1
        return float(np.mean(flips @ changed >= least))
    # eight items at a time: one random byte picks the sum of those it flips out of 256
    padded = np.concatenate([changed, np.zeros(-len(changed) % 8)]).reshape(-1, 8)
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    generator = np.random.default_rng(RANDOM_SEED)
    flipped = np.zeros(RESAMPLES)
    for sums in padded @ bits.T.astype(np.float64):
        flipped += sums[generator.integers(0, 256, RESAMPLES, dtype=np.uint8)]
    return float((np.count_nonzero(flipped >= least) + 1) / (RESAMPLES + 1))


def bootstrap_ratios(values: Any, counts: Any) -> Any:
    """Sum of values over sum of counts in 9,999 draws of as many items, with replacement.

    Returns:
        Array of 9,999 ratios; memory stays at some 20 MB however many items there are.
    Source: as `scipy.stats.bootstrap` draws them, so that its percentiles are these.
    """
    import numpy as np

    n = len(values)
    generator = np.random.default_rng(RANDOM_SEED)
    equal = np.ptp(counts) == 0
    ratios = np.empty(RESAMPLES)
    batch = max(1, (1 << 20) // n)
    for begin in range(0, RESAMPLES, batch):
        some = slice(begin, min(begin + batch, RESAMPLES))
        drawn = generator.integers(0, n, (some.stop - begin, n))
        below = n * counts[0] if equal else counts[drawn].sum(axis=1)
        ratios[some] = values[drawn].sum(axis=1) / below
    return ratios
