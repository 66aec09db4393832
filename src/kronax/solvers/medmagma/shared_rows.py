"""Several matrices that share their rows: one graph of the rows, one of the columns of each.

Side by side, the matrices are one, whose columns depend on each other only within a matrix: ``Ψ`` is common, ``Φ``
block-diagonal. A row that matrix ``k`` lacks adds nothing to ``S₁ = Σ_k Z_k Z_kᵀ``. In the denoised ``Z_k`` it gets the
place of the row that is most similar to it in the other matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg, sparse

from kronax.solvers.device import block_size, eigh_all, to_host
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.precision import Precision
from kronax.solvers.gaussian.side import without_variance
from kronax.solvers.gaussian.spectral import Spectrum, rounding_of
from kronax.solvers.gaussian.vectors import Held, Projected
from kronax.solvers.rows.noise_free import NoiseFree
from kronax.solvers.rows.on_devices import spread
from kronax.solvers.rows.rows import InMemory
from kronax.solvers.status import Status

_SCORES = 2**23  # cosines held at a time: 64 MiB


@dataclass(frozen=True)
class SharedRows:
    """The common structure of several matrices that share their rows.

    Attributes
    ----------
    embedding
        Coordinates of the rows in the denoised matrices side by side, (n, k), in the order of their variance.
    rows, cols
        ``Ψ``, and ``Φ_k`` of every matrix.
    strength
        That of the penalty.
    status
        Of the fit; its objective is the negative log-likelihood per entry, up to a constant.
    """

    embedding: np.ndarray
    rows: Precision
    cols: list[Precision]
    strength: tuple[float, ...]
    status: Status


def combine(
    spectra: Sequence[Spectrum],
    embeddings: Sequence[np.ndarray],
    members: Sequence[np.ndarray],
    n: int,
    *,
    penalty: m_step.Penalty,
    progress: bool = False,
) -> SharedRows:
    """Fit one model to several matrices.

    Parameters
    ----------
    spectra
        Of the noise-free matrices ``Z_k``, of unit mean square each, or of their columns, of unit variance.
    embeddings
        Coordinates of their rows in the denoised ``Z_k``.
    members
        For every matrix, the positions of its rows among the ``n``.
    n
        Number of rows; each is a row of at least one matrix.
    penalty
        How precisions are kept from following the noise.
    progress
        Whether long work shows a progress bar.
    """
    found = m_step.estimate_shared(side_by_side(spectra, members, n), spectra, penalty, progress=progress)
    return SharedRows(joint_embedding(embeddings, members, n), *found)


def side_by_side(spectra: Sequence[Spectrum], members: Sequence[np.ndarray], n: int) -> Spectrum:
    """Compute the spectrum of the matrices side by side; rows that one lacks are zero.

    Its eigenvectors are those of the smaller of its two Gram matrices, to which every ``Z_k``, centred over the rows that it has,
    contributes. A column that marks these rows, beside ``Z_k``, brings the centring into one product with all.
    """
    found = [_matrix(part) for part in spectra]
    means = [
        z.sum(axis=0) / z.shape[0] if part.dims[0] < z.shape[0] else np.zeros(z.shape[1])
        for z, part in zip(found, spectra, strict=True)
    ]
    placed = [_placed_rows(z, at, n) for z, at in zip(found, members, strict=True)]
    lost = max(z.shape[0] - part.dims[0] for z, part in zip(found, spectra, strict=True))  # by centring
    dims = n - lost, sum(part.dims[1] for part in spectra)
    beyond = _beyond(spectra, members, n)
    if sum(len(mean) for mean in means) > n:
        return _from_rows(placed, means, dims, beyond)
    return _from_cols(placed, means, dims, beyond)


def _matrix(spectrum: Spectrum) -> sparse.csr_array:
    """Return the ``Z`` that a spectrum was computed from, rows first."""
    if isinstance(spectrum.rows, Projected):
        return spectrum.rows.z.held()
    return spectrum.cols.z.held().T.tocsr()


def _placed_rows(z: sparse.csr_array, at: np.ndarray, n: int) -> sparse.csr_array:
    """Put the rows of a matrix, and a 1 behind each, at their places among ``n``."""
    marked = sparse.hstack([z, np.ones((z.shape[0], 1))], format="csr")
    place = sparse.csr_array((np.ones(len(at)), (at, np.arange(len(at)))), (n, len(at)))
    return sparse.csr_array(place @ marked)


def _from_cols(
    placed: Sequence[sparse.csr_array], means: Sequence[np.ndarray], dims: tuple[int, int], beyond: Any
) -> Spectrum:
    """Solve for the columns; the rows follow as projections."""
    z = NoiseFree(spread(InMemory(sparse.csr_array(sparse.hstack(placed, format="csr")))))
    centring = linalg.block_diag(*(np.vstack([np.eye(len(mean)), -mean]) for mean in means))
    square = to_host(z.moments()[0])
    values, cols = _solved(centring.T @ square @ centring, dims, z.rows.dtype)
    right = centring @ (cols / np.sqrt(values))
    return Spectrum(Projected(z, right, np.zeros(len(values)), partial(_vary, means)), Held(cols), values, dims, beyond)


def _from_rows(
    placed: Sequence[sparse.csr_array], means: Sequence[np.ndarray], dims: tuple[int, int], beyond: Any
) -> Spectrum:
    """Solve for the rows, fewer than columns; the columns follow."""
    parts = [(part[:, :-1], part[:, [-1]].toarray().ravel(), mean) for part, mean in zip(placed, means, strict=True)]
    square = sum(_centred_square(z, has, mean) for z, has, mean in parts)
    values, rows = _solved(square, dims, np.float64)
    scaled = rows / np.sqrt(values)
    cols = [z.T @ scaled - np.outer(mean, has @ scaled) for z, has, mean in parts]
    energies = sum(z.power(2).sum(axis=1) for z, _, _ in parts)
    still = without_variance(np.diag(square), energies, sum(dims) * np.finfo(np.float64).eps)
    return Spectrum(Held(np.where(still[:, None], 0.0, rows)), Held(np.vstack(cols)), values, dims, beyond)


def _centred_square(z: sparse.csr_array, has: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Compute ``(Z − 1mᵀ)(Z − 1mᵀ)ᵀ``, where 1 marks the rows that there are."""
    along = z @ mean
    cross = np.outer(along, has)
    return (z @ z.T).toarray() - cross - cross.T + (mean @ mean) * np.outer(has, has)


