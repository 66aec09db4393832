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


@pytest.mark.parametrize("n_known", [5, 30])
def test_number_of_directions(n_known, rng):
    """From all eigenvalues of the dense matrix."""
    vectors = np.linalg.qr(rng.normal(size=(30, n_known)))[0]
    precision = LowRank(2.0, Held(vectors), rng.normal(size=n_known))
    deviations = np.linalg.eigvalsh(dense(precision))
    deviations -= deviations.mean()
    assert n_directions(precision) == pytest.approx(np.sum(deviations**2) ** 2 / np.sum(deviations**4))


def test_equal_directions_all_count():
    """``k`` of ``n``: ``d`` is ``1 − k/n`` and ``−k/n``."""
    found = n_directions(LowRank(1.0, Held(np.eye(400, 4)), np.full(4, 3.0)))
    assert found == pytest.approx(4, rel=0.03)
    assert n_directions(LowRank(1.0, Held(np.eye(400, 4)), np.zeros(4))) == np.inf


def test_a_ridge_stands_in_where_few_directions_count(rng):
    z = rng.normal(size=(60, 300))
    found = spectrum_of(z)
    few = Partial(LowRank(1.0, found.cols, np.where(np.arange(59) < 4, -0.5, 0.0)))
    centred = z - z.mean(axis=0)
    moments = centred.T @ centred
    ridge = np.linalg.inv(moments + np.trace(moments) / 300 * np.eye(300))
    size = np.sqrt(ridge.diagonal())
    expected = ridge / np.outer(size, size)
    np.fill_diagonal(expected, 0.5)
    np.testing.assert_allclose(dense(broad(few, found)), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("n_samples", "n_used", "ridge"), [(60, 4, True), (60, 55, False), (100, 4, False), (400, 4, False)]
)
def test_elsewhere_the_estimate_itself_is_tested(n_samples, n_used, ridge, rng):
    """Where many directions count; and with enough samples, for then few directions are structure, and no chance."""
    found = spectrum_of(rng.normal(size=(n_samples, 130)))
    own = Partial(LowRank(1.0, found.cols, np.where(np.arange(len(found.eigenvalues)) < n_used, -0.5, 0.0)))
    assert (broad(own, found) is not own) == ridge


def test_nothing_is_tested_where_nothing_is_left(rng):
    """All directions are taken for noise: no partial correlation is above rounding, and none becomes one."""
    found = spectrum_of(rng.normal(size=(60, 300)))
    flat = Partial(LowRank(1.0, found.cols, np.zeros(59)))
    assert broad(flat, found) is flat
