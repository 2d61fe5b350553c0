"""What a loss history shows: drift, restlessness, and what warm-up says about the rate.

All losses in nats per supervised token. Thresholds are chosen, not fitted, and stand here once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

from sftprep.records import StepRecord

SMALLEST_DROP_NATS = 0.02
"""A fall of the training loss below this is called flat."""
MINIMUM_STEPS = 10
SPIKE_SHARE = 0.01
"""Share of spikes from which a run counts as unstable rather than as having met an odd batch."""
OSCILLATION = 0.15
"""Noise from step to step, relative to the loss, from which a curve counts as restless."""
GAIN_SHARE = 0.5
"""... if it also exceeds this share of what training has gained: mixed tasks make noise too."""
RISE_NATS = 0.05


@dataclass(frozen=True, slots=True)
class Drift:
    """Mean loss of the first and last tenth, and the standard error of their difference."""

    first: float
    last: float
    error: float

    @property
    def fell(self) -> bool:
        """True when the loss is clearly lower at the end; False for NaN."""
        return self.first - self.last > max(SMALLEST_DROP_NATS, 2 * self.error)

    @property
    def rose(self) -> bool:
        """True when the loss is clearly higher at the end, or not finite."""
        return not self.last - self.first <= max(RISE_NATS, 2 * self.error)


def drift(steps: Sequence[StepRecord]) -> Drift | None:
    """Where the training loss went; None below 10 steps."""
    losses = [step.loss_nats for step in steps]
    if len(losses) < MINIMUM_STEPS:
        return None
    size = max(3, len(losses) // 10)
    first, last = losses[:size], losses[-size:]
    if not all(map(math.isfinite, (*first, *last))):
        return Drift(fmean(first), math.nan, math.nan)
    error = math.hypot(stdev(first), stdev(last)) / math.sqrt(size)
    return Drift(fmean(first), fmean(last), error)


@dataclass(frozen=True, slots=True)
class Noise:
    """Step-to-step noise of the second half, its mean loss, and the fall since the start."""

    jump: float
    level: float
    gain: float

    @property
    def restless(self) -> bool:
        """True when the noise drowns what training gained; True for NaN."""
        calm = self.jump <= OSCILLATION * self.level or self.jump <= GAIN_SHARE * self.gain
        return not calm


def noise(steps: Sequence[StepRecord]) -> Noise | None:
    """How much the second half jumps from step to step; None below 10 steps.

    The jump is the standard deviation of successive differences over sqrt(2), which a steady fall
    does not raise (von Neumann et al. 1941).
    """
    losses = [step.loss_nats for step in steps]
    if len(losses) < MINIMUM_STEPS:
        return None
    late = losses[len(losses) // 2 :]
    if not all(map(math.isfinite, late)):
        return Noise(math.nan, math.nan, math.nan)
    jump = math.sqrt(fmean([(b - a) ** 2 for a, b in pairwise(late)]) / 2)
    return Noise(jump, fmean(late), fmean(losses[:MINIMUM_STEPS]) - fmean(late))


def rate_where_loss_rose(steps: Sequence[StepRecord], warmup: int) -> float | None:
    """The learning rate at which warm-up began to hurt: a sweep that every run contains.

    Warm-up tries every rate up to the peak. If the loss, in five parts of the warm-up, falls and
    then rises by 0.05 nats, the rate of its lowest part is returned; None when it never rose.
    """
    ramp = [step for step in steps if step.step <= warmup]
    size = len(ramp) // 5
    if size < 2:
        return None
    parts = [ramp[size * n : size * (n + 1)] for n in range(5)]
    means = [fmean(step.loss_nats for step in part) for part in parts]
    if not all(map(math.isfinite, means)):
        return None
    lowest = means.index(min(means))
    if lowest == 0 or max(means[lowest:]) - means[lowest] <= RISE_NATS:
        return None
    return parts[lowest][-1].learning_rate
