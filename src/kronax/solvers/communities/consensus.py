"""Communities that hardly depend on the seed: a consensus of many runs of the Leiden algorithm.

Where communities are weak, as in gene graphs, partitions of nearly the same modularity differ by much, and a seed picks
one of them. After Lancichinetti and Fortunato (Scientific Reports 2, 336, 2012), every edge ``ij`` gets the weight

    ``w_ij p_ij``, or none where ``p_ij < τ``,   ``p_ij`` the share of runs with both ends in one community,            (1)

and the graph is partitioned anew, until all runs agree on every edge. As in Tandon et al. (Physical Review E 99, 042301, 2019),
only edges are compared, not all pairs; their own weights stay in (1).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from kronax.solvers.communities.igraph_edges import edges_of, from_edges, seeded

N_ITERATIONS = 2  # of the Leiden algorithm in every run, as scanpy recommends
_LEAST_SHARE = 0.1  # τ
_MOST_ROUNDS = 20
_FEWER = 5  # times fewer runs in all rounds but the first, as these nearly agree
_LEAST_RUNS = 20


@dataclass(frozen=True)
class Consensus:
    """A partition, and how single runs agree with it.

    Attributes
    ----------
    communities
        ``(n,)``, the largest 0.
    stability
        ``(n,)``: the share of runs that put a vertex with another one of its community, on average over these. 1 for
        communities of one vertex.
    agreement
        Adjusted mutual information of a run and the consensus, mean over the runs.
    """

    communities: np.ndarray
    stability: np.ndarray
    agreement: float


def consensus(
    graph: sparse.spmatrix | sparse.sparray,
    resolution: float,
    n_runs: int,
    random_state: int,
    *,
    progress: bool = False,
) -> Consensus:
    """Partition a symmetric graph without edges from a vertex to itself."""
    from sklearn.metrics import adjusted_mutual_info_score

    n, (edges, weights) = graph.shape[0], edges_of(graph)
    rng = np.random.default_rng(random_state)
    first = runs = _runs(n, edges, weights, resolution, n_runs, rng, progress)
    for _ in range(_MOST_ROUNDS):
        together = (runs[:, edges[:, 0]] == runs[:, edges[:, 1]]).mean(axis=0)
        if np.isin(together, (0.0, 1.0)).all():
            break
        kept = together >= _LEAST_SHARE
        edges, weights = edges[kept], weights[kept] * together[kept]  # (1)
        runs = _runs(n, edges, weights, resolution, min(n_runs, max(n_runs // _FEWER, _LEAST_RUNS)), rng, progress)
    communities = _by_size(runs[0])
    agreement = np.mean([adjusted_mutual_info_score(communities, run) for run in first])
    return Consensus(communities, _stability(communities, first), float(agreement))


def _runs(
    n: int,
    edges: np.ndarray,
    weights: np.ndarray,
    resolution: float,
    n_runs: int,
    rng: np.random.Generator,
    progress: bool,
) -> np.ndarray:
    """Partition a graph again and again: ``(n_runs, n)``."""
    graph, weights = from_edges(n, edges), weights.tolist()
    found = np.empty((n_runs, n), np.int64)
    for run in tqdm(found, desc="gene_modules", unit="run", delay=2, leave=False, disable=not progress):
        with seeded(int(rng.integers(2**31))):
            run[:] = graph.community_leiden(
                objective_function="modularity", weights=weights, resolution=resolution, n_iterations=N_ITERATIONS
            ).membership
    return found


def _stability(communities: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Average, over runs and over the other members of a vertex' community, whether they are together."""
    size = np.bincount(communities)
    together = np.zeros(len(communities))
    for run in runs:
        shared = sparse.coo_array(
            (np.ones(len(run)), (communities, run))
        ).tocsr()  # members of a community in one of the run
        together += shared[communities, run] - 1.0
    others = size[communities] - 1
    return np.divide(together / len(runs), others, out=np.ones(len(communities)), where=others > 0)


def _by_size(communities: np.ndarray) -> np.ndarray:
    """Number communities anew, the largest 0."""
    order = np.argsort(-np.bincount(communities), kind="stable")
    return np.argsort(order)[communities]
