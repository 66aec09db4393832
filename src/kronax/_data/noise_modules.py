"""Gene modules that noise may form as well: none of their edges is significant, or, without q-values, they hang together no more than random graphs' do."""

import numpy as np
import pandas as pd
from scipy import sparse

from kronax._data.modules import categorical, indicator, smallest_q
from kronax._data.stored_graph import Graph
from kronax.solvers.communities.consensus import consensus
from kronax.solvers.communities.igraph_edges import edges_of
from kronax.solvers.communities.rewiring import randomised

SIGNIFICANT = 0.2  # q-value of an edge that makes a module more than noise
FEWEST_GENES = 3  # of a module whose edges have no q-values: a pair is an edge
LEAST_COHESION = 1.0  # of such a module, in units of the most cohesive one of random graphs
_N_RANDOM = 10  # graphs
_LEAST_EDGES = 3  # per gene: random graphs of fewer fall apart into small communities
_DENSE = 0.1  # share of the pairs that are edges, from which degrees hardly differ and exchanging edges takes long


def table(
    graph: Graph, module_of: pd.Categorical, stability: np.ndarray, q_values: Graph | None, resolution: float, seed: int
) -> pd.DataFrame:
    """Describe every module, and judge whether noise may form it as well; :func:`kronax.tl.gene_modules` lists the columns.

    Parameters
    ----------
    graph
        Weights between genes, symmetric.
    module_of, stability
        Of every gene.
    q_values
        Of the graph's edges, without stored zeros; None where there are none.
    resolution, seed
        Of the communities of random graphs.
    """
    found = pd.DataFrame(
        {
            "n_genes": module_of.value_counts().to_numpy(),
            "stability": pd.Series(stability).groupby(module_of, observed=False).mean().to_numpy(),
        },
        index=pd.Index(module_of.categories, name="module"),
    )
    if q_values is not None:
        found["significant"] = _share_significant(graph, module_of, q_values)
        return found.assign(noise=found["significant"] == 0)
    found["cohesion"] = _relative_cohesion(graph, module_of, resolution, seed)
    return found.assign(noise=(found["n_genes"] < FEWEST_GENES) | (found["cohesion"] <= LEAST_COHESION))  # NaN is not


def cohesion(graph: Graph, module_of: pd.Categorical) -> np.ndarray:
    r"""Compute the share of the weight of a module's genes that stays in the module, beyond its share of the genes.

    For module :math:`m` of :math:`n_m` genes, and :math:`n` genes with edges in all,

    .. math:: \frac{\sum_{j, l ∈ m} w_{jl}}{\sum_{j ∈ m} \sum_l w_{jl}} - \frac{n_m - 1}{n - 1} .
    """
    members = indicator(module_of)
    inside = (members.T @ graph @ members).diagonal()
    whole = members.T @ np.asarray(graph.sum(axis=1)).ravel()
    n_genes = np.asarray(members.sum(axis=0)).ravel()
    n = max(n_genes.sum(), 2)
    return np.divide(inside, whole, out=np.zeros(len(whole)), where=whole > 0) - (n_genes - 1) / (n - 1)


def _relative_cohesion(graph: Graph, module_of: pd.Categorical, resolution: float, seed: int) -> np.ndarray:
    """Compare the cohesion with the largest that random graphs reach; NaN if one module has all genes, or edges are few."""
    connected = np.flatnonzero(module_of.codes >= 0)
    edges, weights = edges_of(graph[connected][:, connected])
    if len(module_of.categories) < 2 or len(edges) < _LEAST_EDGES * len(connected):
        return np.full(len(module_of.categories), np.nan)
    rng = np.random.default_rng(seed)
    largest = max(_largest_by_chance(len(connected), edges, weights, resolution, rng) for _ in range(_N_RANDOM))
    return cohesion(graph, module_of) / (largest if largest > 0 else np.nan)


def _largest_by_chance(
    n: int, edges: np.ndarray, weights: np.ndarray, resolution: float, rng: np.random.Generator
) -> float:
    """Find the most cohesive community of a random graph with the same degrees and weights."""
    edges = randomised(n, edges, rng) if len(edges) < _DENSE * n * (n - 1) / 2 else _any_pairs(n, len(edges), rng)
    upper = sparse.coo_array((rng.permutation(weights), (edges[:, 0], edges[:, 1])), shape=(n, n))
    graph = sparse.csr_array(upper + upper.T)
    communities = consensus(graph, resolution, 1, int(rng.integers(2**31))).communities
    return float(cohesion(graph, categorical(pd.Series(communities), "communities")).max())


def _any_pairs(n: int, n_edges: int, rng: np.random.Generator) -> np.ndarray:
    """Draw so many pairs of n vertices, (m, 2)."""
    chosen = rng.choice(n * (n - 1) // 2, n_edges, replace=False)
    return np.stack(np.triu_indices(n, k=1), axis=1)[chosen]


def _share_significant(graph: Graph, module_of: pd.Categorical, q_values: Graph) -> np.ndarray:
    """Compute the share of every module's genes that have a significant edge to another one of it."""
    tied = smallest_q(graph, module_of, q_values) <= SIGNIFICANT
    return pd.Series(tied).groupby(module_of, observed=False).mean().to_numpy()
