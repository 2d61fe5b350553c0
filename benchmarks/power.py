"""Are the regression tests as careful and as sharp as they say? By simulation, printed as tables.

    python benchmarks/power.py --trials 2000              # the figures of docs/benchmarks.md
    python benchmarks/power.py --trials 300 --only graded  # a look at one of the tables

Every figure comes from drawing synthetic results of two models on the same items and giving them
to the functions that `sftprep compare` uses. `d` is the share of items whose correctness flips.
"""

import argparse
import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator

from sftprep.comparison.paired import (
    Effect,
    binary_effect,
    graded_effect,
    holm,
    mcnemar_mid_p,
    paired_effect,
    shares_effect,
)

CONFIDENCE = 0.95
MARGIN = 0.01
FAMILY = 7
SIZES = {
    "MMLU": 14042,
    "HellaSwag": 10042,
    "GSM8K": 1319,
    "HellaSwag-1k": 1000,
    "TruthfulQA MC1": 817,
    "IFEval prompt": 541,
    "HumanEval": 164,
}
FLIPS = (0.05, 0.10, 0.20)
SUBJECTS = 57


@dataclass(frozen=True)
class Rate:
    """A share of trials with its standard error."""

    hits: int
    trials: int

    @property
    def share(self) -> float:
        return self.hits / self.trials

    @property
    def error(self) -> float:
        return math.sqrt(max(self.share * (1 - self.share), 1 / self.trials) / self.trials)

    def __str__(self) -> str:
        return f"{100 * self.share:.1f}% (se {100 * self.error:.1f})"


def rate(draw: Callable[[], bool], trials: int) -> Rate:
    """How often a trial says yes."""
    return Rate(sum(draw() for _ in range(trials)), trials)


@cache
def _p(worse: int, better: int) -> float:
    return mcnemar_mid_p(worse, better)


@cache
def _binary(worse: int, better: int, n: int, family: int) -> Effect:
    return binary_effect(worse, better, n, CONFIDENCE, family)


def flips(rng: Generator, n: int, share: float, loss: float) -> tuple[int, int]:
    """(worse, better) of n items when `share` flip and accuracy falls by `loss`."""
    worse, better, _ = rng.multinomial(n, ((share + loss) / 2, (share - loss) / 2, 1 - share))
    return int(worse), int(better)


def mcnemar_alarms(rng: Generator, n: int, share: float, trials: int) -> Rate:
    """Significant at 5% although nothing changed."""
    return rate(lambda: _p(*flips(rng, n, share, 0.0)) <= 1 - CONFIDENCE, trials)


def family_alarms(rng: Generator, share: float, trials: int) -> tuple[Rate, Rate]:
    """Any of seven benchmarks significant after Holm, and any that also loses a point."""
    alarms = losses = 0
    gc.freeze()  # statsmodels' multipletests collects garbage in every call: 130 ms without this
    for _ in range(trials):
        drawn = [(n, *flips(rng, n, share, 0.0)) for n in SIZES.values()]
        adjusted = holm([_p(worse, better) for _, worse, better in drawn])
        found = [p <= 1 - CONFIDENCE for p in adjusted]
        alarms += any(found)
        losses += any(
            hit and (worse - better) / n >= MARGIN
            for hit, (n, worse, better) in zip(found, drawn, strict=True)
        )
    gc.unfreeze()
    return Rate(alarms, trials), Rate(losses, trials)


def false_assurance(rng: Generator, n: int, share: float, trials: int) -> Rate:
    """ "No loss beyond margin" although the true loss is exactly the margin."""
    return rate(lambda: _binary(*flips(rng, n, share, MARGIN), n, 1).lower > -MARGIN, trials)


def detectable(n: int, share: float, family: int) -> float | None:
    """The loss that the tool says it finds with 80% power, when `share` of the items flip."""
    half = round(share * n / 2)
    return _binary(half, half, n, family).detectable


def power(rng: Generator, n: int, share: float, loss: float, family: int, trials: int) -> Rate:
    """How often such a loss is significant at the first Holm step of the family."""
    level = (1 - CONFIDENCE) / family
    return rate(lambda: _p(*flips(rng, n, share, loss)) <= level, trials)


def graded_alarms(rng: Generator, n: int, trials: int, weights: bool) -> tuple[Rate, Rate]:
    """(significant although nothing changed, "no loss" at a true loss of the margin).

    Taking the margin off every item moves the change and its bootstrap bound by just the margin
    (same draws), so that the bound of the second question is known from the first.
    """
    alarms = assured = 0
    for _ in range(trials):
        counts = rng.integers(5, 200, n).astype(float) if weights else np.ones(n)
        changes = counts * rng.standard_t(4, n) * 0.15  # heavy tails, as per-row losses have
        effect = graded_effect(
            changes.tolist(), CONFIDENCE, 1, counts.tolist() if weights else None
        )
        alarms += effect.p_worse <= 1 - CONFIDENCE
        assured += effect.lower - MARGIN > -MARGIN
    return Rate(alarms, trials), Rate(assured, trials)


def subject_sizes(rng: Generator, items: int) -> list[int]:
    """Uneven subjects, as in MMLU (100 to 1,534 of 14,042)."""
    parts = rng.dirichlet(np.full(SUBJECTS, 2.0)) * (items - 20 * SUBJECTS)
    return [20 + int(part) for part in parts]


