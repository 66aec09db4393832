"""The M-step: from a noise-free matrix ``Z`` to the precision matrices of its rows and columns.

Two fits of the same model (Eq. 3) are kept apart. The estimate uses the whole spectrum, nonlinearly shrunk. The ``Ω``
that the next E-step sees holds only what rises above the noise, damped: an ``Ω`` fitted closely to ``Z`` and a ``Z``
fitted closely to ``Ω`` drive each other to extremes.

The estimate comes in four forms. Shrinkage replaces the eigenvalues of both axes. In separate fits, each axis is then fitted
with the other at its mean, ``Φ + ψ̄I = n(ZᵀZ)⁻¹``, and what both could explain is in both; a joint fit divides it between them.
A ridge is fitted jointly to the unshrunk eigenvalues, an l1 penalty to the matrices themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, sparse

from kronax.solvers.device import eigh_all, eigvalsh, on_each, to_device, to_host
from kronax.solvers.gaussian import kronecker_sum, ridge
from kronax.solvers.gaussian.lasso import newton
from kronax.solvers.gaussian.precision import LowRank, Partial, Precision, Sparse, dense, mean_diagonal, shifted
from kronax.solvers.gaussian.shrinkage import leave_one_out
from kronax.solvers.gaussian.side import Side
from kronax.solvers.gaussian.spectral import Leading, Spectrum
from kronax.solvers.gaussian.vectors import Held
from kronax.solvers.scales.fiber import Omega
from kronax.solvers.status import CLOSED_FORM, Status

_DAMPING = 0.5  # share of the spikes in the Ω that the E-step sees
_CONSTANT = 1e-10  # variances below this share of the mean count as zero
_LEAST = 1e-6  # share of the mean eigenvalue that every direction keeps at least


@dataclass(frozen=True)
class Penalty:
    """How precisions are kept from following the noise.

    Attributes
    ----------
    kind
        ``"shrinkage"`` of both spectra, ``"ridge"`` (Eq. 3′) or ``"l1"`` (Eq. 5).
    strength
        Of a ridge, in units of the squared mean variance; of an l1 penalty, on the scale of correlations, one for the rows and one
        for the columns if two. None: the ridge that held-out data choose, the universal threshold for l1.
    joint
        Of shrinkage: whether the axes are fitted jointly, or each with the other at its mean.
    unit
        Unit of a ridge's strength, if it is not the squared mean variance of the moments at hand.
    """

    kind: Literal["shrinkage", "ridge", "l1"] = "shrinkage"
    strength: float | tuple[float, float] | None = None
    joint: bool = False
    unit: float | None = None

    @property
    def apart(self) -> bool:
        """Whether each axis is fitted by itself."""
        return self.kind == "shrinkage" and not self.joint


class Estimate(NamedTuple):
    """Precisions of the rows and of the columns of every matrix, with equal mean diagonals, and how they were reached.

    ``strength`` is that of the penalty, NaN for shrinkage. The objective in ``status`` is the negative log-likelihood per
    entry, up to a constant, and includes a ridge.
    """

    rows: Precision
    cols: list[Precision]
    strength: tuple[float, ...]
    status: Status


def estimate(found: Spectrum, penalty: Penalty, last: Estimate | None = None, *, progress: bool = False) -> Estimate:
    """Fit Eq. 3 to both axes of ``Z``; with an l1 penalty starting from the ``last`` estimate, if there is one."""
    return estimate_shared(found, [found], penalty, last, progress=progress)


def estimate_shared(
    whole: Spectrum,
    parts: Sequence[Spectrum],
    penalty: Penalty,
    last: Estimate | None = None,
    *,
    progress: bool = False,
) -> Estimate:
    """Fit Eq. 3 to matrices that share their rows: one ``Ψ``, and a ``Φ_k`` for the columns of every matrix.

    ``min Σ_k [tr(S₁ₖΨ) + tr(S₂ₖΦ_k) − log det(Ψ ⊕ Φ_k)]`` depends on the rows only through ``Σ_k S₁ₖ``, and its sum over
    ``(k, j)`` runs over all columns: it is Eq. 3 with the eigenvalues of all ``S₂ₖ`` in a row (Andrew et al., AISTATS 2024).

    Parameters
    ----------
    whole
        Spectrum of the matrices side by side.
    parts
        The spectrum of each.
    penalty
        How precisions are kept from following the noise.
    last
        An earlier estimate, from which the solve with an l1 penalty starts.
    progress
        Whether long work shows a progress bar.
    """
    sides = [whole.of_rows(), *(part.of_cols() for part in parts)]
    if penalty.kind == "l1":
        return _sparse(sides, penalty.strength, last, progress=progress)
    if penalty.kind == "ridge":
        return _ridge(sides, penalty)
    return _together(sides) if penalty.joint else _apart(sides)


def _apart(sides: Sequence[Side]) -> Estimate:
    """Fit every axis with the other at its mean, which needs no solve."""
    shrunk = _shrunk(sides)
    rows, *cols = [of_side(side, 1.0 / values) for side, values in zip(sides, shrunk, strict=True)]
    objective = np.array([_objective_apart(sides, shrunk)])
    return Estimate(rows, cols, (np.nan,), replace(CLOSED_FORM, objective=objective))


def alone(side: Side) -> Partial:
    """Fit one axis with the other at its mean."""
    return of_side(side, 1.0 / _shrunk([side])[0])


def _together(sides: Sequence[Side]) -> Estimate:
    """Fit all axes jointly."""
    solved, eigenvalues = _solve(_shrunk(sides), sides)
    rows, *cols = _of_one_model(sides, eigenvalues)
    return Estimate(rows, cols, (np.nan,), _status(solved.status, _objective(sides, eigenvalues)))


def _shrunk(sides: Sequence[Side]) -> list[np.ndarray]:
    return [
        _with_the_trace(_beyond_the_mode(values, side), side)
        for values, side in zip(_held_out(sides), sides, strict=True)
    ]


def _ridge(sides: Sequence[Side], penalty: Penalty) -> Estimate:
    """Fit the unshrunk second moments, null eigenvalues included, with a ridge that is given or chosen by held-out data."""
    e, f, m, q = _in_a_row([_sample(side) for side in sides], sides)
    size = float(m.sum() * q.sum())
    unit, strength = penalty.unit or (float(m @ e) / size) ** 2, penalty.strength
    if strength is None:
        held = _held_out(sides)
        strength = ridge.choose(e, f, m, q, _in_a_row(held, sides)[:2]).strength / unit
    sides = [_with_moments(side) for side in sides]
    sample = [_sample(side) for side in sides]
    solved = kronecker_sum.fit(*_in_a_row(sample, sides), ridge=strength * unit)
    rows, *cols = _of_one_model(sides, _split(solved, sample))
    return Estimate(rows, cols, (strength,), _status(solved.status, 0.5 * solved.objective / size))


def _sparse(
    sides: Sequence[Side], strength: float | tuple[float, float] | None, last: Estimate | None, *, progress: bool
) -> Estimate:
    """Fit the matrices with an l1 penalty; columns of different matrices stay independent."""
    s1, *parts = map(_second_moments, sides)
    s2 = linalg.block_diag(*parts)
    _require_variance(s1, s2)
    if strength is None:
        strength = newton.universal_strengths(len(s1), len(s2))
    both = strength if isinstance(strength, tuple) else (strength, strength)
    start = last and (dense(last.rows), linalg.block_diag(*map(dense, last.cols)))
    solved = newton.solve(s1, s2, both, start=start, progress=progress)
    ends = np.cumsum([0, *map(len, parts)])
    blocks = [solved.cols[start:end, start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]
    total = np.add.outer(*(to_host(eigvalsh(side)) for side in (solved.rows, solved.cols)))
    objective = np.vdot(s1, solved.rows) + np.vdot(s2, solved.cols) - np.log(total).sum()
    rows, *cols = (Sparse(sparse.csr_array(matrix)) for matrix in (solved.rows, *blocks))
    status = _status(solved.status, 0.5 * float(objective) / total.size)
    if not status.converged:
        status = replace(status, reason=f"{status.reason}; a larger `strength` is easier to solve for")
    return Estimate(rows, cols, both, status)


def _status(solved: Status, objective: float) -> Status:
    """Return the status of an estimate: that of its solve, with the objective per entry."""
    return replace(solved, reason=f"in the M-step {solved.reason}", objective=np.array([objective]))


def bytes_for_l1(n: int, p: int) -> int:
    """Estimate the memory of a fit with an l1 penalty, in bytes, from the matrices of each axis alive at a time."""
    return 8 * 50 * (n**2 + p**2)


def _solve(
    eigenvalues: Sequence[np.ndarray], sides: Sequence[Side]
) -> tuple[kronecker_sum.KroneckerSum, list[np.ndarray]]:
    """Solve Eq. 3; return the precisions' eigenvalues, in the order of each side's own."""
    solved = kronecker_sum.fit(*_in_a_row(eigenvalues, sides))
    return solved, _split(solved, eigenvalues)


def _in_a_row(eigenvalues: Sequence[np.ndarray], sides: Sequence[Side]) -> tuple[np.ndarray, ...]:
    """Return ``e``, ``f``, ``m``, ``q`` of Eq. 3: eigenvalues of the rows, those of all columns, and multiplicities."""
    groups = [_group_sizes(values, side.dim) for values, side in zip(eigenvalues, sides, strict=True)]
    return eigenvalues[0], np.concatenate(eigenvalues[1:]), groups[0], np.concatenate(groups[1:])


def _split(solved: kronecker_sum.KroneckerSum, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [solved.lam, *np.split(solved.mu, np.cumsum([len(values) for values in like[1:]])[:-1])]


def _objective(sides: Sequence[Side], eigenvalues: Sequence[np.ndarray]) -> float:
    """Evaluate Eq. 3 per entry with the sample's own eigenvalues."""
    e, f, m, q = _in_a_row([_sample(side) for side in sides], sides)
    lam, mu, _, _ = _in_a_row(eigenvalues, sides)
    return 0.5 * kronecker_sum.objective(lam, mu, e, f, m, q) / float(m.sum() * q.sum())


