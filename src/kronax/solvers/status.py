"""How a solve ended: one record for every solver."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Status:
    """How a solve ended.

    Attributes
    ----------
    converged
        Whether the goal was reached.
    reason
        Why it ended, in words that complete "it ended as": the criterion, its last value and its goal.
    n_iter
        Iterations; 0 for what is computed in closed form.
    objective
        The minimised objective at every iteration; empty if there is none.
    """

    converged: bool
    reason: str
    n_iter: int = 0
    objective: np.ndarray = field(default_factory=lambda: np.empty(0))

    def stored(self) -> dict[str, Any]:
        """Return the record as plain values that every file format holds."""
        return {
            "converged": bool(self.converged),
            "reason": self.reason,
            "n_iter": int(self.n_iter),
            "objective": np.asarray(self.objective, np.float64),
        }


CLOSED_FORM = Status(True, "computed in closed form")


def ended(converged: bool, reason: str, objective: list[float]) -> Status:
    """Return the status of a solve that recorded its objective at every iteration."""
    return Status(converged, reason, len(objective), np.array(objective, np.float64))
