from collections.abc import Mapping
from typing import Literal

import numpy as np
from anndata import AnnData
from mudata import MuData

from kronax import _graphs, _keys, _validate
from kronax._logging import shows_progress
from kronax.solvers import em


def med_magma(
    data: AnnData | MuData,
    *,
    layer: str | None | Mapping[str, str | None] = None,
    n_neighbors: int | None = 15,
    weights: Literal["affinity", "partial_correlation"] = "affinity",
    penalty: Literal["shrinkage", "ridge", "l1"] = "shrinkage",
    strength: float | tuple[float, float] | None = None,
    laplace: bool | Literal["auto"] = False,
    power: float | None = None,
    center: bool = True,
    joint: bool = False,
    n_comps: int = 50,
    max_iter: int = 1,
    tol: float = 1e-3,
    key_added: str = _keys.MED_MAGMA,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    r"""Learn a cell graph and a gene graph together, unharmed by multiplicative noise.

    The model is :math:`X = \operatorname{diag}(r)\, Z^{1/γ} \operatorname{diag}(c)` (a power of every entry, its sign
    kept) with unknown scales :math:`r_i > 0` of the cells and :math:`c_j > 0` of the genes, and a Gaussian :math:`Z` whose precision matrix is the Kronecker sum :math:`Ψ ⊕ Φ` of one over cells and one over genes.
    Multiplying any cell or gene by any positive number changes nothing but the scales that are reported.

    Counts and log-normalised values are both good input. Choose highly variable genes first, as for
    :func:`scanpy.pp.pca`.

    Of a MuData object the modalities share the cells: :math:`Ψ` is common to all, every modality :math:`k` has scales
    of its own for cells and features and a precision :math:`Φ_k` of its features. A cell need not be in every modality;
    in the denoised values of one that lacks it, it stands where the cell does that is most like it in the others.

    Parameters
    ----------
    data
        Cells × genes, or several modalities with common cells, matched by name. Dense or sparse (which stays sparse),
        any real dtype. Negative values are allowed, since :math:`Z` has them, and warned of: where they come from
        centring, scaling or log-ratios, multiplicative noise is no longer a scale of the matrix and is not taken away.
    layer
        Layer to read, in every modality; `X` if None. Where modalities differ, a mapping from every one of them to its
        layer or None, such as ``{"rna": "counts", "protein": None}``. To leave a modality out, hand over the others:
        ``mudata.MuData({name: mdata[name].copy() for name in ("rna", "protein")})``.
    n_neighbors
        Neighbours of every cell and of every gene in the graphs, itself not counted: from 2 to one less than there are
        cells. Genes get as many, or all others if there are fewer. None connects all cells, and all genes, whose
        affinity is positive and writes the complete precision matrices.
    weights
        What connects two cells. ``"affinity"``: the cosine of their denoised profiles, which separates cell types best;
        the edges are weighted as in UMAP. ``"partial_correlation"``: the largest positive partial correlations, as for
        genes.
    penalty
        How the precision matrices are kept from following the noise. ``"shrinkage"``: nonlinear shrinkage of both
        spectra. ``"ridge"``: :math:`ρ\,\|Ψ ⊕ Φ\|^2` is added to the negative log-likelihood. ``"l1"``: the absolute
        entries off the diagonals, so that most are exactly zero; needs cells × cells and genes × genes matrices. Its time
        grows with the cube of the larger of the two: of real counts, seconds for some hundred cells and genes, a minute
        for 133 cells and 500 genes, more than four for 500 and 1,500. Select fewer genes for it. `penalty`, `strength`,
        `joint` and `laplace` change the precision matrices and the gene graph, not which cells are neighbours, but with
        ``weights="partial_correlation"``.
    strength
        Of a ridge, in units of the squared mean variance, up to 1e10; if None, what makes held-out data most likely. Of an l1
        penalty, on the scale of correlations, up to 1, one for cells and genes or one for each; if None
        :math:`\sqrt{2\log n/p}` for :math:`n` cells and :math:`\sqrt{2\log p/n}` for :math:`p` genes, which correlations
        of noise alone seldom exceed.
    laplace
        Whether the E-step takes the uncertainty of the scales into account, to second order (Laplace's approximation), or
        the most likely scales alone. It changes second moments by a share of about :math:`1/n + 1/p` and needs the
        inverse of an :math:`(n + p) × (n + p)` matrix; ``"auto"`` does it where the share is above 1%, cells and genes
        together are at most 1,000, and there are at least twice as many non-zero values as scales. Edges were not found
        better with it in our benchmarks, and those between nearly collinear genes worse.
    power
        :math:`γ`. If None, 1 for a matrix with negative values, be it a single one; otherwise as much compression as the Gaussian model
        needs: the largest :math:`γ ≤ 1` that brings the root mean square of the quotient's logarithm down to ½. Data
        and any power of them then give nearly the same graphs.
    center
        Estimate a mean for every gene, behind the scales, so that precision matrices describe deviations from it.
    joint
        With shrinkage, how the precision matrices of cells and genes are fitted. If False, each with the other axis at its mean: what both
        axes could explain, such as the programs that make cell types, is in both. If True, together as in the paper: they
        share it out. In our benchmarks the graphs of the former were never worse, and those of gene networks better.
        A ridge and an l1 penalty are fitted together in any case.
    n_comps
        Most coordinates of the embedding.
    max_iter
        Steps of expectation maximisation, at most. The first, matrix scaling and one fit of the model, is the default
        because more did not make better graphs in our benchmarks. From the third step on, one that changes more than
        the step before it is dropped, and EM ends.
    tol
        Expectation maximisation has converged when a step changes :math:`\log|Z|` by less, root mean square.
    key_added
        Name of what is written; ``key`` below. With ``"neighbors"``, graphs are written as ``connectivities`` and
        ``distances``, in the place of those of :func:`scanpy.pp.neighbors`, and scanpy's functions find them without a
        `neighbors_key`.
    random_state
        Stored for the scanpy functions that read it. The method itself draws no random numbers.
    copy
        Return a copy and leave `data` as it is.

    Returns
    -------
    None, or with ``copy=True`` the object that was written to. For cells in ``obsp``, for genes in ``varp``:

    ``key_connectivities`` : CSR matrix, float64
        Edge weights in (0, 1], symmetric, no diagonal. Cells: as `weights` says. Genes: the largest positive partial
        correlations.
    ``key_distances`` : CSR matrix, float64
        The same edges: distance of the denoised profiles at unit length; for partial correlations
        :math:`\sqrt{2 - 2ρ}`.
    ``key_precision`` : CSR matrix, float64
        :math:`Ψ` and :math:`Φ`, signed, on the same edges and the diagonal. What belongs together is negative. An
        entry is conditional on all other cells (genes) of the matrix, also after subsetting. By default in the unit in
        which the diagonal is ½: off the diagonal stand partial correlations, with their sign turned.

    and

    ``adata.obsm["X_key"]``, ``adata.varm["key"]`` : cells × k and genes × k, float64
        Coordinates of cells and genes in the denoised :math:`Z`.
    ``adata.obs["key_log_scale"]``, ``adata.var["key_log_scale"]`` : float64
        :math:`\log r` and :math:`\log c`, natural logarithms; those of the genes average to 0.
    ``adata.uns["key"]`` : dict
        What scanpy's ``neighbors_key`` needs (``connectivities_key``, ``distances_key``, ``params``), and
        ``precision_key``, ``converged``, ``reason``, ``n_iter``, ``objective`` (negative log-likelihood per entry at
        every step taken, a dropped one included), ``strength`` of the penalty, ``rank``
        and ``noise`` (directions above the noise, its standard deviation), ``power``, ``dispersion``, ``version``.

    Of a MuData object, what is said of cells is written to the object itself, but for the scales, which are those of a
    modality: these and what is said of genes to the modality, with a ``uns["key"]`` of its own. That of the object tells
    ``converged``, ``reason``, ``objective``, the ``modalities`` and how many cells take part in each (``n_cells``).

    Cells and genes without a non-zero value are reported, take no part, and come back without edges, with zeros for
    coordinates and NaN for a scale. Also reported are non-zero values that fall apart into blocks without a common cell or
    gene, and graphs without an edge.

    Raises
    ------
    KeyError
        If there is no such layer.
    FloatingPointError
        If the estimate is not finite. Nothing is written then.
    MemoryError
        If the work will not fit.
    TypeError
        If `layer` is a mapping and `data` an AnnData object, or the matrix is not numeric and real, or not in memory.
    ValueError
        If `data` is backed, a parameter is out of range, a matrix has NaN or infinite values or fewer than two cells or
        genes with non-zero values, nothing varies but the scales, with an l1 penalty some cell or gene does not, or cell
        names of a modality are not unique, unknown to the object or in no other modality.

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
    _graphs.check(
        key_added=key_added,
        weights=weights,
        center=center,
        n_comps=n_comps,
        n_neighbors=n_neighbors,
        random_state=random_state,
    )
    _validate.integer(max_iter, "max_iter", low=1)
    _validate.positive(tol, "tol")
    _validate.auto_or_boolean(laplace, "laplace")
    if power is not None:
        _validate.positive(power, "power")
        power = float(power)
    chosen = _graphs.penalty(penalty, strength, joint=joint)
    matrices = _graphs.read(data, layer)
    _graphs.require(matrices, n_neighbors, chosen, laplace=laplace != "auto" and bool(laplace))
    _graphs.log_start("med_magma", matrices)
    _graphs.warn_of_negative(data, matrices, layer, power)

    progress = shows_progress()
    settings = {
        "layer": dict(layer) if isinstance(layer, Mapping) else layer,
        "weights": weights,
        "laplace": laplace if laplace == "auto" else bool(laplace),
        "power": power,
        "center": bool(center),
        "penalty": penalty,
        "strength": None if strength is None else np.atleast_1d(np.asarray(strength, dtype=float)),
        "joint": bool(joint),
        "n_comps": int(n_comps),
        "max_iter": int(max_iter),
        "tol": float(tol),
        "random_state": int(random_state),
    }
    with _graphs.threads(matrices):
        fits = {
            name: em.fit(
                found.matrix,
                power=power,
                center=center,
                penalty=_graphs.of_each(matrices, chosen),
                laplace=None if laplace == "auto" else bool(laplace),
                n_comps=n_comps,
                max_iter=max_iter,
                tol=tol,
                progress=progress,
            )
            for name, found in matrices.counts.items()
        }
        return _graphs.finish(
            data,
            "med_magma",
            matrices,
            fits,
            chosen,
            n_neighbors,
            settings,
            key_added=key_added,
            copy=copy,
            progress=progress,
        )