def _objective_apart(sides: Sequence[Side], shrunk: Sequence[np.ndarray]) -> float:
    """Average the negative log-likelihood per entry of the two axes, each under the covariance fitted to it.

    ``½ Σ_i (e_i/δ_i + log(δ_i/n)) / p``: ½ for white noise, as Eq. 3. Several matrices count by their columns.
    """
    per_entry = [
        0.5 * float(_group_sizes(delta, side.dim) @ (_sample(side) / delta + np.log(delta / side.n_samples))) / side.dim
        for side, delta in zip(sides, shrunk, strict=True)
    ]
    cols = np.average(per_entry[1:], weights=[side.dim for side in sides[1:]])
    return 0.5 * (per_entry[0] + float(cols))


def _second_moments(side: Side) -> np.ndarray:
    """Return the whole of ``S``, made positive definite if it goes beyond the mode."""
    whole = _with_moments(side)
    values = whole.eigenvalues
    if side.beyond is not None:
        values = np.maximum(values, _LEAST * values.mean())
        values = values * (whole.eigenvalues.sum() / values.sum())
    vectors = whole.vectors.array()
    moments = (vectors * values) @ vectors.T
    return 0.5 * (moments + moments.T)


def _with_moments(side: Side) -> Side:
    """Return the axis with the eigenvectors of all its second moments, which may differ from those of the mode.

    The trace includes the mode and what is added, even if means are subtracted: it must be the same for both axes.
    """
    if side.beyond is None:
        return side
    vectors = side.vectors.array()
    moments = (vectors * side.eigenvalues) @ vectors.T + side.beyond
    trace, n = side.eigenvalues.sum() + np.trace(side.beyond), len(moments)
    lost = n - side.dim
    if lost:  # the direction of the means, which is put in front to be found again
        moments = moments - moments.mean(0)
        moments = moments - moments.mean(1, keepdims=True)
        moments += 2.0 * np.linalg.norm(moments) / n
    ((values, vectors),) = eigh_all([moments])
    values, vectors = values[lost:], vectors[:, lost:]
    return replace(side, vectors=Held(vectors), eigenvalues=values * (trace / values.sum()), beyond=None)


