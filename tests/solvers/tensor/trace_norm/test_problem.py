import logging
from dataclasses import replace

import jax
import numpy as np
import pytest

from kronax.solvers.tensor.completion import Fallback
from kronax.solvers.tensor.folds import fiber_folds, hide
from kronax.solvers.tensor.means import mean_2d
from kronax.solvers.tensor.trace_norm.falrtc import HODOS_2018, FalrtcOptions, falrtc
from kronax.solvers.tensor.trace_norm.halrtc import HalrtcOptions, halrtc
from kronax.solvers.tensor.trace_norm.problem import trace_norm
from kronax.solvers.tensor.trace_norm.silrtc import SilrtcOptions, silrtc

METHODS = [falrtc, halrtc, silrtc]
SMALL, LARGE = (12, 4, 9), (20, 5, 12)  # few shapes, for every one is compiled
ACCURATE = FalrtcOptions(alpha=(1.0, 1.0, 1.0), smoothing=1e-4, n_continuation=100, max_iter=3000, tol=1e-7)


def low_rank(rng, shape, rank=2, noise=0.0):
    tensor = np.einsum("dr,cr,gr->dcg", *(rng.normal(size=(n, rank)) for n in shape))
    return tensor + noise * rng.normal(size=shape)


def without_fibers(rng, tensor, share=0.4):
    return hide(tensor, rng.random(tensor.shape[:2]) < share)


def without_entries(rng, tensor, share):
    return hide(tensor, rng.random(tensor.shape) < share)


def unfolding(x, mode):
    return np.moveaxis(x, mode, 0).reshape(x.shape[mode], -1)


def pseudocode(values, *, alpha=(1.0, 1.0, 0.01), max_iter=20, tol=0.1, lipschitz=1e-5):
    """The published algorithm and settings, by singular value decompositions."""
    missing = np.isnan(values)
    raw = np.array(alpha)
    alpha = raw / raw.sum()
    y = np.where(missing, np.nanmean(values), values)
    z, big_b, trace = y, 0.0, []

    def fold(matrix, mode):
        others = [n for i, n in enumerate(values.shape) if i != mode]
        return np.moveaxis(matrix.reshape(values.shape[mode], *others), 0, mode)

    def f(x, mu):
        total = 0.0
        for i in range(3):
            s = np.linalg.svd(unfolding(x, i), compute_uv=False)
            total += alpha[i] ** 2 / mu[i] * (s**2 - np.maximum(s - mu[i] / alpha[i], 0) ** 2).sum()
        return 0.5 * total

    def gradient(x, mu):
        total = np.zeros_like(x)
        for i in range(3):
            u, s, vt = np.linalg.svd(unfolding(x, i), full_matrices=False)
            total += alpha[i] ** 2 / mu[i] * fold(u * np.minimum(s, mu[i] / alpha[i]) @ vt, i)
        return np.where(missing, total, 0.0)

    start = np.array([0.3 * alpha[i] * np.linalg.norm(unfolding(y, i), 2) for i in range(3)])
    end = 0.01 * raw / np.sqrt(values.shape)
    slope = (start - end) / (1 - 5**-1.15)
    offset = start - slope
    for k in range(1, max_iter + 1):
        mu = np.maximum(slope * k**-1.15 + offset, end)
        while True:
            b = (1 + np.sqrt(1 + 4 * lipschitz * big_b)) / (2 * lipschitz)
            w = (b * z + big_b * y) / (b + big_b)
            g = gradient(w, mu)
            new = w - g / lipschitz
            if f(w, mu) - f(new, mu) >= (g**2).sum() / (2 * lipschitz):
                break
            lipschitz *= 2
        change = np.linalg.norm(new - y)
        y, z, big_b = new, z - b * g, big_b + b
        trace.append(f(y, mu))
        if change < tol:
            break
    return y, trace


