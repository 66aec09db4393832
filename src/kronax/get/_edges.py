from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data import edges as stored
from kronax._data import keys, labels, objects
from kronax._data.modules import gene_names
from kronax._logging import logger
from kronax.solvers import checks

_AXES = {"genes": "var", "cells": "obs"}


def edges(
    data: AnnData | MuData,
    axis: Literal["genes", "cells"] = "genes",
    *,
    neighbors_key: str = keys.MED_MAGMA,
    q_max: float | None = None,
    modules: str = keys.GENE_MODULE,
    regulators: Iterable[str] | None = None,
    margin: float = 1.0,
    gene_symbols: str | None = None,
) -> pd.DataFrame:
    """Get the edges of a graph as a table, for a paper, a network program or another package.

    Every edge is one row, the strongest first. The table goes to Cytoscape as CSV (:meth:`pandas.DataFrame.to_csv`), to networkx
    by ``networkx.from_pandas_edgelist(table, edge_attr=True)``, which writes GraphML, and to igraph by
    ``igraph.Graph.DataFrame(table, directed=False, use_vids=False)``: see :doc:`/judging`.

    Parameters
    ----------
    data
        AnnData object with a graph, such as the result of :func:`kronax.tl.med_magma`; a MuData object for the graph of its
        cells. Not changed.
    axis
        Whose graph: ``"genes"`` or ``"cells"``.
    neighbors_key
        Key in ``uns`` that describes the graph.
    q_max
        Only edges whose :math:`q` value is at most this, from 0 (excluded) to 1; all edges if None. Of those with
        :math:`q ≤ 0.05`, about one in twenty is expected to be false.
    modules
        Column of ``var`` with the modules of genes. If there is none of this name, the table has no columns of modules.
    regulators
        Names of genes that may regulate others, such as transcription factors. Then only their edges are in the table, from every
        regulator to its neighbours, with their rank. :math:`q` values are those among all pairs with a regulator, and ``indirect`` looks at
        their edges alone. A graph with many edges shows more of them as significant, such as one learnt with ``q_max=0.3``. Names that `data` does not
        have are passed over; how many there are, and how many have no edge, is logged.
    margin
        An edge of genes is ``indirect`` if it is not this many times as strong as the weaker one of two edges that lead through a third gene; 1 or
        more. The more, the fewer edges are direct, true and false ones: see :doc:`/judging`.
    gene_symbols
        Column of ``var`` with the names to give, and those that `regulators` has; ``var_names`` if None, and for genes whose name
        is missing.

    Returns
    -------
    Edges × columns. A column whose quantity the graph does not have is left out:

    ``source``, ``target`` : str
        Names of both ends, ``source`` being the one that comes first in `data`, or the regulator. Edges have no direction of their
        own: one between two regulators is in the table from both.
    ``weight`` : float64
        Weight in the graph, which is positive; 0 for edges that only the precision has, such as negative ones. Where groups of cells were found, it is the partial
        correlation of all cells, and the next column another one.
    ``partial_correlation`` : float64
        With its sign; if the graph has a precision.
    ``p_value``, ``q_value`` : float64
        Significance of the partial correlation, within groups of cells if there are any, and the share of false edges among all pairs of genes, or all with a regulator, that are at least as
        significant; if the graph has them. 1 for genes too rare to be tested together, the latter also where the sign within groups of cells is not that of all cells; NaN for edges without.
    ``q_value_all_cells`` : float64
        Where groups of cells were found: the same among all pairs of genes in all cells alone, by which modules are judged. Not with `regulators`.
    ``indirect`` : bool
        Of genes whose graph has a precision: whether a third gene has stronger edges to both ends, by `margin`, and may explain this one. Such edges are
        often those of two targets of one regulator; in a group of genes that all depend on each other, most edges are. Only edges of the graph
        are looked at. Of a complete graph of 2,000 genes, it takes some seconds.
    ``source_module``, ``target_module`` : str
        Modules of both ends, if genes have modules; missing for a gene in none. An edge within a module has the same twice.

    ``rank`` : int64
        With `regulators`: 1 for the strongest edge of each of them.

    Edges of genes are ordered by absolute partial correlation, if the graph has it, and those of cells by weight.

    Raises
    ------
    KeyError
        If there is no such graph or column, `q_max` is given and the graph has no q-values, or no regulator is a gene of `data`.
    TypeError
        If `data` is not an AnnData object, or a MuData object for cells, or `regulators` is a single name.
    ValueError
        If an argument is out of range, `regulators`, `margin` or `gene_symbols` are given for cells, `margin` is given for a
        graph without partial correlations, or the graph has a weight that is negative or not finite.

    References
    ----------
    :cite:t:`Andrew2026`, for the graphs; :cite:t:`Benjamini1995`, for false discovery rates; :cite:t:`Margolin2006`, for indirect edges.

    Examples
    --------
    >>> import kronax as kx
    >>> adata = kx.datasets.kronecker_sum(60, 50)
    >>> kx.tl.med_magma(adata, n_neighbors=5)
    >>> kx.tl.gene_modules(adata)
    >>> table = kx.get.edges(adata)
    >>> [name for name in table if "value" not in name]
    ['source', 'target', 'weight', 'partial_correlation', 'indirect', 'source_module', 'target_module']
    >>> len(table) == adata.varp["med_magma_connectivities"].nnz // 2
    True
    """
    checks.one_of(axis, _AXES, "axis")
    side = _AXES[axis]
    objects.holds_graph(data, side)
    checks.at_least(margin, "margin", 1.0)
    _require_genes(axis, regulators=regulators, margin=None if margin == 1 else margin, gene_symbols=gene_symbols)
    names = _names(data, axis, gene_symbols)
    if regulators is not None:
        regulators = _known_regulators(names, regulators)
    of = None if regulators is None else pd.Index(names).isin(regulators)
    found = stored.read(data, neighbors_key, side, q_max, of, margin)
    table = {"source": names[found.first], "target": names[found.second], "weight": found.weight}
    for name in ("partial_correlation", *stored.SIGNIFICANCE, "indirect"):
        if (values := getattr(found, name)) is not None:
            table[name] = values
    if axis == "genes" and modules in data.var:
        module_of = labels.texts(data.var[modules])
        table |= {"source_module": module_of[found.first], "target_module": module_of[found.second]}
    found = pd.DataFrame(table)
    if regulators is None:
        return found
    found = _of_regulators(found, regulators)
    _tell(regulators, set(names), set(found["source"]))
    return found


