"""Sources by weight: which rows of a source below 1 train, and how often those above 1 do.

A row's draw follows from its id and the seed, so it does not change when rows are added.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from sftprep.data.features import id_text


def copies(ids: NDArray[np.uint64], weights: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """How often each row trains: int64 [N].

    2.25 gives two copies, and a third to a quarter of the rows; 0.5 gives one to half of them.
    """
    whole = np.floor(weights)
    found = whole.astype(np.int64)
    for row in np.flatnonzero(weights > whole).tolist():
        found[row] += _draw(id_text(int(ids[row])), seed) < weights[row] - whole[row]
    return found


def _draw(example_id: str, seed: int) -> float:
    digest = hashlib.sha256(f"weight:{seed}:{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64
