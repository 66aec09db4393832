import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronax.solvers.tensor.folds import (
    NEVER_HELD_OUT,
    cold_start_folds,
    entry_folds,
    fiber_folds,
    hide,
    pooled_correlation,
    unit_norm,
)


@given(
    seed=st.integers(0, 10**6), n_treatments=st.integers(6, 60), n_contexts=st.integers(2, 9), share=st.floats(0.2, 1)
)
def test_every_treatment_keeps_a_fiber(seed, n_treatments, n_contexts, share):
    rng = np.random.default_rng(seed)
    measured = rng.random((n_treatments, n_contexts)) < share
    measured[0, :2] = measured[1, :2] = measured[2, :2] = measured[3, :2] = True
    spare = measured & (measured.sum(axis=1, keepdims=True) > 1)
    folds = fiber_folds(measured, 5, seed)
    np.testing.assert_array_equal(sum(mask.astype(int) for mask in folds), spare)  # each of them once
    sizes = [mask.sum() for mask in folds]
    assert max(sizes) - min(sizes) <= 1
    for mask in folds:
        assert (measured & ~mask).any(axis=1)[measured.any(axis=1)].all()


def test_folds_on_a_sparse_tensor():
    """Two fibers a treatment: folds drawn at random practically never leave one of each."""
    rng = np.random.default_rng(0)
    measured = np.zeros((1000, 20), bool)
    for row in measured:
        row[rng.choice(20, 2, replace=False)] = True
    folds = fiber_folds(measured, 10)
    assert all((measured & ~mask).any(axis=1).all() for mask in folds)
    np.testing.assert_array_equal(folds.fold >= 0, measured)


def test_seed():
    measured = np.ones((9, 4), bool)
    np.testing.assert_array_equal(fiber_folds(measured, 3, 1).fold, fiber_folds(measured, 3, 1).fold)
    assert (fiber_folds(measured, 3, 1).fold != fiber_folds(measured, 3, 2).fold).any()


def test_too_few_fibers():
    with pytest.raises(ValueError, match="Cannot make 10 folds of 4 fibers"):
        fiber_folds(np.array([[True, True, False], [True, True, False], [True, False, False]]))


def test_no_folds_possible():
    with pytest.raises(ValueError, match="1 folds"):
        fiber_folds(np.ones((4, 4), bool), 1)


def test_entries(rng):
    measured = rng.random((5, 4, 6)) < 0.7
    fold = entry_folds(measured, 3)
    np.testing.assert_array_equal(fold != NEVER_HELD_OUT, measured)
    assert np.ptp(np.bincount(fold[measured])) <= 1


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("keep", [0, 1])
def test_cold_start(rng, axis, keep):
    measured = rng.random((12, 7)) < 0.6
    folds = cold_start_folds(measured, 4, axis=axis, keep=keep)
    has = measured.sum(axis=1 - axis)
    for mask in folds:
        assert not (mask & ~measured).any()
        held = mask.sum(axis=1 - axis)
        np.testing.assert_array_equal(held[held > 0], has[held > 0] - keep)
    total = sum(mask.astype(int) for mask in folds)
    np.testing.assert_array_equal(total.sum(axis=1 - axis), np.maximum(has - keep, 0))


def test_cold_start_deals_those_that_can_be_held_out(rng):
    """A treatment with no more fibers than stay in training takes no place in a fold."""
    measured = np.ones((8, 3), bool)
    measured[::2, 1:] = False
    assert [mask.sum() for mask in cold_start_folds(measured, 4, keep=1)] == [2] * 4
    with pytest.raises(ValueError, match="5 folds of the 4 treatments with more measured fibers than the 1"):
        cold_start_folds(measured, 5, keep=1)


def test_hide(rng):
    x = rng.normal(size=(3, 2, 4))
    mask = np.zeros((3, 2), bool)
    mask[1, 0] = True
    np.testing.assert_array_equal(np.isnan(hide(x, mask)).all(axis=2), mask)
    assert not np.isnan(x).any()


def test_unit_norm():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 2.0], [np.nan, np.nan]])
    np.testing.assert_allclose(unit_norm(x), [[0.6, 0.8], [0, 0], [np.nan, 1], [np.nan, np.nan]])


def test_pooled_correlation(rng):
    a, b = rng.normal(size=(2, 5, 4, 3))
    np.testing.assert_allclose(pooled_correlation(a, b), np.corrcoef(a.ravel(), b.ravel())[0, 1])
    b[1] = np.nan
    keep = ~np.isnan(b)
    np.testing.assert_allclose(pooled_correlation(a, b), np.corrcoef(a[keep], b[keep])[0, 1])
    assert np.isnan(pooled_correlation(a, np.ones_like(a)))
