import logging
from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats

from kronax.solvers.tensor.completion import Fallback
from kronax.solvers.tensor.folds import fiber_folds, hide, pooled_correlation
from kronax.solvers.tensor.means import cautious_means, mean_2d
from kronax.solvers.tensor.wiener import held_out, variance
from kronax.solvers.tensor.wiener.confidence import reached, relative_size
from kronax.solvers.tensor.wiener.contexts import context_kernel
from kronax.solvers.tensor.wiener.coordinates import Task, rotate
from kronax.solvers.tensor.wiener.descent import descend
from kronax.solvers.tensor.wiener.kernels import Kernel, Prior
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import MOST_FIBERS, KroneckerOptions
from kronax.solvers.tensor.wiener.sweep import posterior_mean

FIXED = KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.15)
NAN = np.nan
# Few shapes, for every one is compiled; the last has more genes than fibers, so that these are compressed.
TINY, SMALL, LARGE, WIDE = (6, 4, 5), (10, 4, 7), (40, 6, 20), (10, 4, 60)


def low_rank(rng, shape, rank=3, noise=0.5):
    tensor = np.einsum("dr,cr,gr->dcg", *(rng.normal(size=(n, rank)) for n in shape))
    return tensor + noise * rng.normal(size=shape)


def without_fibers(rng, tensor, share=0.3):
    keep = np.arange(tensor.shape[0])[:, None] % tensor.shape[1] == np.arange(tensor.shape[1])
    return hide(tensor, (rng.random(tensor.shape[:2]) < share) & ~keep)


def kernel(rng, n):
    a = rng.normal(size=(n, n + 2))
    return Kernel(*np.linalg.eigh(a @ a.T / n))


