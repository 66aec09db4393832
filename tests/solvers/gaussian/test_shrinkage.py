"""Shrinkage: the published formulas, and what they promise about noise."""

import numpy as np
import pytest

from kronax.solvers.gaussian.shrinkage import noise_level, quadratic_inverse_shrinkage, shrink_singular_values


def by_loops(eigenvalues: np.ndarray, p: int, n: int) -> tuple[np.ndarray, float]:
    """Quadratic-inverse shrinkage (Ledoit and Wolf 2022), one number at a time."""
    m, c = min(p, n), p / n
    assert len(eigenvalues) == m
    h = min(c**2, c**-2) ** 0.35 / p**0.35
    nu = [1.0 / value for value in eigenvalues]
    shrunk = []
    for i in range(m):
        theta = hilbert = 0.0
        for j in range(m):
            q = (nu[j] - nu[i]) ** 2 + h**2 * nu[j] ** 2
            theta += nu[j] * (nu[j] - nu[i]) / q / m
            hilbert += h * nu[j] ** 2 / q / m
        a2 = theta**2 + hilbert**2
        if p <= n:
            shrunk.append(1.0 / ((1 - c) ** 2 * nu[i] + 2 * c * (1 - c) * nu[i] * theta + c**2 * nu[i] * a2))
        else:
            shrunk.append(1.0 / (nu[i] * a2))
    null = 1.0 / ((c - 1) * sum(nu) / m) if p > n else np.nan
    total = sum(shrunk) + ((p - m) * null if p > n else 0.0)
    gain = sum(eigenvalues) / total
    return gain * np.array(shrunk), gain * null


def covariance(p: int) -> tuple[np.ndarray, np.ndarray]:
    """A population covariance: its eigenvectors and its eigenvalues, over one and a half orders of magnitude."""
    vectors, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(p, p)))
    return vectors, np.logspace(-0.75, 0.75, p)


