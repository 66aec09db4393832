"""Several matrices that share their rows: one graph of the rows, one of the columns of each.

Side by side, the matrices are one, whose columns depend on each other only within a matrix: ``Ψ`` is common, ``Φ``
block-diagonal. A row that matrix ``k`` lacks adds nothing to ``S₁ = Σ_k Z_k Z_kᵀ``. In the denoised ``Z_k`` it gets the
place of the row that is most similar to it in the other matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kronax.solvers.device import block_size, eigh_all
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.precision import Precision
from kronax.solvers.gaussian.spectral import Spectrum
from kronax.solvers.gaussian.vectors import Held
from kronax.solvers.status import Status

_ROUNDING = 1e-12  # eigenvalues below this share of the largest count as zero
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
        Of the noise-free matrices ``Z_k``, of unit mean square each.
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

    With ``Z_k = U_k diag(√e_k) V_kᵀ``, the spectrum of ``C = [U_1√e_1, U_2√e_2, …]`` is enough. The eigenvectors of its
    rows are those sought; from those of its columns, ``W``, those of the columns sought are ``V_k W_k``.
    """
    parts = [
        _placed(part.rows.array() * np.sqrt(part.eigenvalues), at, n) for part, at in zip(spectra, members, strict=True)
    ]
    coordinates = np.hstack(parts)
    lost = max(part.rows.shape[0] - part.dims[0] for part in spectra)  # by centring
    dims = n - lost, sum(part.dims[1] for part in spectra)
    wide = coordinates.shape[1] > n
    ((values, vectors),) = eigh_all([coordinates @ coordinates.T if wide else coordinates.T @ coordinates])
    kept = min(*dims, int((values > _ROUNDING * values[0]).sum()))
    values, vectors = values[:kept], vectors[:, :kept]
    others = (coordinates.T if wide else coordinates) @ (vectors / np.sqrt(values))
    rows, weights = (vectors, others) if wide else (others, vectors)
    rows = np.where(coordinates.any(axis=1)[:, None], rows, 0.0)  # rows that do not vary have no part in any direction
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    cols = [part.cols.array() @ weight for part, weight in zip(spectra, np.split(weights, ends), strict=True)]
    return Spectrum(Held(rows), Held(np.vstack(cols)), values, dims, _beyond(spectra, members, n))


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


def bytes_needed(n: int, n_directions: int) -> int:
    """Estimate the memory for so many rows and directions of all matrices together, in bytes."""
    return 8 * (3 * n * n_directions + 6 * min(n, n_directions) ** 2)
