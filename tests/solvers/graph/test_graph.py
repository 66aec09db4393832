"""Graphs: the right neighbours, the weights of UMAP, and what scanpy and a reader of the matrices rely on."""

import os
import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from umap.umap_ import fuzzy_simplicial_set

from kronax.solvers import device
from kronax.solvers.gaussian.precision import LowRank, Sparse, dense, held
from kronax.solvers.gaussian.vectors import Held
from kronax.solvers.graph.graph import Graph, on_edges, without_weak
from kronax.solvers.graph.partial_correlations import absolute_graph, partial_correlation_graph
from kronax.solvers.graph.search import most_similar
from kronax.solvers.graph.weights import affinity_graph

N, K, WIDTH = 120, 7, 6

ONE_BLOCK, TWO_BLOCKS = 1100, 2900  # rows: 2²² scores are held at a time, and 2²³ on an accelerator


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(scores: np.ndarray, k: int) -> np.ndarray:
    """Which j ≠ i are among the k largest positive scores of row i, for any i: a symmetric pattern."""
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    kept = np.zeros(scores.shape, bool)
    np.put_along_axis(kept, np.argpartition(-scores, k, axis=1)[:, :k], True, axis=1)
    kept &= scores > 0
    return kept | kept.T


def assert_well_formed(found: Graph, n: int):
    for matrix in (found.connectivities, found.distances):
        assert matrix.format == "csr"
        assert matrix.shape == (n, n)
        assert matrix.dtype == np.float64
        assert matrix.has_sorted_indices and matrix.has_canonical_format
        for i in range(n):
            assert (np.diff(matrix.indices[matrix.indptr[i] : matrix.indptr[i + 1]]) > 0).all()
        assert (matrix.data > 0).all() and np.isfinite(matrix.data).all()
        assert (matrix.diagonal() == 0).all()
        assert (matrix != matrix.T).nnz == 0
    assert (found.connectivities.data <= 1.0).all()
    np.testing.assert_array_equal(found.connectivities.indptr, found.distances.indptr)
    np.testing.assert_array_equal(found.connectivities.indices, found.distances.indices)


def precision(rng, n: int = N, rank: int = 30) -> LowRank:
    """Positive definite, far from diagonal."""
    vectors, _ = np.linalg.qr(rng.normal(size=(n, rank)))
    return LowRank(1.0, Held(vectors), rng.uniform(-0.9, 3.0, rank))


@pytest.mark.parametrize(("n", "platform"), [(N, "cpu"), (ONE_BLOCK, "cpu"), (TWO_BLOCKS, "cpu"), (TWO_BLOCKS, "gpu")])
def test_neighbours_are_those_of_the_largest_cosines(n, platform, rng):
    embedding = rng.normal(size=(n, WIDTH)) * rng.lognormal(0.0, 1.0, (n, 1))
    with device.as_if_on(platform):
        found = affinity_graph(embedding, K)
    assert_well_formed(found, n)
    rows = unit(embedding)
    expected = brute_force(rows @ rows.T, K)
    np.testing.assert_array_equal(found.connectivities.toarray() > 0, expected)
    np.testing.assert_allclose(found.distances.data, cdist(rows, rows)[expected], rtol=1e-12)  # at the same places


