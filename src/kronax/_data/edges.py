"""The edges of a stored graph: each once, with its weight, partial correlation, p- and q-value, and whether it may be indirect."""

from dataclasses import dataclass, fields, replace

import numpy as np
from anndata import AnnData
from mudata import MuData
from scipy import sparse, stats

from kronax._data.partial_correlations import partial_correlations
from kronax._data.stored_graph import Axis, Graph, holds, stored_graph, stored_matrix
from kronax.solvers import checks
from kronax.solvers.graph.triangles import weakest_of_three

SIGNIFICANCE = "p_value", "q_value", "q_value_all_cells"  # of an edge of genes


@dataclass(frozen=True)
class Edges:
    """The edges of a graph with ``n`` vertices, every one once, each field ``(n_edges,)``.

    Attributes
    ----------
    first, second
        Positions of both ends, ``first < second``.
    weight
        Connectivities; 0 for edges that only the precision has, such as negative ones.
    partial_correlation
        None if the graph has no precision.
    p_value, q_value, q_value_all_cells
        None if the graph has none; NaN for an edge without. The last where groups of cells were found, and among all pairs.
    indirect
        Whether a third vertex is joined to both ends by partial correlations that are larger; None for cells, and without a precision.
    """

    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray
    partial_correlation: np.ndarray | None
    p_value: np.ndarray | None
    q_value: np.ndarray | None
    q_value_all_cells: np.ndarray | None = None
    indirect: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.first)

    def order(self, axis: Axis) -> np.ndarray:
        """Order the edges, the strongest first: genes' by absolute partial correlation, those of cells by weight."""
        rho = np.zeros(len(self)) if self.partial_correlation is None else np.abs(self.partial_correlation)
        keys = (rho, self.weight) if axis == "obs" else (self.weight, rho)
        return np.lexsort((self.second, self.first, *(-key for key in keys)))

    def chosen(self, which: np.ndarray) -> "Edges":
        """Choose edges by a mask or by positions."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: values[which] for name, values in found.items() if values is not None})


def read(
    data: AnnData | MuData,
    neighbors_key: str,
    axis: Axis,
    q_max: float | None = None,
    of: np.ndarray | None = None,
    margin: float = 1.0,
) -> Edges:
    """Read the edges of a graph, the strongest first: of some vertices alone, (n,) bool, and with ``q ≤ q_max``, if these are given."""
    connectivities = stored_graph(data, neighbors_key, axis)
    connectivities = sparse.csr_array(connectivities.maximum(connectivities.T))
    if q_max is not None:
        require_q_values(data, neighbors_key, axis, q_max)
    signed = partial_correlations(data, neighbors_key, axis) if holds(data, neighbors_key, axis, "precision") else None
    joined = connectivities if signed is None else connectivities + abs(signed)
    pairs = sparse.triu(joined, k=1).tocoo()
    first, second = pairs.row, pairs.col
    found = Edges(
        first,
        second,
        _at(connectivities, first, second),
        None if signed is None else _at(signed, first, second),
        *(_significance(data, neighbors_key, axis, what, first, second) for what in SIGNIFICANCE),
    )
    if of is not None:
        found = _among(found, of, data, neighbors_key)
    if signed is None and margin != 1:
        msg = f"`margin` compares partial correlations, which the graph {neighbors_key!r} does not have."
        raise ValueError(msg)
    if signed is not None and axis == "var":
        strength = np.abs(found.partial_correlation)
        found = replace(found, indirect=weakest_of_three(found.first, found.second, strength, margin))
    if q_max is not None:
        found = found.chosen(found.q_value <= q_max)
    return found.chosen(found.order(axis))


def _among(found: Edges, some: np.ndarray, data: AnnData, neighbors_key: str) -> Edges:
    """Choose the edges of some genes, and compare their p-values with those of these genes' pairs alone.

    ``q_i = min_{k ≥ i} m p_(k)/k`` with ``m`` the number of these pairs that were tested. Pairs that are no edge are not counted in
    ``k``, so that q-values are no less than they should be.
    """
    found = found.chosen(some[found.first] | some[found.second])
    if found.p_value is None or found.q_value is None:
        return found
    tested = found.q_value < 1  # which NaN is not, and no pair that cannot be an edge
    p_values, q_values = found.p_value[tested], np.where(np.isnan(found.p_value), np.nan, 1.0)
    share = _n_tested(data, neighbors_key, some) / max(1, len(p_values))
    q_values[tested] = np.minimum(stats.false_discovery_control(p_values) * share, 1.0)
    return replace(found, q_value=q_values, q_value_all_cells=None)


def _n_tested(data: AnnData, neighbors_key: str, some: np.ndarray) -> float:
    """Return how many pairs with at least one of some genes were tested, or a little more: pairs of two of them count twice."""
    key, most = data.uns[neighbors_key].get("n_tested_key"), len(some) - 1.0
    of_each = np.full(len(some), most)
    if key in data.var:
        of_each = np.fmin(data.var[key].to_numpy(float), most)  # the gene may be one of a part of the genes, or added
    return min(of_each[some].sum(), of_each.sum() / 2)


def require_q_values(data: AnnData | MuData, neighbors_key: str, axis: Axis, q_max: float) -> None:
    """Require q-values of the edges, and a bound that can be one."""
    checks.positive(q_max, "q_max", high=1.0)
    stored_matrix(data, neighbors_key, axis, "q_value")


def significant(adata: AnnData, neighbors_key: str, graph: Graph, q_max: float) -> sparse.csr_array:
    """Keep the entries of a gene graph whose edges have ``q ≤ q_max``."""
    require_q_values(adata, neighbors_key, "var", q_max)
    q_values, _ = stored_matrix(adata, neighbors_key, "var", "q_value")
    entries = graph.tocoo()
    kept = known(q_values, entries.row, entries.col) <= q_max  # NaN is not
    return sparse.csr_array((entries.data[kept], (entries.row[kept], entries.col[kept])), shape=graph.shape)


def _significance(
    data: AnnData | MuData, neighbors_key: str, axis: Axis, what: str, first: np.ndarray, second: np.ndarray
) -> np.ndarray | None:
    if not holds(data, neighbors_key, axis, what):
        return None
    return known(stored_matrix(data, neighbors_key, axis, what)[0], first, second)


def _at(matrix: Graph, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Return the values of pairs."""
    return np.asarray(matrix[row, col], np.float64).ravel() if len(row) else np.zeros(0)


def known(matrix: Graph, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Return the p- or q-values of pairs, NaN where none is stored: they are never 0."""
    found = _at(matrix, row, col)
    return np.where(found == 0, np.nan, found)
