"""What unknown scales of the samples add to a precision is taken from it again, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from anndata import AnnData

import kronax as kx
from kronax.solvers.gaussian import precision, scale_errors
from kronax.solvers.gaussian.precision import LowRank, Partial, dense
from kronax.solvers.gaussian.scale_errors import slopes, without_scale_errors
from kronax.solvers.gaussian.vectors import Held

P = 60


def low_rank(matrix: np.ndarray) -> LowRank:
    values, vectors = np.linalg.eigh(matrix)
    return LowRank(float(values.mean()), Held(vectors), values - values.mean())


def partial_correlations(inverse: LowRank) -> np.ndarray:
    found = -dense(Partial(inverse))
    np.fill_diagonal(found, 0.0)
    return found


@pytest.fixture
def means(rng) -> np.ndarray:
    return rng.uniform(0.3, 1.0, P)


@pytest.fixture
def deviations(rng) -> np.ndarray:
    return rng.uniform(0.5, 1.0, P)


@pytest.fixture
def own(rng) -> np.ndarray:
    """A precision without dependence, but for three pairs."""
    matrix = np.diag(rng.uniform(1.0, 2.0, P))
    for j, correlation in ((0, 0.4), (2, -0.3), (4, 0.2)):
        matrix[j, j + 1] = matrix[j + 1, j] = -correlation * np.sqrt(matrix[j, j] * matrix[j + 1, j + 1])
    return matrix


def with_errors(own: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Every sample has a scale with an error of 20%."""
    moved = means / deviations
    return np.linalg.inv(np.linalg.inv(own) + 0.2**2 * np.outer(moved, moved))


