"""The coordinates of the genes in which a tensor is smoothed."""

from dataclasses import dataclass

import numpy as np
from jax import Array

from kronax.solvers import device
from kronax.solvers.device import to_device, to_host
from kronax.solvers.tensor.completion import whole_fibers
from kronax.solvers.tensor.means import two_means
from kronax.solvers.tensor.unfold import shared_size
from kronax.solvers.tensor.wiener.options import KroneckerOptions


@dataclass(frozen=True)
class Task:
    """A tensor ``(D, C, r)`` in the coordinates in which it is smoothed.

    ``values`` are NaN where missing; ``basis`` (r, G) leads back to the genes, None if these are the coordinates;
    ``axes`` (r, k) are the genes' eigenvectors in these coordinates, None if they are the coordinates themselves;
    ``n_axes`` is the number of eigenvalues of the genes' kernel that can differ from 0.
    """

    values: np.ndarray
    basis: np.ndarray | None
    axes: Array | None
    n_axes: int
    gene_power: float
    dtype: type


def rotate(values: np.ndarray, measured: np.ndarray, options: KroneckerOptions) -> Task:
    """Choose the genes' coordinates: their principal axes, of the measured fibers if these are whole."""
    n_genes = values.shape[2]
    dtype = np.float32 if options.single_precision else np.float64
    if whole_fibers(measured):
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
