"""Shrinkage: the published formulas, and what they promise about noise."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from kronax.solvers.gaussian import shrinkage
from kronax.solvers.gaussian.shrinkage import leave_one_out, noise_edge, noise_level, shrink_singular_values


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


def expanded(values: np.ndarray, p: int) -> np.ndarray:
    """All p eigenvalues: the last stands for those that are zero in the sample."""
    return np.append(values[:-1], np.full(p - len(values) + 1, values[-1]))


def shown_around(points: np.ndarray, e: np.ndarray, p: int, n: int, width: np.ndarray) -> np.ndarray:
    """The variances that a sample left out shows, averaged around points: from an eigenproblem of its own."""
    full = np.append(e, np.zeros(p - len(e)))
    average_sample = np.sqrt(full / n)
    d, u = np.linalg.eigh(np.diag(full) - np.outer(average_sample, average_sample))
    shown = n * (u.T @ average_sample) ** 2
    near = 1.0 / ((d - points[:, None]) ** 2 + width[:, None] ** 2) ** 2
    return near @ shown / near.sum(1)


def averaged(e: np.ndarray, p: int, n: int, width: np.ndarray) -> np.ndarray:
    """The same around each eigenvalue, in their order and with their trace."""
    around = shown_around(np.append(e, np.zeros(p - len(e))), e, p, n, width)
    values = IsotonicRegression(increasing=False).fit_transform(np.arange(p), around)
    return values * e.sum() / values.sum()


SIZES = pytest.mark.parametrize(("p", "n"), [(60, 200), (60, 60), (60, 61), (61, 60), (100, 30)])


@SIZES
def test_averages_need_no_other_eigenproblem(p, n, rng):
    """Eq. 10 at given widths."""
    _, e, _ = sample(rng, p, n)
    e = e[: min(p, n)]
    width = e.mean() * rng.uniform(0.05, 0.5, len(e))
    found = shrinkage._around(e, width, e, n, max(p - n, 0))
    np.testing.assert_allclose(found, shown_around(e, e, p, n, width), rtol=1e-8)


def test_some_points_at_a_time(rng, monkeypatch):
    _, e, _ = sample(rng, 60, 200)
    whole = shrinkage.leave_one_out(e, 60, 200)
    monkeypatch.setattr(shrinkage, "_CHUNK", 7 * 60)
    np.testing.assert_allclose(shrinkage.leave_one_out(e, 60, 200), whole, rtol=1e-12)


@pytest.mark.parametrize(("p", "n"), [(300, 320), (300, 2000), (100, 300), (300, 100)])
@pytest.mark.parametrize("decades", [0, 2, 6])
def test_averages_have_settled(p, n, decades, rng, monkeypatch):
    """Those of many more steps differ by less than a hundredth, also where eigenvalues span decades."""
    e = np.linalg.svd(rng.normal(size=(n, p)) * np.logspace(0, -decades / 2, p), compute_uv=False) ** 2
    found = shrinkage.leave_one_out(e, p, n)
    monkeypatch.setattr(shrinkage, "_CLOSE", 1e-9)
    monkeypatch.setattr(shrinkage, "_STEPS", 300)
    np.testing.assert_allclose(found, shrinkage.leave_one_out(e, p, n), rtol=0.01)


@SIZES
def test_is_what_a_sample_left_out_shows(p, n, rng):
    _, e, _ = sample(rng, p, n)
    e = e[: min(p, n)]
    found = expanded(leave_one_out(e, p, n), p)
    np.testing.assert_allclose(found, averaged(e, p, n, found * np.sqrt(2 / n)), rtol=0.05)


@SIZES
def test_trace_and_order_stay(p, n, rng):
    _, e, _ = sample(rng, p, n)
    e = e[: min(p, n)]
    found = leave_one_out(e, p, n)
    assert len(found) == len(e) + (p > n)
    assert (np.diff(found) <= 0).all() and found[-1] > 0
    np.testing.assert_allclose(expanded(found, p).sum(), e.sum(), rtol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 1e-15, 1e-9, 1e-3])
@pytest.mark.parametrize(("dim", "n_samples"), [(200, 300), (200, 5000), (50, 5000)])
def test_eigenvalues_that_differ_less_than_by_chance_stay_equal(dim, n_samples, spread, rng):
    """As of whitened data: what hardly differs is not made to differ."""
    e = np.sort(1.0 + spread * rng.normal(size=dim))[::-1]
    found = leave_one_out(e, dim, n_samples)
    assert e[-1] * (1 - 1e-12) <= found.min() and found.max() <= e[0] * (1 + 1e-12)


@pytest.mark.parametrize(("dim", "n_samples"), [(60, 100), (100, 60), (60, 60)])
def test_combinations_of_other_samples_do_not_count(dim, n_samples):
    """With 10 eigenvalues fewer than there can be, 10 samples and 10 variables tell nothing."""
    e = np.logspace(1, -1, 50)
    with_them, without = leave_one_out(e, dim, n_samples)[:50], leave_one_out(e, dim - 10, n_samples - 10)[:50]
    np.testing.assert_allclose(with_them / with_them[0], without / without[0], rtol=1e-12)


def test_scale_carries_over(rng):
    _, e, _ = sample(rng, 100, 30)
    one, thousand = leave_one_out(e[:30], 100, 30), leave_one_out(1e3 * e[:30], 100, 30)
    np.testing.assert_allclose(thousand, 1e3 * one, rtol=1e-10)


def test_many_samples_need_no_shrinkage():
    e = np.logspace(1, 0, 20)
    errors = [np.abs(leave_one_out(e, 20, n) / e - 1.0).max() for n in (10**3, 10**5, 10**7)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-4


def loss(values: np.ndarray, best: np.ndarray) -> float:
    """Inverse Stein loss: what the likelihood of new data loses per variable, twice, for ``best = uᵀΣu``."""
    ratio = best / values
    return float(np.mean(ratio - np.log(ratio) - 1.0))


@pytest.mark.parametrize(
    ("n", "most"),
    [(25, 0.015), (50, 0.02), (90, 0.02), (100, 0.02), (101, 0.02), (150, 0.015), (390, 0.006), (410, 0.006)],
)
def test_near_the_best_at_every_ratio(n, most, rng):
    """100 variables: nothing that keeps the eigenvectors does better than uᵀΣu."""
    u, e, _ = sample(rng, 100, n)
    vectors, values = covariance(100)
    best = ((vectors.T @ u) ** 2 * values[:, None]).sum(0)
    rank = min(n, 100)
    best[rank:] = best[rank:].mean() if rank < 100 else 0.0  # no sample tells these apart
    found = loss(expanded(leave_one_out(e[:rank], 100, n), 100), best)
    assert found < most
    assert found < 0.2 * loss(np.full(100, best.mean()), best)


@pytest.mark.parametrize("n", [30, 100, 101, 300])
def test_white_noise_is_flat(n, rng):
    """Sample eigenvalues of white noise spread over (√n ± √p)²; those that samples left out show do not."""
    e = np.linalg.svd(rng.normal(size=(n, 100)), compute_uv=False) ** 2
    found = leave_one_out(e, 100, n)
    assert e.max() / e.min() > 5
    assert found.max() / found.min() < 1.6


@pytest.mark.parametrize("n_samples", [True, False])
def test_nothing_jumps_as_the_ratio_changes(n_samples):
    """One spectrum of 40 eigenvalues; the number of samples, or of variables, goes from 40 to beyond four times as many."""
    e = np.logspace(1, -1, 40)
    sizes = [(40, size) if n_samples else (size, 40) for size in range(40, 171)]
    found = np.array([expanded(leave_one_out(e, *size), size[0])[:40] for size in sizes])
    assert np.abs(np.diff(np.log(found), axis=0)).max() < 0.05


def test_one_more_sample_changes_little(rng):
    """The ratio goes through 1 and 4 as samples arrive one by one: no step stands out from those around it."""
    p = 40
    x = rng.normal(size=(170, p)) * np.logspace(-0.5, 0.5, p)
    found = np.array(
        [expanded(leave_one_out(np.linalg.svd(x[:n], compute_uv=False) ** 2, p, n), p) / n for n in range(30, 171)]
    )
    steps = np.abs(np.diff(np.log(found), axis=0)).mean(1)
    for ratio in (1, 4):
        at = ratio * p - 30
        assert steps[at - 3 : at + 3].max() < 2.0 * np.median(steps[at - 10 : at + 10])


def test_inverse_is_far_better_than_that_of_the_sample(rng):
    u, e, inverse = sample(rng, 100, 300)
    raw = error_of_inverse(u, e, inverse)
    shrunk = error_of_inverse(u, leave_one_out(e, 100, 300), inverse)
    unbiased = error_of_inverse(u, e * 300 / (300 - 100 - 1), inverse)  # mean of the inverse Wishart law
    assert raw > 0.9
    assert shrunk < 0.45
    assert shrunk < 0.9 * unbiased
    # nothing with the sample's eigenvectors can do better than uᵀΣ⁻¹u
    oracle = 1.0 / np.einsum("ji,jk,ki->i", u, inverse, u)
    assert shrunk < 1.2 * error_of_inverse(u, oracle, inverse)
    assert np.corrcoef(np.log(oracle), np.log(leave_one_out(e, 100, 300)))[0, 1] > 0.98


def test_inverse_with_few_samples(rng):
    u, e, inverse = sample(rng, 100, 150)
    assert error_of_inverse(u, e, inverse) > 3.0
    assert error_of_inverse(u, leave_one_out(e, 100, 150), inverse) < 0.7


def test_fewer_samples_than_variables(rng):
    u, e, inverse = sample(rng, 100, 30)
    found = expanded(leave_one_out(e[:30], 100, 30), 100)
    assert error_of_inverse(u, found, inverse) < error_of_inverse(u, np.full(100, e.sum() / 100), inverse)


def test_one_small_eigenvalue_by_chance_stays_with_the_others(rng):
    """As many samples as variables: the least eigenvalue tells nothing, even if it is a hundred times as small."""
    e = np.linalg.svd(rng.normal(size=(61, 60)), compute_uv=False) ** 2
    smaller = np.append(e[:-1], 0.01 * e[-1])
    np.testing.assert_allclose(leave_one_out(smaller, 60, 61), leave_one_out(e, 60, 61), rtol=0.1)


def test_a_small_eigenvalue_that_many_samples_show_is_kept():
    e = np.append(np.linspace(1.5, 0.5, 59), 1e-3)
    found = leave_one_out(e, 60, 3000)
    assert found[-1] < 2e-3 and found[-2] > 0.4


@pytest.mark.parametrize("n", [55, 60, 61, 200])
def test_rank_below_both_dimensions(n, rng):
    # ten variables twice: 50 eigenvalues that are not zero, of 60 variables
    _, e, _ = sample(rng, 50, n)
    found = leave_one_out(e, 60, n)
    assert len(found) == 51
    assert found[-1] > 0 and (np.diff(found) <= 0).all()
    np.testing.assert_allclose(expanded(found, 60).sum(), e.sum(), rtol=1e-12)


def test_variables_that_are_combinations_of_others_leave_these_alone(rng):
    _, e, _ = sample(rng, 100, 2000)
    alone, with_others = leave_one_out(e, 100, 2000), leave_one_out(e, 101, 2000)
    np.testing.assert_allclose(with_others[:-1], alone, rtol=0.02)
    assert with_others[-1] <= with_others[-2]


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


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (50, 50), (3000, 20)])
def test_edge_of_equal_noise_is_that_of_marchenko_and_pastur(shape):
    n, p = shape
    variance = 0.7
    found = noise_edge(np.full(n, variance * p), np.full(p, variance * n))
    np.testing.assert_allclose(found, np.sqrt(variance) * (np.sqrt(n) + np.sqrt(p)), rtol=1e-7)


def energies(rng, n: int, spread: float) -> np.ndarray:
    found = rng.gamma(1.0 / spread, spread, n) + 0.01
    return found / found.sum() * 1e5


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(600, 400), (1500, 300)])
def test_edge_of_unequal_noise(shape, spread, rng):
    """Where the largest singular value of such noise is; far above what its mean square would say."""
    a, b = (energies(rng, size, spread) for size in shape)
    noise = np.sqrt(a[:, None] * b / a.sum())
    largest = np.mean([np.linalg.norm(noise * rng.normal(size=shape), 2) for _ in range(5)])
    found = noise_edge(a, b)
    np.testing.assert_allclose(found, largest, rtol=0.04)
    assert found > (1.0 + 0.2 * spread) * np.sqrt(a.sum() / a.size / b.size) * (np.sqrt(a.size) + np.sqrt(b.size))


def test_edge_turns_and_scales_with_the_matrix(rng):
    a, b = energies(rng, 300, 2.0), energies(rng, 200, 1.0)
    found = noise_edge(a, b)
    np.testing.assert_allclose(noise_edge(b, a), found, rtol=1e-8)
    np.testing.assert_allclose(noise_edge(9.0 * a, 9.0 * b), 3.0 * found, rtol=1e-8)


def test_edge_follows_a_single_row(rng):
    """One row, at the end with the energy of all others together: its length is a singular value then."""
    a, b = np.ones(500), np.full(400, 1000 / 400)
    squares = []
    for share in np.linspace(0.0, 500.0, 51):
        a[0] = 1.0 + share
        squares.append(noise_edge(a, b * a.sum() / b.sum()) ** 2)
    steps = np.diff(squares)
    assert (steps > 0).all() and steps.max() < 3 * steps.mean()
    assert squares[-1] > a[0]
