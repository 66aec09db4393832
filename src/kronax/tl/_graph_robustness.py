from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from anndata import AnnData
from mudata import MuData
from tqdm.auto import tqdm

from kronax._data import keys, objects
from kronax._data.aside import tell
from kronax._data.stored_graph import AXES, Axis, stored_graph
from kronax._data.whole import whole_or_nothing
from kronax._data.written import clear
from kronax._logging import logger, shows_progress
from kronax.solvers import checks
from kronax.solvers.communities.consensus import N_ITERATIONS
from kronax.solvers.communities.igraph_edges import edges_of, from_edges, seeded
from kronax.solvers.communities.rewiring import carry_weights, perturbed, randomised

Measure = Literal["vi", "ami"]
_MEASURES = {"vi": "variation of information", "ami": "adjusted mutual information"}
SHARES = tuple(step / 10 for step in range(7))  # 0, 10%, … 60%


@dataclass(frozen=True)
class _Graph:
    """A weighted graph: edges (m, 2), the smaller vertex first, and weights (m,)."""

    n: int
    edges: np.ndarray
    weights: np.ndarray


def graph_robustness(
    data: AnnData | MuData,
    *,
    neighbors_key: str = keys.MED_MAGMA,
    axis: Axis = "obs",
    measure: Measure = "vi",
    resolution: float = 1.0,
    shares: Sequence[float] = SHARES,
    n_repeats: int = 20,
    key_added: str = keys.GRAPH_ROBUSTNESS,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    r"""Test whether the clusters of a graph survive random rewiring of its edges.

    A growing share of the edges is rewired: pairs of edges exchange ends, so that every vertex keeps its number of
    edges. After every step the graph is clustered again (Leiden, weighted) and compared with the clusters of the
    original graph. The same is done with random graphs of the same degrees, each compared with its own clusters. If
    communities are real, the clusters of the graph change less than those of the random graphs.

    **Weights.** An edge that has not moved keeps its weight; moved edges get the weights of those they replace, in
    random order. The set of weights therefore stays the same; degrees (numbers of edges) are kept exactly, and sums of
    weights on average. In the random graphs all weights are shuffled.

    **The test.** Every repeat rewires the graph in one chain of steps, and a new random graph in another. The area
    under a curve divided by its range of shares is its mean height. If :math:`b` of the :math:`R` random graphs are at
    least as stable as the graph is on average over its repeats, :math:`p = (1 + b) / (1 + R)`: the probability of
    ranking this high for a graph that is itself one of the random ones. It cannot be smaller than :math:`1 / (1 + R)`.
    Repeats of the graph are not independent graphs and are not counted as such. A small :math:`p` says that communities
    are stronger than degrees alone produce, not that they are the right ones.

    Parameters
    ----------
    data
        AnnData object with a graph: the result of :func:`kronax.tl.med_magma` or :func:`scanpy.pp.neighbors`. For the
        cells of several modalities, the MuData object.
    neighbors_key
        Key in ``uns`` that describes the graph.
    axis
        ``"obs"`` for the graph of the cells, ``"var"`` for that of the genes.
    measure
        How to compare clusters. ``"vi"``: variation of information divided by :math:`\log n`; 0 for equal clusters, at
        most 1. ``"ami"``: adjusted mutual information; 1 for equal clusters.
    resolution
        Resolution of the Leiden algorithm.
    shares
        Shares of the edges to rewire, ascending, from 0 to less than 1, at least two. At 0, clusters differ only
        because the Leiden algorithm is random.
    n_repeats
        Number :math:`R` of repeats and of random graphs. Each takes one to two seconds for 1,000 cells with 15
        neighbours, and about five for 3,000.
    key_added
        Name of the results.
    random_state
        Seed.
    copy
        Return a copy and leave `data` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the object with the results:

    ``data.uns[key_added]`` : dict
        ``shares``, (L,); ``graph`` and ``random``, the measure at every repeat and share, (`n_repeats`, L);
        ``n_clusters`` and ``n_clusters_random``, of the original graphs; ``difference``, the area between the mean
        curves divided by the range of shares, positive if the graph is more robust than the random ones; ``p``;
        ``statement``, the result in words; ``params``.

    Vertices without an edge belong to no cluster and are left out.

    Raises
    ------
    KeyError
        If there is no such graph.
    ValueError
        If `data` is backed and a copy is asked for; a parameter is out of range; the graph has no edges or a weight that is negative or not
        finite; or it is too dense for that many edges to be rewired.

    See Also
    --------
    kronax.pl.graph_robustness : Plot of the curves.

    References
    ----------
    The idea is that of :cite:t:`Policastro2021` (the R package robin), which has other tests; used in
    :cite:t:`Andrew2026`, section 4.3.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.med_magma(adata)
    >>> kx.tl.graph_robustness(adata, shares=[0, 0.2, 0.4])
    >>> bool(adata.uns["graph_robustness"]["difference"] > 0)
    True
    """
    checks.one_of(axis, AXES, "axis")
    objects.holds_graph(data, axis)
    objects.writable(data, copy=copy)
    checks.name(key_added, "key_added")
    checks.one_of(measure, _MEASURES, "measure")
    checks.positive(resolution, "resolution")
    checks.integer(n_repeats, "n_repeats", low=1)
    checks.integer(random_state, "random_state", low=0)
    if key_added == neighbors_key:
        msg = f"`key_added` must differ from `neighbors_key`, {neighbors_key!r}, whose entry in `{objects.called(data)}.uns` would be lost."
        raise ValueError(msg)
    shares = np.array(checks.numbers(shares, "shares"))
    if len(shares) < 2 or not (np.diff(shares) > 0).all() or shares[0] < 0 or not shares[-1] < 1:
        msg = f"`shares` must ascend from at least 0 to less than 1, two of them or more, found {shares.tolist()}."
        raise ValueError(msg)
    graph = _read(data, neighbors_key, axis)

    own, others = (np.random.default_rng(seed) for seed in np.random.SeedSequence(random_state).spawn(2))
    clusters = _clusters(graph, resolution, own)
    curves, random_curves, n_random = [], [], []
    for _ in tqdm(range(n_repeats), desc="graph_robustness", disable=not shows_progress()):
        curves.append(_curve(graph, clusters, shares, resolution, measure, own))
        random = _random(graph, others)
        random_clusters = _clusters(random, resolution, others)
        n_random.append(max(random_clusters) + 1)
        random_curves.append(_curve(random, random_clusters, shares, resolution, measure, others))
    found = {
        "shares": shares,
        "graph": np.array(curves),
        "random": np.array(random_curves),
        "n_clusters": max(clusters) + 1,
        "n_clusters_random": np.array(n_random),
    }
    found |= compare_curves(shares, found["graph"], found["random"], measure)
    logger.info("graph_robustness: p = %.2g; in words: uns[%r]['statement']", found["p"], key_added)

    data = data.copy() if copy else data
    with whole_or_nothing(data):
        tell(clear(data, key_added))
        found["params"] = {
            "neighbors_key": neighbors_key,
            "axis": axis,
            "measure": measure,
            "resolution": float(resolution),
            "n_repeats": int(n_repeats),
            "random_state": int(random_state),
            "n_iterations": N_ITERATIONS,
        }
        data.uns[key_added] = found
    return data if copy else None


def compare_curves(
    shares: np.ndarray, graph: np.ndarray, random: np.ndarray, measure: Measure
) -> dict[str, float | str]:
    """Rank the graph's mean area among those of the random graphs, by stability, and say what that means."""
    area = np.trapezoid(graph, shares, axis=1) / np.ptp(shares)
    random_area = np.trapezoid(random, shares, axis=1) / np.ptp(shares)
    sign = -1.0 if measure == "vi" else 1.0  # a small variation of information is stable
    n_as_stable = int(np.sum(sign * random_area >= sign * area.mean()))
    p = (1 + n_as_stable) / (1 + len(random))
    statement = (
        f"{_MEASURES[measure]} of clusters before and after rewiring {shares[0]:.0%} to {shares[-1]:.0%} of the edges: "
        f"{area.mean():.3f} on average, in random graphs of the same degrees {random_area.mean():.3f}; "
        f"{n_as_stable} of {len(random)} random graphs are as stable (p = {p:.2g}"
        + (f", the smallest possible with {len(random)})." if n_as_stable == 0 else ").")
    )
    if shares[0] == 0:
        statement += (
            f" Between two runs of the Leiden algorithm on the graph as it is: {graph[:, 0].mean():.3f}, where "
            f"{0 if measure == 'vi' else 1} would be equal clusters."
        )
    difference = sign * (area.mean() - random_area.mean())
    return {"difference": float(difference), "p": p, "statement": statement[0].upper() + statement[1:]}


def _read(data: AnnData | MuData, neighbors_key: str, axis: Axis) -> _Graph:
    """Read a graph, without the vertices that have no edge."""
    stored = stored_graph(data, neighbors_key, axis)
    edges, weights = edges_of(stored.maximum(stored.T))
    if not len(edges):
        msg = f"The graph of {neighbors_key!r} has no edges, so it has no clusters."
        raise ValueError(msg)
    connected, places = np.unique(edges, return_inverse=True)
    return _Graph(len(connected), places.reshape(-1, 2), weights)


def _random(graph: _Graph, rng: np.random.Generator) -> _Graph:
    """Draw a random graph with the same degrees and weights."""
    return _Graph(graph.n, randomised(graph.n, graph.edges, rng), rng.permutation(graph.weights))


def _clusters(graph: _Graph, resolution: float, rng: np.random.Generator) -> list[int]:
    """Number the cluster of every vertex."""
    with seeded(int(rng.integers(2**31))):
        found = from_edges(graph.n, graph.edges).community_leiden(
            objective_function="modularity",
            weights=graph.weights.tolist(),
            resolution=resolution,
            n_iterations=N_ITERATIONS,
        )
    return found.membership


def _curve(
    graph: _Graph,
    clusters: list[int],
    shares: np.ndarray,
    resolution: float,
    measure: Measure,
    rng: np.random.Generator,
) -> list[float]:
    """Compare the clusters of a graph with those after every step of one chain of perturbations."""
    values = []
    for edges in perturbed(graph.n, graph.edges, shares, rng):
        weights = carry_weights(graph.n, graph.edges, graph.weights, edges, rng)
        after = _clusters(_Graph(graph.n, edges, weights), resolution, rng)
        values.append(_compare(clusters, after, measure))
    return values


def _compare(first: list[int], second: list[int], measure: Measure) -> float:
    if measure == "vi":
        import igraph

        return float(igraph.compare_communities(first, second, method="vi") / np.log(len(first)))
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(first, second))
