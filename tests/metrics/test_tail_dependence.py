"""kx.metrics.tail_dependence by counting, against SciPy's bivariate normal and the limit of the t copula."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

import kronax as kx
from kronax.metrics._tail_dependence import _draw_pairs, gaussian_dependence


def t_copula(n, p, rho, df, rng):
    root = np.linalg.cholesky(rho * np.ones((p, p)) + (1 - rho) * np.eye(p))
    return rng.normal(size=(n, p)) @ root.T * np.sqrt(df / rng.chisquare(df, (n, 1)))


@pytest.mark.parametrize("rho", [-0.9, -0.3, 0.0, 0.5, 0.95])
@pytest.mark.parametrize("q", [0.5, 0.8, 0.97])
def test_gaussian_as_scipy(rho, q):
    h = -stats.norm.ppf(q)
    both = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([h, h])
    assert gaussian_dependence(np.array(rho), q) == pytest.approx(both / (1 - q), abs=1e-6)


def test_gaussian_at_the_ends():
    assert gaussian_dependence(np.array(1.0), 0.9) == pytest.approx(1)
    assert gaussian_dependence(np.array(-1.0), 0.9) == pytest.approx(0, abs=1e-9)
    assert gaussian_dependence(np.array(0.0), 0.9) == pytest.approx(0.1)


def test_by_counting(rng):
    x = t_copula(300, 5, 0.4, 3, rng)
    table = kx.metrics.tail_dependence(x, quantiles=[0.6, 0.9], n_pairs=None).set_index(["tail", "quantile"])
    share = pd.DataFrame(x).rank().to_numpy() / 301
    for q in (0.6, 0.9):
        up, down, gaussian = [], [], []
        for i in range(5):
            for j in range(i):
                up.append(np.sum((share[:, i] > q) & (share[:, j] > q)) / np.sum(share[:, j] > q))
                down.append(np.sum((share[:, i] < 1 - q) & (share[:, j] < 1 - q)) / np.sum(share[:, j] < 1 - q))
                rho = 2 * np.sin(np.pi / 6 * stats.spearmanr(x[:, i], x[:, j]).statistic)  # Pearson's, if Gaussian
                gaussian.append(gaussian_dependence(np.array(rho), q))
        assert table.loc[("upper", q), "empirical"] == pytest.approx(np.mean(up), abs=1e-12)
        assert table.loc[("lower", q), "empirical"] == pytest.approx(np.mean(down), abs=1e-12)
        for tail in ("upper", "lower"):
            assert table.loc[(tail, q), "gaussian"] == pytest.approx(np.mean(gaussian), abs=1e-9)


def test_gaussian_data_have_no_excess(rng):
    x = t_copula(20_000, 6, 0.5, 1e9, rng)
    table = kx.metrics.tail_dependence(np.exp(x), quantiles=[0.5, 0.9, 0.97])
    np.testing.assert_allclose(table["excess"], 0, atol=0.02)


def test_limit_of_the_t_copula(rng):
    rho, df = 0.3, 2
    limit = 2 * stats.t(df + 1).cdf(-np.sqrt((df + 1) * (1 - rho) / (1 + rho)))
    table = kx.metrics.tail_dependence(t_copula(100_000, 4, rho, df, rng), quantiles=[0.99])
    np.testing.assert_allclose(table["empirical"], limit, atol=0.03)
    assert (table["gaussian"] < limit - 0.2).all()


def test_scales_of_cells_make_tails_dependent_and_the_quotient_removes_them():
    adata = kx.datasets.kronecker_sum(400, 60, noise=1.0, noise_distribution="lognormal")
    adata.X = np.abs(adata.X)
    before = kx.metrics.tail_dependence(adata, quantiles=[0.95])
    kx.pp.quotient(adata)
    after = kx.metrics.tail_dependence(adata, layer="quotient", quantiles=[0.95])
    assert (before["empirical"] > 2 * after["empirical"]).all()
    np.testing.assert_allclose(after["empirical"], 0.05, atol=0.015)  # nearly all pairs of genes are independent


def test_ranks_alone_matter(rng):
    x = np.abs(t_copula(200, 4, 0.2, 4, rng)) * (rng.random((200, 4)) < 0.7)
    expected = kx.metrics.tail_dependence(x)
    pd.testing.assert_frame_equal(kx.metrics.tail_dependence(x**3), expected)
    pd.testing.assert_frame_equal(kx.metrics.tail_dependence(sparse.csr_array(x)), expected)
    pd.testing.assert_frame_equal(kx.metrics.tail_dependence(ad.AnnData(x), axis="var"), expected)
    pd.testing.assert_frame_equal(kx.metrics.tail_dependence(ad.AnnData(x.T), axis="obs"), expected)


def test_constant_variables_are_left_out(rng):
    x = rng.normal(size=(100, 3))
    expected = kx.metrics.tail_dependence(x)
    found = kx.metrics.tail_dependence(np.c_[np.zeros(100), x[:, :2], np.full(100, 3.0), x[:, 2]])
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("n_pairs", [1, 20, 44, 45, 1000, None])
def test_pairs_are_different(n_pairs, rng):
    first, second = _draw_pairs(10, n_pairs, rng)
    assert len(first) == min(n_pairs or 45, 45)
    assert (first < second).all()
    assert (first >= 0).all()
    assert second.max() < 10
    assert len(set(zip(first, second, strict=True))) == len(first)


def test_sample_of_pairs_is_near_all_pairs(rng):
    x = t_copula(500, 40, 0.3, 3, rng)
    everything = kx.metrics.tail_dependence(x, n_pairs=None)
    sample = kx.metrics.tail_dependence(x, n_pairs=200)
    assert ((sample["empirical"] - everything["empirical"]).abs() < 5 * sample["standard_error"] + 0.01).all()
    pd.testing.assert_frame_equal(sample, kx.metrics.tail_dependence(x, n_pairs=200, random_state=0))


def test_what_is_refused(rng):
    x = rng.normal(size=(20, 3))
    with pytest.raises(ValueError, match=r"`quantiles` must hold numbers from 0\.5 to less than 1"):
        kx.metrics.tail_dependence(x, quantiles=[1.0])
    with pytest.raises(ValueError, match="`layer` is 'counts', but a matrix has no layers"):
        kx.metrics.tail_dependence(x, layer="counts")
    with pytest.raises(ValueError, match="1 variables are not constant; at least 2 are needed"):
        kx.metrics.tail_dependence(np.c_[x[:, 0], np.ones(20)])
    with pytest.raises(KeyError, match="'counts' not found"):
        kx.metrics.tail_dependence(ad.AnnData(x), layer="counts")
    with pytest.raises(ValueError, match="`n_pairs` must be an integer"):
        kx.metrics.tail_dependence(x, n_pairs=0)


def test_other_objects_are_refused():
    matrix = np.random.default_rng(0).normal(size=(9, 3))
    for wrong in (mudata.MuData({"a": ad.AnnData(matrix)}), pd.DataFrame(matrix)):
        with pytest.raises(TypeError, match=f"Expected an AnnData object or a matrix, found .*{type(wrong).__name__}"):
            kx.metrics.tail_dependence(wrong)