def _require_genes(axis: str, **arguments: Iterable[str] | str | float | None) -> None:
    for argument, value in arguments.items():
        if axis == "cells" and value is not None:
            msg = f"`{argument}` belongs to axis='genes', found axis='cells'."
            raise ValueError(msg)


def _names(data: AnnData | MuData, axis: str, gene_symbols: str | None) -> np.ndarray:
    """Return the names of cells or genes, the latter from a column if one is named."""
    if axis == "cells":
        return np.array(objects.texts(data.obs_names), dtype=object)
    if gene_symbols is not None:
        objects.key_in(gene_symbols, data.var, "adata.var")
    return gene_names(data, gene_symbols).astype(object)


def _known_regulators(names: np.ndarray, regulators: Iterable[str]) -> set[str]:
    """Return the regulators, some of which must be genes of the object."""
    wanted = objects.texts(checks.items(regulators, "regulators", "names"))
    if not wanted:
        msg = "`regulators` is empty; name some genes, or leave it out for the edges of all."
        raise ValueError(msg)
    if not set(wanted).intersection(names):
        msg = (
            f"None of the `regulators` ({checks.listed(wanted, most=3)}) is a gene of the object, whose names are "
            f"{checks.listed(list(names), most=3)}."
        )
        raise KeyError(msg)
    return set(wanted)


def _tell(regulators: set[str], names: set[str], with_edges: set[str]) -> None:
    """Log how many regulators were found, and how many of them have edges."""
    there = regulators & names
    logger.info(
        "edges: %d of %d regulators are genes of the object; %d of these have no edge",
        len(there),
        len(regulators),
        len(there - with_edges),
    )


def _of_regulators(table: pd.DataFrame, regulators: set[str]) -> pd.DataFrame:
    """Keep the edges of regulators, each from the regulator, in the same order; rank those of every regulator."""
    swapped = {
        "source": "target",
        "target": "source",
        "source_module": "target_module",
        "target_module": "source_module",
    }
    ends = [table, table.rename(columns=swapped)[table.columns]]
    found = pd.concat([some[some["source"].isin(regulators)] for some in ends]).sort_index(kind="stable")
    found.insert(2, "rank", found.groupby("source").cumcount() + 1)
    return found.reset_index(drop=True)