@pytest.mark.parametrize("with_genes", [True, False])
def test_posterior_mean_equals_the_dense_one(rng, with_genes):
    shape = (5, 4, 6)
    x, noise = rng.normal(size=shape), 0.7
    kernels = [kernel(rng, n) for n in shape]
    d, c, g = (k.dense for k in kernels)
    covariance = np.kron(np.kron(d, c), g if with_genes else np.eye(6))
    expected = covariance @ np.linalg.solve(covariance + noise * np.eye(x.size), x.ravel())
    result = posterior_mean(x, kernels[0], kernels[1], kernels[2] if with_genes else None, noise)
    np.testing.assert_allclose(result.ravel(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("whole", [True, False])
def test_fixed_point_is_the_posterior_given_the_measured_entries(rng, whole):
    shape = (5, 4, 6)
    x, noise = rng.normal(size=shape), 0.7
    kernels = [kernel(rng, n) for n in shape]
    missing = np.broadcast_to(rng.random(shape[:2])[:, :, None] < 0.3, shape) if whole else rng.random(shape) < 0.3
    covariance = np.kron(np.kron(*(k.dense for k in kernels[:2])), kernels[2].dense)
    m, o = np.flatnonzero(missing), np.flatnonzero(~missing)
    observed = covariance[np.ix_(o, o)] + noise * np.eye(len(o))
    expected = covariance[np.ix_(m, o)] @ np.linalg.solve(observed, x.ravel()[o])
    filled, change = np.where(missing, 0.0, x), np.inf
    while change > 1e-11:
        before, filled = filled, np.where(missing, posterior_mean(filled, *kernels, noise), x)
        change = np.abs(filled - before).max()
    np.testing.assert_allclose(filled.ravel()[m], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("keep", "size", "within"),
    [(1, 1.0, 1.4), (3, 1.0, 1.4), (3, 0.1, 2.0), (3, 10.0, 2.0), (1, 0.1, 3.5), (1, 10.0, 3.5)],
)
def test_predictions_in_a_context_with_few_profiles_are_of_its_size(rng, keep, size, within):
    """One profile is worth as much as the others' sizes: half of the way, on a logarithmic scale.

    The prior is the one that cross-validation chooses here.
    """
    x = rng.normal(size=(40, 1, 20)) + 0.7 * rng.normal(size=LARGE)
    x[:, 5] *= size
    truth, x[keep:, 5] = x[keep:, 5].copy(), NAN
    prior = KroneckerOptions(noise=0.125 if size > 1 else 0.5, own_share=0.65, common_share=0.0)
    predicted = kronecker(x, prior).values[keep:, 5]
    slope = (truth * predicted).sum() / np.square(predicted).sum()
    assert 1 / within < slope < within


@pytest.mark.parametrize("whole", [True, False])
def test_kernel_of_the_contexts_by_hand(rng, whole):
    """Eq. 3 entry by entry; what stands in the gaps does not matter."""
    x = low_rank(rng, (7, 4, 5)) * np.array([1.0, 2.0, 0.5, 1.0])[:, None]
    missing = rng.random((7, 4)) < 0.5
    missing = np.broadcast_to(missing[:, :, None], x.shape) if whole else rng.random(x.shape) < 0.5
    missing = missing | (np.arange(4) == 3)[:, None]  # nothing is known of the last context
    known = [[~missing[:, b] & ~missing[:, c] for c in range(4)] for b in range(4)]
    rho, n = np.zeros((4, 4)), np.array([[pairs.sum() / 5 for pairs in row] for row in known])
    for b in range(3):
        for c in range(3):
            one, other = x[:, b][known[b][c]], x[:, c][known[b][c]]
            rho[b, c] = one @ other / np.sqrt(one @ one * (other @ other))
    off = ~np.eye(4, dtype=bool)
    usual = ((n * rho)[off].sum() / 2 + 5 * 0.5) / (n[off].sum() / 2 + 5)
    r = np.where(off, (n * rho + usual) / (n + 1), 1.0)
    square = np.array([np.mean(x[:, c][known[c][c]] ** 2) for c in range(3)])
    mean = (n.diagonal()[:3] * square).sum() / n.diagonal().sum()
    a = np.exp((n.diagonal()[:3] * np.log(square) + np.log(mean)) / (n.diagonal()[:3] + 1))
    expected = r[:3, :3] * np.sqrt(np.outer(a, a))
    values, vectors = np.linalg.eigh(expected)
    expected = (vectors * np.maximum(values, 0)) @ vectors.T
    expected = np.pad(expected * 3 / np.trace(expected), (0, 1))
    for filling in (0.0, rng.normal(size=x.shape)):
        found, _ = context_kernel(np.where(missing, filling, x), missing)
        np.testing.assert_allclose(found.dense, expected, atol=1e-12)


def test_candidates_of_the_prior_start_alike(rng):
    """Or the last one that is tried would be nearest to its fixed point."""
    x = without_fibers(rng, low_rank(rng, SMALL))
    with jax.enable_x64(True):
        folds = held_out.folds_of(rotate(x, ~np.isnan(x), FIXED), FIXED)
        prior = Prior(1.0, 0.2, 0.15)
        first, second = (list(folds.each(lambda found: found.filled, prior, 1e-9, 3)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def dense_kernels(x, filled, options) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kernels of a filled tensor without any compression: Eq. 2, Eq. 3 and a power of the genes' Gram matrix."""
    missing = np.isnan(x)
    n, _, n_genes = x.shape

    def unfolded(mode):
        return np.moveaxis(filled, mode, 0).reshape(filled.shape[mode], -1)

    gram = unfolded(0) @ unfolded(0).T
    own, common = options.own_share, options.common_share
    treatments = (1 - own - common) * gram * n / np.trace(gram) + own * np.eye(n) + common
    contexts = context_kernel(filled, missing)[0].dense
    if options.gene_power == 0:
        return treatments, contexts, np.eye(n_genes)
    rows = x[~missing.any(axis=2)]
    n_axes = min(len(rows), n_genes)
    axes = np.linalg.svd(rows)[2][:n_axes].T
    spectrum = ((filled @ axes) ** 2).sum(axis=(0, 1)) ** options.gene_power
    return treatments, contexts, (axes * (spectrum * n_axes / spectrum.sum())) @ axes.T


@pytest.mark.parametrize("gene_power", [0.0, 0.5])
@pytest.mark.parametrize("shape", [TINY, (*TINY[:2], 40)])
def test_one_sweep_by_hand(rng, shape, gene_power):
    """A sweep of the model, written with dense kernels; whether genes are compressed makes no difference."""
    x = without_fibers(rng, low_rank(rng, shape))
    options = KroneckerOptions(noise=0.5, own_share=0.2, common_share=0.1, gene_power=gene_power, max_iter=1)
    result = kronecker(x, options)
    missing = np.isnan(x)
    filled = np.where(missing, cautious_means(x), x)
    treatments, contexts, genes = dense_kernels(x, filled, options)
    covariance = np.kron(np.kron(treatments, contexts), genes)
    z = covariance @ np.linalg.solve(covariance + 0.5 * np.eye(x.size), filled.ravel())
    np.testing.assert_allclose(result.values, np.where(missing, z.reshape(x.shape), x), rtol=1e-8, atol=1e-10)
    change = np.linalg.norm((result.values - filled)[missing])
    np.testing.assert_allclose(result.status.objective, change / np.linalg.norm(x[~missing]), rtol=1e-8)
    assert not result.status.converged
    assert "1 sweeps" in result.status.reason


@pytest.mark.parametrize("gene_power", [0.0, 0.5])
@pytest.mark.parametrize("shape", [TINY, (*TINY[:2], 40)])
def test_variance_equals_the_dense_one(rng, shape, gene_power):
    """With the kernels of the completed tensor."""
    x = without_fibers(rng, low_rank(rng, shape))
    options = KroneckerOptions(noise=0.7, own_share=0.2, common_share=0.1, gene_power=gene_power, variance=True)
    result = kronecker(x, options)
    missing = np.isnan(x)
    covariance = np.kron(np.kron(*(kernels := dense_kernels(x, result.values, options))[:2]), kernels[2])
    m, o = np.flatnonzero(missing), np.flatnonzero(~missing)
    observed = covariance[np.ix_(o, o)] + 0.7 * np.eye(len(o))
    posterior = covariance[np.ix_(m, m)] - covariance[np.ix_(m, o)] @ np.linalg.solve(
        observed, covariance[np.ix_(o, m)]
    )
    # noise along the genes' axes alone: what was measured has nothing beyond them
    n_axes = min(len(x[~missing.any(axis=2)]), shape[2]) if gene_power else shape[2]
    size = np.diag(covariance)[o].sum() + 0.7 * len(o) * n_axes / shape[2]
    expected = np.zeros(x.shape)
    expected[missing] = np.nansum(x**2) / size * np.diag(posterior)
    np.testing.assert_allclose(result.variance, expected.mean(axis=2), rtol=1e-8)


@pytest.mark.parametrize("gene_power", [0.0, 0.5])
@pytest.mark.parametrize("shape", [SMALL, WIDE])
def test_rotation_of_the_genes(rng, gene_power, shape):
    x = without_fibers(rng, low_rank(rng, shape))
    rotation = np.linalg.qr(rng.normal(size=(shape[2],) * 2))[0]
    options = replace(FIXED, noise="cv", noises=(0.5, 1.0, 2.0), gene_power=gene_power)
    result, rotated = kronecker(x, options), kronecker(x @ rotation, options)
    np.testing.assert_allclose(rotated.values, result.values @ rotation, atol=1e-8)
    assert rotated.parameters == result.parameters
    np.testing.assert_allclose(rotated.confidence, result.confidence, rtol=1e-8)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_measured_values_bit_for_bit(rng, whole, dtype):
    x = low_rank(rng, SMALL).astype(dtype)
    x = without_fibers(rng, x) if whole else hide(x, rng.random(x.shape) < 0.3)
    result = kronecker(x, FIXED)
    measured = ~np.isnan(x)
    assert result.values.dtype == dtype
    assert np.isfinite(result.values).all()
    assert result.values[measured].tobytes() == x[measured].tobytes()
    assert not jax.config.jax_enable_x64


def test_better_than_the_means(rng):
    truth = low_rank(rng, LARGE, noise=1.0)
    x = without_fibers(rng, truth, 0.4)
    missing = np.isnan(x)
    scores = [pooled_correlation(truth[missing], f(x).values[missing]) for f in (kronecker, mean_2d)]
    assert scores[0] > scores[1] + 0.3


def test_single_entries_are_recovered(rng):
    truth = low_rank(rng, LARGE, rank=2, noise=0.1)
    x = hide(truth, rng.random(truth.shape) < 0.2)
    missing = np.isnan(x)
    result = kronecker(x, KroneckerOptions(noise=0.125, own_share=0.0, common_share=0.0))
    assert pooled_correlation(truth[missing], result.values[missing]) > 0.98


def test_never_measured(rng):
    x = without_fibers(rng, low_rank(rng, SMALL))
    known = kronecker(x, FIXED)
    more = np.full((11, 5, 7), NAN)
    more[:10, :4] = x
    result = kronecker(more, FIXED)
    np.testing.assert_allclose(result.values[:10, :4], known.values, rtol=1e-10)  # the others do not notice
    np.testing.assert_allclose(result.values[10, :4], np.nanmean(x, axis=0))
    np.testing.assert_allclose(result.values[:10, 4], np.nanmean(x, axis=1))
    np.testing.assert_allclose(result.values[10, 4], np.nanmean(x, axis=(0, 1)))
    assert (result.fallback[10, :4] == Fallback.CONTEXT_MEAN).all()
    assert (result.fallback[:10, 4] == Fallback.TREATMENT_MEAN).all()
    assert result.fallback[10, 4] == Fallback.GENE_MEAN
    assert not result.fallback[:10, :4].any()


def test_a_gene_without_any_value(rng):
    x = without_fibers(rng, low_rank(rng, SMALL))
    x[:, :, 2] = NAN
    result = kronecker(x, FIXED)
    np.testing.assert_allclose(result.values[:, :, 2], np.nanmean(x))
    assert not result.fallback.any()


def test_confidence_ranks_accuracy(rng):
    strength = rng.uniform(0, 2, size=(80, 1, 1))
    truth = strength * low_rank(rng, (80, 6, 30), noise=0.0) + rng.normal(size=(80, 6, 30))
    x = without_fibers(rng, truth, 0.3)
    missing = np.isnan(x[:, :, 0])
    result = kronecker(x, FIXED)
    assert (np.isnan(result.confidence) == ~missing).all()
    assert ((result.confidence[missing] >= 0) & (result.confidence[missing] <= 1)).all()
    accuracy = [np.corrcoef(a, b)[0, 1] for a, b in zip(result.values[missing], truth[missing], strict=True)]
    assert np.corrcoef(result.confidence[missing], accuracy)[0, 1] > 0.5


@pytest.mark.parametrize(("share", "noise"), [(0.3, 0.3), (0.3, 2.0), (0.75, 2.0)])
def test_confidence_is_what_predictions_reach(rng, share, noise):
    truth = low_rank(rng, (80, 6, 30), 2, noise=noise)
    x = without_fibers(rng, truth, share)
    missing = np.isnan(x[:, :, 0])
    result = kronecker(x, KroneckerOptions(noise=0.25, own_share=0.1, common_share=0.15))
    p, t = result.values[missing], truth[missing]
    reached = (p * t).sum(axis=1) / np.linalg.norm(p, axis=1) / np.linalg.norm(t, axis=1)
    size = relative_size(x, ~np.isnan(x), result.values)[missing]
    assert (np.diff(result.confidence[missing][np.argsort(size)]) >= 0).all()
    # where little was measured, a fold less is much less: it may promise too little, but not too much
    assert (-0.1 if share < 0.5 else -0.2) < result.confidence[missing].mean() - reached.mean() < 0.1
    if noise > 1:  # with so small a `noise`, predictions follow the noise: their size alone promises too much
        assert np.minimum(size, 1.0).mean() > reached.mean() + 0.15


def test_caution_is_a_standard_error_over_treatments(rng):
    """Fibers of one treatment are one observation: twice as many of them say no more."""
    cosine, treatment = rng.uniform(0.4, 0.6, 15), np.arange(15)
    expected = cosine.mean() - 2 * stats.sem(cosine)
    for times in (1, 2):
        found = reached(np.ones(15 * times), np.tile(cosine, times), np.tile(treatment, times), 2.0)
        np.testing.assert_allclose(found(np.ones(1)), expected, rtol=1e-12)


def test_no_confidence_where_a_mean_stands_in(rng):
    x = without_fibers(rng, low_rank(rng, LARGE))
    x[:, 5] = NAN
    result = kronecker(x, FIXED)
    assert (result.fallback[:, 5] == Fallback.TREATMENT_MEAN).all()
    assert np.isnan(result.confidence[:, 5]).all()
    assert np.isfinite(result.confidence[:, :5][np.isnan(x[:, :5, 0])]).all()


def test_one_context_for_every_treatment(rng):
    """Nothing tells how a treatment acts in another context: that is named, and nothing is promised."""
    x = np.where(np.eye(6, dtype=bool)[:, :, None], low_rank(rng, (6, 6, 5)), NAN)
    result = kronecker(x, FIXED)
    missing = np.isnan(x[:, :, 0])
    assert np.isfinite(result.values).all()
    assert (result.fallback[missing] == Fallback.UNLINKED).all()
    assert np.isnan(result.confidence).all()


def in_two_blocks(rng, n_bridging, related):
    """A tensor whose halves of contexts respond alike, or not at all alike, and were measured in halves of the treatments."""
    halves = [low_rank(rng, (60, 1, 30), rank=4, noise=0.0) for _ in range(2)]
    truth = np.repeat(halves[0], 6, axis=1)
    truth[:, 3:] = halves[0 if related else 1]
    truth += 0.7 * rng.normal(size=truth.shape)
    across = (np.arange(60)[:, None] < 30) != (np.arange(6) < 3)
    across[rng.choice(60, n_bridging, replace=False)] = False
    return truth, across


@pytest.mark.parametrize("related", [True, False])
@pytest.mark.parametrize("n_bridging", [0, 2, 10])
def test_confidence_across_blocks(rng, n_bridging, related):
    """Where ten treatments bridge them it is honest, where two do nobody knows."""
    truth, across = in_two_blocks(rng, n_bridging, related)
    hidden = across | (rng.random(across.shape) < 0.15) & (np.arange(60)[:, None] % 6 != np.arange(6))
    result = kronecker(hide(truth, hidden), FIXED)
    assert (result.fallback[across] == (Fallback.NONE if n_bridging else Fallback.UNLINKED)).all()
    within = hidden & ~across & (result.fallback == Fallback.NONE)
    p, t = result.values[across], truth[across]
    reached = np.mean((p * t).sum(axis=1) / np.linalg.norm(p, axis=1) / np.linalg.norm(t, axis=1))
    assert (reached > 0.7) == related
    if n_bridging < 3:
        assert np.isnan(result.confidence[across]).all()
    else:
        assert -0.15 < result.confidence[across].mean() - max(reached, 0.0) < 0.1
    assert result.confidence[within].mean() > 0.6


@pytest.fixture(scope="module", params=[False, True])
def in_its_unit(request):
    """A tensor, options in double and single precision, and what is found."""
    rng = np.random.default_rng(0)
    x = without_fibers(rng, low_rank(rng, SMALL))
    few = {"noises": (0.5, 1.0, 2.0), "own_shares": (0.1, 0.3), "common_shares": (0.0, 0.2)}
    options = KroneckerOptions(variance=True, single_precision=request.param, **few)
    return x, options, kronecker(x, options)


@pytest.mark.parametrize("unit", [2.0**100, 2.0**-100, 3e30, 3e-30])
def test_unit_does_not_matter(unit, in_its_unit):
    """Not even where its square is no number in single precision, in which the prior is chosen."""
    x, options, one = in_its_unit
    other = kronecker(unit * x, options)
    within = {"rtol": 1e-9 if np.frexp(unit)[0] == 0.5 else 1e-3}  # other units are rounded
    assert other.parameters == one.parameters
    np.testing.assert_allclose(other.values / unit, one.values, **within)
    np.testing.assert_allclose(other.confidence, one.confidence, **within)
    np.testing.assert_allclose(other.variance / unit / unit, one.variance, **within)
    np.testing.assert_allclose(other.status.objective, one.status.objective, **within)


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_unit_may_be_any_number(unit, rng):
    x = without_fibers(rng, low_rank(rng, SMALL))
    np.testing.assert_allclose(kronecker(unit * x, FIXED).values / unit, kronecker(x, FIXED).values, rtol=1e-9)


def test_cross_validation_chooses(rng):
    options = KroneckerOptions(n_folds=3)
    own = rng.normal(size=(40, 1, 20)) + 0.3 * rng.normal(size=LARGE)  # nothing is shared between treatments
    chosen = kronecker(without_fibers(rng, own), options).parameters
    assert chosen["own_share"] >= 0.35
    truth = low_rank(rng, LARGE, rank=2, noise=2.0)
    x = without_fibers(rng, truth)
    missing = np.isnan(x)

    def error(options):
        return np.square((kronecker(x, options).values - truth)[missing]).sum()

    fixed = [error(KroneckerOptions(noise=noise, own_share=0.2, common_share=0.15)) for noise in (0.125, 1.0, 8.0)]
    assert error(options) < 1.05 * min(fixed)
    assert error(options) < 0.95 * max(fixed)


@pytest.mark.parametrize("missing", [0.2, 0.6])
def test_going_ahead_leaves_the_fixed_point_and_saves_sweeps(rng, missing):
    """Beside plain sweeps with dense kernels."""
    x = without_fibers(rng, low_rank(rng, SMALL, noise=0.5), missing)
    options = KroneckerOptions(noise=0.5, own_share=0.3, common_share=0.1, tol=1e-10, max_iter=5000)
    ahead = kronecker(x, options)
    gaps, plain, n_plain, change = np.isnan(x), mean_2d(x).values, 0, np.inf
    while change >= 1e-10 * np.linalg.norm(x[~gaps]):
        (w_d, v_d), (w_c, v_c), (w_g, v_g) = map(np.linalg.eigh, dense_kernels(x, plain, options))
        rotated = np.einsum("dcg,di,cj,gk->ijk", plain, v_d, v_c, v_g, optimize=True)
        prior = np.einsum("i,j,k->ijk", w_d, w_c, w_g)
        smooth = np.einsum("ijk,di,cj,gk->dcg", rotated * prior / (prior + 0.5), v_d, v_c, v_g, optimize=True)
        new, n_plain = np.where(gaps, smooth, x), n_plain + 1
        change, plain = np.linalg.norm(new - plain), new
    assert ahead.status.converged
    np.testing.assert_allclose(ahead.values, plain, atol=1e-6 * np.nanmax(np.abs(x)))
    assert ahead.status.n_iter < 0.7 * n_plain


def test_descent_over_a_grid():
    """Candidates whose first errors are all larger than the best one's are given up; others are summed."""
    looked_at = []

    def errors(place):
        looked_at.append([])
        for fold in range(4):
            looked_at[-1].append(place)
            yield (place[0] - 1.0) ** 2 + (place[1] - 3.0) ** 2 + (fold if place[0] == 2 else 0)

    assert descend(errors, (3, 5), (2, 2)) == (1, 3)
    assert {len(folds) for folds in looked_at} == {2, 4}
    assert len({folds[0] for folds in looked_at}) == len(looked_at)  # none twice


@pytest.mark.parametrize(("errors", "chosen"), [([4.0, 1.0, 1.0, 1.0], 1), ([4.0, 4.0, 0.0, 0.0], 0)])
def test_one_bad_fold_is_no_reason_to_give_up(errors, chosen):
    """Two are, whatever comes after them."""
    known = [[3.0] * 4, errors]
    assert descend(lambda place: iter(known[place[0]]), (2,), (0,)) == (chosen,)


@pytest.mark.parametrize(("shape", "n_ranked"), [((500, 2, 3), 400), ((300, 20, 3000), 223)])
def test_large_tensors_are_ranked_on_some_treatments(shape, n_ranked):
    """Drawn at random, in their order, as single numbers; and so few that a product with them stays affordable."""
    values = np.broadcast_to(np.arange(shape[0], dtype=np.float32)[:, None, None], shape)
    task = Task(values, None, None, shape[2], 0.5, np.float64)
    ranked, other = (held_out.for_ranking(task, seed) for seed in (0, 1))
    assert ranked.values.shape == (n_ranked, *shape[1:])
    assert ranked.dtype == ranked.values.dtype == np.float32
    drawn = ranked.values[:, 0, 0]
    assert (np.diff(drawn) > 0).all()
    assert drawn.max() > 0.9 * shape[0] and not np.array_equal(drawn, other.values[:, 0, 0])


def test_nothing_to_cross_validate(rng):
    x = rng.normal(size=(3, 3, 4))
    x[~np.eye(3, dtype=bool)] = NAN  # every treatment has one fiber
    result = kronecker(x)
    assert np.isfinite(result.values).all()
    assert result.parameters["noise"] == 1.0


def test_single_precision(rng):
    x = without_fibers(rng, low_rank(rng, SMALL))
    exact = kronecker(x, FIXED)
    single = kronecker(x, replace(FIXED, single_precision=True))
    np.testing.assert_allclose(single.values, exact.values, atol=1e-4 * np.abs(exact.values).max())
    measured = ~np.isnan(x)
    assert single.values[measured].tobytes() == x[measured].tobytes()


@pytest.mark.parametrize("n_whole", [0, MOST_FIBERS + 1])
def test_variance_of_too_many_fibers(n_whole):
    with pytest.raises(ValueError, match=f"posterior variance is offered for 1 to 8000 profiles .* found {n_whole}"):
        variance.require_fibers(n_whole)
    variance.require_fibers(MOST_FIBERS)


def test_nothing_missing(rng):
    x = rng.normal(size=(4, 3, 5))
    result = kronecker(x)
    np.testing.assert_array_equal(result.values, x)
    assert "nothing was missing" in result.status.reason


def test_folds_share_compiled_code(rng, caplog):
    x = low_rank(rng, (11, 5, 90))
    measured = np.ones((11, 5), bool)
    masks = list(fiber_folds(measured, 3))  # 18, 18 and 19 fibers
    options = replace(FIXED, noise="cv", noises=(0.5, 1.0))
    kronecker(hide(x, masks[0]), options)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for mask in masks[1:]:
            kronecker(hide(x, mask), options)
    assert not [record for record in caplog.records if "Compiling" in record.getMessage()]


def test_nothing_but_zeros():
    x = np.zeros((4, 3, 5))
    x[1, 1] = np.nan
    result = kronecker(x)
    np.testing.assert_array_equal(result.values, 0.0)
    assert "every measured entry is 0" in result.status.reason


def test_zeros_but_for_one_profile():
    x = np.zeros((9, 3, 5))
    x[1, 1], x[2, 0] = 1.0, np.nan
    result = kronecker(x)
    assert np.isfinite(result.values).all()
    assert np.abs(result.values[2, 0]).max() < 0.5
