"""From numbers to places on a chart: round ticks, linear and log scales, down-sampling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
BUCKETS = 400
LOG_RATIO = 30.0
"""Largest over middle value from which an axis becomes logarithmic."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `low`..`high` to `start`..`end` (pixels); logarithmic when `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place of a value; outside values are moved to the edge."""
        low, high = self._turned(self.low), self._turned(self.high)
        share = (self._turned(value) - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def _turned(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round values inside the range."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            found = [10.0**power for power in powers]
            return (
                found
                if 2 <= len(found) <= 9
                else [self.low, math.sqrt(self.low * self.high), self.high]
            )
        return round_ticks(self.low, self.high, count)


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten between low and high."""
    if not high > low:
        return [low]
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def value_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale that shows all finite values with a little room; log when they span decades."""
    finite = sorted(v for v in values if math.isfinite(v))
    if not finite:
        return Scale(0.0, 1.0, start, end)
    low, high, middle = finite[0], finite[-1], finite[len(finite) // 2]
    if low > 0 and middle > 0 and high / middle > LOG_RATIO:
        return Scale(low / 1.1, high * 1.1, start, end, log=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    floor = low - room
    return Scale(max(0.0, floor) if low >= 0 else floor, high + room, start, end)


def downsample(points: Sequence[Point], buckets: int = BUCKETS) -> list[Point]:
    """First, lowest, highest and last point of each of `buckets` runs of points, in order.

    Non-finite points are left out; callers mark them separately.
    """
    finite = [p for p in points if math.isfinite(p[1])]
    if len(finite) <= 4 * buckets:
        return finite
    kept: list[Point] = []
    size = len(finite) / buckets
    for number in range(buckets):
        bucket = finite[int(number * size) : int((number + 1) * size)]
        chosen = {
            0,
            min(range(len(bucket)), key=lambda i: bucket[i][1]),
            max(range(len(bucket)), key=lambda i: bucket[i][1]),
            len(bucket) - 1,
        }
        kept += [bucket[i] for i in sorted(chosen)]
    return kept


def smooth(points: Sequence[Point], half_life: float) -> list[Point]:
    """Exponential moving average, debiased, so that a constant stays that constant."""
    keep = 0.5 ** (1 / max(half_life, 1e-9))
    total, weight = 0.0, 0.0
    out = []
    for x, y in points:
        if not math.isfinite(y):
            continue
        total = keep * total + (1 - keep) * y
        weight = keep * weight + (1 - keep)
        out.append((x, total / weight))
    return out


def number_text(value: float) -> str:
    """A short tick label: 0.002, 12k, 3.5M, 2e-05."""
    size = abs(value)
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            scaled = value / (1e3 if suffix == "k" else limit)
            return f"{scaled:.3g}{suffix}"
    if value == 0 or size >= 1e-3:
        return f"{value:.4g}"
    return f"{value:.2g}"
