"""MED-MAGMA: graphs of rows and columns behind unknown row and column scales, by expectation maximisation.

The model of an ``n × p`` matrix is

    ``sign(X)|X|^γ = diag(r) Z diag(c)``,   ``vec(Z − 1mᵀ) ~ N(0, (Ψ ⊕ Φ)⁻¹)``.                                  (4)

The E-step puts ``Z`` at the mode of the fiber over the quotient of ``X`` (Eqs. 1 and 2); the M-step fits ``Ψ`` and
``Φ`` to its spectrum (Eq. 3). Two things are kept apart: the ``Ω`` that an E-step sees, which holds only what rises
above the noise, damped, since an ``Ω`` fitted closely to ``Z`` and a ``Z`` fitted closely to ``Ω`` drive each other to
extremes; and the estimate, made once, from the last ``Z``.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from kronax.solvers import fiber, kronecker_sum
from kronax.solvers.blocks import Blocks, from_csr, gram, outer_sum, row_sums
from kronax.solvers.precision import Precision, mean_diagonal
from kronax.solvers.quotient import pattern_counts, quotient
from kronax.solvers.shrinkage import quadratic_inverse_shrinkage
from kronax.solvers.spectral import Leading, leading, spectrum

GAUSSIAN_DISPERSION = 0.5  # of log|Y|: the most for which Z is treated as Gaussian as it is
_DAMPING = 0.5  # share of the spikes in the Ω that the E-step sees
_FIBER_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Axis:
    """What was learnt about the rows, or the columns.

    Attributes
    ----------
    log_scale
        Logarithms of ``r`` (or ``c``), (n,); those of the columns average to 0.
    embedding
        Coordinates in the denoised ``Z``, (n, k).
    precision
        ``Ψ`` (or ``Φ``). Both have the same mean diagonal.
    """

    log_scale: np.ndarray
    embedding: np.ndarray
    precision: Precision


@dataclass(frozen=True)
class Fit:
    """The estimate and how it was reached.

    Attributes
    ----------
    rows, cols
        The two axes.
    power
        ``γ`` of Eq. 4.
    dispersion
        Root mean square of ``log|Y|`` over the non-zero entries of ``X``.
    noise, rank
        Standard deviation of the noise in ``Z``, and the number of directions above it.
    objective
        Negative log-likelihood per entry, up to a constant, of the spiked model at every step of EM.
    n_iter
        Step of EM whose ``Z`` was kept.
    converged, reason
        Whether every solve reached its goal, and in words why EM ended.
    """

    rows: Axis
    cols: Axis
    power: float
    dispersion: float
    noise: float
    rank: int
    objective: np.ndarray
    n_iter: int
    converged: bool
    reason: str


@dataclass(frozen=True)
class _Step:
    """One step of EM."""

    mode: fiber.Mode
    z: Blocks
    gram: jax.Array
    lead: Leading
    omega: fiber.Omega
    objective: float
    converged: bool


def fit(
    matrix: sparse.csr_array,
    *,
    power: float | None = None,
    center: bool = True,
    n_comps: int = 50,
    max_iter: int = 1,
    tol: float = 1e-3,
    progress: bool = False,
) -> Fit:
    """Fit the model of Eq. 4.

    Parameters
    ----------
    matrix
        ``X``: CSR, float64, no stored zeros, a non-zero entry in every row and column, at least 2 × 2.
    power
        ``γ``. If None: 1 where ``X`` has negative values, which a Gaussian ``Z`` has; otherwise the largest ``γ ≤ 1``
        that brings the dispersion of ``log|Y|^γ`` down to ½, because a Gaussian cannot have the tails beyond.
    center
        Whether the location ``m`` is estimated, or 0.
    n_comps
        Most directions of the embedding, and most spikes of ``Ω`` in the E-step.
    max_iter
        Steps of EM. The first is matrix scaling and one M-step.
    tol
        EM ends when a step changes ``log|Z|`` by less than this, root mean square.
    progress
        Whether long work shows a progress bar.
    """
    free = quotient(matrix)
    if power is None:
        signed = bool((matrix.data < 0).any())
        power = 1.0 if signed else min(1.0, GAUSSIAN_DISPERSION / max(free.dispersion, GAUSSIAN_DISPERSION))
    transposed = matrix.shape[0] < matrix.shape[1]
    with jax.enable_x64(True):
        step, n_iter, objective, converged, reason = _iterate(
            _tall(free.matrix, power, transposed), n_comps, max_iter, tol, progress
        )
        precisions = _estimate(step, center=(1 if transposed else 0) if center else None)
    scales = [np.asarray(step.mode.a), np.asarray(step.mode.b)]
    embeddings = [step.lead.rows * step.lead.shrunk, step.lead.cols * step.lead.shrunk]
    sides = list(zip(scales, embeddings, precisions, strict=True))
    (a, *rows), (b, *cols) = reversed(sides) if transposed else sides
    # |X| = exp(α + β)·|Y| and |Z| = |Y|^γ·exp(a + b), so log r = α − a/γ and log c = β − b/γ
    log_rows, log_cols = free.log_rows - a / power, free.log_cols - b / power
    shift = log_cols.mean()
    return Fit(
        rows=Axis(log_rows + shift, *rows),
        cols=Axis(log_cols - shift, *cols),
        power=power,
        dispersion=free.dispersion,
        noise=step.lead.noise,
        rank=step.lead.rank,
        objective=objective,
        n_iter=n_iter,
        converged=converged,
        reason=reason,
    )


def bytes_needed(n: int, p: int, n_entries: int) -> int:
    """Estimate the peak memory of a fit and its graphs, in bytes, beyond the input."""
    large, small = max(n, p), min(n, p)
    entries = 100 * n_entries  # the matrix in blocks, its copies, and what one sweep holds
    square = 10 * 8 * small**2  # Gram matrix, eigenvectors, the M-step's work
    vectors = 2 * 8 * large * small
    return entries + square + vectors + 2**29


def _tall(y: sparse.csr_array, power: float, transposed: bool) -> sparse.csr_array:
    """Give ``sign(Y)|Y|^γ`` with at least as many rows as columns."""
    y = sparse.csr_array((np.copysign(np.abs(y.data) ** power, y.data), y.indices, y.indptr), y.shape)
    return y.T.tocsr() if transposed else y


def _iterate(
    matrix: sparse.csr_array, n_comps: int, max_iter: int, tol: float, progress: bool
) -> tuple[_Step, int, np.ndarray, bool, str]:
    """Run EM; return the last step to be trusted, its number, the objectives, whether EM converged, and why it ended.

    Steps of a fixed-point iteration that converges get shorter. One that is longer than the step before it, or that
    fits worse, is where the feedback between ``Z`` and ``Ω`` has taken over: it is dropped.
    """
    y, counts = from_csr(matrix), tuple(map(jnp.asarray, pattern_counts(matrix)))
    step = _step(y, fiber.sinkhorn(y, *counts, _FIBER_TOLERANCE), n_comps)
    objective, last_change = [step.objective], np.inf
    if max_iter == 1:
        return step, 1, np.array(objective), step.converged, "the one step asked for was taken"
    for n_iter in tqdm(
        range(2, max_iter + 1), desc="EM", unit="step", delay=2, leave=False, disable=not progress
    ):  # fmt: skip
        new = _step(y, fiber.newton(y, step.omega, *counts, step.mode.a, step.mode.b, _FIBER_TOLERANCE), n_comps)
        objective.append(new.objective)
        change = _change(y, step.mode, new.mode, float(counts[0].sum()))
        if not (new.converged and change < last_change and new.objective < step.objective):
            reason = f"step {n_iter} was not to be trusted: it changed log|Z| by {change:.2g} after {last_change:.2g}"
            return step, n_iter - 1, np.array(objective), False, reason
        step, last_change = new, change
        if change < tol:
            return step, n_iter, np.array(objective), True, f"log|Z| changed by {change:.2g}, less than tol={tol:g}"
    reason = f"log|Z| still changed by {change:.2g} in the last of {max_iter} steps"
    return step, max_iter, np.array(objective), False, reason


def _step(y: Blocks, mode: fiber.Mode, n_comps: int) -> _Step:
    """Take the mode found by an E-step to the spikes of the M-step."""
    z = fiber.at(y, mode.a, mode.b)
    size = jnp.vdot(z.values, z.values) / jnp.count_nonzero(z.values)
    mode = replace(mode, a=mode.a - 0.5 * jnp.log(size))  # mean square of Z: 1
    z = z.with_values(z.values / jnp.sqrt(size))
    square = gram(z)
    lead = leading(z, square, n_comps)
    omega, objective = _spiked(lead, z.shape, float(jnp.trace(square)), n_comps)
    return _Step(mode, z, square, lead, omega, objective, bool(mode.residual <= _FIBER_TOLERANCE))


def _change(y: Blocks, old: fiber.Mode, new: fiber.Mode, n_entries: float) -> float:
    """Give the root mean square change of ``log|Z|`` over the pattern."""
    moved = y.with_values(outer_sum(y, new.a - old.a, new.b - old.b) ** 2)
    return float(jnp.sqrt(row_sums(moved).sum() / n_entries))


def _spiked(lead: Leading, shape: tuple[int, int], energy: float, n_comps: int) -> tuple[fiber.Omega, float]:
    """Fit Eq. 3 to the directions above the noise, all others pooled; give the damped ``Ω`` and the objective."""
    n, m = shape
    k = min(lead.rank, len(lead.eigenvalues), m - 1)
    spikes = lead.eigenvalues[:k]
    rest = max(energy - spikes.sum(), 1e-6 * energy)
    e, f = (np.append(spikes, rest / (dim - k)) for dim in (n, m))
    multiplicities = (np.append(np.ones(k), float(dim - k)) for dim in (n, m))
    solved = kronecker_sum.fit(e, f, *multiplicities)
    lam, mu = solved.lam, solved.mu
    scale = lam[-1] + mu[-1]
    pad = (0, n_comps - k)  # one shape whatever the rank, so that Newton's method is compiled once
    omega = fiber.Omega(
        scale=jnp.asarray(1.0),
        row_vectors=jnp.asarray(np.pad(lead.rows[:, :k], ((0, 0), pad))),
        row_weights=jnp.asarray(np.pad(_DAMPING * (lam[:-1] - lam[-1]) / scale, pad)),
        col_vectors=jnp.asarray(np.pad(lead.cols[:, :k], ((0, 0), pad))),
        col_weights=jnp.asarray(np.pad(_DAMPING * (mu[:-1] - mu[-1]) / scale, pad)),
    )
    return omega, 0.5 * solved.objective / (n * m)


def _estimate(step: _Step, center: int | None) -> tuple[Precision, Precision]:
    """Fit Eq. 3 to the nonlinearly shrunk spectra of both axes."""
    found = spectrum(step.z, step.gram, center=center)
    n_rows, n_cols = found.dims
    kept = len(found.eigenvalues)
    # e_i/p are the eigenvalues of the rows' covariance matrix, estimated from p columns; f_j/n those of the columns'
    row_values, row_null = quadratic_inverse_shrinkage(found.eigenvalues / n_cols, n_rows, n_cols)
    col_values, col_null = quadratic_inverse_shrinkage(found.eigenvalues / n_rows, n_cols, n_rows)
    e, m = _with_null(n_cols * row_values, n_cols * row_null, n_rows - kept)
    f, q = _with_null(n_rows * col_values, n_rows * col_null, n_cols - kept)
    solved = kronecker_sum.fit(e, f, m, q)
    row_precision = _precision(found.rows, solved.lam)
    col_precision = _precision(found.cols, solved.mu)
    # Ψ + t and Φ − t are one model: t makes the mean diagonals equal
    t = 0.5 * (mean_diagonal(col_precision) - mean_diagonal(row_precision))
    return replace(row_precision, base=row_precision.base + t), replace(col_precision, base=col_precision.base - t)


def _with_null(values: np.ndarray, null: float, n_null: int) -> tuple[np.ndarray, np.ndarray]:
    """Append the null eigenvalues, if there are any, as one group; give the multiplicities too."""
    ones = np.ones(len(values))
    return (np.append(values, null), np.append(ones, float(n_null))) if n_null else (values, ones)


def _precision(vectors: np.ndarray, eigenvalues: np.ndarray) -> Precision:
    """Put a precision matrix together; directions without an eigenvalue get the null one or, without it, the mean."""
    kept = vectors.shape[1]
    base = float(eigenvalues[-1] if len(eigenvalues) > kept else eigenvalues.mean())
    return Precision(base, vectors, eigenvalues[:kept] - base)