def without_variance(own: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """What the scale is found from hardly varies: a hundredth of its variance is left."""
    w = means * deviations
    along = np.linalg.solve(own, w)
    return np.linalg.inv(np.linalg.inv(own) - 0.99 * np.outer(along, along) / (w @ along))


@pytest.mark.parametrize("changed", [with_errors, without_variance])
def test_dependence_by_scales_is_taken_away_and_no_other(changed, own, means, deviations):
    inverse = low_rank(changed(own, means, deviations))
    before = partial_correlations(inverse)
    found = partial_correlations(without_scale_errors(inverse, means, deviations))
    true = partial_correlations(low_rank(own))
    assert np.abs(before - true).max() > 0.04
    left, there = np.abs(found - true), np.abs(before - true)
    assert np.sqrt(np.mean(left[6:, 6:] ** 2)) < 0.1 * np.sqrt(np.mean(there[6:, 6:] ** 2))
    # to first order, terms are those of variables that depend on no other
    assert np.sqrt(np.mean(left**2)) < 0.15 * np.sqrt(np.mean(there**2))
    assert max(left[0, 1], left[2, 3], left[4, 5]) < 0.02


def test_nothing_is_taken_where_there_are_no_means(own):
    found = without_scale_errors(low_rank(own), np.zeros(P), np.ones(P))
    np.testing.assert_allclose(dense(found), own, atol=1e-12)


@pytest.mark.parametrize("still", [[7], np.arange(6, 50)])
def test_variables_that_do_not_vary_stay_alone(still, own, means, deviations):
    """And do not hide what the others have, even if they are many."""
    own[still], own[:, still], means[still] = 0.0, 0.0, 0.0
    own[still, still] = 9.0
    inverse = low_rank(with_errors(own, means, deviations))
    deviations[still] = 0.0
    vectors = inverse.vectors.array().copy()
    vectors[still] = 0.0
    inverse = replace(inverse, vectors=Held(vectors))
    before, true = partial_correlations(inverse), partial_correlations(low_rank(own))
    found = partial_correlations(without_scale_errors(inverse, np.where(means > 0, means, 100.0), deviations))
    assert not found[still].any()
    assert np.sqrt(np.mean((found - true) ** 2)) < 0.3 * np.sqrt(np.mean((before - true) ** 2))


@pytest.mark.parametrize("changed", [with_errors, without_variance])
def test_some_of_many_variables_tell(changed, own, means, deviations, monkeypatch):
    monkeypatch.setattr(scale_errors, "_VARIABLES", 25)
    inverse = low_rank(changed(own, means, deviations))
    without = without_scale_errors(inverse, means, deviations)
    before, found, true = map(partial_correlations, (inverse, without, low_rank(own)))
    assert np.sqrt(np.mean((found - true) ** 2)) < 0.2 * np.sqrt(np.mean((before - true) ** 2))


@pytest.mark.parametrize("noise", [0.1, 0.01])
def test_large_residuals_count_as_less(noise, rng):
    """First, what is left includes what is looked for."""
    products = rng.normal(size=(2, 5000))
    values = np.array([0.5, -0.2]) @ products + noise * rng.normal(size=5000)
    values[:50] += 100.0 * np.sign(products[0, :50])
    np.testing.assert_allclose(slopes(values, products), [0.5, -0.2], atol=0.1 * noise)


def test_slopes_do_not_depend_on_the_units_of_directions(rng):
    """Where variables hardly vary, the products of one direction are tiny beside those of the other."""
    products, units = rng.normal(size=(2, 500)), np.array([1e9, 1e-9])
    values = np.array([0.5, -0.2]) @ products + 0.1 * rng.normal(size=500)
    found = slopes(values, products * units[:, None])
    np.testing.assert_allclose(found * units, slopes(values, products), rtol=1e-9)


def fitted_as(b: tuple[float, float], monkeypatch) -> None:
    monkeypatch.setattr(scale_errors, "slopes", lambda _, products: np.array(b[: len(products)]))


@pytest.mark.parametrize("b", [(-90.0, 0.0), (0.0, -90.0)])
def test_half_of_the_least_precision_is_left(b, own, means, deviations, monkeypatch):
    """However much the fit would take away: along the direction from which most is taken."""
    fitted_as(b, monkeypatch)
    found = dense(without_scale_errors(low_rank(own), means, deviations))
    u = means * deviations if b[1] else np.linalg.solve(own, own.diagonal() * means / deviations)
    assert u @ found @ u / (u @ u) == pytest.approx(0.5 * np.linalg.eigvalsh(own)[0])
    assert np.linalg.eigvalsh(found)[0] > 0


def test_both_terms_leave_a_precision(own, means, deviations, monkeypatch):
    fitted_as((-90.0, -90.0), monkeypatch)
    assert np.linalg.eigvalsh(dense(without_scale_errors(low_rank(own), means, deviations)))[0] > 0


def test_the_other_term_is_fitted_again_where_one_is_limited(own, means, deviations, monkeypatch):
    monkeypatch.setattr(
        scale_errors, "slopes", lambda _, products: np.array([2.0, -90.0] if len(products) == 2 else [0.5])
    )
    assert without_scale_errors(low_rank(own), means, deviations).weights[-2] == 0.5


def test_what_is_added_is_not_limited(own, means, deviations, monkeypatch):
    fitted_as((2.0, 3.0), monkeypatch)
    along = own @ (means * deviations)
    moved = own.diagonal() * means / deviations
    expected = own + 2.0 * np.outer(moved, moved) + 3.0 * np.outer(along, along)
    np.testing.assert_allclose(dense(without_scale_errors(low_rank(own), means, deviations)), expected, rtol=1e-9)


def test_genes_that_do_not_depend_on_each_other(rng):
    """Genes that are in all cells, some of which hardly vary: no more than the noise of a correlation is left."""
    n, p = 600, 50
    x = (
        rng.lognormal(1.0, 1.0, p)
        * np.exp(rng.normal(size=(n, p)) * rng.uniform(0.03, 0.6, p))
        * rng.lognormal(size=(n, 1))
    )
    adata = AnnData(x)
    with pytest.warns(UserWarning, match="show no structure"):
        kx.tl.med_magma(adata, graphs="genes", n_neighbors=None)
    found = adata.varp["med_magma_precision"].toarray()[np.triu_indices(p, k=1)]
    assert np.sqrt(np.mean(found**2)) < 1.1 * n**-0.5


@pytest.mark.parametrize("q_max", [None, 0.3])
def test_the_same_where_the_precision_is_not_held_whole(q_max, rng, monkeypatch):
    of_pairs = np.exp(0.5 * rng.normal(size=(200, 30)))
    adata = AnnData(rng.poisson(3.0 * np.repeat(of_pairs, 2, axis=1)).astype(float))
    kx.tl.med_magma(adata, graphs="genes", q_max=q_max, key_added="held")
    monkeypatch.setattr(precision, "_FEW", 10)
    kx.tl.med_magma(adata, graphs="genes", q_max=q_max, key_added="not")
    for name in ("precision", "p_value", "q_value", "connectivities"):
        held, found = (adata.varp[f"{key}_{name}"].toarray() for key in ("held", "not"))
        assert (held[np.triu_indices(60, k=1)] != 0).any()
        np.testing.assert_allclose(found, held, atol=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(2, 0), (0, 5)])
def test_slopes_without_pairs_or_directions(shape):
    np.testing.assert_array_equal(slopes(np.ones(shape[1]), np.ones(shape)), np.zeros(shape[0]))


@pytest.mark.filterwarnings("ignore:.*show no structure")
@pytest.mark.parametrize("spread", [0.1, 0.01, 0.001])
def test_genes_that_are_in_all_cells_and_hardly_vary(spread, rng):
    """That their scale is known is all that is seen of them at first: thousands of times what ten related pairs are."""
    x = rng.normal(size=(300, 100))
    x[:, 1:20:2] = 0.6 * x[:, 0:20:2] + 0.8 * x[:, 1:20:2]
    adata = AnnData(np.exp(spread * x))
    kx.tl.med_magma(adata, graphs="genes", n_neighbors=None)
    found = -adata.varp["med_magma_precision"].toarray()
    pairs = np.arange(0, 20, 2)
    true = found[pairs, pairs + 1]
    found[pairs, pairs + 1] = found[pairs + 1, pairs] = 0.0
    np.fill_diagonal(found, 0.0)
    assert true.min() > 1.1 * np.abs(found).max()
    assert abs(found.mean()) < 0.01 * true.mean()


def test_a_constant_gene_where_no_means_are_subtracted(rng):
    x = rng.choice([-1.0, 1.0], size=(60, 20))
    x[:, 0] = 1.0
    adata = AnnData(x)
    with pytest.warns(UserWarning, match="negative"):
        kx.tl.med_magma(adata, graphs="genes", center=False)
    assert np.isfinite(adata.varp["med_magma_precision"].data).all()