def sample(rng, p: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample eigenvectors and eigenvalues, descending, and the population's inverse."""
    vectors, values = covariance(p)
    x = rng.normal(size=(n, p)) * np.sqrt(values) @ vectors.T
    e, u = np.linalg.eigh(x.T @ x / n)
    return u[:, ::-1], e[::-1], (vectors / values) @ vectors.T


def error_of_inverse(u: np.ndarray, e: np.ndarray, inverse: np.ndarray) -> float:
    return np.linalg.norm((u / e) @ u.T - inverse) / np.linalg.norm(inverse)


@pytest.mark.parametrize(("p", "n"), [(60, 200), (60, 60), (60, 61), (100, 30)])
def test_equals_the_formulas(p, n, rng):
    _, e, _ = sample(rng, p, n)
    e = e[: min(p, n)]
    found, null = quadratic_inverse_shrinkage(e, p, n)
    expected, expected_null = by_loops(e, p, n)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(null, expected_null, rtol=1e-10)


@pytest.mark.parametrize(("p", "n"), [(60, 200), (60, 60), (100, 30)])
def test_trace_stays(p, n, rng):
    _, e, _ = sample(rng, p, n)
    e = e[: min(p, n)]
    shrunk, null = quadratic_inverse_shrinkage(e, p, n)
    total = shrunk.sum() + ((p - n) * null if p > n else 0.0)
    np.testing.assert_allclose(total, e.sum(), rtol=1e-12)
    assert np.isnan(null) == (p <= n)


@pytest.mark.parametrize(("p", "n"), [(60, 200), (100, 30)])
def test_order_does_not_matter(p, n, rng):
    _, e, _ = sample(rng, p, n)
    e = e[: min(p, n)]
    shuffle = rng.permutation(len(e))
    straight, shuffled = (quadratic_inverse_shrinkage(one, p, n) for one in (e, e[shuffle]))
    np.testing.assert_allclose(shuffled[0], straight[0][shuffle], rtol=1e-12)
    np.testing.assert_allclose(shuffled[1], straight[1], rtol=1e-12)


def test_scale_carries_over(rng):
    _, e, _ = sample(rng, 100, 30)
    e = e[:30]
    one, thousand = quadratic_inverse_shrinkage(e, 100, 30), quadratic_inverse_shrinkage(1e3 * e, 100, 30)
    np.testing.assert_allclose(thousand[0], 1e3 * one[0], rtol=1e-12)
    np.testing.assert_allclose(thousand[1], 1e3 * one[1], rtol=1e-12)


def test_many_samples_need_no_shrinkage():
    e = np.logspace(0, 1, 20)
    errors = [np.abs(quadratic_inverse_shrinkage(e, 20, n)[0] / e - 1.0).max() for n in (10**3, 10**5, 10**7)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-4


def test_inverse_is_far_better_than_that_of_the_sample(rng):
    u, e, inverse = sample(rng, 100, 300)
    raw = error_of_inverse(u, e, inverse)
    shrunk = error_of_inverse(u, quadratic_inverse_shrinkage(e, 100, 300)[0], inverse)
    unbiased = error_of_inverse(u, e * 300 / (300 - 100 - 1), inverse)  # mean of the inverse Wishart law
    assert raw > 0.9
    assert shrunk < 0.45
    assert shrunk < 0.9 * unbiased
    # nothing with the sample's eigenvectors can do better than uᵀΣ⁻¹u
    oracle = 1.0 / np.einsum("ji,jk,ki->i", u, inverse, u)
    assert shrunk < 1.2 * error_of_inverse(u, oracle, inverse)
    assert np.corrcoef(np.log(oracle), np.log(quadratic_inverse_shrinkage(e, 100, 300)[0]))[0, 1] > 0.98


def test_inverse_with_few_samples(rng):
    u, e, inverse = sample(rng, 100, 150)
    shrunk = error_of_inverse(u, quadratic_inverse_shrinkage(e, 100, 150)[0], inverse)
    assert error_of_inverse(u, e, inverse) > 3.0
    assert shrunk < 0.7


def test_fewer_samples_than_variables(rng):
    u, e, inverse = sample(rng, 100, 30)
    shrunk, null = quadratic_inverse_shrinkage(e[:30], 100, 30)
    assert np.isfinite(shrunk).all() and (shrunk > 0).all() and 0 < null < np.inf
    full = np.append(shrunk, np.full(70, null))
    mean = np.full(100, e.sum() / 100)
    assert error_of_inverse(u, full, inverse) < error_of_inverse(u, mean, inverse)


def test_rank_below_both_dimensions(rng):
    # ten variables twice: 50 eigenvalues that are not zero, of 60 variables in 200 samples
    _, e, _ = sample(rng, 50, 200)
    shrunk, null = quadratic_inverse_shrinkage(e, 60, 200)
    assert (shrunk > 0).all() and 0 < null <= shrunk.min()
    np.testing.assert_allclose(shrunk.sum() + 10 * null, e.sum(), rtol=1e-12)


def test_variables_that_are_combinations_of_others_leave_these_alone(rng):
    _, e, _ = sample(rng, 100, 2000)
    alone, _ = quadratic_inverse_shrinkage(e, 100, 2000)
    with_others, null = quadratic_inverse_shrinkage(e, 101, 2000)
    np.testing.assert_allclose(with_others, alone, rtol=0.02)
    assert null <= with_others.min()


SHAPES = pytest.mark.parametrize("shape", [(300, 200), (200, 300), (200, 200)])


def squared_singular_values(x: np.ndarray) -> np.ndarray:
    return np.linalg.svd(x, compute_uv=False) ** 2


@SHAPES
@pytest.mark.parametrize("sigma", [0.3, 7.0])
def test_noise_level_of_white_noise(shape, sigma, rng):
    assert noise_level(squared_singular_values(rng.normal(0.0, sigma, shape)), shape) == pytest.approx(sigma, rel=0.02)


@SHAPES
def test_noise_level_does_not_see_a_strong_signal(shape, rng):
    noise = rng.normal(size=shape)
    signal = 10.0 * rng.normal(size=(shape[0], 5)) @ rng.normal(size=(5, shape[1]))
    alone, both = (noise_level(squared_singular_values(x), shape) for x in (noise, noise + signal))
    assert noise.std() < 0.05 * signal.std()
    assert both == pytest.approx(alone, rel=0.03)
    assert both == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("shape", [(1500, 1500), (1500, 300)])
def test_marchenko_pastur_median(shape, rng):
    e = np.linalg.eigvalsh(np.cov(rng.normal(size=shape).T, bias=True) * shape[0])
    assert noise_level(e, shape) == pytest.approx(1.0, rel=0.005)


@pytest.mark.parametrize(
    ("beta", "omega", "tolerance"),
    # Gavish and Donoho (2014), Eqs. 11 and 5: ω(1) = 2.858, and ω(β) ≈ 0.56β³ − 0.95β² + 1.82β + 1.43 within 0.02
    [(1.0, 2.858, 5e-4), *((b, 0.56 * b**3 - 0.95 * b**2 + 1.82 * b + 1.43, 0.02) for b in (0.05, 0.25, 0.5, 0.75))],
)
def test_published_medians(beta, omega, tolerance):
    # their threshold ω(β)·median(s) is λ(β)√n·σ with σ from the median
    lam = np.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + np.sqrt(beta**2 + 14 * beta + 1)))
    n = 400
    median = 1.0 / (n * noise_level(np.ones(3), (n, int(n * beta))) ** 2)
    assert lam / np.sqrt(median) == pytest.approx(omega, abs=tolerance)


