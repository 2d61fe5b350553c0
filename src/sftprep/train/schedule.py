"""Learning rate as a pure function of the step, so that resuming needs no scheduler state."""

import math
from typing import Literal

Shape = Literal["cosine", "linear", "constant"]


def learning_rate(
    step: int, *, peak: float, warmup: int, total: int, shape: Shape, min_ratio: float
) -> float:
    """Rate of the update that makes step `step` (1-based).

    Linear warm-up reaches `peak` at step `warmup` (no update is wasted on rate 0); then the shape
    falls to `peak * min_ratio` at step `total`. Cosine: Loshchilov and Hutter 2017.
    """
    if step <= warmup:
        return peak * step / warmup
    if shape == "constant" or total <= warmup:
        return peak
    done = min(1.0, (step - warmup) / (total - warmup))
    left = 1.0 - done if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return peak * (min_ratio + (1.0 - min_ratio) * left)