def _solved(square: np.ndarray, dims: tuple[int, int], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the positive eigenvalues, descending, and their eigenvectors."""
    ((values, vectors),) = eigh_all([square])
    kept = min(*dims, int((values > rounding_of(dtype) * values[0]).sum()))
    return values[:kept], vectors[:, :kept]


def _vary(means: Sequence[np.ndarray], z: NoiseFree) -> np.ndarray:
    """Mark the rows that deviate from the means: ``Σ_k ‖z_ik − m_k‖²`` over the matrices that have the row."""
    # the column of marks adds 1 to ‖z_ik‖², and brings ‖m_k‖² − 1
    energies, _, along = z.deviations(np.concatenate([np.append(-2.0 * mean, mean @ mean - 1.0) for mean in means])).T
    return ~without_variance(energies + along, energies, z.shape[1] * np.finfo(np.float64).eps)


def _beyond(spectra: Sequence[Spectrum], members: Sequence[np.ndarray], n: int) -> tuple[np.ndarray, None] | None:
    """Add up what is known of the rows' second moments beyond the modes."""
    if all(part.beyond is None for part in spectra):
        return None
    total = np.zeros((n, n))
    for part, at in zip(spectra, members, strict=True):
        if part.beyond is not None:
            total[np.ix_(at, at)] += part.beyond[0]
    return total, None


def joint_embedding(embeddings: Sequence[np.ndarray], members: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Put embeddings side by side and turn them to their principal axes.

    The coordinates that a row lacks are copied from the most similar row, by the cosine of the coordinates that both have,
    among the rows that have those lacking. An average over several rows would lie between kinds of rows, and all rows that
    lack the same would form a kind of their own.
    """
    known = np.zeros((n, len(embeddings)), dtype=bool)
    for k, at in enumerate(members):
        known[at, k] = True
    parts = [_placed(part, at, n) for part, at in zip(embeddings, members, strict=True)]
    filled = [part.copy() for part in parts]
    for pattern in np.unique(known[~known.all(1)], axis=0):
        rows = np.flatnonzero((known == pattern).all(1))
        given = np.hstack([parts[k] for k in np.flatnonzero(pattern)])
        for k in np.flatnonzero(~pattern):
            donors = np.flatnonzero(known[:, pattern].all(1) & known[:, k])
            if len(donors):
                filled[k][rows] = parts[k][donors[_nearest(given[rows], given[donors])]]
    side = np.hstack(filled)
    ((_, axes),) = eigh_all([side.T @ side])
    return side @ axes


def _nearest(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Find, for every row, the other one with the largest cosine."""
    length = np.linalg.norm(others, axis=1, keepdims=True)
    unit = np.divide(others, length, out=np.zeros_like(others), where=length > 0)
    step = max(1, block_size(_SCORES) // len(others))
    return np.concatenate([(rows[at : at + step] @ unit.T).argmax(1) for at in range(0, len(rows), step)])


def _placed(values: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    full = np.zeros((n, values.shape[1]), values.dtype)
    full[at] = values
    return full


def bytes_needed(n: int, p: int, n_entries: int) -> int:
    """Estimate the memory for so many rows, and columns and entries of all matrices together, in bytes."""
    return 60 * n_entries + 8 * 8 * min(n, p) ** 2
