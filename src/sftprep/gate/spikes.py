"""Loss spikes: steps that stand far above the steps just before them. Losses in nats per token."""

from collections.abc import Sequence
from typing import Any

SHORTEST_WINDOW = 10
WINDOW = 50
"""Steps that a spike is compared with."""
SPIKE_NATS = 0.5
SPIKE_DEVIATIONS = 6.0
"""A spike lies above the median of the steps before by half a nat and six robust deviations."""


def spike_places(losses: Sequence[float], first: int = 0) -> list[int]:
    """Places of finite losses, from `first` on, that are spikes against up to 50 before them.

    A stream is read in pieces: give each piece with the 50 losses before it, and `first=50`.
    """
    if len(losses) <= max(first, SHORTEST_WINDOW):
        return []
    import numpy as np

    values = np.asarray(losses, dtype=np.float64)
    known = np.where(np.isfinite(values), values, np.inf)
    found: list[int] = []
    for place in range(max(first, SHORTEST_WINDOW), min(WINDOW, len(known))):
        found += [place] if known[place] > _limits(known[None, :place])[0] else []
    start = max(first - WINDOW, 0)
    if len(known) > start + WINDOW:
        windows = np.lib.stride_tricks.sliding_window_view(known, WINDOW)[start:-1]
        after = known[start + WINDOW :]
        found += (np.flatnonzero(after > _limits(windows)) + start + WINDOW).tolist()
    return [place for place in found if np.isfinite(values[place])]


def _limits(windows: Any) -> Any:
    """The height from which the step after each window is a spike; infinite beside a gap."""
    import numpy as np

    middle = np.median(windows, axis=1)
    finite = np.where(np.isfinite(middle), middle, 0.0)
    spread = 1.4826 * np.median(np.abs(windows - finite[:, None]), axis=1)
    height = np.maximum(SPIKE_DEVIATIONS * spread, SPIKE_NATS)
    return np.where(np.isfinite(middle), middle + height, np.inf)
