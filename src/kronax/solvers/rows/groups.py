"""Groups of rows, such as batches or types of cells."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Groups:
    """Which group every row belongs to.

    Attributes
    ----------
    codes
        Number of the group of every row, (n,).
    n
        Number of groups.
    """

    codes: np.ndarray
    n: int

    @property
    def sizes(self) -> np.ndarray:
        """Rows of every group, (n,)."""
        return np.bincount(self.codes, minlength=self.n)

    def of(self, rows: np.ndarray) -> "Groups":
        """Return the groups of some rows."""
        return replace(self, codes=self.codes[rows])
