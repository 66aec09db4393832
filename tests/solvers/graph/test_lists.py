"""Approximate neighbours: as many of the true ones as asked for, whatever the rows are like, and always the same."""

import os

import numpy as np
import pytest

from kronax.solvers.graph.lists import EXACT, nearest
from kronax.solvers.graph.search import most_similar
from kronax.solvers.graph.weights import affinity_graph

N, K, WIDTH = EXACT + 1500, 15, 12


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cell_types() -> np.ndarray:
    """Types of very different numbers, and a path within each: thin and dense regions."""
    rng = np.random.default_rng(0)
    kind = rng.choice(12, N, p=rng.dirichlet(np.full(12, 0.7)))
    centres, paths = rng.normal(size=(2, 12, WIDTH))
    along = rng.uniform(-1.0, 1.0, (N, 1))
    return unit(2.0 * centres[kind] + along * paths[kind] + 0.3 * rng.normal(size=(N, WIDTH)))


ROWS = cell_types()


@pytest.fixture(scope="module")
def true() -> np.ndarray:
    return most_similar(ROWS, ROWS, K, progress=False)[1]


def recall(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([np.isin(some, all_).mean() for some, all_ in zip(true, found, strict=True)]))


def assert_neighbours(found: np.ndarray, n: int, k: int):
    """As many as wanted, all different, none the row itself."""
    assert found.shape == (n, k)
    assert found.min() >= 0 and found.max() < n
    assert (np.diff(np.sort(found, axis=1), axis=1) > 0).all()
    assert (found != np.arange(n)[:, None]).all()


@pytest.mark.parametrize("asked", [0.8, 0.95, 0.99])
def test_recall_is_the_one_asked_for(asked, true):
    found = nearest(ROWS, K, recall=asked)
    assert_neighbours(found, N, K)
    assert asked <= recall(found, true) < 1.0


def test_noise_takes_longer_but_is_searched_as_well():
    """Without any structure, the neighbours of a row are in many lists."""
    rows = unit(np.random.default_rng(0).normal(size=(N, WIDTH)))
    found = nearest(rows, K, recall=0.95)
    assert_neighbours(found, N, K)
    assert recall(found, most_similar(rows, rows, K, progress=False)[1]) >= 0.95


def test_all_neighbours(true):
    some = np.arange(0, N, 40)
    scores = ROWS[some] @ ROWS.T
    scores[np.arange(len(some)), some] = -np.inf
    expected = np.argsort(-scores, axis=1)[:, :K]
    np.testing.assert_array_equal(true[some], expected)
    np.testing.assert_array_equal(nearest(ROWS, K, recall=1.0), true)


def test_all_neighbours_of_few_rows():
    """Few rows are searched exactly, whatever is asked for."""
    rows = ROWS[:1500]
    np.testing.assert_array_equal(nearest(rows, K, recall=0.1), most_similar(rows, rows, K, progress=False)[1])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the number of cores cannot be set here")
def test_one_thread_and_many(true):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("there is one core")
    many = nearest(ROWS, K, recall=0.95)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        one, exact = nearest(ROWS, K, recall=0.95), most_similar(ROWS, ROWS, K, progress=False)[1]
    finally:
        os.sched_setaffinity(0, allowed)
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(exact, true)


def test_many_neighbours():
    k = 300
    found = nearest(ROWS, k, recall=0.95)
    assert_neighbours(found, N, k)
    some = np.arange(0, N, 40)
    true = np.argsort(-(ROWS[some] @ ROWS.T), axis=1)[:, 1 : k + 1]
    assert recall(found[some], true) >= 0.95


def test_groups_smaller_than_the_number_of_neighbours():
    """Three rows in every place, far from all others: the nearest are the other two, and there are K."""
    rng = np.random.default_rng(0)
    places = np.repeat(unit(rng.normal(size=(N // 3 + 1, 40))), 3, axis=0)[:N]
    rows = unit(places + 1e-3 * rng.normal(size=places.shape))
    found = nearest(rows, K, recall=0.9)
    assert_neighbours(found, N, K)
    together = (found // 3 == np.arange(N)[:, None] // 3).sum(axis=1)
    assert together[: N // 3 * 3].mean() >= 2 * 0.99


def test_equal_rows():
    """A third of the rows are equal, more than any list should hold: all neighbours of these are at distance 0."""
    rows = ROWS.copy()
    equal = np.arange(0, N, 3)
    rows[equal] = rows[0]
    found = nearest(rows, K, recall=0.95)
    assert_neighbours(found, N, K)
    assert (found[equal] % 3 == 0).all()


def test_all_rows_equal():
    assert_neighbours(nearest(np.tile(ROWS[0], (N, 1)), K, recall=0.95), N, K)


def test_rows_closer_than_single_precision_tells():
    """The cosines of all pairs round to 1 in float32."""
    rows = unit(ROWS[0] + 1e-5 * np.random.default_rng(0).normal(size=ROWS.shape))
    assert 1.0 - (rows[:200] @ rows.T).min() < np.finfo(np.float32).eps / 10
    some = np.arange(0, N, 10)
    true = np.array([np.argsort(np.linalg.norm(rows - rows[row], axis=1))[1 : K + 1] for row in some])
    assert recall(nearest(rows, K, recall=0.95)[some], true) >= 0.95
    assert recall(nearest(rows, K, recall=1.0)[some], true) > 0.999


def test_graph_with_rows_of_zeros():
    """They are in no list, and nobody's neighbours, though nearer to most rows than some neighbours are."""
    rows = ROWS.copy()
    zero = np.arange(5, N, 50)
    rows[zero] = 0.0
    found = affinity_graph(rows, K, search=lambda rows, k: nearest(rows, k, recall=0.95))
    edges = np.diff(found.connectivities.indptr)
    assert (edges[zero] == 0).all()
    assert (np.delete(edges, zero) > 0).all()
