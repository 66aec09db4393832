"""The M-step: from a noise-free matrix ``Z`` to the precision matrices of its rows and columns.

Two fits of the same model (Eq. 3) are kept apart. The estimate uses the whole spectrum, nonlinearly shrunk. The ``Ω``
that the next E-step sees holds only what rises above the noise, damped: an ``Ω`` fitted closely to ``Z`` and a ``Z``
fitted closely to ``Ω`` drive each other to extremes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kronax.solvers import held_out, kronecker_sum
from kronax.solvers.fiber import Omega
from kronax.solvers.precision import LowRank, Precision, mean_diagonal, shifted
from kronax.solvers.shrinkage import quadratic_inverse_shrinkage
from kronax.solvers.spectral import Leading, Spectrum

NEARLY_SQUARE = 4  # the ratio of the sides up to which spectra are shrunk by cross-validation
_FOLDS = 3
_DAMPING = 0.5  # share of the spikes in the Ω that the E-step sees


class Estimate(NamedTuple):
    """Precisions of the rows and of the columns of every matrix, and how they were reached.

    ``objective`` is the negative log-likelihood per entry, up to a constant, ``converged`` whether the solve reached its
    goal.
    """

    rows: Precision
    cols: list[Precision]
    objective: float
    converged: bool


def estimate(found: Spectrum) -> Estimate:
    """Fit Eq. 3 to the nonlinearly shrunk spectra of both axes of ``Z``; the two precisions get equal mean diagonals."""
    return estimate_shared(found, [found])


def estimate_shared(joint: Spectrum, parts: Sequence[Spectrum]) -> Estimate:
    """Fit Eq. 3 to matrices that share their rows: one ``Ψ``, and a ``Φ_k`` for the columns of every matrix.

    ``min Σ_k [tr(S₁ₖΨ) + tr(S₂ₖΦ_k) − log det(Ψ ⊕ Φ_k)]`` sees of the rows only ``Σ_k S₁ₖ``, and its sum over ``(k, j)``
    is one over all columns: Eq. 3 again, with the eigenvalues of all ``S₂ₖ`` in a row (Andrew et al., AISTATS 2024).

    Parameters
    ----------
    joint
        Spectrum of the matrices side by side.
    parts
        The spectrum of each.
    """
    sides = [_rows(joint), *map(_cols, parts)]
    shrunk = _shrunk(sides)
    groups = [_group_sizes(values, side.dim) for values, side in zip(shrunk, sides, strict=True)]
    ends = np.cumsum([len(values) for values in shrunk[1:]])[:-1]
    solved = kronecker_sum.fit(shrunk[0], np.concatenate(shrunk[1:]), groups[0], np.concatenate(groups[1:]))
    eigenvalues = [solved.lam, *np.split(solved.mu, ends)]
    rows, *cols = (_precision(side.vectors, values) for side, values in zip(sides, eigenvalues, strict=True))
    n_cols = sum(side.dim for side in sides[1:])
    mean = sum(mean_diagonal(phi) * side.dim for phi, side in zip(cols, sides[1:], strict=True)) / n_cols
    t = 0.5 * (mean - mean_diagonal(rows))  # Ψ + t and Φ − t are one model
    # Eq. 3 with the sample's own eigenvalues; the null ones add nothing
    shrunk_trace = sum(g * s @ v for g, s, v in zip(groups, shrunk, eigenvalues, strict=True))
    trace = sum(s.eigenvalues @ v[: len(s.eigenvalues)] for s, v in zip(sides, eigenvalues, strict=True))
    return Estimate(
        rows=shifted(rows, t),
        cols=[shifted(phi, -t) for phi in cols],
        objective=0.5 * (solved.objective - shrunk_trace + trace) / (sides[0].dim * n_cols),
        converged=solved.converged,
    )


class _Side(NamedTuple):
    """One axis of ``Z``: ``vectors diag(√eigenvalues) othersᵀ``, the others being its samples."""

    vectors: np.ndarray
    others: np.ndarray
    eigenvalues: np.ndarray
    dim: int
    n_samples: int


def _rows(found: Spectrum) -> _Side:
    return _Side(found.rows, found.cols, found.eigenvalues, *found.dims)


def _cols(found: Spectrum) -> _Side:
    return _Side(found.cols, found.rows, found.eigenvalues, *reversed(found.dims))


def _shrunk(sides: Sequence[_Side]) -> list[np.ndarray]:
    """Shrink the spectrum of every axis: by cross-validation where the matrix is nearly square, else in closed form.

    The null eigenvalues, if there are any, stand behind the others as one. The trace stays.
    """
    nearly_square = [max(side.dim, side.n_samples) < NEARLY_SQUARE * min(side.dim, side.n_samples) for side in sides]
    held = iter(
        held_out.eigenvalues(*(_samples(side) for side, near in zip(sides, nearly_square, strict=True) if near))
    )
    shrunk = [next(held) if near else _closed_form(side) for side, near in zip(sides, nearly_square, strict=True)]
    return [
        values * (side.eigenvalues.sum() / (_group_sizes(values, side.dim) @ values))
        for values, side in zip(shrunk, sides, strict=True)
    ]


def _closed_form(side: _Side) -> np.ndarray:
    """Shrink by quadratic-inverse shrinkage: ``e/m`` are the eigenvalues of a covariance matrix from ``m`` samples."""
    values, null = quadratic_inverse_shrinkage(side.eigenvalues / side.n_samples, side.dim, side.n_samples)
    return side.n_samples * np.append(values, [null] * (side.dim > len(values)))


def _samples(side: _Side) -> held_out.Samples:
    """Deal the samples out to folds along their leading direction, which neither their order nor their scales change."""
    return held_out.Samples(
        coordinates=side.others * np.sqrt(side.eigenvalues),
        fold=held_out.folds(side.others[:, 0], min(_FOLDS, len(side.others))),
        dim=side.dim,
        kept=len(side.eigenvalues),
    )


def _group_sizes(values: np.ndarray, dim: int) -> np.ndarray:
    """Count one for every eigenvalue, and for the last as many as are needed to make ``dim``."""
    return np.append(np.ones(len(values) - 1), dim - len(values) + 1.0)


def _precision(vectors: np.ndarray, eigenvalues: np.ndarray) -> LowRank:
    """Put a precision matrix together; directions without an eigenvalue get the null one or, without it, the mean."""
    kept = vectors.shape[1]
    base = float(eigenvalues[-1] if len(eigenvalues) > kept else eigenvalues.mean())
    return LowRank(base, vectors, eigenvalues[:kept] - base)


def spiked(lead: Leading, energy: float, n_comps: int) -> Omega:
    """Fit Eq. 3 to the directions above the noise, all others pooled, and damp it: ``(1 − η)I + ηΩ̂``.

    Parameters
    ----------
    lead
        Directions of ``Z``.
    energy
        Sum of the squares of ``Z``.
    n_comps
        Number of directions to pad to, so that one compiled E-step serves every rank.
    """
    n, m = len(lead.rows), len(lead.cols)
    k = min(lead.rank, len(lead.eigenvalues), m - 1)
    spikes = lead.eigenvalues[:k]
    rest = max(energy - spikes.sum(), 1e-6 * energy)
    e, f = (np.append(spikes, rest / (dim - k)) for dim in (n, m))
    groups = (np.append(np.ones(k), float(dim - k)) for dim in (n, m))
    solved = kronecker_sum.fit(e, f, *groups)
    scale = solved.lam[-1] + solved.mu[-1]  # Ω is I outside the spikes
    return Omega(
        jnp.asarray(1.0),
        *_padded(lead.rows[:, :k], _DAMPING * (solved.lam[:-1] - solved.lam[-1]) / scale, n_comps),
        *_padded(lead.cols[:, :k], _DAMPING * (solved.mu[:-1] - solved.mu[-1]) / scale, n_comps),
    )


def _padded(vectors: np.ndarray, weights: np.ndarray, size: int) -> tuple[jax.Array, jax.Array]:
    missing = (0, size - len(weights))
    return jnp.asarray(np.pad(vectors, ((0, 0), missing))), jnp.asarray(np.pad(weights, missing))
