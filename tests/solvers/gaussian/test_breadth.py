"""Edges are tested in an estimate to which many directions add."""

import numpy as np
import pytest

from kronax.solvers.gaussian.breadth import is_broad, linear_ridge, n_directions, ridge, whole_ridge
from kronax.solvers.gaussian.precision import LowRank, dense
from kronax.solvers.gaussian.side import Gram, Side
from kronax.solvers.gaussian.vectors import Held, Joined


def moments_of(z: np.ndarray) -> Side:
    """Of deviations from the columns' means."""
    rows, values, cols = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    kept = min(len(z) - 1, z.shape[1])
    return Side(Held(cols[:kept].T), values[:kept] ** 2, z.shape[1], len(z) - 1)


@pytest.mark.parametrize("unit", [1.0, 1e100])
@pytest.mark.parametrize("n_known", [5, 30])
def test_number_of_directions(n_known, unit, rng):
    """From all eigenvalues of the dense matrix, in any unit."""
    vectors = np.linalg.qr(rng.normal(size=(30, n_known)))[0]
    precision = LowRank(2.0, Held(vectors), rng.normal(size=n_known))
    deviations = np.linalg.eigvalsh(dense(precision))
    deviations -= deviations.mean()
    precision = LowRank(2.0 * unit, precision.vectors, precision.weights * unit)
    assert n_directions(precision) == pytest.approx(np.sum(deviations**2) ** 2 / np.sum(deviations**4))


@pytest.mark.parametrize("n_free", [1, 2])
def test_directions_that_were_joined_count_as_they_are(n_free, rng):
    """Two matrices of low rank, of which only one has orthonormal vectors."""
    vectors = np.linalg.qr(rng.normal(size=(30, 6)))[0]
    free = np.column_stack([vectors @ rng.normal(size=6), rng.normal(size=30)])[:, :n_free]
    precision = LowRank(2.0, Joined(Held(vectors), Held(free)), rng.normal(size=6 + n_free))
    deviations = np.linalg.eigvalsh(dense(precision))
    deviations -= deviations.mean()
    expected = np.sum(deviations**2) ** 2 / np.sum(deviations**4)
    assert n_directions(precision) == pytest.approx(expected, rel=1e-9)


def test_one_that_was_taken_away_does_not_count():
    """Nine times the precision of all others, as unknown scales leave it, would be all that is seen."""
    vectors = np.eye(400, 5)
    weights = np.array([9.0, 0.1, -0.1, 0.1, -0.1])
    whole = LowRank(1.0, Held(vectors), weights)
    without = LowRank(1.0, Joined(Held(vectors), Held(vectors[:, :1])), np.append(weights, -9.0))
    assert n_directions(whole) == pytest.approx(1.0, rel=0.1)
    assert n_directions(without) == pytest.approx(4.0, rel=0.1)


def test_equal_directions_all_count():
    """``k`` of ``n``: ``d`` is ``1 − k/n`` and ``−k/n``."""
    found = n_directions(LowRank(1.0, Held(np.eye(400, 4)), np.full(4, 3.0)))
    assert found == pytest.approx(4, rel=0.03)
    assert n_directions(LowRank(1.0, Held(np.eye(400, 4)), np.zeros(4))) == 0


@pytest.mark.parametrize("shape", [(60, 300), (300, 60)])
def test_the_ridge_is_that_of_the_mean_eigenvalue(shape, rng):
    z = rng.normal(size=shape)
    centred = z - z.mean(axis=0)
    moments = centred.T @ centred
    inverse = np.linalg.inv(moments + np.trace(moments) / shape[1] * np.eye(shape[1]))
    size = np.sqrt(inverse.diagonal())
    expected = inverse / np.outer(size, size)
    np.fill_diagonal(expected, 0.5)
    np.testing.assert_allclose(dense(ridge(moments_of(z))), expected, atol=1e-10)
    np.testing.assert_allclose(dense(whole_ridge(Gram(moments, shape[1], shape[0] - 1), 1.0)), expected, atol=1e-10)


