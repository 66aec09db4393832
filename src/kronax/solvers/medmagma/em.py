"""MED-MAGMA: graphs of rows and columns behind unknown row and column scales, by expectation maximisation.

The model of an ``n × p`` matrix is

    ``x_ij = r_i · sign(z_ij)|z_ij|^(1/γ) · c_j``,   ``vec(Z − 1mᵀ) ~ N(0, (Ψ ⊕ Φ)⁻¹)``.                          (4)

The E-step puts ``Z`` at the mode of the fiber over the quotient of ``X`` (Eqs. 1 and 2) and, where it is worth it, adds the
second moments around the mode (Eq. 6); the M-step fits ``Ψ`` and ``Φ`` to what was found (Eq. 3). The steps themselves are in
:mod:`kronax.solvers.medmagma.steps` and, where EM has one objective, :mod:`kronax.solvers.medmagma.penalised`.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from kronax.solvers.device import to_host
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.own_groups import own_groups
from kronax.solvers.gaussian.precision import Precision
from kronax.solvers.gaussian.spectral import Spectrum
from kronax.solvers.medmagma.batches import Offsets, Seen
from kronax.solvers.medmagma.batches import find as find_offsets
from kronax.solvers.medmagma.penalised import Penalised
from kronax.solvers.medmagma.steps import Step, Steps
from kronax.solvers.rows.batches import taken
from kronax.solvers.rows.block import divided, like, of_entries
from kronax.solvers.rows.chunked import Chunked, OfBatches
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import Factors, Margins, NoiseFree
from kronax.solvers.rows.rows import InMemory, Rows
from kronax.solvers.scales.laplace import Laplace
from kronax.solvers.scales.powered import SAMPLE, Powered, Tails, powered, powered_chunks
from kronax.solvers.scales.quotient import pattern_counts
from kronax.solvers.status import Status, ended

# Groups of their own are of use to the estimate with so many rows for a column, and to its test with so many columns: measured
_ROWS_PER_COLUMN, _COLUMNS = 5, 50


@dataclass(frozen=True)
class Axis:
    """What was learnt about the rows, or the columns.

    Attributes
    ----------
    embedding
        Coordinates in the denoised ``Z``, (n, k).
    precision
        ``Ψ`` (or ``Φ``), or None where it was not wanted. Both have the same mean diagonal.
    """

    embedding: np.ndarray
    precision: Precision | None


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The structure of both axes of a ``Z``, and how it was found.

    Attributes
    ----------
    rows, cols
        The two axes.
    spectrum
        Of ``Z``, or of its deviations from the columns' means; None where no precision was wanted.
    noise, rank
        Standard deviation of the noise in ``Z``, and the number of directions above it.
    margins
        Of the columns of ``Z``; None where no precision was wanted.
    strength
        Of the penalty, rows before columns if there are two; NaN for shrinkage.
    status
        Of EM. ``n_iter`` is the step whose ``Z`` was kept; the objective, at every step and a dropped one too, is the negative
        log-likelihood per entry of ``Z``, up to a constant.
    """

    rows: Axis
    cols: Axis
    spectrum: Spectrum | None
    noise: float
    rank: int
    margins: Margins | None
    strength: tuple[float, ...]
    status: Status


@dataclass(frozen=True, kw_only=True)
class Fit(Structure):
    """The structure behind unknown scales.

    Attributes
    ----------
    log_rows, log_cols
        Logarithms of ``r``, (n,), and ``c``, (p,); the latter average to 0.
    tails
        ``γ`` of Eq. 4, and how it was found.
    offsets
        What distinguishes the factors of the columns in every batch; None without batches.
    """

    log_rows: np.ndarray
    log_cols: np.ndarray
    tails: Tails
    offsets: Offsets | None = None


class _Run(NamedTuple):
    """Where EM ended: the last step to be trusted, and why it ended there."""

    step: Step
    status: Status