def _require_variance(*moments: np.ndarray) -> None:
    """Require that all rows and columns vary: without variance, correlations are undefined and precisions infinite."""
    for kind, s in zip(("rows", "columns"), moments, strict=True):
        still = np.flatnonzero(np.diag(s) <= _CONSTANT * np.diag(s).mean())
        if len(still):
            msg = (
                f"But for their scales and means, {len(still)} {kind} do not vary (the first: number {still[0]} of those "
                'with non-zero values, from 0). An l1 penalty needs variances: remove them, or use penalty="shrinkage".'
            )
            raise ValueError(msg)


def _sample(side: Side) -> np.ndarray:
    """Return the eigenvalues of ``S``, to first order in what lies beyond the mode; null ones, if any, as one."""
    values = np.append(side.eigenvalues, [0.0] * (side.dim > len(side.eigenvalues)))
    return _with_the_trace(_beyond_the_mode(values, side), side)


def _held_out(sides: Sequence[Side]) -> list[np.ndarray]:
    """Shrink the spectrum of every axis; the null eigenvalues, if there are any, stand behind the others as one."""
    size = max(len(side.eigenvalues) for side in sides)
    return on_each(
        lambda side: leave_one_out(side.eigenvalues, side.dim, side.n_samples, side.independent), sides, size
    )


