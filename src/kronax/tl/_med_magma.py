import warnings
from importlib.metadata import version
from typing import Any, Literal

import jax
import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax import _keys, _validate
from kronax._isolated import expand, expand_square, warn_of_isolated
from kronax._logging import logger, shows_progress
from kronax.solvers import em
from kronax.solvers.graph import Graph, affinity_graph, on_edges, partial_correlation_graph
from kronax.solvers.precision import Precision, dense, mean_diagonal

PENALTIES = ("shrinkage",)


def med_magma(
    adata: AnnData,
    *,
    layer: str | None = None,
    n_neighbors: int | None = 15,
    penalty: Literal["shrinkage"] = "shrinkage",
    power: float | None = None,
    center: bool = True,
    n_comps: int = 50,
    max_iter: int = 1,
    tol: float = 1e-3,
    key_added: str = _keys.MED_MAGMA,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | None:
    r"""Learn a cell graph and a gene graph together, unharmed by multiplicative noise.

    The model is :math:`X = \operatorname{diag}(r)\, Z^{1/γ} \operatorname{diag}(c)` (a power of every entry, its sign
    kept) with unknown scales :math:`r_i > 0` of the cells and :math:`c_j > 0` of the genes, and a Gaussian :math:`Z` whose precision matrix is the Kronecker sum :math:`Ψ ⊕ Φ` of one over cells and one over genes.
    Multiplying any cell or gene by any positive number changes nothing but the scales that are reported.

    Counts and log-normalised values are both good input. Choose highly variable genes first, as for
    :func:`scanpy.pp.pca`.

    Parameters
    ----------
    adata
        Cells × genes. Dense or sparse (which stays sparse), any real dtype; negative values are allowed.
    layer
        Layer to read; `adata.X` if None.
    n_neighbors
        Neighbours of every cell and of every gene in the graphs, itself not counted: from 2 to one less than there are
        cells. Genes get as many, or all others if there are fewer. None connects all cells, and all genes, whose
        affinity is positive and writes the complete precision matrices.
    penalty
        How the precision matrices are kept from following the noise: ``"shrinkage"``, nonlinear shrinkage of both
        spectra.
    power
        :math:`γ`. If None, 1 for a matrix with negative values; otherwise as much compression as the Gaussian model
        needs: the largest :math:`γ ≤ 1` that brings the root mean square of the quotient's logarithm down to ½. Data
        and any power of them then give nearly the same graphs.
    center
        Estimate a mean for every gene, behind the scales, so that precision matrices describe deviations from it.
    n_comps
        Most coordinates of the embedding.
    max_iter
        Steps of expectation maximisation, at most. The first, matrix scaling and one fit of the model, is the default
        because more did not make better graphs in our benchmarks. From the third step on, one that changes more than
        the step before it is dropped, and EM ends.
    tol
        Expectation maximisation has converged when a step changes :math:`\log|Z|` by less, root mean square.
    key_added
        Name of what is written; ``key`` below.
    random_state
        Stored for the scanpy functions that read it. The method itself draws no random numbers.
    copy
        Return a copy and leave `adata` as it is.

    Returns
    -------
    None, or with ``copy=True`` the AnnData object that was written to. For cells in ``obsp``, for genes in ``varp``:

    ``key_connectivities`` : CSR matrix, float64
        Edge weights in (0, 1], symmetric, no diagonal. Cells: neighbours by the cosine of their denoised profiles,
        weighted as in UMAP. Genes: the largest positive partial correlations.
    ``key_distances`` : CSR matrix, float64
        The same edges: distance of the denoised profiles at unit length; :math:`\sqrt{2 - 2ρ}` for genes.
    ``key_precision`` : CSR matrix, float64
        :math:`Ψ` and :math:`Φ`, signed, on the same edges and the diagonal. What belongs together is negative. An
        entry is conditional on all other cells (genes) of the matrix, also after subsetting.

    and

    ``adata.obsm["X_key"]``, ``adata.varm["key"]`` : cells × k and genes × k, float64
        Coordinates of cells and genes in the denoised :math:`Z`.
    ``adata.obs["key_log_scale"]``, ``adata.var["key_log_scale"]`` : float64
        :math:`\log r` and :math:`\log c`, natural logarithms; those of the genes average to 0.
    ``adata.uns["key"]`` : dict
        What scanpy's ``neighbors_key`` needs (``connectivities_key``, ``distances_key``, ``params``), and
        ``precision_key``, ``converged``, ``reason``, ``n_iter``, ``objective`` (negative log-likelihood per entry at
        every step taken, a dropped one included), ``rank``
        and ``noise`` (directions above the noise, its standard deviation), ``power``, ``dispersion``, ``version``.

    Cells and genes without a non-zero value are reported, take no part, and come back without edges, with zeros for
    coordinates and NaN for a scale.

    Raises
    ------
    KeyError
        If there is no such layer.
    FloatingPointError
        If the estimate is not finite. Nothing is written then.
    MemoryError
        If the work will not fit.
    TypeError
        If the matrix is not numeric and real, or not in memory.
    ValueError
        If `adata` is backed, a parameter is out of range, or the matrix has NaN or infinite values or fewer than two
        cells or genes with non-zero values, or nothing varies but the scales.

    References
    ----------
    :cite:t:`Andrew2026`; corrected and extended as :doc:`/methods` describes.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.med_magma(adata)
    >>> sc.tl.leiden(adata, neighbors_key="med_magma", flavor="igraph", n_iterations=2, directed=False)
    >>> adata.obsp["med_magma_connectivities"].shape
    (700, 700)
    """
    _validate.is_anndata(adata)
    _validate.name(key_added, "key_added")
    _validate.one_of(penalty, PENALTIES, "penalty")
    _validate.integer(random_state, "random_state", low=0)
    _validate.integer(n_comps, "n_comps", low=2)
    _validate.integer(max_iter, "max_iter", low=1)
    _validate.positive(tol, "tol")
    _validate.one_of(center, (True, False), "center")
    if power is not None:
        _validate.positive(power, "power")
        power = float(power)
    if n_neighbors is not None:
        _validate.integer(n_neighbors, "n_neighbors", low=2)
    counts = _validate.counts(adata, layer)
    n, p = counts.matrix.shape
    if n_neighbors is not None:
        _validate.integer(n_neighbors, "n_neighbors", low=2, high=n - 1, why=f" ({n} cells have non-zero values)")
    _validate.memory(
        em.bytes_needed(n, p, counts.matrix.nnz, complete=n_neighbors is None),
        "Choose fewer genes with sc.pp.highly_variable_genes, or fewer cells"
        + (", or a number for `n_neighbors`." if n_neighbors is None else "."),
    )
    _log_start(counts)

    progress = shows_progress()
    fit = em.fit(
        counts.matrix, power=power, center=center, n_comps=n_comps, max_iter=max_iter, tol=tol, progress=progress
    )
    _require_finite(*(array for axis in (fit.rows, fit.cols) for array in (axis.embedding, axis.log_scale)))
    complete = n_neighbors is None
    cells = affinity_graph(fit.rows.embedding, n - 1 if complete else n_neighbors, progress=progress)
    genes = partial_correlation_graph(
        fit.cols.precision,
        mean_diagonal(fit.rows.precision),
        p - 1 if complete else min(n_neighbors, p - 1),
        progress=progress,
    )
    params = {
        "method": "med_magma",
        "n_neighbors": n - 1 if complete else int(n_neighbors),
        "metric": "cosine",
        "random_state": int(random_state),
        "use_rep": _keys.graph_keys(key_added).obsm,
        "layer": layer,
        "penalty": penalty,
        "power": power,
        "center": bool(center),
        "n_comps": int(n_comps),
        "max_iter": int(max_iter),
        "tol": float(tol),
    }
    obsp = _square(cells, fit.rows.precision, counts.cells, counts.shape[0], complete=complete)
    varp = _square(genes, fit.cols.precision, counts.genes, counts.shape[1], complete=complete)
    _require_finite(*(matrix.data for part in (obsp, varp) for matrix in part.values()))

    adata = adata.copy() if copy else adata
    _write(adata, key_added, fit, counts, obsp, varp, params)
    warn_of_isolated(adata, counts)
    _warn_of_fit(fit)
    return adata if copy else None


def _log_start(counts: _validate.Counts) -> None:
    (n, p), nnz = counts.matrix.shape, counts.matrix.nnz
    (device,) = jax.numpy.zeros(()).devices()
    logger.info("med_magma: %d cells × %d genes, %d non-zeros, float64 on %s", n, p, nnz, device)


def _square(
    graph: Graph, precision: Precision, positions: np.ndarray, n: int, *, complete: bool
) -> dict[str, sparse.csr_matrix]:
    """Give the three matrices of one axis under the names of their keys."""
    signed = sparse.csr_array(dense(precision)) if complete else on_edges(precision, graph)
    matrices = {"connectivities": graph.connectivities, "distances": graph.distances, "precision": signed}
    return {name: expand_square(matrix, positions, n) for name, matrix in matrices.items()}


def _require_finite(*arrays: np.ndarray) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        msg = (
            "The estimate is not finite; nothing was written. Values that differ by very many orders of magnitude can "
            "be the cause: try a smaller `power`, or look for outliers."
        )
        raise FloatingPointError(msg)


def _write(
    adata: AnnData,
    key_added: str,
    fit: em.Fit,
    counts: _validate.Counts,
    obsp: dict[str, sparse.csr_matrix],
    varp: dict[str, sparse.csr_matrix],
    params: dict[str, Any],
) -> None:
    keys = _keys.graph_keys(key_added)
    n, p = counts.shape
    for name in ("connectivities", "distances", "precision"):
        adata.obsp[getattr(keys, name)] = obsp[name]
        adata.varp[getattr(keys, name)] = varp[name]
    adata.obsm[keys.obsm] = expand(fit.rows.embedding, counts.cells, n)
    adata.varm[keys.varm] = expand(fit.cols.embedding, counts.genes, p)
    adata.obs[keys.log_scale] = expand(fit.rows.log_scale, counts.cells, n, fill=np.nan)
    adata.var[keys.log_scale] = expand(fit.cols.log_scale, counts.genes, p, fill=np.nan)
    adata.uns[keys.uns] = {
        "connectivities_key": keys.connectivities,
        "distances_key": keys.distances,
        "precision_key": keys.precision,
        "params": params,
        "converged": fit.converged,
        "reason": fit.reason,
        "n_iter": fit.n_iter,
        "objective": fit.objective,
        "rank": fit.rank,
        "noise": fit.noise,
        "power": fit.power,
        "dispersion": fit.dispersion,
        "version": version("kronax"),
    }


def _warn_of_fit(fit: em.Fit) -> None:
    """Warn of what the user should know about the result."""
    if not fit.converged:
        msg = f"med_magma did not converge: {fit.reason}."
        warnings.warn(msg, UserWarning, stacklevel=3)
    if fit.rank < 2:
        msg = f"{fit.rank} directions rise above the noise: cells and genes show no structure, and the graphs mean little."
        warnings.warn(msg, UserWarning, stacklevel=3)