def fit(
    matrix: sparse.csr_array,
    *,
    power: float | None = None,
    center: bool = True,
    penalty: m_step.Penalty = m_step.Penalty(),
    equal: bool | None = None,
    laplace: Laplace | None = None,
    n_comps: int = 50,
    max_iter: int = 1,
    tol: float = 1e-3,
    batches: Groups | None = None,
    separate: bool = False,
    groups: Groups | None = None,
    own: bool = False,
    whole: bool = True,
    progress: bool = False,
) -> Fit:
    """Fit the model of Eq. 4.

    Parameters
    ----------
    matrix
        ``X``: CSR, float64, no stored zeros, a non-zero entry in every row and column, at least 2 × 2.
    power
        ``γ``. If None: 1 where ``X`` has negative values, which a Gaussian ``Z`` has; otherwise the largest ``γ ≤ 1``
        that brings the dispersion of ``log|Y|^γ`` down to ½, because a Gaussian has no heavier tails. Entries that stand
        for zeros, and would decide ``γ``, are then taken for zeros.
    center
        Whether the location ``m`` is estimated, or 0.
    penalty
        How precisions are kept from following the noise.
    equal
        Whether precisions are fitted to columns of equal variance. None: those of axes that are fitted apart, to the mode.
    laplace
        How the E-step goes beyond its mode; None for the mode alone.
    n_comps
        Most directions of the embedding, and most spikes of ``Ω`` in the E-step.
    max_iter
        Steps of EM. The first is matrix scaling and one M-step.
    tol
        EM ends when a step changes ``log|Z|`` by less than this, root mean square.
    batches, separate
        Which batch every row comes from, if columns have factors of their own in every batch, and how these are found: see
        :mod:`kronax.solvers.medmagma.batches`.
    groups
        Of the rows, within which dependence of the columns is looked at too; for axes that are fitted apart, with a location.
    own
        Whether such groups are found, where that helps; then none are given.
    whole
        Whether precisions are wanted, or embeddings alone.
    progress
        Whether long work shows a progress bar.
    """
    transposed, offsets = matrix.shape[0] < matrix.shape[1], None
    if batches:
        see = partial(_seen, power=power, n_comps=n_comps)
        offsets = find_offsets(InMemory(matrix), batches, see, separate=separate, progress=progress)
        matrix = divided(matrix, batches.codes, offsets.logs)
    found = powered(matrix, power)
    rows = InMemory(found.rows.matrix.T.tocsr()) if transposed else found.rows
    axis, penalty = int(transposed) if center else None, _oriented(penalty, transposed)
    # with a penalty that stays and no means to take away, E-step and M-step have one objective
    kind = Penalised if penalty.kind == "ridge" and penalty.strength is not None and not center else Steps
    with jax.enable_x64(True):
        equal = penalty.apart and laplace is None if equal is None else equal
        options = {
            "variables": int(not transposed) if equal else None,
            "groups": own_groups if own and groups_are_found(matrix.shape) else groups,
            "whole": whole or kind is Penalised,
        }
        steps = kind(rows, n_comps, axis, penalty, laplace, **options, progress=progress)
        run = _iterate(steps, max_iter, tol, progress)
    return _fit(run, rows, found, offsets, transposed, whole=whole)


def groups_are_found(shape: tuple[int, int]) -> bool:
    """Return whether there are columns enough for no single one to decide what groups of rows are."""
    return shape[1] >= _COLUMNS


def groups_help(shape: tuple[int, int]) -> bool:
    """Return whether there are rows enough for groups that were found to be of use in the estimate, and not in its test alone."""
    return shape[0] >= _ROWS_PER_COLUMN * shape[1]


