"""The coordinates of the genes in which a tensor is smoothed."""

from dataclasses import dataclass, replace

import numpy as np
from jax import Array

from kronax.solvers import device
from kronax.solvers.device import to_device, to_host
from kronax.solvers.tensor.completion import whole_fibers
from kronax.solvers.tensor.means import two_means
from kronax.solvers.tensor.side import NOTHING, Links, Side
from kronax.solvers.tensor.unfold import shared_size
from kronax.solvers.tensor.wiener.options import KroneckerOptions

MOST_WEIGHT = 10.0  # times the usual one: noise is small then anyway, and sweeps would hardly move the others


@dataclass(frozen=True)
class Task:
    """A tensor ``(D, C, r)`` in the coordinates in which it is smoothed.

    ``values`` are NaN where missing; ``basis`` (r, G) leads back to the genes, None if these are the coordinates;
    ``axes`` (r, k) are the genes' eigenvectors in these coordinates, None if they are the coordinates themselves;
    ``n_axes`` is the number of eigenvalues of the genes' kernel that can differ from 0.

    Side information: ``similarity`` (D, D) of the treatments, the one in their kernel; what ``links`` contexts; precisions as
    ``weights`` (D, C, 1 or r), 1 for the usual one, at most :data:`MOST_WEIGHT`. None where there is none.
    """

    values: np.ndarray
    basis: np.ndarray | None
    axes: Array | None
    n_axes: int
    gene_power: float
    dtype: type
    similarity: np.ndarray | None = None
    links: Links | None = None
    weights: np.ndarray | None = None


def rotate(values: np.ndarray, measured: np.ndarray, options: KroneckerOptions, side: Side = NOTHING) -> Task:
    """Choose the genes' coordinates: their principal axes, of the measured fibers if these are whole and of one precision."""
    task = _rotated(values, measured, options, side.weights is None or side.weights.shape[2] == 1)
    return replace(task, links=side.contexts, weights=relative_weights(side.weights, ~np.isnan(task.values)))


def relative_weights(weights: np.ndarray | None, measured: np.ndarray) -> np.ndarray | None:
    """Divide weights by their median over what was measured; above, they are cut off."""
    if weights is None:
        return None
    known = measured.any(axis=2, keepdims=True) if weights.shape[2] == 1 else measured
    return np.where(known, np.minimum(weights / np.median(weights[known]), MOST_WEIGHT), 0.0)


def _rotated(values: np.ndarray, measured: np.ndarray, options: KroneckerOptions, freely: bool) -> Task:
    n_genes = values.shape[2]
    dtype = np.float32 if options.single_precision else np.float64
    if freely and whole_fibers(measured):
        rows = values[measured[:, :, 0]].astype(np.float64)
        axes = _principal_axes(rows)
        n_axes = axes.shape[1]
        size = min(n_genes, shared_size(n_axes))
        basis = np.zeros((size, n_genes))
        basis[:n_axes] = axes.T
        scores = np.full((*measured.shape[:2], size), np.nan, dtype)
        scores[measured[:, :, 0]] = rows @ basis.T
        return Task(scores, basis, None, n_axes, options.gene_power, dtype)
    axes = None
    if options.gene_power > 0:
        start = np.where(measured, values, two_means(values)[0])
        axes = to_device(_principal_axes(start.reshape(-1, n_genes)), dtype)
    return Task(values.astype(dtype), None, axes, n_genes if axes is None else axes.shape[1], options.gene_power, dtype)


def _principal_axes(rows: np.ndarray) -> np.ndarray:
    """Return the principal axes of a matrix, not centred, ``(G, min(n, G))``, the largest first."""
    if len(rows) >= rows.shape[1]:
        return _axes(rows.T @ rows)
    span, coordinates = map(to_host, device.qr(rows.T))
    return span @ _axes(coordinates @ coordinates.T)


def _axes(matrix: np.ndarray) -> np.ndarray:
    return to_host(device.eigh(matrix)[1])[:, ::-1]
