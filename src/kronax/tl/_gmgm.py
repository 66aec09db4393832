from collections.abc import Mapping
from typing import Literal

import numpy as np
from anndata import AnnData
from mudata import MuData

from kronax._data import graph_in, graph_out, keys, neighbours
from kronax._logging import shows_progress
from kronax.solvers import checks
from kronax.solvers.medmagma import em
from kronax.solvers.medmagma.nonparanormal import normal_scores


def gmgm(
    data: AnnData | MuData,
    *,
    layer: str | None | Mapping[str, str | None] = None,
    graphs: Literal["both", "cells", "genes"] = "both",
    n_neighbors: int | None = 15,
    q_max: float | None = None,
    weights: Literal["affinity", "partial_correlation", "absolute"] = "affinity",
    recall: float = neighbours.RECALL,
    transformer: neighbours.Transformer | Literal["pynndescent", "sklearn"] | None = None,
    cell_precision: bool | Literal["auto"] = "auto",
    penalty: Literal["shrinkage", "ridge", "l1"] = "shrinkage",
    strength: float | tuple[float, float] | None = None,
    nonparanormal: bool = False,
    center: bool = True,
    joint: bool = False,
    n_comps: int = 50,
    key_added: str = keys.GMGM,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Learn a cell graph and a gene graph jointly from values without cell or gene factors.

    For log fold changes, standardised scores, log-ratios and other values that no unknown factor of a cell or gene has
    multiplied. For counts and log-normalised counts use :func:`kronax.tl.med_magma`.

    The model is GmGM: a Gaussian matrix whose precision is the Kronecker sum :math:`Ψ ⊕ Φ` of a precision matrix of the
    cells and one of the genes. This is the last step of :func:`kronax.tl.med_magma`, with the same penalties, applied
    to the values as they are.

    Parameters
    ----------
    data
        Cells × genes, or several modalities with common cells, matched by name. Dense or sparse (which stays sparse),
        any real dtype.
    layer
        Layer to read, in every modality; `X` if None. If modalities differ, a mapping from each of them to its layer or
        None, such as ``{"rna": "counts", "protein": None}``.
    graphs
        As in :func:`kronax.tl.med_magma`.
    n_neighbors, q_max
        As in :func:`kronax.tl.med_magma`.
    weights, recall, transformer
        As in :func:`kronax.tl.med_magma`.
    cell_precision
        As in :func:`kronax.tl.med_magma`.
    penalty, strength
        As in :func:`kronax.tl.med_magma`.
    nonparanormal
        Whether to replace the values of every gene by normal scores of their ranks first. Any increasing function of a
        gene then gives the same graphs. Ties, such as zeros, share their mean rank.
    center
        Whether to estimate a mean for every gene.
    joint
        As in :func:`kronax.tl.med_magma`; the published method is ``joint=True``.
    n_comps
        Maximum number of embedding coordinates.
    key_added
        Name of the results.
    random_state
        Stored for the scanpy functions that read it. The method itself draws no random numbers.
    copy
        Return a copy and leave `data` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the object with the results: those of :func:`kronax.tl.med_magma`, under `key_added`,
    without scales, ``power`` and ``dispersion``.

    Raises
    ------
    KeyError
        If there is no such layer.
    FloatingPointError
        If the estimate is not finite. Nothing is written in that case.
    MemoryError
        If the estimated memory exceeds what is free.
    TypeError
        If `layer` is a mapping and `data` an AnnData object, a matrix is not numeric and real, or not in
        memory, or `transformer` cannot find neighbours.
    ImportError
        If ``transformer="pynndescent"`` is not installed.
    RuntimeError
        If this process was forked from one in which kronax had computed.
    ValueError
        If a matrix is not in memory; a parameter is out of range; `transformer` has other distances or finds too few neighbours; a
        matrix has masked, NaN or infinite values, or fewer than two cells or genes with non-zero values; nothing varies; or cell
        names of a modality are not unique, not in the object, or in no other modality.

    References
    ----------
    :cite:t:`Andrew2024`; normal scores: :cite:t:`Liu2009`.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.gmgm(adata)
    >>> sc.tl.leiden(adata, neighbors_key="gmgm", flavor="igraph", n_iterations=2, directed=False)
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
    neighbours.check(recall=recall, transformer=transformer, weights=weights, graphs=graphs, n_neighbors=n_neighbors)
    checks.boolean(nonparanormal, "nonparanormal")
    chosen = graph_in.penalty(penalty, strength, joint=joint)
    matrices = graph_in.read(data, layer)
    if not matrices.in_memory:
        msg = "kx.tl.gmgm needs the matrix in memory. Load it with `adata = adata.to_memory()`."
        raise ValueError(msg)
    graph_in.require(matrices, n_neighbors, chosen)
    graph_in.log_start("gmgm", matrices)

    settings = {
        "layer": dict(layer) if isinstance(layer, Mapping) else layer,
        "graphs": graphs,
        "q_max": None if q_max is None else float(q_max),
        "weights": weights,
        "cell_precision": cell_precision if cell_precision == "auto" else bool(cell_precision),
        **neighbours.settings(recall, transformer, weights, graphs),
        "nonparanormal": bool(nonparanormal),
        "center": bool(center),
        "penalty": penalty,
        "strength": None if strength is None else np.atleast_1d(np.asarray(strength, dtype=float)),
        "joint": bool(joint),
        "n_comps": int(n_comps),
        "random_state": int(random_state),
    }
    progress = shows_progress()
    with graph_in.computing(matrices):
        fits = {}
        for name, found in matrices.counts.items():
            matrix = normal_scores(found.matrix) if nonparanormal else found.matrix
            fits[name] = em.fit_without_noise(
                matrix,
                center=center,
                penalty=graph_in.of_each(matrices, chosen),
                equal=chosen.apart,
                n_comps=n_comps,
                whole=graph_in.needs_precision(graphs, weights, cell_precision),
                progress=progress,
            )
        return graph_out.finish(
            data,
            "gmgm",
            matrices,
            fits,
            chosen,
            n_neighbors,
            settings,
            key_added=key_added,
            copy=copy,
            progress=progress,
            search=neighbours.search(recall, transformer, random_state, progress=progress),
        )
