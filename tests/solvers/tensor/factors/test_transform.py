import numpy as np
import pytest

from kronax.solvers.tensor.factors.transform import scaled


@pytest.fixture
def values(rng):
    values = 3.0 + rng.normal(size=(6, 3, 5)) * np.array([1.0, 4.0, 0.5])[:, None]
    values[0, 1] = np.nan
    return values


@pytest.mark.parametrize("scale", ["standard", "minmax", None])
@pytest.mark.parametrize("per_context", [True, False])
def test_undone_exactly(values, scale, per_context):
    before = values.copy()
    new, scaling = scaled(values, scale, per_context=per_context)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_allclose(scaling.undo(new), values, rtol=1e-13, atol=1e-14)
    assert scaling.n_clipped.sum() == 0


@pytest.mark.parametrize("per_context", [True, False])
def test_what_scales_mean(values, per_context):
    axes = (0, 2) if per_context else (0, 1, 2)
    standard, _ = scaled(values, "standard", per_context=per_context)
    np.testing.assert_allclose(np.nanmean(standard, axis=axes), 0.0, atol=1e-13)
    np.testing.assert_allclose(np.nanstd(standard, axis=axes), 1.0, rtol=1e-12)
    unit, _ = scaled(values, "minmax", per_context=per_context)
    np.testing.assert_allclose(np.nanmin(unit, axis=axes), 0.0, atol=1e-13)
    np.testing.assert_allclose(np.nanmax(unit, axis=axes), 1.0, rtol=1e-12)


@pytest.mark.parametrize("per_context", [True, False])
def test_outliers_are_clipped_and_counted(values, per_context):
    values[2, 0, :2] = 500.0, -500.0
    new, scaling = scaled(values, None, per_context=per_context, outlier_z=3.0)
    known = values[:, 0] if per_context else values
    reach = 3.0 * np.nanstd(known)
    np.testing.assert_allclose(new[2, 0, :2], np.nanmean(known) + reach * np.array([1, -1]), rtol=1e-12)
    np.testing.assert_array_equal(scaling.n_clipped, [2, 0, 0])
    others = np.ones(values.shape, bool)
    others[2, 0, :2] = False
    np.testing.assert_array_equal(new[others], values[others])
    axes = (0, 2) if per_context else (0, 1, 2)
    unit, _ = scaled(values, "minmax", per_context=per_context, outlier_z=3.0)  # of what is left after clipping
    np.testing.assert_allclose(np.nanmin(unit, axis=axes), 0.0, atol=1e-13)
    np.testing.assert_allclose(np.nanmax(unit, axis=axes), 1.0, rtol=1e-12)


def test_a_constant_context_and_an_empty_one(values):
    values[:, 0], values[:, 2] = 7.0, np.nan
    new, scaling = scaled(values, "standard", per_context=True)
    assert (new[:, 0] == 0.0).all()
    assert np.isnan(new[:, 2]).all()
    np.testing.assert_array_equal(scaling.undo(new)[:, 0], 7.0)