def _beyond_the_mode(values: np.ndarray, side: Side) -> np.ndarray:
    """Add what the E-step finds beyond the mode, along the eigenvectors and, on average, along the others."""
    if side.beyond is None:
        return values
    # uᵢᵀDuᵢ
    vectors = side.vectors.array()
    added = np.einsum("ji,jk,ki->i", vectors, side.beyond, vectors, optimize=True)
    if len(values) > len(added):
        rest = np.trace(side.beyond) - added.sum()
        added = np.append(added, rest / (side.dim - len(added)))
    return np.maximum(values + added, _LEAST * values.mean())


def _with_the_trace(values: np.ndarray, side: Side) -> np.ndarray:
    """Scale eigenvalues to the trace of the sample's."""
    return values * (side.eigenvalues.sum() / (_group_sizes(values, side.dim) @ values))


def _group_sizes(values: np.ndarray, dim: int) -> np.ndarray:
    """Count one for every eigenvalue, and for the last one as many as bring the sum to ``dim``."""
    return np.append(np.ones(len(values) - 1), dim - len(values) + 1.0)


def _of_one_model(sides: Sequence[Side], eigenvalues: Sequence[np.ndarray]) -> list[LowRank]:
    """Return ``Ψ`` and every ``Φ`` of the joint fit; ``Ψ + t``, ``Φ − t`` are one model: ``t`` makes the means equal."""
    rows, *cols = map(_precision, sides, eigenvalues)
    mean = np.average([mean_diagonal(phi) for phi in cols], weights=[side.dim for side in sides[1:]])
    t = 0.5 * (float(mean) - mean_diagonal(rows))
    return [shifted(rows, t), *(shifted(phi, -t) for phi in cols)]


def of_side(side: Side, eigenvalues: np.ndarray) -> Partial:
    """Return the precision of one axis with the other at its mean: these eigenvalues, the null one last.

    If the scales of rows and columns are unknown, only partial correlations are meaningful. The off-diagonal entries are
    these, with opposite sign.
    """
    return Partial(_precision(side, eigenvalues))


def _precision(side: Side, eigenvalues: np.ndarray) -> LowRank:
    """Assemble a precision matrix; directions without an eigenvalue get the null one or, if there is none, the mean.

    Nothing is known of the direction along which means were subtracted: it gets the mean, which connects no two variables.
    """
    n, kept = side.vectors.shape
    mean = float(_group_sizes(eigenvalues, side.dim) @ eigenvalues) / side.dim
    if len(eigenvalues) == kept:
        return LowRank(mean, side.vectors, eigenvalues - mean)
    null = float(eigenvalues[-1])
    if side.dim == n:
        return LowRank(null, side.vectors, eigenvalues[:kept] - null)
    return LowRank(null, side.vectors.with_constant(), np.append(eigenvalues[:kept], mean) - null)


def whole(estimate: Estimate) -> Omega:
    """Return the ``Ω`` of a joint fit to one matrix."""
    rows, (cols,) = estimate.rows, estimate.cols
    parts = rows.base + cols.base, rows.vectors.array(), rows.weights, cols.vectors.array(), cols.weights
    return Omega(*map(jnp.asarray, parts))


def spiked(lead: Leading, energy: float, n_comps: int) -> Omega:
    """Fit Eq. 3 to the directions above the noise, with all others pooled, and damp the result: ``(1 − η)I + ηΩ̂``.

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
    return to_device(np.pad(vectors, ((0, 0), missing))), to_device(np.pad(weights, missing))
