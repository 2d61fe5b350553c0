"""Groups of rows that belong together: union-find over row indices."""

from array import array

import numpy as np
from numpy.typing import NDArray


class Groups:
    """Starts with every row alone; the smallest member names a group."""

    def __init__(self, size: int) -> None:
        self._parent = array("q", range(size))

    def find(self, row: int) -> int:
        """The smallest member of the row's group."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, left: int, right: int) -> None:
        """Put both rows' groups together."""
        a, b = self.find(left), self.find(right)
        if a != b:
            self._parent[max(a, b)] = min(a, b)

    def join_equal(self, keys: NDArray[np.uint64]) -> None:
        """Put rows with equal keys together; key 0 means none."""
        order = np.argsort(keys, kind="stable")
        same = (keys[order][1:] == keys[order][:-1]) & (keys[order][1:] != 0)
        for place in np.flatnonzero(same):
            self.join(int(order[place]), int(order[place + 1]))

    def roots(self) -> NDArray[np.int64]:
        """Name of each row's group: int64 [rows]."""
        return np.array([self.find(row) for row in range(len(self._parent))], dtype=np.int64)
