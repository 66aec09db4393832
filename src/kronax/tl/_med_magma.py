from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from anndata import AnnData
from mudata import MuData

from kronax._data import batches, graph_in, graph_out, groups, keys, neighbours, objects
from kronax._logging import shows_progress
from kronax.solvers import checks
from kronax.solvers.medmagma import em
from kronax.solvers.scales.laplace import Laplace

MED_MAGMA_2026: Mapping[str, Any] = MappingProxyType(
    {
        "weights": "absolute",
        "penalty": "ridge",
        "strength": 100.0,
        "joint": True,
        "laplace": True,
        "power": 1.0,
        "center": False,
        "max_iter": 100,
        "tol": 1e-3,
    }
)
"""Arguments for :func:`kronax.tl.med_magma`: the algorithm of :cite:t:`Andrew2026`, corrected."""


def med_magma(
    data: AnnData | MuData,
    *,
    layer: str | None | Mapping[str, str | None] = None,
    batch_key: str | None = None,
    batch_scales: Literal["pooled", "separate"] = "pooled",
    graphs: Literal["both", "cells", "genes"] = "both",
    groupby: str | None = None,
    n_neighbors: int | None = 15,
    q_max: float | None = None,
    weights: Literal["affinity", "partial_correlation", "absolute"] = "affinity",
    recall: float = neighbours.RECALL,
    transformer: neighbours.Transformer | Literal["pynndescent", "sklearn"] | None = None,
    cell_precision: bool | Literal["auto"] = "auto",
    penalty: Literal["shrinkage", "ridge", "l1"] = "shrinkage",
    strength: float | tuple[float, float] | None = None,
    laplace: bool | Literal["auto"] = False,
    power: float | None = None,
    center: bool = True,
    joint: bool = False,
    n_comps: int = 50,
    max_iter: int = 1,
    tol: float = 1e-3,
    key_added: str = keys.MED_MAGMA,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    r"""Learn a cell graph and a gene graph jointly, robust to multiplicative noise.

    The model is :math:`X = \operatorname{diag}(r)\, Z^{1/γ} \operatorname{diag}(c)`, where the power acts on absolute
    values and keeps signs. The scales :math:`r_i > 0` of the cells and :math:`c_j > 0` of the genes are unknown, and
    :math:`Z` is Gaussian with the Kronecker sum :math:`Ψ ⊕ Φ` of a precision matrix of the cells and one of the genes
    as its precision. Multiplying any cell or gene by any positive number changes nothing but the reported scales.

    Counts and log-normalised values are both good input. Select highly variable genes first, as for
    :func:`scanpy.pp.pca`.

    The modalities of a MuData object share their cells: :math:`Ψ` is common to all, and every modality :math:`k` has
    its own scales of cells and features and its own precision :math:`Φ_k` of the features. A cell may be absent from
    some modalities. In the denoised values of such a modality, it takes the coordinates of its most similar cell,
    judged by the others.

    Parameters
    ----------
    data
        Cells × genes, or several modalities with common cells, matched by name. Dense or sparse (which stays sparse),
        any real dtype. The matrix may also be a dask array in chunks of whole rows, or in the file of a backed object, if
        it has more cells than genes: see :doc:`/large_data`. Negative values are allowed, since :math:`Z` has them, but a warning is given: if they come from
        centring, scaling or log-ratios, multiplicative noise is no longer a scale of the matrix and is not removed.
    layer
        Layer to read, in every modality; `X` if None. If modalities differ, a mapping from each of them to its layer or
        None, such as ``{"rna": "counts", "protein": None}``. To leave a modality out, pass an object of the others:
        ``mudata.MuData({name: mdata[name].copy() for name in ("rna", "protein")})``.
    batch_key
        Column of ``obs`` with the batch of every cell, if genes are detected differently in different batches: every gene then has
        a scale of its own in each. Of a MuData object, a column of its own ``obs``, or else of the ``obs`` of every modality. See
        :doc:`/batches`.
    batch_scales
        How these scales are found. ``"pooled"``: cells that match across batches tell how the scale of a gene differs from the common
        one. The difference counts in full where many cells show it, and not at all where it is no larger than chance would have
        it, so that batches without a difference stay as they are. ``"separate"``: every batch by itself, and then as before from
        the cells that match. Multiplying any gene of any batch by any positive number then changes nothing but the reported scales.
        It takes differences in the composition of batches for differences in scale where matching cells do not contradict it, and
        costs accuracy in batches of few cells.
    graphs
        ``"cells"`` or ``"genes"`` to learn one graph alone. The cell graph takes about a quarter of the time of both if
        `weights` is ``"affinity"``, because it then needs no precision matrix.
    groupby
        Column of ``obs`` with a group of every cell, such as its type or cluster. The precision of the genes is then the sum of two: within
        groups, of deviations from the means of the cell's own group, which counts twice, and of what the means of the groups tell. Edges of genes that are only high and low in the same
        groups become weaker, and an edge is significant only if it is so within groups, with the sign that it has in all cells: see :doc:`/judging`. If None, and with at least fifty genes,
        up to sixty-four clusters of the cells' coordinates are found, if there are any. What is significant is then as with named groups and, with at least five cells per gene, the precision
        too; which genes are connected, and by what weights, is a matter of all cells, so that the sign of a weak edge's precision can differ. A column with one value for all cells says
        that there are no groups, and none are looked for. The graph of the cells never changes. Of a MuData object, a column as for `batch_key`. Groups need the default `penalty`, `joint`,
        `laplace` and `center`, and take 1.3 to 1.8 times as long.
    n_neighbors
        Number of neighbours of every cell and of every gene, itself not counted; from 2 to one less than the number of
        cells. Genes get as many, or all others if there are fewer. None connects all pairs with a positive affinity or
        partial correlation, and writes the complete precision matrices. Edges of cells that are 500 times weaker than
        the strongest (200 times above 10,000 cells) are left out in any case, because UMAP would delete them in place.
    q_max
        Connect genes by all partial correlations, positive or negative, with a q-value of at most this, instead of the
        `n_neighbors` largest positive ones: a share of about `q_max` of these edges is expected to be false. At most 0.3. Genes
        without such an edge stay without. Leiden and UMAP take positive weights, so negative edges are in the precision and the p-
        and q-values alone.
    weights
        How cells are connected. ``"affinity"``: by the cosine of their denoised profiles, with the edge weights of
        UMAP; it separates cell types best. ``"partial_correlation"``: by the largest positive partial correlations, as
        for genes. ``"absolute"``: cells and genes by the largest absolute values of their precision, as in the paper;
        this also connects those that exclude each other.
    recall
        Share of the true nearest neighbours that the search for neighbouring cells has to find, in the mean over all cells; 1 for
        all. Up to 8,192 cells, on a GPU, and for all `weights` but ``"affinity"``, all are found anyway. The search is
        approximate otherwise, and how far it goes is set by cells whose neighbours are known.
    transformer
        What finds neighbouring cells instead, as in :func:`scanpy.pp.neighbors`: ``"pynndescent"``, ``"sklearn"`` (exact), or any
        object like :class:`sklearn.neighbors.KNeighborsTransformer`. It gets the denoised profiles scaled to unit length and has to
        return the Euclidean or cosine distances from every cell to at least `n_neighbors` others, whether or not the cell
        itself is among them. The nearest `n_neighbors` others are used, and cells for which it found fewer are searched for
        exactly. Only for ``weights="affinity"``, and not for the graph of the genes alone; nor is `recall`.
    cell_precision
        Whether to write the precision of the cells on their edges, which takes time beyond that of the graphs. ``"auto"``: if both
        graphs are learnt from a matrix in memory with at most 5,000 cells or ``n_neighbors=None``, or if cells are connected
        by it (`weights`). With many more cells than genes, it is mostly that of whitened noise.
    penalty
        Regularisation of the precision matrices. ``"shrinkage"``: nonlinear shrinkage of both spectra. ``"ridge"``:
        :math:`ρ\,\|Ψ ⊕ Φ\|^2` is added to twice the negative log-likelihood. ``"l1"``: a lasso on the off-diagonal entries,
        most of which become exactly zero. It needs cells × cells and genes × genes matrices, and its time grows with
        the cube of the larger number: on real counts, seconds for some hundred cells and genes, a minute for 133 cells
        and 500 genes, more than four for 500 and 1,500, so select fewer genes. `penalty`, `strength`, `joint` and
        `laplace` change the precision matrices and the gene graph; with the default `weights` they do not change the
        neighbours of cells.
    strength
        Strength of the penalty. For a ridge: in units of the squared mean variance, up to 1e10; if None, the strength
        that maximises the likelihood of held-out data. For an l1 penalty: on the scale of correlations, up to 1, one
        number or a pair for cells and genes; if None, :math:`\sqrt{2\log n/p}` for :math:`n` cells and
        :math:`\sqrt{2\log p/n}` for :math:`p` genes, which correlations of pure noise rarely exceed.
    laplace
        Whether the E-step also accounts for the uncertainty of the scales, to second order (Laplace's approximation),
        instead of using their most likely values alone. This reproduces the paper: in our benchmarks it did
        not improve edges, and made those between nearly collinear genes worse. It changes second moments by about
        :math:`1/n + 1/p` relative to their size and needs the inverse of an :math:`(n + p) × (n + p)` matrix.
        ``"auto"`` does it if this share exceeds 1%, cells and genes together are at most 1,000, and there are at least
        twice as many non-zero values as scales.
    power
        Exponent :math:`γ`. If None: 1 if the matrix has any negative value; otherwise the largest :math:`γ ≤ 1` at
        which the root mean square of the quotient's logarithm is at most ½, as the Gaussian model needs. Data and any
        power of them then give nearly the same graphs.
        Some values stand for zeros, as in estimated counts: they are so small beside the others of their cell and gene
        that they would decide the power for all. These are taken for zeros, with a warning. A given power uses all
        values as they are.
    center
        Whether to estimate a mean for every gene, after the scales, so that precision matrices describe deviations from
        it.
    joint
        With shrinkage: whether to fit the precision matrices of cells and genes jointly, as in the paper. If False,
        each is fitted with the other axis at its mean: structure that either axis could explain, such as the programs
        that make cell types, is then in both, rather than divided between them; and every gene counts as much in both, whatever
        its variance. In our benchmarks, separate fits never gave worse graphs, and gave better gene networks.
        A ridge and an l1 penalty are always fitted jointly.
    n_comps
        Maximum number of embedding coordinates. Directions of the noise fade out below its edge, at the latest where the
        maximum is reached. Groups that are found (see `groupby`) are clusters of these coordinates.
    max_iter
        Maximum number of steps of expectation maximisation (EM). The default is the first one, matrix scaling and one
        fit of the model, because more steps did not give better graphs in our benchmarks. With a ridge of a given
        `strength` and ``center=False``, the steps have one objective: one that would raise it is shortened, and discarded
        if even that does not help. Otherwise, one that changes more than the step before is discarded, from the third
        on. Then EM ends.
    tol
        Convergence tolerance of EM: the root mean square change of :math:`\log|Z|` in a step.
    key_added
        Name of the results; ``key`` below. With ``"neighbors"``, graphs are written as ``connectivities`` and
        ``distances``, in place of those of :func:`scanpy.pp.neighbors`, and scanpy's functions find them without a
        `neighbors_key`. An earlier result under the same name is removed. :func:`scanpy.tl.ingest` needs the same number
        of neighbours for every cell and cannot use this graph: see :doc:`/what_is_written`.
    random_state
        For ``transformer="pynndescent"``, and stored for the scanpy functions that read it. The method itself draws no random
        numbers.
    copy
        Return a copy and leave `data` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the object with the results. For cells in ``obsp``, for genes in ``varp``:

    ``key_connectivities`` : CSR matrix, float64
        Edge weights in (0, 1], symmetric, no diagonal. Cells: as set by `weights`. Genes: the largest positive partial
        correlations, of all cells unless `groupby` is given. With ``weights="absolute"``, for both: :math:`|Φ_{jl}| / \max_j (Φ_{jj} + \bar ψ)`, where
        :math:`\bar ψ` is the mean diagonal of the other axis.
    ``key_distances`` : CSR matrix, float64
        On the same edges: the distance of the denoised profiles scaled to unit length; for all other weights,
        :math:`\sqrt{2 - 2w}`.
    ``key_precision`` : CSR matrix, float64
        :math:`Ψ` and :math:`Φ`, signed, on the same edges and the diagonal. :math:`Ψ` as `cell_precision` says. Entries of cells (genes) that belong together
        are negative. An entry is conditional on all other cells (genes) of the matrix, also after subsetting. By default in
        units in which the diagonal is ½: the off-diagonal entries are then partial correlations with their sign
        reversed.

    ``key_p_value``, ``key_q_value`` : CSR matrix, float64, of genes alone
        On the edges: the p-value of the partial correlation, never below 2e-308, and its q-value, the smallest false discovery
        rate (Benjamini and Hochberg) at which the edge would be among those found in all pairs of genes. The null hypothesis keeps
        scales, the spectrum of the cells and how rare genes are; where the data have little structure, the entry of a ridge
        estimate is tested in its place: see :doc:`/methods`. With groups of cells, those of `groupby` or found ones, they are those of
        a ridge estimate within groups, and q is 1 where the sign in all cells is another. Both are 1 for pairs that are expected together
        in fewer than 10 cells, which are not tested, and q is 1 where p is above 0.3. Not with an l1 penalty.
    ``key_q_value_all_cells`` : CSR matrix, float64, of genes alone
        Where groups were found: the q-values of all cells alone. :func:`kronax.tl.gene_modules` judges modules by them, because the graph is of all cells.
    ``adata.var["key_n_tested"]`` : int64
        With how many other genes every gene was tested. Not with an l1 penalty.

    Also:

    ``adata.obsm["X_key"]``, ``adata.varm["key"]`` : cells × k and genes × k, float64
        Coordinates of cells and genes in the denoised :math:`Z`, whichever `graphs` are learnt.
    ``adata.obs["key_log_scale"]``, ``adata.var["key_log_scale"]`` : float64
        Natural logarithms :math:`\log r` and :math:`\log c`; those of the genes average to 0.
    ``adata.varm["key_log_scale"]`` : DataFrame, genes × batches
        With `batch_key`: natural logarithm of the scale of every gene in every batch, NaN where a batch has no value
        other than zero. ``adata.var["key_log_scale"]`` is then what all batches have in common.
    ``adata.uns["key"]`` : dict
        What scanpy's ``neighbors_key`` needs (``connectivities_key``, ``distances_key``, ``params``), and
        ``precision_key``, ``p_value_key``, ``q_value_key``, ``q_value_all_cells_key`` where groups were found, ``n_tested_key``, ``converged``, ``reason``, ``n_iter``, ``objective`` (negative log-likelihood per entry after
        every step, including a discarded one, with the penalty if it is a ridge; ½ for white noise; with shrinkage and
        ``joint=False`` the mean over the separate fits of both axes), ``strength`` of the penalty, ``rank`` and ``noise``
        (number of directions beyond the edge of the noise, and the standard deviation of the white noise that the coordinates
        were denoised for), ``power``, ``dispersion``, ``n_near_zero``
        (values taken for zeros), ``n_sampled`` (cells from which ``power`` and ``dispersion`` were found: all, or evenly spread
        ones if there are more than 20,000), ``n_effective`` (how many independent cells they count as for the genes, fewer if many are alike),
        ``n_groups`` (of cells, within which genes were looked at too; missing where there were none), ``version``. With `batch_key`, also the names of the ``batches``, ``batch_spread`` (standard
        deviation, over the genes, of the difference between their log scales in a batch and the common ones; with
        ``batch_scales="separate"``, of what cells that match add to it) and ``batch_matched`` (share of the cells of a batch that match
        cells of others; of up to 10,000 cells, evenly spread over the batches). ``params`` leaves out arguments that are None. Where no precision
        matrix is written, there is no ``precision_key``, and ``objective`` is NaN if none was computed.

    For a MuData object, results for the cells are written to the object itself, except for their scales, which belong
    to a modality. Scales and results for the features are written to the modality, with its own ``uns["key"]``. That of
    the object holds ``converged``, ``reason``, ``objective``, the ``modalities`` and their numbers of cells
    (``n_cells``).

    Cells and genes without a non-zero value are left out, with a warning: they have no edges, coordinates of 0 and a
    scale of NaN. There are also warnings of spike-ins, of cells and genes that do not vary and therefore have no edge, of
    non-zero values that fall into blocks without a common cell or gene, and of a graph without edges.

    Raises
    ------
    KeyError
        If there is no such layer, or no such column in `obs`.
    FloatingPointError
        If the estimate is not finite. Nothing is written in that case.
    MemoryError
        If the estimated memory exceeds what is free.
    TypeError
        If `layer` is a mapping and `data` an AnnData object, a matrix is not numeric and real, or `transformer` cannot find
        neighbours.
    ImportError
        If ``transformer="pynndescent"`` is not installed.
    RuntimeError
        If this process was forked from one in which kronax had computed, or a matrix changed while it was read.
    ValueError
        If `q_max` is given for a graph that has no q-values, a matrix that is not in memory has chunks along the genes or of unknown sizes, or no more cells than genes, or an
        argument needs it in memory; a parameter is out of range; `transformer` has other distances or finds too few neighbours; a
        matrix has masked, NaN or infinite values, or fewer than two cells or genes with non-zero values; nothing varies but
        the scales, or, with an l1 penalty, some cell or gene does not; a cell has no batch, or most batches are a single cell; or cell names of a modality are not unique, not in the
        object, or in no other modality.

    See Also
    --------
    kronax.tl.MED_MAGMA_2026 : Arguments that run the algorithm of the paper.

    References
    ----------
    :cite:t:`Andrew2026`; corrected and extended as described in :doc:`/methods`. The defaults are not the algorithm of the
    paper, but one step of it with separate fits of both axes. Cells that match across batches: :cite:t:`Haghverdi2018`.
    q-values: :cite:t:`Benjamini1995`; local nulls: :cite:t:`Efron2004`.

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
    graph_in.check(
        key_added=key_added,
        graphs=graphs,
        weights=weights,
        cell_precision=cell_precision,
        center=center,
        n_comps=n_comps,
        n_neighbors=n_neighbors,
        random_state=random_state,
        q_max=q_max,
        penalty=penalty,
    )
    batches.check(batch_key, batch_scales)
    groups.check(
        groupby,
        graphs=(graphs, ("both", "genes")),
        penalty=(penalty, ("shrinkage",)),
        joint=(joint, (False,)),
        laplace=(laplace, (False,)),
        center=(center, (True,)),
    )
    neighbours.check(recall=recall, transformer=transformer, weights=weights, graphs=graphs, n_neighbors=n_neighbors)
    checks.integer(max_iter, "max_iter", low=1)
    checks.positive(tol, "tol")
    checks.auto_or_boolean(laplace, "laplace")
    beyond = Laplace(required=laplace != "auto") if laplace else None
    if power is not None:
        checks.positive(power, "power")
        power = float(power)
    chosen = graph_in.penalty(penalty, strength, joint=joint)
    objects.writable(data, copy=copy)
    matrices = graph_in.read(data, layer)
    graph_in.require_in_memory(
        matrices,
        graphs,
        n_neighbors=n_neighbors is None,
        weights=weights != "affinity" and graphs != "genes",
        penalty=penalty != "shrinkage",
        joint=joint,
        laplace=bool(laplace),
        max_iter=max_iter > 1,
        cell_precision=cell_precision is True,
    )
    looks_for_groups = groupby is None and graphs != "cells" and chosen.apart and beyond is None and center
    graph_in.require(matrices, n_neighbors, chosen, beyond, within=groupby is not None, own=looks_for_groups)
    named = batches.read(data, batch_key, matrices)
    of_groups = groups.read(data, groupby, matrices)
    graph_in.log_start("med_magma", matrices)
    graph_in.warn_of_negative(data, matrices, layer, power)
    graph_in.warn_of_spike_ins(data, matrices)

    progress = shows_progress()
    settings = {
        "layer": dict(layer) if isinstance(layer, Mapping) else layer,
        "batch_key": batch_key,
        "batch_scales": None if batch_key is None else batch_scales,
        "graphs": graphs,
        "groupby": groupby,
        "q_max": None if q_max is None else float(q_max),
        "weights": weights,
        "cell_precision": cell_precision if cell_precision == "auto" else bool(cell_precision),
        **neighbours.settings(recall, transformer, weights, graphs),
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
    with graph_in.computing(matrices):
        fits = {
            name: em.fit(
                found.matrix,
                power=power,
                center=center,
                penalty=graph_in.of_each(matrices, chosen),
                equal=chosen.apart and beyond is None,
                laplace=beyond,
                n_comps=n_comps,
                max_iter=max_iter,
                tol=tol,
                batches=named[name] and named[name].batches,
                separate=batch_scales == "separate",
                groups=of_groups[name],
                own=looks_for_groups,
                whole=graph_in.needs_precision(graphs, weights, cell_precision),
                progress=progress,
            )
            if found.in_memory
            else em.fit_chunks(
                found.rows,
                found.sample,
                signed=found.n_negative > 0,
                power=power,
                center=center,
                n_comps=n_comps,
                batches=named[name] and named[name].batches,
                separate=batch_scales == "separate",
                groups=of_groups[name],
                own=looks_for_groups,
                whole=graph_in.needs_precision(graphs, weights, cell_precision),
                progress=progress,
            )
            for name, found in matrices.counts.items()
        }
        return graph_out.finish(
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
            named=named,
            search=neighbours.search(recall, transformer, random_state, progress=progress),
        )
