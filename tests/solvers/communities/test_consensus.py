"""The consensus of many runs lies in the middle of them."""

from itertools import combinations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score

from kronax.solvers.communities.consensus import consensus


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_runs_agree_with_the_consensus_more_than_with_each_other(seed):
    """On a graph of eight groups that hardly stand out, where no two runs are alike."""
    rng, n = np.random.default_rng(seed), 200
    group = np.arange(n) % 8
    chance = np.where(group[:, None] == group, 0.3, 0.1)
    half = np.triu(rng.random((n, n)) < chance, 1) * rng.uniform(0.5, 1.0, (n, n))
    graph = sparse.csr_array(half + half.T)
    runs = [consensus(graph, 1.0, 1, 100 + k).communities for k in range(12)]
    with_each_other = np.mean([adjusted_mutual_info_score(*pair) for pair in combinations(runs, 2)])
    assert with_each_other < 0.3
    assert consensus(graph, 1.0, 20, 0).agreement > 1.25 * with_each_other
