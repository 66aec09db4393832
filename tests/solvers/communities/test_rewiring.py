"""Perturbed graphs: the degrees stay, the asked-for share of the edges goes, weights go along."""

import numpy as np
import pytest

from kronax.solvers.communities.rewiring import carry_weights, perturbed, randomised


def random_edges(n, m, rng):
    i, j = np.triu_indices(n, 1)
    chosen = np.sort(rng.choice(len(i), m, replace=False))
    return np.column_stack([i, j])[chosen]


def as_set(edges):
    return {tuple(edge) for edge in edges.tolist()}


def test_degrees_and_shares(rng):
    edges = random_edges(80, 500, rng)
    shares = [0.0, 0.1, 0.35, 0.8]
    for share, now in zip(shares, perturbed(80, edges, shares, rng), strict=True):
        assert (now[:, 0] < now[:, 1]).all()
        assert len(as_set(now)) == 500
        np.testing.assert_array_equal(np.bincount(now.ravel(), minlength=80), np.bincount(edges.ravel(), minlength=80))
        assert len(as_set(now) - as_set(edges)) / 500 == pytest.approx(share, abs=0.005)


def test_small_share_of_a_large_graph_changes_something(rng):
    edges = random_edges(100, 1000, rng)
    (now,) = perturbed(100, edges, [0.003], rng)
    assert as_set(now) != as_set(edges)


def test_nothing_of_the_original_is_left_in_a_random_graph(rng):
    edges = random_edges(200, 400, rng)
    random = randomised(200, edges, rng)
    np.testing.assert_array_equal(np.bincount(random.ravel(), minlength=200), np.bincount(edges.ravel(), minlength=200))
    assert len(as_set(random) & as_set(edges)) < 0.1 * 400


def test_graph_that_cannot_be_perturbed(rng):
    complete = np.column_stack(np.triu_indices(6, 1))
    with pytest.raises(ValueError, match="Only 0% of the edges can change places.*ask for smaller shares"):
        list(perturbed(6, complete, [0.5], rng))


def test_weights(rng):
    edges = random_edges(50, 300, rng)
    weights = rng.random(300)
    (now,) = perturbed(50, edges, [0.4], rng)
    carried = carry_weights(50, edges, weights, now, rng)
    np.testing.assert_array_equal(np.sort(carried), np.sort(weights))
    before = dict(zip(map(tuple, edges.tolist()), weights, strict=True))
    after = dict(zip(map(tuple, now.tolist()), carried, strict=True))
    assert all(after[edge] == before[edge] for edge in before.keys() & after.keys())
    gone, new = (
        np.array([at[edge] for edge in at if edge not in other]) for at, other in ((before, after), (after, before))
    )
    assert len(gone) == len(new) > 100
    assert (gone == new).mean() < 0.1  # in random order


def test_state_of_random_is_left_alone(rng):
    import random

    edges = random_edges(50, 300, rng)
    state = random.getstate()
    list(perturbed(50, edges, [0.4], rng))
    assert random.getstate() == state
