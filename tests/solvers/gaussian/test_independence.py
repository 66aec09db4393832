"""How many independent samples some are worth."""

import numpy as np
import pytest
from scipy import sparse

import kronax as kx
from kronax.solvers.gaussian.independence import MOST, directions, independent_share, nearest_alike
from kronax.solvers.gaussian.shrinkage import leave_one_out

P = 60


def share(z: np.ndarray) -> float:
    """Of the samples in the rows."""
    u, s, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    return independent_share(u[:, directions(int((s > 1e-9 * s[0]).sum()), len(z))])


def history(n: int, p: int, correlation: float, rng) -> np.ndarray:
    """Samples of which each has this correlation with the next one, along all variables."""
    z = rng.normal(size=(n, p))
    for i in range(1, n):
        z[i] = correlation * z[i - 1] + np.sqrt(1 - correlation**2) * z[i]
    return z


@pytest.mark.parametrize("n", [50, 400, 1500])
@pytest.mark.parametrize("kind", ["none", "dependent variables", "types"])
def test_independent_samples_all_count(n, kind, rng):
    z = rng.normal(size=(n, P))
    if kind != "none":
        z = z @ rng.normal(size=(P, P))
    if kind == "types":  # alike along the few directions in which these differ
        z += rng.normal(0.0, 5.0, (6, P))[np.arange(n) % 6]
    assert share(z) == 1.0


def test_independent_samples_are_not_alike(rng):
    """Eq. 22: those that are near along some directions would else be less alike along others, which are orthogonal."""
    found = [nearest_alike(np.linalg.qr(rng.normal(size=(90, 40)))[0])[:5] for _ in range(60)]
    error = float(np.std(np.mean(found, axis=1)) / len(found) ** 0.5)
    assert np.mean(found) == pytest.approx(0.0, abs=3 * error)
    assert error < 0.01


@pytest.mark.parametrize("n_copies", [2, 3, 5])
def test_copies_count_once(n_copies, rng):
    z = np.repeat(rng.normal(size=(400, P)), n_copies, axis=0)
    assert share(z) == pytest.approx(1 / n_copies, rel=1e-3)


@pytest.mark.parametrize("correlation", [0.9, 0.8, 0.7])
def test_between_all_and_what_the_correlations_say(correlation, rng):
    """Σ_k ρ^{2|k|} = (1 + ρ²)/(1 − ρ²): no fewer are counted, and most of what is too many is not."""
    found = share(history(2000, 150, correlation, rng))
    true = (1 - correlation**2) / (1 + correlation**2)
    assert true < found < true + 0.6 * (1 - true)


def test_the_more_alike_the_fewer(rng):
    found = [share(history(800, P, correlation, rng)) for correlation in (0.0, 0.6, 0.8, 0.95)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 1.0


@pytest.mark.parametrize("n", [900, 4500])
def test_order_does_not_matter(n, rng):
    z = history(n, P, 0.85, rng)
    assert share(z) == pytest.approx(share(z[rng.permutation(len(z))]), rel=1e-5)


@pytest.mark.parametrize(("n", "p", "share"), [(30, 30, 1.0), (MOST + 2, 30, 1.0), (400, 19, 1.0), (400, 20, 0.5)])
def test_few_and_very_many_all_count(n, p, share, rng):
    """And those of few directions, as of a panel of few genes."""
    found = independent_share(np.repeat(rng.normal(size=(n // 2, p)), 2, axis=0))
    assert found == pytest.approx(share, abs=0.02)


def test_rare_values_that_few_samples_share_are_not_copies(rng):
    z = rng.poisson(0.05, size=(600, 150)).astype(float)
    assert share(z[:, z.any(axis=0)]) == 1.0


@pytest.mark.parametrize(("n", "p"), [(90, 40), (60, 60), (40, 90)])
def test_copies_are_shrunken_as_the_originals(n, p, rng):
    """Sums over samples are so many times as large."""
    e = np.sort(rng.chisquare(5, min(n, p)))[::-1]
    once = leave_one_out(e, p, n)
    copied = leave_one_out(3.0 * e, p, n, independent=1.0)
    np.testing.assert_allclose(copied, 3.0 * once, rtol=1e-10)
    if n >= p:  # then there are no fewer directions than variables, whatever the number of copies
        np.testing.assert_allclose(leave_one_out(3.0 * e, p, 3 * n, independent=1 / 3), 3.0 * once, rtol=1e-10)


def test_nearer_to_the_truth_with_samples_that_are_alike(rng):
    """Of the variances along the eigenvectors of the sample."""
    p, n = 80, 1200
    truth = np.exp(rng.normal(0.0, 0.7, p))
    errors = []
    for _ in range(5):
        z = history(n, p, 0.8, rng) * np.sqrt(truth)
        z -= z.mean(axis=0)
        e, vectors = np.linalg.eigh(z.T @ z)
        e, vectors = e[::-1], vectors[:, ::-1]
        best = np.einsum("ij,i,ij->j", vectors, truth, vectors)
        found = [leave_one_out(e, p, n - 1, independent=part) / n for part in (1.0, share(z))]
        errors.append([np.mean(np.log(shrunken / best) ** 2) for shrunken in found])
    all_counted, fewer = np.mean(errors, axis=0)
    assert fewer < 0.5 * all_counted


@pytest.mark.parametrize("method", [kx.tl.med_magma, kx.tl.gmgm])
def test_copies_of_cells_add_nothing_to_the_genes(method, rng):
    import anndata as ad

    x = rng.lognormal(0.0, 0.5, (150, 70)) * np.exp(rng.normal(0.0, 0.3, (150, 3)) @ rng.normal(size=(3, 70)))
    once, twice = (ad.AnnData(sparse.csr_matrix(np.repeat(x, times, axis=0))) for times in (1, 2))
    for adata in (once, twice):
        adata.obs_names_make_unique()
        method(adata, graphs="genes", n_neighbors=None)
    key = f"{method.__name__}_precision"
    one, other = (adata.varp[key].toarray() for adata in (once, twice))
    np.testing.assert_allclose(one, other, atol=0.005)
    np.fill_diagonal(one, 0.0)
    assert np.abs(one).max() > 0.1
