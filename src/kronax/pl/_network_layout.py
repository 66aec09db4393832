"""The places of a network's genes: no name hides another, and edges lead past other genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kronax.pl._names import LINE, TEXT, width
from kronax.pl._spread import spread

DOT = 0.045  # radius of a gene, inches
_CLEAR = 0.06  # that edges of others keep from its centre
_NAME = np.array([0.06, 0.1])  # what a gene takes up beyond the size of its name, inches
_LARGEST = 11.0  # inches of a side; where names need more, all is drawn smaller
_FULL_SIZE = 60  # genes whose names are as large as in other figures; of more, they are smaller
_SMALLEST = 0.6  # size of the names of many, in that of the others
MOST_EDGES = 3  # per gene
_WEAKEST = 50.0  # times weaker than the strongest; such edges are all drawn alike
_ALIKE = 1.05  # times as strong: no difference to be seen
_BELOW = 0.15  # from the graph to the genes without edges, inches
_FILLED = 0.22  # share of the drawing that names take up before they are moved apart
_INSIDE = 0.9  # of the axes' room is used before names are moved apart
_FEWER = 0.85  # genes, where there is no room for all


@dataclass(frozen=True)
class Drawing:
    """Where genes stand, in inches, and on which side of them their names do."""

    places: np.ndarray  # (n, 2)
    aside: np.ndarray  # (n, 2), to the centre of what a gene takes up
    sizes: np.ndarray  # (n, 2), of what a gene takes up
    scale: float  # of names and dots

    @property
    def ends(self) -> np.ndarray:
        """The lower left and the upper right corner."""
        centres = self.places + self.aside
        return np.array([(centres - self.sizes / 2).min(axis=0), (centres + self.sizes / 2).max(axis=0)])

    @property
    def extent(self) -> np.ndarray:
        return np.ptp(self.ends, axis=0)

    def scaled(self, factor: float) -> Drawing:
        return Drawing(*(factor * part for part in (self.places, self.aside, self.sizes, self.scale)))


def strongest(graph: sparse.csr_array) -> sparse.coo_array:
    """Keep the upper triangle, and of many edges three per gene: the strongest one of every gene, then the strongest of all."""
    edges = sparse.triu(graph, k=1).tocoo()
    n = graph.shape[0]
    if edges.nnz <= MOST_EDGES * n:
        return edges
    order = np.argsort(-np.abs(edges.data), kind="stable")
    ends = np.stack([edges.row, edges.col], axis=1)[order].ravel()
    of_each = np.unique(np.unique(ends, return_index=True)[1] // 2)  # the first edge with this end
    kept = order[np.append(of_each, np.delete(np.arange(len(order)), of_each))[: MOST_EDGES * n]]
    return sparse.coo_array((edges.data[kept], (edges.row[kept], edges.col[kept])), shape=graph.shape)


def strengths(graph: sparse.coo_array) -> np.ndarray:
    """Choose the strengths that the legend shows: the largest, one between, and the smallest with a width of its own."""
    found = np.abs(graph.data)
    if not len(found):
        return found
    high = found.max()
    low = max(found.min(), high / _WEAKEST)
    return np.array([high]) if high < _ALIKE * low else np.array([high, np.sqrt(high * low), low])


def tied(graph: sparse.coo_array) -> np.ndarray:
    """Find the genes with an edge."""
    return np.union1d(graph.row, graph.col)


def fitted(found: sparse.csr_array, names: list[str], random_state: int) -> tuple[sparse.coo_array, Drawing]:
    """Place all genes, in a drawing of a size that can be looked at."""
    graph = strongest(found)
    drawing = _placed(graph, names, random_state, None)
    return graph, drawing.scaled(min(1.0, _LARGEST / drawing.extent.max()))


def in_room(
    found: sparse.csr_array, names: list[str], random_state: int, room: np.ndarray
) -> tuple[sparse.coo_array, Drawing]:
    """Place as many of the first genes as there is room for."""
    areas = np.prod(_sizes(names), axis=1)
    n = max(1, int((np.cumsum(areas) < np.prod(room)).sum()))
    while True:
        graph = strongest(found[:n][:, :n])
        left = room - [0, legend_height(graph)]
        drawing = _placed(graph, names[:n], random_state, left)
        if n == 1 or (drawing.extent <= left).all():
            return graph, drawing
        n = max(1, int(_FEWER * n))


def _sizes(names: list[str]) -> np.ndarray:
    """Measure what genes take up, in inches, ``(n, 2)``."""
    return np.array([[width(name), TEXT * 1.3 / 72] for name in names]) + _NAME


def _placed(graph: sparse.coo_array, names: list[str], random_state: int, room: np.ndarray | None) -> Drawing:
    """Place genes where no name hides another, those without edges in rows below."""
    scale = max(_SMALLEST, min(1.0, (_FULL_SIZE / len(names)) ** 0.5))
    sizes = scale * _sizes(names)
    places, aside = np.zeros((len(sizes), 2)), np.zeros((len(sizes), 2))
    aside[:, 1] = DOT * scale - sizes[:, 1] / 2
    linked = tied(graph)
    alone = np.setdiff1d(np.arange(len(sizes)), linked)
    across = _side(sizes[alone]) if room is None else room[0]
    low = np.zeros(2)
    if len(linked):
        if room is not None and len(alone):
            room = room - [0, _BELOW * scale + np.ptp(_in_rows(sizes[alone], across)[:, 1]) + sizes[:, 1].max()]
        within = graph.tocsr()[linked][:, linked].tocoo()
        wanted = _layout(within, sizes[linked], random_state, room)
        aside[linked, 1] *= _away_from_neighbours(within, wanted[:, 1])
        edges = np.stack([within.row, within.col], axis=1)
        places[linked] = spread(wanted, sizes[linked], edges, aside=aside[linked], dot=_CLEAR * scale)
        low, high = Drawing(places[linked], aside[linked], sizes[linked], scale).ends
        low[0], across = (low[0] + high[0]) / 2, across if room is not None else high[0] - low[0]
    if len(alone):
        places[alone] = _in_rows(sizes[alone], across) + low - [0, _BELOW * scale] - aside[alone]
    return Drawing(places, aside, sizes, scale)


def _away_from_neighbours(graph: sparse.coo_array, height: np.ndarray) -> np.ndarray:
    """Choose where names stand: 1 below genes whose neighbours are above on average, -1 above the others."""
    weights = abs(graph) + abs(graph).T
    return np.where(weights @ height >= weights.sum(axis=1) * height, 1, -1)


def _in_rows(sizes: np.ndarray, across: float) -> np.ndarray:
    """Place boxes in rows that are at most so wide, centred about 0, the first right below 0."""
    rows: list[list[int]] = [[]]
    for i, size in enumerate(sizes):
        if rows[-1] and sizes[rows[-1], 0].sum() + size[0] > across:
            rows.append([])
        rows[-1].append(i)
    places = np.empty_like(sizes)
    for number, row in enumerate(rows):
        ends = np.cumsum(sizes[row, 0])
        places[row, 0] = ends - sizes[row, 0] / 2 - ends[-1] / 2
        places[row, 1] = -(number + 0.5) * sizes[:, 1].max()
    return places


def _side(sizes: np.ndarray) -> float:
    """Compute the side of a square with room for the boxes and the edges between them."""
    return np.sqrt(np.prod(sizes, axis=1).sum() / _FILLED)


def _layout(graph: sparse.coo_array, sizes: np.ndarray, random_state: int, room: np.ndarray | None) -> np.ndarray:
    """Place the genes by the forces between them, in inches, with room for their names or in the room there is."""
    import igraph

    from kronax.solvers.communities.igraph_edges import seeded

    n = graph.shape[0]
    network = igraph.Graph(n, list(zip(graph.row.tolist(), graph.col.tolist(), strict=True)))
    start = np.random.default_rng(random_state).normal(size=(n, 2)) * np.sqrt(n)
    with seeded(random_state):
        layout = network.layout_fruchterman_reingold(
            weights=np.abs(graph.data).tolist() or None, seed=start, niter=1000
        )
    found = np.array(layout.coords).reshape(n, 2)
    found = found - found.mean(axis=0)
    extent = np.ptp(found, axis=0)
    if room is None:
        return found * _side(sizes) / (extent.max() or 1.0)
    taken = sizes.max(axis=0) * [1, 2]  # names stand above or below
    return found * np.maximum(_INSIDE * (room - taken), 0.1) / np.where(extent > 0, extent, 1.0)


def legend_height(graph: sparse.coo_array) -> float:
    """Compute the height of the legend, in inches."""
    return LINE * (len(np.unique(np.sign(graph.data))) + len(strengths(graph)))
