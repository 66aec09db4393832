"""Spectra of a tall matrix from its small Gram matrix equal those of its singular value decomposition."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers import device
from kronax.solvers.gaussian import spectral
from kronax.solvers.gaussian.shrinkage import noise_level, shrink_singular_values
from kronax.solvers.gaussian.spectral import Leading, Spectrum
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.rows.on_devices import spread
from kronax.solvers.rows.rows import InMemory

N, M = 120, 80


def noise(rng) -> np.ndarray:
    return rng.normal(size=(N, M)) * (rng.random((N, M)) < 0.8)


def structured(rng, strengths=(4.0, 3.0, 2.0)) -> np.ndarray:
    """Noise and directions that many times as strong as its largest singular value."""
    u, _ = np.linalg.qr(rng.normal(size=(N, len(strengths))))
    v, _ = np.linalg.qr(rng.normal(size=(M, len(strengths))))
    return noise(rng) + (u * np.array(strengths) * (np.sqrt(N) + np.sqrt(M))) @ v.T


def decomposed(z: np.ndarray, center: int | None = None, n_comps: int = 50) -> tuple[Leading, Spectrum]:
    return spectral.decompose(NoiseFree(InMemory(sparse.csr_array(z))), center=center, n_comps=n_comps)


def product(found: Spectrum) -> np.ndarray:
    return (found.rows.array() * np.sqrt(found.eigenvalues)) @ found.cols.array().T


def test_leading_directions(rng):
    z = structured(rng)
    found = decomposed(z, n_comps=50)[0]
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    assert found.rank == 3
    assert found.rows.shape == (N, 3) and found.cols.shape == (M, 3)
    np.testing.assert_allclose(found.eigenvalues, s[:3] ** 2, rtol=1e-10)
    expected = (u[:, :3] * s[:3]) @ vt[:3]
    np.testing.assert_allclose((found.rows * np.sqrt(found.eigenvalues)) @ found.cols.T, expected, atol=1e-9)
    np.testing.assert_allclose(found.rows.T @ found.rows, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(found.noise, np.sqrt(0.8), rtol=0.05)
    assert (found.shrunk > 0).all() and (found.shrunk < s[:3]).all()


def test_equal_noise_is_white(rng):
    """Then all is as for the median of the singular values (Gavish and Donoho)."""
    z = structured(rng)
    found = decomposed(z)[0]
    s = np.linalg.svd(z, compute_uv=False)
    assert found.noise == pytest.approx(noise_level(s**2, (N, M)), rel=1e-10)
    np.testing.assert_allclose(found.shrunk, shrink_singular_values(s, found.noise, (N, M))[:3], rtol=1e-10)


def unequal(rng, strengths: tuple[float, ...] = ()) -> np.ndarray:
    """Noise that differs between rows and between columns, and directions so many times as strong as its largest."""
    n, m = 400, 300
    z = rng.normal(size=(n, m)) * rng.gamma(0.5, 2.0, (n, 1)) * rng.gamma(0.5, 2.0, m)
    u, _ = np.linalg.qr(rng.normal(size=(n, len(strengths))))
    v, _ = np.linalg.qr(rng.normal(size=(m, len(strengths))))
    return z + (u * np.array(strengths) * np.linalg.norm(z, 2)) @ v.T


def test_directions_of_unequal_noise_are_not_counted(rng):
    """White noise with the same median would end far below the largest singular values."""
    for strengths in ((), (2.0,), (4.0, 3.0, 2.0)):
        z = unequal(rng, strengths)
        found = decomposed(z)[0]
        s = np.linalg.svd(z, compute_uv=False)
        assert (shrink_singular_values(s, noise_level(s**2, z.shape), z.shape) > 0).sum() > 50
        assert abs(found.rank - len(strengths)) <= 1
        assert found.rows.shape[1] < 50


def test_rank_does_not_depend_on_how_many_are_kept(rng):
    z = unequal(rng, (5.0, 4.0, 3.0, 2.0))
    ranks = {decomposed(z, n_comps=n_comps)[0].rank for n_comps in (2, 10, 50)}
    assert len(ranks) == 1


def test_a_direction_that_could_be_left_out_has_no_weight(rng):
    """The last that is kept and the first that is not may change places: neither may matter then."""
    noise = rng.normal(size=(400, 300)) * rng.gamma(2.0, 0.5, (400, 1)) * rng.gamma(2.0, 0.5, 300)
    u, s, vt = np.linalg.svd(noise, full_matrices=False)
    s[0] *= 3.0
    s[4] = s[3] * (1 - 1e-6)
    found = decomposed((u * s) @ vt, n_comps=4)[0]
    assert found.shrunk.shape == (4,) and found.rank < 4
    assert found.shrunk[3] < 0.01 * found.shrunk[1]


def test_centring_leaves_the_leading_directions(rng):
    z = structured(rng) + 1.0
    plain, *others = (decomposed(z, center)[0] for center in (None, 0, 1))
    for other in others:
        np.testing.assert_allclose(other.rows, plain.rows, atol=1e-10)
        np.testing.assert_allclose(other.shrunk, plain.shrunk, rtol=1e-10)


def test_rank_counts_directions_beyond_those_kept(rng):
    z = structured(rng, (6.0, 5.0, 4.0, 3.0, 2.0))
    found = decomposed(z, n_comps=2)[0]
    assert found.rank == 5
    assert found.rows.shape == (N, 2) and found.cols.shape == (M, 2)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.svd(z, compute_uv=False)[:2] ** 2, rtol=1e-10)


def test_pure_noise_gives_two_directions_as_they_are(rng):
    z = rng.normal(size=(N, M))
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    z -= (u[:, :5] * (s[:5] - s[5])) @ vt[:5]  # the largest singular values of noise may pass the edge by chance
    found = decomposed(z, n_comps=50)[0]
    assert found.rank < 2
    assert found.rows.shape == (N, 2)
    np.testing.assert_allclose(found.shrunk, np.sqrt(found.eigenvalues), rtol=1e-12)


@pytest.mark.parametrize("center", [None, 0, 1])
def test_spectrum(center, rng):
    z = structured(rng) + rng.normal(size=M)
    deviations = z if center is None else z - z.mean(center, keepdims=True)
    found = decomposed(z, center)[1]
    assert found.dims == (N - (center == 0), M - (center == 1))
    assert found.eigenvalues.shape == (min(found.dims),)
    assert (np.diff(found.eigenvalues) <= 0).all()
    rank = min(found.dims)
    expected = np.linalg.svd(deviations, compute_uv=False)[:rank] ** 2
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-9)
    np.testing.assert_allclose(product(found), deviations, atol=1e-9)
    for vectors in (found.rows.array(), found.cols.array()):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=1e-9)


def test_spectrum_leaves_out_what_is_not_there(rng):
    z = structured(rng)
    z[:, 40:] = z[:, :40]
    found = decomposed(z, None)[1]
    assert found.dims == (N, M)
    assert found.eigenvalues.shape == (40,)
    np.testing.assert_allclose(product(found), z, atol=1e-8)


@pytest.mark.parametrize("center", [0, 1])
def test_what_does_not_vary_is_along_no_direction(center, rng):
    """Constants of all sizes: taking the means away leaves rounding, of which no direction is made."""
    z = rng.gamma(1.0, 1.0, (N, M))
    sizes = rng.lognormal(0.0, 2.0, 5)
    if center == 0:
        z[:, -5:] = sizes  # columns
        z[3] = np.delete(z, 3, 0).mean(0)  # and a row that is the mean
    else:
        z[-5:] = sizes[:, None]
        z[:, 3] = np.delete(z, 3, 1).mean(1)
    found = decomposed(z, center)[1]
    columns, rows = (found.cols, found.rows) if center == 0 else (found.rows, found.cols)
    np.testing.assert_array_equal(np.flatnonzero(columns.still), len(columns.still) - np.arange(5, 0, -1))
    np.testing.assert_array_equal(np.flatnonzero(rows.still), [3])
    for vectors in (columns, rows):
        np.testing.assert_array_equal(vectors.array().any(axis=1), ~vectors.still)
    deviations = z - z.mean(axis=center, keepdims=True)
    np.testing.assert_allclose(product(found), deviations, atol=1e-9)


@pytest.mark.parametrize("center", [None, 0, 1])
def test_spectrum_from_a_device(center, rng, x64):
    """The Gram matrix stays there, a constant column is found there, and the means are subtracted there."""
    z = structured(rng) + 1.0
    z[:, 7] = 3.0
    lead, found = decomposed(z, center)
    with device.as_if_on("gpu"), device.counted() as tally:
        rows = spread(InMemory(sparse.csr_array(z)))
        other_lead, other = spectral.decompose(NoiseFree(rows), center=center, n_comps=50)
        assert tally.on_host == 0
        np.testing.assert_allclose(product(other), product(found), atol=1e-9)
    np.testing.assert_allclose(other.eigenvalues, found.eigenvalues, rtol=1e-10)
    np.testing.assert_allclose(other_lead.rows, lead.rows, atol=1e-10)
    assert other.cols.array()[7].any() == (center != 0)


def of_unit_variance(z: np.ndarray, center: int | None, variables: int) -> np.ndarray:
    """Deviations from means in units of their standard deviations."""
    deviations = z if center is None else z - z.mean(center, keepdims=True)
    size = np.sqrt(np.mean(deviations**2, axis=1 - variables, keepdims=True))
    return np.divide(deviations, size, out=np.zeros_like(deviations), where=size > 1e-12)


@pytest.mark.parametrize(("center", "variables"), [(0, 1), (1, 0), (None, 0), (None, 1)])
def test_spectrum_of_variables_of_unit_variance(center, variables, rng):
    """One of which does not vary; in any units of the variables."""
    z = structured(rng) * rng.lognormal(0.0, 1.0, (1, M) if variables else (N, 1))
    if center is not None:
        z[(slice(None), 7) if variables else 7] = 3.0
    rows = NoiseFree(InMemory(sparse.csr_array(z)))
    lead, found = spectral.decompose(rows, center=center, n_comps=50, variables=variables)
    expected = of_unit_variance(z, center, variables)
    np.testing.assert_allclose(product(found), expected, atol=1e-9)
    assert found.dims == (N - (center == 0), M - (center == 1))
    of_variables, of_samples = (found.cols, found.rows) if variables else (found.rows, found.cols)
    np.testing.assert_array_equal(np.flatnonzero(of_variables.still), [] if center is None else [7])
    assert not of_samples.still.any()
    for vectors in (found.rows.array(), found.cols.array()):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(found.eigenvalues)), atol=1e-9)
    pairs = np.array([3, 5, 80]), np.array([4, 0, 2])
    weights = rng.normal(size=len(found.eigenvalues))
    vectors = found.rows.array()
    np.testing.assert_allclose(found.rows.forms(weights, pairs)[1], ((vectors * weights) @ vectors.T)[pairs], atol=1e-9)
    alone, _ = decomposed(z, center)  # the directions are those of Z as it is
    np.testing.assert_allclose(lead.rows, alone.rows, atol=1e-9)
    np.testing.assert_allclose(lead.shrunk, alone.shrunk, rtol=1e-9)


@pytest.mark.parametrize("variables", [0, 1])
def test_unit_of_factors_that_are_not_given(variables, rng, x64):
    """Those of the rows follow from the columns' as if these had no units; on a device as in memory."""
    y = np.abs(structured(rng))
    factors = Factors(rng.uniform(0.5, 2.0, M))
    z = NoiseFree(InMemory(sparse.csr_array(y)), factors)
    _, found = spectral.decompose(z, center=1 - variables, n_comps=50, variables=variables)
    expected = of_unit_variance(z.held().toarray(), 1 - variables, variables)
    np.testing.assert_allclose(product(found), expected, atol=1e-9)
    with device.as_if_on("gpu"):
        on_device = NoiseFree(spread(InMemory(sparse.csr_array(y))), factors)
        _, other = spectral.decompose(on_device, center=1 - variables, n_comps=50, variables=variables)
        np.testing.assert_allclose(product(other), expected, atol=1e-9)


