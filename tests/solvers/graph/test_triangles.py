"""Edges whose ends a third vertex joins by stronger ones."""

from itertools import combinations

import numpy as np
import pytest

from kronax.solvers.graph.triangles import weakest_of_three


def by_definition(strength: np.ndarray, margin: float) -> np.ndarray:
    """Go through all triangles; 0 is no edge."""
    indirect = np.zeros(strength.shape, dtype=bool)
    for i, j in combinations(range(len(strength)), 2):
        if strength[i, j]:
            others = (k for k in range(len(strength)) if k not in (i, j))
            indirect[i, j] = any(margin * min(strength[i, k], strength[j, k]) > strength[i, j] for k in others)
    return indirect


@pytest.mark.parametrize("decimals", [1, 8])  # many edges of equal strength, or none
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("margin", [1.0, 1.5])
def test_as_defined(density, decimals, margin):
    rng = np.random.default_rng(0)
    upper = np.triu(np.round(rng.uniform(0.05, 1, (30, 30)), decimals) * (rng.random((30, 30)) < density), k=1)
    first, second = np.nonzero(upper)
    order = rng.permutation(len(first))
    first, second = first[order], second[order]
    found = weakest_of_three(first, second, upper[first, second], margin)
    np.testing.assert_array_equal(found, by_definition(upper + upper.T, margin)[first, second])
    assert found.any() and (margin > 1.0 or not found.all())


def test_a_chain_leaves_its_links():
    """x acts on z through y alone: of the three correlations, that of x and z is the product of the others."""
    assert weakest_of_three(np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([0.8, 0.4, 0.5])).tolist() == [
        False,
        True,
        False,
    ]


def test_of_complete_graphs_the_largest_spanning_tree_is_left():
    """An edge is in it exactly if no path of stronger edges joins its ends; in an ultrametric a path of two is enough."""
    distance = np.array([[0, 1, 4, 4], [1, 0, 4, 4], [4, 4, 0, 2], [4, 4, 2, 0]], float)
    first, second = np.triu_indices(4, k=1)
    strength = 1 / distance[first, second] + 1e-6 * np.arange(6)  # the last of four equal ones is the strongest
    kept = ~weakest_of_three(first, second, strength)
    assert list(zip(first[kept], second[kept], strict=True)) == [(0, 1), (1, 3), (2, 3)]


def test_without_edges():
    empty = np.zeros(0, int)
    assert not len(weakest_of_three(empty, empty, np.zeros(0)))
