"""A function of a matrix, and of the same less one of low rank."""

import numpy as np
import pytest

from kronax.solvers.gaussian import low_rank_change
from kronax.solvers.gaussian.low_rank_change import change

N = 300
LESS = -np.ones(3)


def decreasing(values: np.ndarray) -> np.ndarray:
    """A function with a flat end and a kink, as shrunken eigenvalues have."""
    return 1.0 / np.interp(values, [0.0, 0.5, 3.0, 1e4], [0.4, 0.4, 2.0, 1e4])


def of(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * decreasing(values)) @ vectors.T


@pytest.fixture
def eigenvalues(rng) -> np.ndarray:
    return np.sort(np.append(rng.uniform(0.3, 3.0, N - 10), rng.uniform(20.0, 900.0, 10)))[::-1]


@pytest.fixture
def taken(eigenvalues, rng) -> np.ndarray:
    """What can be taken from the matrix and leaves it positive definite: 3 directions."""
    directions = np.linalg.qr(rng.normal(size=(N, 3)))[0].T * np.sqrt([0.9, 0.7, 0.5])[:, None]
    return directions * np.sqrt(eigenvalues)


def test_exact_in_the_whole_space(eigenvalues, taken, monkeypatch):
    monkeypatch.setattr(low_rank_change, "_COLUMNS", N)
    vectors, weights = change(decreasing, eigenvalues, taken, LESS)
    before = np.diag(eigenvalues)
    expected = of(before - taken.T @ taken) - of(before)
    np.testing.assert_allclose((vectors * weights) @ vectors.T, expected, atol=1e-12)


@pytest.mark.parametrize(("columns", "error"), [(24, 0.2), (96, 0.05), (192, 0.02)])
def test_nearly_so_in_a_small_one(columns, error, eigenvalues, taken, monkeypatch):
    monkeypatch.setattr(low_rank_change, "_COLUMNS", columns)
    vectors, weights = change(decreasing, eigenvalues, taken, LESS)
    assert vectors.shape == (N, columns)
    before = np.diag(eigenvalues)
    expected = of(before - taken.T @ taken) - of(before)
    assert np.linalg.norm((vectors * weights) @ vectors.T - expected) < error * np.linalg.norm(expected)


def test_more_and_less(eigenvalues, taken):
    """With the whole space, and one direction that is added."""
    e, c, signs = eigenvalues[-200:], taken[:, -200:], np.array([-1.0, 1.0, -1.0])
    vectors, weights = change(decreasing, e, c, signs)
    expected = of(np.diag(e) + (c.T * signs) @ c) - of(np.diag(e))
    np.testing.assert_allclose((vectors * weights) @ vectors.T, expected, atol=1e-12)


@pytest.mark.parametrize("columns", [N, 64])
def test_nothing_taken_changes_nothing(columns, eigenvalues, monkeypatch):
    monkeypatch.setattr(low_rank_change, "_COLUMNS", columns)
    vectors, weights = change(decreasing, eigenvalues, np.zeros((4, N)), np.ones(4))
    np.testing.assert_allclose((vectors * weights) @ vectors.T, 0.0, atol=1e-12)


def test_more_rows_than_columns_are_wanted(eigenvalues, taken, monkeypatch):
    """Many groups: there is one block of them at least."""
    monkeypatch.setattr(low_rank_change, "_COLUMNS", 2)
    vectors, weights = change(decreasing, eigenvalues, taken, LESS)
    assert vectors.shape == (N, 6) and np.isfinite(weights).all()