@SHAPES
def test_shrunk_singular_values(shape):
    small, large = min(shape), max(shape)
    beta, noise = small / large, 0.7
    edge = noise * (np.sqrt(small) + np.sqrt(large))
    s = edge * np.array([1e-6, 0.5, 1.0 - 1e-9, 1.0 + 1e-9, 1.01, 1.5, 10.0, 1e4])
    found = shrink_singular_values(s, noise, shape)
    assert (found[:3] == 0).all()
    assert 0 < found[3] < 1e-3 * edge  # continuous at the edge
    y = s[4:] / (noise * np.sqrt(large))
    expected = noise * np.sqrt(large) * np.sqrt((y**2 - beta - 1) ** 2 - 4 * beta) / y
    np.testing.assert_allclose(found[4:], expected, rtol=1e-12)
    assert (np.diff(found[2:]) > 0).all() and (found <= s).all()
    assert found[-1] == pytest.approx(s[-1], rel=1e-6)


def test_singular_values_of_0_stay_0():
    np.testing.assert_array_equal(shrink_singular_values(np.array([50.0, 0.0, 0.0]), 1.0, (300, 200))[1:], 0.0)


def test_shrinkage_beats_truncation(rng):
    shape, rank = (300, 200), 5
    u, _ = np.linalg.qr(rng.normal(size=(300, rank)))
    v, _ = np.linalg.qr(rng.normal(size=(200, rank)))
    edge = np.sqrt(300) + np.sqrt(200)
    signal = (u * edge * np.array([3.0, 2.0, 1.5, 1.2, 1.0])) @ v.T
    left, s, right = np.linalg.svd(signal + rng.normal(size=shape), full_matrices=False)

    def error(kept: np.ndarray) -> float:
        return np.linalg.norm((left * kept) @ right - signal)

    hard = np.where(s > edge, s, 0.0)
    shrunk = error(shrink_singular_values(s, 1.0, shape))
    assert shrunk < 0.9 * error(hard)
    assert shrunk < error(np.where(np.arange(200) < rank, s, 0.0))
    # the best that any choice of singular values can do on these vectors
    assert shrunk < 1.05 * error(np.maximum(np.einsum("ik,ij,kj->k", left, signal, right), 0.0))
