"""The M-step: from a noise-free matrix ``Z`` to the precision matrices of its rows and columns.

Two fits of the same model (Eq. 3) are kept apart. The estimate uses the whole spectrum, nonlinearly shrunk. The ``Ω``
that the next E-step sees holds only what rises above the noise, damped: an ``Ω`` fitted closely to ``Z`` and a ``Z``
fitted closely to ``Ω`` drive each other to extremes.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from kronax.solvers import held_out, kronecker_sum
from kronax.solvers.fiber import Omega
from kronax.solvers.precision import Precision, mean_diagonal
from kronax.solvers.shrinkage import quadratic_inverse_shrinkage
from kronax.solvers.spectral import Leading, Spectrum

NEARLY_SQUARE = 4  # the ratio of the sides up to which spectra are shrunk by cross-validation
_FOLDS = 3
_DAMPING = 0.5  # share of the spikes in the Ω that the E-step sees


def estimate(lead: Leading, found: Spectrum) -> tuple[Precision, Precision, float, bool]:
    """Fit Eq. 3 to the nonlinearly shrunk spectra of both axes.

    Parameters
    ----------
    lead, found
        The leading directions of ``Z``, tall, and its spectrum.

    Returns
    -------
    The precisions of rows and columns, with equal mean diagonals; the negative log-likelihood per entry of ``Z``, up to
    a constant; and whether the solve reached its goal.
    """
    n, m = found.dims
    e, f = _held_out(lead, found) if n < NEARLY_SQUARE * m else _closed_form(found)
    groups = [np.ones(len(values)) for values in (e, f)]
    for group, dim in zip(groups, (n, m), strict=True):
        group[-1] += dim - len(group)  # the null eigenvalues, if there are any, are the last group
    solved = kronecker_sum.fit(e, f, *groups)
    rows, cols = _precision(found.rows, solved.lam), _precision(found.cols, solved.mu)
    t = 0.5 * (mean_diagonal(cols) - mean_diagonal(rows))  # Ψ + t and Φ − t are one model
    rows, cols = replace(rows, base=rows.base + t), replace(cols, base=cols.base - t)
    # Eq. 3 with the sample's own eigenvalues; the null ones add nothing
    kept = len(found.eigenvalues)
    shrunk_trace = groups[0] * e @ solved.lam + groups[1] * f @ solved.mu
    trace = found.eigenvalues @ (solved.lam[:kept] + solved.mu[:kept])
    return rows, cols, 0.5 * (solved.objective - shrunk_trace + trace) / (n * m), solved.converged


def _closed_form(found: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Shrink both spectra by quadratic-inverse shrinkage.

    ``e/m`` are the eigenvalues of the rows' covariance matrix, with the ``m`` columns as samples; ``f/n`` those of the
    columns'. The null eigenvalues, if there are any, stand behind the others as one.
    """
    n, m = found.dims
    rows = quadratic_inverse_shrinkage(found.eigenvalues / m, n, m)
    cols = quadratic_inverse_shrinkage(found.eigenvalues / n, m, n)
    kept = len(found.eigenvalues)
    return m * np.append(*rows)[: kept + (n > kept)], n * np.append(*cols)[: kept + (m > kept)]


def _held_out(lead: Leading, found: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Shrink both spectra by cross-validation; the same form as :func:`_closed_form`.

    The folds follow the leading direction, which neither the order of rows and columns nor their scales change. In the
    basis of the other axis' eigenvectors, the rows of ``Z`` are those of ``U diag(√e)``, the columns those of
    ``V diag(√e)``.
    """
    n, m = found.dims
    n_folds = min(_FOLDS, len(lead.cols))
    samples = (
        held_out.Samples(
            coordinates=vectors * np.sqrt(found.eigenvalues),
            fold=held_out.folds(leading[:, 0], n_folds),
            dim=dim,
            kept=len(found.eigenvalues),
        )
        for vectors, leading, dim in ((found.cols, lead.cols, n), (found.rows, lead.rows, m))
    )
    e, f = held_out.eigenvalues(*samples)
    return e, f * _total(e, n) / _total(f, m)


def _total(values: np.ndarray, dim: int) -> float:
    return float(values.sum() + (dim - len(values)) * values[-1])


def _precision(vectors: np.ndarray, eigenvalues: np.ndarray) -> Precision:
    """Put a precision matrix together; directions without an eigenvalue get the null one or, without it, the mean."""
    kept = vectors.shape[1]
    base = float(eigenvalues[-1] if len(eigenvalues) > kept else eigenvalues.mean())
    return Precision(base, vectors, eigenvalues[:kept] - base)


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