@pytest.mark.parametrize("n_samples", [60, 100, 400])
@pytest.mark.parametrize(
    ("n_used", "depth", "enough"), [(4, 0.1, False), (0, 0.0, False), (55, 0.1, True), (4, -9.0, True)]
)
def test_the_estimate_itself_is_tested_where_it_has_structure(n_samples, n_used, depth, enough, rng):
    """Where many directions count, or partial correlations are not much smaller than those of chance."""
    found = moments_of(rng.normal(size=(n_samples, 130)))
    weights = np.where(np.arange(len(found.eigenvalues)) < n_used, -depth, 0.0)
    assert is_broad(LowRank(1.0, found.vectors, weights), n_samples) == enough


@pytest.mark.parametrize(("n_samples", "enough"), [(400, False), (1000, True)])
def test_the_size_of_chance_falls_with_samples(n_samples, enough, rng):
    """Root mean square .0115 × √n: .23 and .36."""
    found = moments_of(rng.normal(size=(n_samples, 130)))
    assert is_broad(LowRank(1.0, found.vectors, np.where(np.arange(130) < 4, -0.75, 0.0)), n_samples) == enough


def mixed(n: int, p: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian samples, and the covariance that they are drawn from, with eigenvalues over one and a half orders of magnitude."""
    vectors, values = np.linalg.qr(np.random.default_rng(1).normal(size=(p, p)))[0], np.logspace(-0.75, 0.75, p)
    return rng.normal(size=(n, p)) * np.sqrt(values) @ vectors.T, (vectors * values) @ vectors.T


@pytest.mark.parametrize(("p", "n"), [(40, 25), (40, 100), (20, 400)])
def test_the_ridge_is_near_the_best_linear_shrinkage(p, n, rng):
    """Its covariance has, on average, hardly more error than with any one share of the identity."""
    shares, errors, ours = np.linspace(0.0, 0.99, 100), [], []
    for _ in range(60):
        z, true = mixed(n, p, rng)
        side = moments_of(z)
        s = (side.vectors.array() * side.eigenvalues) @ side.vectors.array().T / side.n_samples
        d = linear_ridge(side)
        errors.append(
            [np.sum(((1 - a) * s + a * np.trace(s) / p * np.eye(p) - true) ** 2) for a in [*shares, d / (1 + d)]]
        )
    *others, ours = np.mean(errors, axis=0)
    assert ours < 1.05 * min(others) and ours < min(others[0], others[-1])


@pytest.mark.parametrize("unit", [1e-100, 7.0])
def test_linear_shrinkage_has_no_unit_and_vanishes_with_many_samples(unit):
    sides = [
        Side(Held(np.eye(3)), size * np.array([3.0, 1.0, 0.5]), 3, n) for size, n in ((1, 50), (unit, 50), (1, 10**9))
    ]
    one, other, many = map(linear_ridge, sides)
    assert one == pytest.approx(other) and 0 < many < 1e-7 * one
    copies = Side(Held(np.eye(3)), np.array([3.0, 1.0, 0.5]), 3, 500, independent=0.1)
    assert linear_ridge(copies) == pytest.approx(one)


@pytest.mark.parametrize("n_samples", [1, 50, 10**9])
def test_where_all_eigenvalues_are_equal_linear_shrinkage_is_bounded(n_samples):
    assert 0 < linear_ridge(Side(Held(np.eye(5)), np.full(5, 2.0), 5, n_samples)) < 100.0


def test_a_ridge_is_small_beside_few_large_directions():
    """Which would hide what is in the others."""
    flat, spiked = (
        Side(Held(np.eye(40)), np.append(first, np.linspace(2.0, 1.0, 39)), 40, 500) for first in (2.0, 400.0)
    )
    sizes = [linear_ridge(side) * side.eigenvalues.mean() for side in (flat, spiked)]
    assert sizes[1] < 0.5 * sizes[0] and sizes[1] < 1.0 < spiked.eigenvalues.mean()
