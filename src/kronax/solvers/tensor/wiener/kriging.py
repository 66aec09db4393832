"""Treatments that were never measured: kriging of the completed tensor by given similarities of treatments.

With the similarities ``S``, unit diagonal, and the completed tensor ``Z`` of the ``n`` treatments ``o`` that were measured,

    ``ẑ_* = z̄ + S_*o (S_oo + δI)⁻¹ (Z_o − z̄)``,                                                                    (5)

where ``z̄`` is the mean over treatments. ``δ`` has the least squared error on measured fibers whose treatment is left out: with
``B = (S_oo + δI)⁻¹`` and the mean ``z̄_i`` of the others, these errors are

    ``e_i = (B Z_o − z̄_i ∘ B 1)_i / B_ii``.                                                                        (6)

The information ``q = S_*o B S_o*`` is the share of a treatment's variance that the others determine. What similarities are worth is an
empirical question: those that leave a larger error than ``z̄`` alone are not used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kronax.solvers.device import eigh, to_device, to_host
from kronax.solvers.tensor.unfold import TREATMENT, along

DELTAS = tuple(10.0 ** (k / 4) for k in range(-4, 17))  # .1 … 10⁴
_MOST_WORK = 1e10  # multiplications for one δ; beyond, errors are those in random directions

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Kriging:
    """Which similarity predicts treatments best, and how far it was smoothed.

    Attributes
    ----------
    name
        Of the similarity; empty if none beats the mean, which then predicts.
    delta
        ``δ``; infinite for the mean.
    similarity
        ``(D, D)``; the identity for the mean.
    known
        ``(D,)``: treatments that were measured.
    """

    name: str
    delta: float
    similarity: np.ndarray
    known: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """``S_*o (S_oo + δI)⁻¹``, unmeasured × measured treatments."""
        o = self.known
        between = self.similarity[np.ix_(~o, o)]
        if not self.name:
            return np.zeros_like(between)
        return np.linalg.solve(self.similarity[np.ix_(o, o)] + self.delta * np.eye(int(o.sum())), between.T).T

    @property
    def information(self) -> np.ndarray:
        """``q`` of every treatment that was never measured, NaN of others, ``(D,)``."""
        o, q = self.known, np.full(len(self.known), np.nan)
        q[~o] = np.clip((self.weights * self.similarity[np.ix_(~o, o)]).sum(axis=1), 0.0, 1.0)
        return q

    def predicted(self, z: np.ndarray) -> np.ndarray:
        """Return Eq. 5 for every treatment that was never measured, ``(n, C, r)``, of a completed tensor ``(D, C, r)``."""
        o = self.known
        mean = z[o].mean(axis=0)
        return mean + _times(self.weights, z[o] - mean)

    def left_out(self, z: np.ndarray) -> np.ndarray:
        """Predict every measured treatment without it, ``(n, C, r)``."""
        o = self.known
        return z[o] - (
            _Left(self.similarity[np.ix_(o, o)], z[o]).errors(self.delta) if self.name else _mean_errors(z[o])
        )


class _Left:
    """Errors of treatments left out, in closed form: Eq. 6."""

    def __init__(self, similarity: np.ndarray, z: np.ndarray) -> None:
        values, vectors = eigh(similarity)
        self.values, self.vectors = np.maximum(to_host(values), 0.0), to_host(vectors)
        self.z = z
        n = len(z)
        self.others = (n * z.mean(axis=0) - z) / (n - 1)

    def errors(self, delta: float) -> np.ndarray:
        b = (self.vectors / (self.values + delta)) @ self.vectors.T
        return (_times(b, self.z) - self.others * b.sum(axis=1)[:, None, None]) / np.diag(b)[:, None, None]


def _mean_errors(z: np.ndarray) -> np.ndarray:
    """Errors of the mean over the other treatments."""
    return (z - z.mean(axis=0)) * (len(z) / (len(z) - 1))


def krige(z: np.ndarray, measured: np.ndarray, similarities: Mapping[str, np.ndarray], seed: int = 0) -> Kriging:
    """Choose a similarity and ``δ`` by the errors on measured fibers whose treatment is left out.

    Parameters
    ----------
    z
        Completed tensor ``(D, C, r)``.
    measured
        ``(D, C)``: fibers with a measured value.
    similarities
        ``(D, D)`` each, by name.
    seed
        Of the directions in which errors of large tensors are looked at.
    """
    known = measured.any(axis=1)
    best = Kriging("", np.inf, np.eye(len(known)), known)
    n = int(known.sum())
    if n < 3:
        return best
    z, some = z[known].astype(np.float64), measured[known]
    most = max(int(_MOST_WORK / (n**2 * z.shape[1])), 1)
    if z.shape[2] > most:
        z = z @ (np.random.default_rng(seed).standard_normal((z.shape[2], most)) / np.sqrt(most))

    def error(e: np.ndarray) -> float:
        return float(np.square(e[some]).sum())

    least = error(_mean_errors(z))
    for name, similarity in similarities.items():
        left = _Left(similarity[np.ix_(known, known)], z)
        for delta in DELTAS:
            if (found := error(left.errors(delta))) < least * (1.0 - _ROUNDING):
                least, best = found, Kriging(name, delta, similarity, known)
    return best


def _times(matrix: np.ndarray, tensor: np.ndarray) -> np.ndarray:
    """Multiply along the treatments, where JAX computes."""
    return to_host(along(to_device(matrix, np.float64), to_device(tensor, np.float64), TREATMENT))