@pytest.mark.parametrize("n_genes", [6, 40])
@pytest.mark.parametrize(
    ("share", "of_fiber"),
    [(0.4, 1.0), (0.1, 1.0), (0.1, 0.5)],
    ids=["many fibers", "few fibers", "parts of few fibers"],
)
def test_published_settings_equal_the_pseudocode(rng, n_genes, share, of_fiber):
    x = low_rank(rng, (20, n_genes, 6), 3, noise=0.5).transpose(0, 2, 1)  # treatments × genes × contexts in the text
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    x = hide(x, (rng.random((20, 6, 1)) < share) & (rng.random(x.shape) < of_fiber))
    expected, trace = pseudocode(x)
    result = falrtc(x, HODOS_2018)
    assert result.status.n_iter == len(trace)
    np.testing.assert_allclose(result.status.objective, trace, rtol=1e-6)
    assert np.linalg.norm(result.values - expected) <= 1e-6 * np.linalg.norm(expected)


def test_published_settings_to_the_last_iteration(rng):
    x = low_rank(rng, (20, 6, 40), 3, noise=0.5)
    x = without_fibers(rng, x / np.linalg.norm(x, axis=2, keepdims=True))
    expected, trace = pseudocode(x, tol=0.0)
    result = falrtc(x, replace(HODOS_2018, tol=1e-300))
    assert result.status.n_iter == len(trace) == 20
    assert not result.status.converged
    np.testing.assert_allclose(result.status.objective, trace, rtol=1e-6)
    assert np.linalg.norm(result.values - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("method", "options"),
    [(falrtc, ACCURATE), (halrtc, HalrtcOptions(alpha=(1.0, 1.0, 1.0), tol=1e-6, max_iter=2000))],
)
def test_low_rank_tensor_is_recovered(rng, method, options):
    truth = low_rank(rng, (20, 15, 18))
    gaps = without_entries(rng, truth, 0.3)
    result = method(gaps, options)
    assert result.status.converged
    missing = np.isnan(gaps)
    assert np.linalg.norm((result.values - truth)[missing]) <= 1e-3 * np.linalg.norm(truth[missing])


@pytest.mark.parametrize("alpha", [(1.0, 1.0, 1.0), (2.0, 1.0, 0.0)])
def test_falrtc_and_halrtc_find_the_same_optimum(rng, alpha):
    x = without_fibers(rng, low_rank(rng, LARGE, 2, noise=0.3))
    smooth = falrtc(x, replace(ACCURATE, alpha=alpha))
    split = halrtc(x, HalrtcOptions(alpha=alpha, tol=1e-7, max_iter=5000))
    assert smooth.status.converged
    assert split.status.converged
    best = trace_norm(split.values, alpha)
    np.testing.assert_allclose(trace_norm(smooth.values, alpha), best, rtol=1e-5)
    np.testing.assert_allclose(split.status.objective[-1], best, rtol=1e-5)
    missing = np.isnan(x)
    difference = np.linalg.norm((smooth.values - split.values)[missing])
    assert difference <= 1e-2 * np.linalg.norm(split.values[missing])


def test_falrtc_and_silrtc_solve_one_problem(rng):
    x = without_fibers(rng, low_rank(rng, LARGE, 2, noise=0.3))
    fast = falrtc(x, FalrtcOptions(smoothing=0.05, tol=1e-9, max_iter=5000))
    simple = silrtc(x, SilrtcOptions(smoothing=0.05, tol=1e-9, max_iter=20000))
    assert fast.status.converged
    assert simple.status.converged
    np.testing.assert_allclose(fast.values, simple.values, atol=1e-5)
    np.testing.assert_allclose(fast.status.objective[-1], simple.status.objective[-1], rtol=1e-9)
    assert (np.diff(simple.status.objective) <= 1e-12 * simple.status.objective[0]).all()