def cluster_alarms(rng: Generator, items: int, spread: float, trials: int) -> tuple[Rate, Rate]:
    """Alarms without and with clusters when whole subjects gain or lose, on average nothing.

    `spread`: standard deviation of a subject's change in accuracy.
    """
    sizes = subject_sizes(rng, items)
    names = [f"subject {number}" for number, size in enumerate(sizes) for _ in range(size)]
    plain = clustered = 0
    for _ in range(trials):
        shift = np.repeat(np.clip(rng.normal(0, spread, SUBJECTS), -0.1, 0.1), sizes)
        drawn = rng.random(len(names))
        worse, better = drawn < 0.05 - shift / 2, drawn > 0.95 - shift / 2
        before, after = np.where(worse, 1.0, 0.0), np.where(better, 1.0, 0.0)
        lost, won = int(worse.sum()), int(better.sum())
        plain += _p(lost, won) <= 1 - CONFIDENCE
        effect = paired_effect(before.tolist(), after.tolist(), CONFIDENCE, clusters=names)
        clustered += effect.p_worse <= 1 - CONFIDENCE
    return Rate(plain, trials), Rate(clustered, trials)


def unpaired_alarms(rng: Generator, n: int, accuracy: float, trials: int) -> Rate:
    """Two independent sets of items and the same accuracy: significant at 5%."""

    def trial() -> bool:
        one, two = rng.binomial(n, accuracy, 2) / n
        return shares_effect(one, n, two, n, CONFIDENCE).p_worse <= 1 - CONFIDENCE

    return rate(trial, trials)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def alarms_table(rng: Generator, trials: int) -> None:
    """False alarms of McNemar's test alone."""
    print("False alarms of one test, nothing changed (McNemar mid-p)\n")
    table(
        ("benchmark (n)", *(f"d = {d:.0%}" for d in FLIPS)),
        [
            (f"{name} ({n})", *(str(mcnemar_alarms(rng, n, d, trials)) for d in FLIPS))
            for name, n in SIZES.items()
        ],
    )


HEAD = ("test", "false alarms", "beside it")


def family_table(rng: Generator, trials: int) -> None:
    """Seven benchmarks together, a loss of just the margin, two independent sets."""
    print("Seven benchmarks together; a true loss of one point; not paired\n")
    rows: list[tuple[str, ...]] = []
    for d in FLIPS:
        any_, lost = family_alarms(rng, d, trials)
        rows.append((f"any of {FAMILY} after Holm, d = {d:.0%}", str(any_), f"{lost} regressed"))
    for name in ("MMLU", "GSM8K"):
        assured = false_assurance(rng, SIZES[name], 0.1, trials)
        rows.append((f"{name}, d = 10%, true loss = margin", "", f"{assured} assured"))
    for n, accuracy in ((541, 0.5), (164, 0.05)):
        found = unpaired_alarms(rng, n, accuracy, trials)
        rows.append((f"not paired, n {n}, {accuracy:.0%}", str(found), ""))
    table(HEAD, rows)


def graded_table(rng: Generator, trials: int) -> None:
    """Graded items and held-out rows; false assurance at a true loss of one point."""
    print("Graded items and perplexity, nothing changed; and a true loss of one point\n")
    rows = []
    for label, weights in (("graded, 120 items", False), ("perplexity, 120 rows", True)):
        alarm, assured = graded_alarms(rng, 120, trials, weights)
        rows.append((label, str(alarm), f"{assured} assured"))
    table(HEAD, rows)


def cluster_table(rng: Generator, trials: int) -> None:
    """Subjects that move together."""
    print("Subjects that gain or lose as a whole, on average nothing\n")
    rows = []
    for spread in (0.0, 0.02, 0.04):
        plain, robust = cluster_alarms(rng, SIZES["MMLU"], spread, trials)
        label = f"MMLU, subjects vary by {100 * spread:g} points"
        rows.append((label, str(robust), f"{plain} without clusters"))
    table(HEAD, rows)


def power_table(rng: Generator, trials: int) -> None:
    """The stated smallest loss, and how often it is found."""
    print("Loss found with 80% power, in points: as stated (simulated power at that loss)\n")
    rows = []
    for name, n in SIZES.items():
        cells = []
        for d in FLIPS:
            for family in (1, FAMILY):
                loss = detectable(n, d, family)
                if loss is None or loss > d:
                    cells.append("none")
                else:
                    found = power(rng, n, d, loss, family, trials)
                    cells.append(f"{100 * loss:.2f} ({100 * found.share:.0f}%)")
        rows.append((f"{name} ({n})", *cells))
    head = [f"d = {d:.0%}, {'alone' if f == 1 else f'first of {f}'}" for d in FLIPS
            for f in (1, FAMILY)]  # fmt: skip
    table(("benchmark (n)", *head), rows)


TABLES = {
    "alarms": alarms_table,
    "family": family_table,
    "graded": graded_table,
    "clusters": cluster_table,
    "power": power_table,
}


def main() -> None:
    """All tables, each with random numbers of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TABLES)
    options = parser.parse_args()
    print(f"seed {options.seed}; {options.trials} trials in every cell; level 5%\n")
    for place, (name, show) in enumerate(TABLES.items()):
        if options.only in (None, name):
            show(np.random.default_rng((options.seed, place)), options.trials)


if __name__ == "__main__":
    main()