def _seen(matrix: sparse.csr_array, *, power: float | None, n_comps: int) -> Seen:
    """Take the noise from a matrix without empty rows: one step, and no precisions."""
    cols = np.flatnonzero(pattern_counts(matrix)[1])
    all_seen = len(cols) == matrix.shape[1]
    found = fit(matrix if all_seen else matrix[:, cols], power=power, n_comps=n_comps, whole=False)
    log_cols, gamma = np.zeros(matrix.shape[1]), found.tails.power
    log_cols[cols] = found.log_cols
    scales = np.exp(-gamma * (of_entries(found.log_rows, matrix) + log_cols[matrix.indices]))
    return Seen(like(matrix, np.abs(matrix.data) ** gamma * scales), found.rows.embedding, gamma)


def fit_chunks(
    rows: Chunked,
    some: sparse.csr_array,
    *,
    signed: bool,
    power: float | None = None,
    center: bool = True,
    n_comps: int = 50,
    batches: Groups | None = None,
    separate: bool = False,
    groups: Groups | None = None,
    own: bool = False,
    whole: bool = True,
    progress: bool = False,
) -> Fit:
    """Fit the model to rows that are read anew in every pass, by one step of EM with shrinkage, each axis apart.

    Parameters
    ----------
    rows
        ``X``, taller than wide.
    some
        Some of its rows, from which ``γ`` is chosen.
    signed
        Whether ``X`` has negative values.
    power, center, n_comps, batches, separate, groups, own, whole, progress
        As in :func:`fit`.
    """
    offsets = None
    if batches:
        see = partial(_seen, power=1.0 if signed and power is None else power, n_comps=n_comps)
        offsets = find_offsets(rows, batches, see, separate=separate, progress=progress)
        rows = rows.prepared(replace(rows.preparation, of_batches=OfBatches(batches.codes, offsets.logs)))
        some = taken(rows, np.arange(0, rows.shape[0], -(-rows.shape[0] // SAMPLE)))
    found = powered_chunks(rows, some, power, signed=signed)
    with jax.enable_x64(True):
        axis = 0 if center else None
        groups = own_groups if own and groups_are_found(rows.shape) else groups
        options = {"variables": 1, "groups": groups, "whole": whole}
        steps = Steps(found.rows, n_comps, axis, m_step.Penalty(), **options, progress=progress)
        run = _iterate(steps, 1, 0.0, progress)
    return _fit(run, found.rows, found, offsets, transposed=False, whole=whole)


def _fit(run: "_Run", rows: Rows, found: Powered, offsets: Offsets | None, transposed: bool, *, whole: bool) -> Fit:
    """Put together where EM ended and the scales: ``|Z| = |Y|^γ·exp(a + b)``."""
    a, b = (to_host(side) / found.tails.power for side in (run.step.mode.a, run.step.mode.b))
    if transposed:
        a, b = b, a
    log_rows, log_cols = found.log_rows - a, found.log_cols - b
    shift = log_cols.mean()
    return Fit(
        log_rows=log_rows + shift,
        log_cols=log_cols - shift,
        tails=found.tails,
        offsets=offsets,
        **_structure(run, rows, transposed, whole=whole),
    )


def fit_without_noise(
    matrix: sparse.csr_array,
    *,
    center: bool = True,
    penalty: m_step.Penalty = m_step.Penalty(),
    equal: bool | None = None,
    n_comps: int = 50,
    whole: bool = True,
    progress: bool = False,
) -> Structure:
    """Fit Eq. 3 to the matrix itself, up to its overall scale: the model of GmGM (Andrew et al., AISTATS 2024), regularised.

    Parameters as in :func:`fit`.
    """
    transposed = matrix.shape[0] < matrix.shape[1]
    rows = InMemory(matrix.T.tocsr() if transposed else matrix)
    axis, penalty = int(transposed) if center else None, _oriented(penalty, transposed)
    with jax.enable_x64(True):
        equal = penalty.apart if equal is None else equal
        variables = int(not transposed) if equal else None
        steps = Steps(rows, n_comps, axis, penalty, variables=variables, whole=whole, progress=progress)
        step = steps.without_noise()
    run = _Run(step, _of_one(step, "there is no noise to take away"))
    return Structure(**_structure(run, rows, transposed, whole=whole))


def _structure(run: "_Run", rows: Rows, transposed: bool, *, whole: bool) -> dict[str, Any]:
    """Return the fields of :class:`Structure`, rows and columns in the order of the matrix; ``rows`` are those of ``Y``."""
    lead = run.step.lead
    factors = Factors(*(np.exp(2.0 * to_host(side)) for side in (run.step.mode.b, run.step.mode.a)))
    found, estimate = (run.step.found, run.step.estimate) if whole else (None, None)
    psi, phi = (estimate.rows, estimate.cols[0]) if estimate else (None, None)
    margins = NoiseFree(rows, factors).margins(int(transposed)) if whole else None  # while there are no embeddings
    of_rows, of_cols = Axis(lead.rows * lead.shrunk, psi), Axis(lead.cols * lead.shrunk, phi)
    strength = estimate.strength if estimate else (np.nan,)
    return {
        "rows": of_cols if transposed else of_rows,
        "cols": of_rows if transposed else of_cols,
        "spectrum": found.transposed() if found and transposed else found,
        "noise": lead.noise,
        "rank": lead.rank,
        "margins": margins,
        "strength": strength[::-1] if transposed else strength,
        "status": run.status,
    }


def _oriented(penalty: m_step.Penalty, transposed: bool) -> m_step.Penalty:
    """Put the strengths of a penalty in the order of rows and columns."""
    if transposed and isinstance(penalty.strength, tuple):
        return replace(penalty, strength=penalty.strength[::-1])
    return penalty


def bytes_needed(n: int, p: int, n_entries: int, *, complete: bool, within: bool = False) -> int:
    """Estimate the peak memory of a fit and its graphs, in bytes, beyond the input; the factors were measured.

    ``n_entries`` is 0 where the matrix is read in chunks; ``within`` tells that there are groups.
    """
    entries = 40 * n_entries  # the matrix, its powers, and what one pass holds
    square = 8 * (24 if within else 12) * min(n, p) ** 2  # Gram matrices, eigenvectors
    embeddings = 8 * 200 * (n + p)  # directions, coordinates, and the search for neighbours
    graphs = 140 * (n**2 + p**2) if complete else 0
    graphs += 3 * p**2  # a third of the scores of all pairs, to be ranked
    return entries + square + embeddings + graphs + 2**29


def _iterate(steps: Steps, max_iter: int, tol: float, progress: bool) -> _Run:
    """Take steps of EM until they change nothing, or cannot be trusted: such a step is dropped."""
    step = steps.first()
    if max_iter == 1:
        return _Run(steps.final(step), _of_one(step, "the one step asked for was taken"))
    objective, last_change = [*step.status.objective], np.inf
    for n_iter in tqdm(range(2, max_iter + 1), desc="EM", unit="step", delay=2, leave=False, disable=not progress):
        new = steps.after(step)
        objective += [*new.status.objective]
        change = steps.distance(step, new)
        doubt = steps.doubt(step, new, change, last_change) if new.status.converged else new.status.reason
        if doubt:
            reason = f"step {n_iter} was dropped: {doubt}"
            return _Run(steps.final(step), Status(False, reason, n_iter - 1, np.array(objective)))
        step, last_change = new, change
        if change < tol:
            reason = f"log|Z| changed by {change:.2g}, less than tol={tol:g}"
            return _Run(steps.final(step), ended(True, reason, objective))
    reason = f"log|Z| still changed by {change:.2g}, tol={tol:g}, in the last of max_iter={max_iter} steps; allow more"
    return _Run(steps.final(step), ended(False, reason, objective))


def _of_one(step: Step, reason: str) -> Status:
    """Return the status of EM that ends after one step; ``reason`` holds if the step reached its goals."""
    converged = step.status.converged
    return Status(converged, reason if converged else step.status.reason, 1, step.status.objective)