@pytest.mark.parametrize("smoothing", [1e-1, 1e-3])
def test_objective_never_increases_once_the_schedule_is_flat(rng, smoothing):
    x = without_fibers(rng, low_rank(rng, LARGE, 2, noise=0.3))
    options = FalrtcOptions(smoothing=smoothing, n_continuation=5, tol=1e-10, max_iter=300)
    flat = falrtc(x, options).status.objective[4:]
    assert len(flat) > 20
    assert (np.diff(flat) <= 0).all()


def test_trace_norm(rng):
    x = rng.normal(size=(5, 4, 30))
    expected = sum(w * np.linalg.norm(unfolding(x, i), "nuc") for i, w in ((0, 0.25), (2, 0.75)))
    np.testing.assert_allclose(trace_norm(x, (1.0, 0.0, 3.0)), expected, rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_rotation_of_the_genes(rng, method):
    x = without_fibers(rng, low_rank(rng, SMALL, 2, noise=0.3) - 1.0)
    rotation = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    result = method(x @ rotation)
    assert result.status.n_iter == method(x).status.n_iter
    np.testing.assert_allclose(result.values, method(x).values @ rotation, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_compression_changes_nothing(rng, method):
    """Turned into a space of more genes than there are fibers, the same tensor is compressed before it is completed."""
    x = without_fibers(rng, low_rank(rng, SMALL, 2, noise=0.3))
    more = np.linalg.qr(rng.normal(size=(60, SMALL[2])))[0].T
    few, many = method(x), method(x @ more)
    assert many.status.n_iter == few.status.n_iter
    np.testing.assert_allclose(many.values, few.values @ more, atol=1e-8)
    np.testing.assert_allclose(many.status.objective, few.status.objective, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("whole", [True, False])
def test_measured_values_bit_for_bit(rng, method, whole):
    x = low_rank(rng, SMALL, 2, noise=0.3).astype(np.float32)
    x = without_fibers(rng, x) if whole else without_entries(rng, x, 0.3)
    result = method(x)
    measured = ~np.isnan(x)
    assert result.values.dtype == np.float32
    assert np.isfinite(result.values).all()
    assert result.values[measured].tobytes() == x[measured].tobytes()
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("method", METHODS)
def test_nothing_missing(rng, method):
    x = rng.normal(size=(4, 3, 5))
    result = method(x)
    np.testing.assert_array_equal(result.values, x)
    assert result.status.converged
    assert "nothing was missing" in result.status.reason


@pytest.mark.parametrize(
    ("method", "options"),
    [(falrtc, HODOS_2018), (falrtc, FalrtcOptions()), (halrtc, HalrtcOptions()), (silrtc, SilrtcOptions())],
)
def test_folds_share_compiled_code(rng, method, options, caplog):
    x = low_rank(rng, (11, 5, 90), 2, noise=0.3)
    measured = np.ones((11, 5), bool)
    masks = list(fiber_folds(measured, 3))  # 18, 18 and 19 fibers
    method(hide(x, masks[0]), options)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for mask in masks[1:]:
            method(hide(x, mask), options)
    assert not [record for record in caplog.records if "Compiling" in record.getMessage()]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_zeros(method):
    x = np.zeros((4, 3, 5))
    x[1, 1] = np.nan
    result = method(x)
    np.testing.assert_array_equal(result.values, 0.0)
    assert "every measured entry is 0" in result.status.reason


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_mean_stands_in_where_nothing_is_linked(rng, method, whole):
    """The tensor of least trace norm is 0 there."""
    x = low_rank(rng, (8, 4, 6))
    x[0, 0] = x[5, 3] = np.nan
    linked = (np.arange(8)[:, None] < 4) == (np.arange(4) < 2)
    x[~linked] = np.nan
    if not whole:
        x[1, 1, 2] = np.nan
    result = method(x)
    np.testing.assert_array_equal(result.fallback, np.where(linked, Fallback.NONE, Fallback.UNLINKED))
    np.testing.assert_allclose(result.values[~linked], mean_2d(x).values[~linked], rtol=1e-9)