@pytest.mark.parametrize("n_together", [10, 100])
def test_neighbours_are_right_where_single_precision_is_not(n_together, rng):
    """Rows around each centre, fewer or more than are looked at twice, whose cosines differ in the ninth digit."""
    n = ONE_BLOCK
    centres = unit(rng.normal(size=(n // n_together, WIDTH)))
    embedding = np.repeat(centres, n_together, axis=0) + 1e-5 * rng.normal(size=(n, WIDTH))
    rows = unit(embedding)
    cosine = rows @ rows.T
    together = np.arange(n)[:, None] // n_together == np.arange(n) // n_together
    assert 1e-10 < np.ptp(cosine[together]) < np.finfo(np.float32).eps / 10
    found = affinity_graph(embedding, 3)
    np.testing.assert_array_equal(found.connectivities.toarray() > 0, brute_force(cosine, 3))


def test_neighbours_are_right_where_single_precision_rounds_all_products_alike(rng):
    """Each product is above 1 by less than float32 tells, so that no candidate falls short of the others."""
    right = 1.0 + 2.0**-35 * rng.permutation(200)[:, None]
    values, found = most_similar(np.ones((200, 1)), right, 3, progress=False)
    for i in range(200):
        others = np.delete(np.arange(200), i)
        expected = others[np.argsort(-right[others, 0])[:3]]
        np.testing.assert_array_equal(found[i], expected)
        np.testing.assert_array_equal(values[i], right[expected, 0])


def test_weights_are_those_of_umap(rng):
    embedding = rng.uniform(0.1, 1.0, (N, WIDTH))  # all cosines positive, as every neighbour counts in UMAP
    rows = unit(embedding)
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    # UMAP's neighbour lists begin with the row itself; it adds up the others, and aims at log2 of `n_neighbors`
    indices = np.argsort(distances, axis=1)[:, : K + 1]
    assert (indices[:, 0] == np.arange(N)).all()
    theirs, *_ = fuzzy_simplicial_set(
        rows.astype(np.float32),
        n_neighbors=K,
        random_state=np.random.RandomState(0),
        metric="euclidean",
        knn_indices=indices,
        knn_dists=np.take_along_axis(distances, indices, axis=1).astype(np.float32),
    )
    found = affinity_graph(embedding, K).connectivities
    np.testing.assert_allclose(found.toarray(), theirs.toarray(), rtol=0, atol=1e-4)


def test_weights_of_every_row_add_up_to_the_logarithm(rng):
    """With all others as neighbours on both ends, w + w' − ww' can be undone by hand."""
    n, k = 12, 11
    rows = unit(rng.uniform(0.1, 1.0, (n, WIDTH)))
    distances = np.linalg.norm(rows[:, None] - rows, axis=2) + np.diag(np.full(n, np.inf))
    beyond = distances - distances.min(1, keepdims=True)

    def total(i, width):
        return np.exp(-beyond[i] / width).sum()

    one_sided = np.zeros((n, n))
    for i in range(n):
        low, high = 1e-6, 1e6
        for _ in range(200):
            middle = np.sqrt(low * high)
            low, high = (middle, high) if total(i, middle) < np.log2(k) else (low, middle)
        one_sided[i] = np.exp(-beyond[i] / low)
    expected = one_sided + one_sided.T - one_sided * one_sided.T
    np.testing.assert_allclose(affinity_graph(rows, k).connectivities.toarray(), expected, rtol=1e-8, atol=1e-10)


def test_length_of_a_row_does_not_matter(rng):
    embedding = rng.normal(size=(N, WIDTH))
    one, other = affinity_graph(embedding, K), affinity_graph(embedding * rng.lognormal(0.0, 3.0, (N, 1)), K)
    np.testing.assert_allclose(other.connectivities.toarray(), one.connectivities.toarray(), rtol=1e-9)


def test_rows_of_zeros_are_isolated(rng):
    embedding = rng.normal(size=(N, WIDTH))
    embedding[[3, 50, N - 1]] = 0.0
    found = affinity_graph(embedding, K)
    assert_well_formed(found, N)
    edges = np.diff(found.connectivities.indptr)
    np.testing.assert_array_equal(np.flatnonzero(edges == 0), [3, 50, N - 1])
    others = np.delete(np.arange(N), [3, 50, N - 1])
    alone = affinity_graph(embedding[others], K)
    np.testing.assert_allclose(
        found.connectivities[others][:, others].toarray(), alone.connectivities.toarray(), rtol=1e-9
    )


def around(rows, k):
    """Search among rows in groups of ten: the ``k`` that follow in the group, from the last on to the first."""
    i = np.arange(len(rows))[:, None]
    return i - i % 10 + (i % 10 + np.arange(1, k + 1)) % 10


def test_groups_do_not_depend_on_each_other(rng):
    embedding = 1.0 + 0.3 * rng.normal(size=(40_000, 6))  # more rows than are worked on at a time
    whole, part = (affinity_graph(rows, 4, search=around) for rows in (embedding, embedding[-10_000:]))
    for found, expected in zip(
        (whole.connectivities, whole.distances), (part.connectivities, part.distances), strict=True
    ):
        assert (found != found.T).nnz == 0
        assert (found[-10_000:, -10_000:] != expected).nnz == 0
        assert expected.nnz > 4 * 10_000


def test_distances_are_those_of_rows_of_unit_length(rng):
    embedding = 1.0 + 0.3 * rng.normal(size=(5_000, 6))
    distances = affinity_graph(embedding, 4, search=around).distances.tocoo()
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    apart = np.linalg.norm(unit[distances.row] - unit[distances.col], axis=1)
    np.testing.assert_allclose(distances.data, apart, rtol=1e-12)


def test_memory_of_a_graph(rng, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # every thread has room of its own
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    n, k = 50_000, 9
    embedding = 1.0 + 0.3 * rng.normal(size=(n, 50))
    tracemalloc.start()
    try:
        graph = affinity_graph(embedding, k, search=around)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    n_edges = graph.connectivities.nnz
    # rows of unit length, neighbours and weights, or the graph, its one-sided weights twice and room for all their edges
    assert peak < 1.3 * max(8 * n * (50 + 2 * k), 12 * (2 * n_edges + 4 * n * k))


def test_equal_rows(rng):
    """Distance 0 would be no edge in a sparse matrix: it is small and positive, and the weight is 1."""
    embedding = np.repeat(rng.normal(size=(N // 2, WIDTH)), 2, axis=0)
    found = affinity_graph(embedding, K)
    assert_well_formed(found, N)
    even = np.arange(0, N, 2)
    twins = found.distances[even, even + 1]
    assert (twins > 0).all() and (twins < 1e-7).all()
    np.testing.assert_allclose(found.connectivities[even, even + 1], 1.0, rtol=1e-12)


def test_more_equal_rows_than_neighbours(rng):
    embedding = np.repeat(rng.normal(size=(4, WIDTH)), N // 4, axis=0)
    found = affinity_graph(embedding, K)
    assert_well_formed(found, N)
    rows, cols = found.connectivities.nonzero()
    np.testing.assert_array_equal(rows // (N // 4), cols // (N // 4))
    assert (np.diff(found.connectivities.indptr) >= K).all()
    np.testing.assert_allclose(found.connectivities.data, 1.0, rtol=1e-12)


def test_only_positive_affinities_count():
    """On a line there are two directions: nobody on the other side is a neighbour."""
    line = np.concatenate([np.linspace(1, 2, 5), -np.linspace(1, 2, 3)])[:, None]
    found = affinity_graph(line, 6).connectivities.toarray() > 0
    side = line[:, 0] > 0
    np.testing.assert_array_equal(found, (side[:, None] == side) & ~np.eye(8, dtype=bool))


@pytest.mark.parametrize("n", [2, 3, 24])
def test_all_others_as_neighbours(n, rng):
    embedding = rng.normal(size=(n, WIDTH)) + 0.5
    found = affinity_graph(embedding, n - 1)
    assert_well_formed(found, n)
    rows = unit(embedding)
    np.testing.assert_array_equal(found.connectivities.toarray() > 0, brute_force(rows @ rows.T, n - 1))


def test_order_of_the_rows(rng):
    embedding, order = rng.normal(size=(N, WIDTH)), rng.permutation(N)
    one, other = affinity_graph(embedding, K), affinity_graph(embedding[order], K)
    for name in ("connectivities", "distances"):
        expected = getattr(one, name).toarray()[order][:, order]
        np.testing.assert_allclose(getattr(other, name).toarray(), expected, rtol=1e-10)


@pytest.mark.parametrize(("n", "k"), [(N, K), (N, N - 1), (ONE_BLOCK, K), (ONE_BLOCK, ONE_BLOCK - 1), (TWO_BLOCKS, K)])
def test_partial_correlations(n, k, rng):
    phi, shift = precision(rng, n), 0.8
    found = partial_correlation_graph(phi, shift, k)
    assert_well_formed(found, n)
    full = dense(phi) + shift * np.eye(n)
    rho = -full / np.sqrt(np.outer(np.diag(full), np.diag(full)))
    np.fill_diagonal(rho, 0.0)
    assert (rho < 0).any()
    expected = brute_force(rho, k)
    whole = partial_correlation_graph(held(phi), shift, k)
    for one, other in zip(
        (found.connectivities, found.distances), (whole.connectivities, whole.distances), strict=True
    ):
        np.testing.assert_allclose(other.toarray(), one.toarray(), rtol=1e-9)
    np.testing.assert_allclose(found.connectivities.toarray(), np.where(expected, rho, 0.0), rtol=1e-9)
    distances = np.where(expected, np.sqrt(2 - 2 * rho), 0.0)
    np.testing.assert_allclose(found.distances.toarray(), distances, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_is_no_partial_correlation(dtype, rng):
    """The precision is diagonal, though its vectors are not."""
    for _ in range(20):
        vectors = np.linalg.qr(rng.normal(size=(4, 4)))[0].astype(dtype)
        found = partial_correlation_graph(LowRank(1.0, Held(vectors), np.full(4, 100.0)), 0.0, 3)
        assert not found.connectivities.nnz and not found.distances.nnz


@pytest.mark.parametrize("k", [1, 3, N - 1])
def test_partial_correlations_of_a_sparse_precision(k, rng):
    full = rng.normal(size=(N, N)) * (rng.uniform(size=(N, N)) < 0.1)
    full = np.triu(full, 1) + np.triu(full, 1).T + np.diag(rng.uniform(-0.2, 2.0, N))
    found = partial_correlation_graph(Sparse(sparse.csr_array(full)), 0.8, k)
    size = np.sqrt(np.diag(full) + 0.8)
    rho = -full / np.outer(size, size)
    np.fill_diagonal(rho, 0.0)
    expected = brute_force(rho, k) & (rho > 0)
    np.testing.assert_allclose(found.connectivities.toarray(), np.where(expected, rho, 0.0), rtol=1e-12)
    assert (np.diff(found.connectivities.indptr) == expected.sum(1)).all()


def test_partial_correlations_do_not_see_the_split(rng):
    """Φ + t with ψ̄ − t is the same model."""
    phi = precision(rng)
    one = partial_correlation_graph(phi, 0.8, K)
    other = partial_correlation_graph(LowRank(phi.base + 0.3, phi.vectors, phi.weights), 0.5, K)
    np.testing.assert_allclose(other.connectivities.toarray(), one.connectivities.toarray(), rtol=1e-12)


@pytest.mark.parametrize(("n", "k"), [(N, 2), (N, N - 1), (ONE_BLOCK, 2), (TWO_BLOCKS, 2)])
def test_largest_absolute_values(n, k, rng):
    """Neighbours, weights and distances by hand; both signs are among them, and no weight reaches 1."""
    phi = precision(rng, n)
    full = dense(phi)
    found = absolute_graph(phi, 0.7, k)
    assert_well_formed(found, n)
    pattern = brute_force(np.abs(full), k)
    np.testing.assert_array_equal(found.connectivities.toarray() > 0, pattern)
    expected = np.where(pattern, np.abs(full), 0.0) / (np.diag(full).max() + 0.7)
    np.testing.assert_allclose(found.connectivities.toarray(), expected, atol=1e-12)
    rows, cols = pattern.nonzero()
    np.testing.assert_allclose(found.distances.toarray()[rows, cols], np.sqrt(2.0 - 2.0 * expected[rows, cols]))
    assert (full[rows, cols] > 0).any() and (full[rows, cols] < 0).any()
    assert found.connectivities.max() < 1.0


def test_largest_absolute_values_of_a_sparse_precision(rng):
    full = dense(precision(rng)) * (rng.random((N, N)) < 0.1)
    full = np.tril(full, -1) + np.tril(full, -1).T + 5.0 * np.eye(N)
    found = absolute_graph(Sparse(sparse.csr_array(full)), 0.7, 3)
    assert_well_formed(found, N)
    off = np.abs(full - np.diag(np.diag(full)))
    np.testing.assert_array_equal(found.connectivities.toarray() > 0, brute_force(off, 3))


def test_vectors_in_single_precision(rng):
    phi = precision(rng)
    half = LowRank(phi.base, Held(phi.vectors.array().astype(np.float32)), phi.weights)
    found = partial_correlation_graph(half, 0.8, K)
    assert_well_formed(found, N)
    expected = partial_correlation_graph(phi, 0.8, N - 1).connectivities
    pairs = found.connectivities.nonzero()
    np.testing.assert_allclose(found.connectivities[pairs], expected[pairs], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_on_edges(dtype, rng):
    phi = precision(rng)
    phi = LowRank(phi.base, Held(phi.vectors.array().astype(dtype)), phi.weights)
    edges = affinity_graph(rng.normal(size=(N, WIDTH)), K)
    found = on_edges(phi, edges)
    assert found.format == "csr" and found.dtype == np.float64
    assert found.has_sorted_indices and found.has_canonical_format
    assert (found != found.T).nnz == 0
    pattern = (edges.connectivities.toarray() > 0) | np.eye(N, dtype=bool)
    np.testing.assert_array_equal(found.toarray() != 0, pattern)
    tolerance = 1e-12 if dtype == np.float64 else 1e-6
    np.testing.assert_allclose(found.toarray(), np.where(pattern, dense(phi), 0.0), atol=tolerance)
    assert (found.data < 0).any()


def islands(rng) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two kinds that have no coordinate in common, in a basis in which no coordinate is exactly 0."""
    kind = np.arange(24) % 2
    rows = rng.uniform(0.5, 1.0, (24, WIDTH)) * (kind[:, None] == np.arange(WIDTH) % 2)
    return rows @ np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0], kind


def test_rounding_makes_no_neighbours(rng):
    """Between orthogonal rows there is nothing but rounding, half of it positive; there are 11 of a kind and 20 wanted."""
    rows, kind = islands(rng)
    unit_rows = unit(rows)
    across = (unit_rows @ unit_rows.T)[kind[:, None] != kind]
    assert 0 < across.max() < 1e-14
    found = affinity_graph(rows, 20)
    pairs = found.connectivities.nonzero()
    np.testing.assert_array_equal(kind[pairs[0]], kind[pairs[1]])
    assert (np.diff(found.connectivities.indptr) == 11).all()


def test_rounding_makes_no_partial_correlations(rng):
    rows, kind = islands(rng)
    vectors, weights = np.linalg.svd(rows, full_matrices=False)[:2]
    found = partial_correlation_graph(
        LowRank(1.0, Held(vectors), -0.5 * weights / weights.max()), 0.5, 23
    ).connectivities
    pairs = found.nonzero()
    assert found.nnz
    np.testing.assert_array_equal(kind[pairs[0]], kind[pairs[1]])


def test_weak_edges_are_dropped_in_both_matrices():
    weights = np.array([[0, 1.0, 0.1], [1.0, 0, 0.002], [0.1, 0.002, 0]])
    graph = Graph(sparse.csr_array(weights), sparse.csr_array(2 * weights))
    found = without_weak(graph, 100)
    np.testing.assert_array_equal(found.connectivities.toarray(), np.where(weights == 0.002, 0, weights))
    np.testing.assert_array_equal(found.distances.toarray(), 2 * found.connectivities.toarray())
    assert found.connectivities.nnz == found.distances.nnz == 4
    empty = Graph(sparse.csr_array((3, 3)), sparse.csr_array((3, 3)))
    assert without_weak(empty, 100).connectivities.nnz == 0


def test_on_no_edges(rng):
    phi = precision(rng)
    empty = sparse.csr_array((N, N))
    np.testing.assert_allclose(on_edges(phi, Graph(empty, empty)).toarray(), np.diag(np.diag(dense(phi))), rtol=1e-12)
