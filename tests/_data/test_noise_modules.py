"""Which gene modules are taken for noise: on graphs without communities, with some, and by q-values."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from kronax._data import noise_modules
from kronax.solvers.communities.consensus import consensus


def nearest(similarity: np.ndarray, k: int) -> sparse.csr_array:
    """Tie every vertex to its k most similar others, with these as weights."""
    np.fill_diagonal(similarity, -np.inf)
    kept = np.argsort(-similarity, axis=1)[:, :k]
    graph = np.zeros_like(similarity)
    np.put_along_axis(graph, kept, np.take_along_axis(similarity, kept, axis=1), axis=1)
    return sparse.csr_array(np.maximum(graph, graph.T))


def planted(n: int, sizes: list[int], strength: float, seed: int = 0, k: int = 10) -> sparse.csr_array:
    """Nearest neighbours by random similarities, which are larger within the first vertices' blocks."""
    rng = np.random.default_rng(seed)
    block = np.append(np.repeat(np.arange(len(sizes)), sizes), np.arange(n - sum(sizes)) + len(sizes))
    similarity = np.triu(rng.uniform(0.1, 1, (n, n)), 1)
    similarity += similarity.T + strength * (block[:, None] == block)
    return nearest(similarity, k)


def judged(graph: sparse.csr_array, q_values: sparse.csr_array | None = None) -> tuple[pd.DataFrame, pd.Categorical]:
    found = consensus(graph, 1.0, 20, 0)
    module_of = pd.Categorical(found.communities.astype(str), categories=map(str, range(found.communities.max() + 1)))
    return noise_modules.table(graph, module_of, found.stability, q_values, 1.0, 0), module_of


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_communities_of_a_graph_without_any_are_noise(seed):
    table, _ = judged(planted(300, [], 0.0, seed))
    assert len(table) > 3
    assert table["noise"].mean() > 0.8
    assert table["cohesion"].max() < 1.3


@pytest.mark.parametrize("k", [5, 10, 30])
def test_planted_ones_are_told_from_what_is_left(k):
    table, module_of = judged(planted(300, [40, 30], 0.8, k=k))
    first = {module_of[0], module_of[40]}
    assert len(first) == 2
    assert not table.loc[list(first), "noise"].any()
    rest = [module for module in table.index if (np.flatnonzero(module_of == module) >= 70).all()]
    assert rest and table.loc[rest, "noise"].all()


def test_cohesion_by_hand():
    weights = np.zeros((5, 5))
    weights[0, 1], weights[1, 2], weights[2, 3], weights[3, 4] = 0.5, 0.1, 0.3, 0.2
    module_of = pd.Categorical(["a", "a", "b", "b", "b"])
    found = noise_modules.cohesion(sparse.csr_array(weights + weights.T), module_of)
    # inside a: 0.5 twice, of 1.1 in all; inside b: 0.5 twice, of 1.1; one and two of four others are in the module
    np.testing.assert_allclose(found, [1 / 1.1 - 1 / 4, 1 / 1.1 - 2 / 4])


def test_no_significant_edge_is_noise_and_one_is_not():
    graph = planted(300, [40, 30], 0.8)
    module_of = judged(graph)[1]
    entries = graph.tocoo()
    q_values = sparse.lil_array((300, 300))
    q_values[entries.row, entries.col] = 0.21
    table, _ = judged(graph, q_values.tocsr())
    assert "cohesion" not in table
    assert table["noise"].all() and (table["significant"] == 0).all()
    inside = np.flatnonzero((module_of == module_of[0])[entries.row] & (module_of == module_of[0])[entries.col])[0]
    across = np.flatnonzero(np.asarray(module_of)[entries.row] != np.asarray(module_of)[entries.col])[0]
    for edge in (inside, across):  # one between modules says nothing of either
        i, j = entries.row[edge], entries.col[edge]
        q_values[i, j] = q_values[j, i] = 0.2
    table, _ = judged(graph, q_values.tocsr())
    assert table.index[~table["noise"]].tolist() == [module_of[0]]
    assert table.loc[module_of[0], "significant"] == 2 / table.loc[module_of[0], "n_genes"]


def test_pairs_are_noise_and_few_edges_are_not_compared_with_random_graphs():
    """A path of four vertices and a pair: random graphs of so few edges have communities as cohesive as these."""
    weights = np.zeros((6, 6))
    weights[0, 1] = weights[1, 2] = weights[2, 3] = weights[4, 5] = 0.5
    graph = sparse.csr_array(weights + weights.T)
    module_of = pd.Categorical(["0"] * 4 + ["1"] * 2)
    table = noise_modules.table(graph, module_of, np.ones(6), None, 1.0, 0)
    assert table["cohesion"].isna().all()
    assert table["noise"].tolist() == [False, True]


def test_one_module_with_all_genes_is_not_compared():
    graph = sparse.csr_array(np.ones((12, 12)) - np.eye(12))
    table = noise_modules.table(graph, pd.Categorical(["0"] * 12), np.ones(12), None, 1.0, 0)
    assert table["cohesion"].isna().all() and not table["noise"].any()


def test_genes_without_an_edge_do_not_count():
    graph = planted(100, [20, 20], 0.8)
    larger = sparse.block_array([[graph, None], [None, sparse.csr_array((3, 3))]], format="csr")
    found, module_of = judged(graph)
    codes = np.append(module_of.codes, [-1] * 3)
    more = pd.Categorical.from_codes(codes, categories=module_of.categories)
    stability = np.append(consensus(graph, 1.0, 20, 0).stability, [np.nan] * 3)
    pd.testing.assert_frame_equal(noise_modules.table(larger, more, stability, None, 1.0, 0), found)
