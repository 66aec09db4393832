"""Edges are tested in an estimate to which many directions add."""

import numpy as np
import pytest

from kronax.solvers.gaussian.breadth import broad, n_directions
from kronax.solvers.gaussian.precision import LowRank, Partial, dense
from kronax.solvers.gaussian.spectral import Spectrum
from kronax.solvers.gaussian.vectors import Held


def spectrum_of(z: np.ndarray) -> Spectrum:
    """Of deviations from the columns' means."""
    rows, values, cols = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    kept = min(len(z) - 1, z.shape[1])
    return Spectrum(Held(rows[:, :kept]), Held(cols[:kept].T), values[:kept] ** 2, (len(z) - 1, z.shape[1]))


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


def test_equal_directions_all_count():
    """``k`` of ``n``: ``d`` is ``1 − k/n`` and ``−k/n``."""
    found = n_directions(LowRank(1.0, Held(np.eye(400, 4)), np.full(4, 3.0)))
    assert found == pytest.approx(4, rel=0.03)
    assert n_directions(LowRank(1.0, Held(np.eye(400, 4)), np.zeros(4))) == 0


@pytest.mark.parametrize("shape", [(60, 300), (300, 60)])
def test_a_ridge_stands_in_where_few_directions_count(shape, rng):
    z = rng.normal(size=shape)
    found = spectrum_of(z)
    few = Partial(LowRank(1.0, found.cols, np.where(np.arange(len(found.eigenvalues)) < 4, -0.1, 0.0)))
    centred = z - z.mean(axis=0)
    moments = centred.T @ centred
    ridge = np.linalg.inv(moments + np.trace(moments) / shape[1] * np.eye(shape[1]))
    size = np.sqrt(ridge.diagonal())
    expected = ridge / np.outer(size, size)
    np.fill_diagonal(expected, 0.5)
    np.testing.assert_allclose(dense(broad(few, found)), expected, atol=1e-10)


@pytest.mark.parametrize("n_samples", [60, 100, 400])
@pytest.mark.parametrize(
    ("n_used", "depth", "ridge"), [(4, 0.1, True), (0, 0.0, True), (55, 0.1, False), (4, 0.9, False)]
)
def test_the_estimate_itself_is_tested_where_it_has_structure(n_samples, n_used, depth, ridge, rng):
    """Where many directions count, or partial correlations are not much smaller than those of chance."""
    found = spectrum_of(rng.normal(size=(n_samples, 130)))
    weights = np.where(np.arange(len(found.eigenvalues)) < n_used, -depth, 0.0)
    own = Partial(LowRank(1.0, found.cols, weights))
    assert (broad(own, found) is not own) == ridge


@pytest.mark.parametrize(("n_samples", "ridge"), [(400, True), (1000, False)])
def test_the_size_of_chance_falls_with_samples(n_samples, ridge, rng):
    """Root mean square .0038 × √n: .08 and .12."""
    found = spectrum_of(rng.normal(size=(n_samples, 130)))
    own = Partial(LowRank(1.0, found.cols, np.where(np.arange(130) < 4, -0.25, 0.0)))
    assert (broad(own, found) is not own) == ridge
