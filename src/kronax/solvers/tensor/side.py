"""What is known of treatments, contexts and measurements besides the tensor itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Links:
    """What is known of how contexts resemble one another.

    Attributes
    ----------
    similarity
        ``(C, C)``, positive semi-definite with unit diagonal; None if none is given.
    distances
        Squared distances ``(C, C)`` along each coordinate, by its name.
    """

    similarity: np.ndarray | None = None
    distances: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """Side information on a tensor ``(D, C, G)``.

    Attributes
    ----------
    treatments
        Similarities ``(D, D)`` by their names, positive semi-definite with unit diagonal.
    contexts
        How contexts resemble one another; None if nothing is known.
    weights
        Precisions of measured values, positive, in any unit: ``(D, C, 1)`` or ``(D, C, G)``. None if all are alike.
    """

    treatments: Mapping[str, np.ndarray] = field(default_factory=dict)
    contexts: Links | None = None
    weights: np.ndarray | None = None

    def permuted(self, random_state: int) -> "Side":
        """Deal the treatments' similarities out anew: a control that knows nothing of the treatments."""
        order = np.random.default_rng(random_state)
        return replace(self, treatments={name: _shuffled(s, order) for name, s in self.treatments.items()})


NOTHING = Side()


def _shuffled(similarity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(similarity))
    return similarity[np.ix_(order, order)]