@pytest.mark.parametrize("variables", [0, 1])
def test_a_variable_of_few_entries_has_less_variance(variables, rng):
    """One of 5 entries a third of that of one of 15 or more."""
    z = structured(rng)
    for place, n_left in ((3, 5), (4, 15), (5, 40)):
        (z.T if variables else z)[place, n_left:] = 0.0
    rows = NoiseFree(InMemory(sparse.csr_array(z)))
    _, found = spectral.decompose(rows, center=1 - variables, n_comps=50, variables=variables)
    variances = product(found).var(axis=1 - variables)
    np.testing.assert_allclose(variances[[3, 4, 5, 6]], [1 / 3, 1.0, 1.0, 1.0], rtol=1e-9)
    assert found.units[6] == pytest.approx(z.std(axis=1 - variables)[6])
    assert found.units[3] == pytest.approx(3**0.5 * z.std(axis=1 - variables)[3])


@pytest.mark.parametrize("variables", [0, 1])
def test_rounding_of_means_is_no_direction(variables, rng):
    """Deviations of four directions, a ten-thousandth of the means: beyond them is only what the subtraction of means leaves."""
    n_samples, n_variables = (N, M) if variables else (M, N)
    deviations = rng.normal(size=(n_samples, 4)) @ rng.normal(size=(4, n_variables))
    z = 1.0 + 1e-4 * deviations
    rows = NoiseFree(InMemory(sparse.csr_array(z if variables else z.T)))
    groups = Groups(np.arange(n_samples) % 3, 3)
    _, found = spectral.decompose(rows, center=1 - variables, n_comps=50, variables=variables, groups=groups)
    assert len(found.eigenvalues) == len(found.within.side.eigenvalues) == 4
    expected = of_unit_variance(deviations if variables else deviations.T, 1 - variables, variables)
    np.testing.assert_allclose(product(found), expected, atol=1e-6)
