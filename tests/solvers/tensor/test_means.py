import numpy as np
import pytest

from kronax.solvers.tensor.completion import Fallback
from kronax.solvers.tensor.means import Mean2dOptions, mean_1d, mean_2d

NAN = np.nan


def by_hand() -> np.ndarray:
    """Three treatments, three contexts, one gene; treatment 2 and context 2 were never measured."""
    return np.array([[1.0, 3.0, NAN], [5.0, NAN, NAN], [NAN, NAN, NAN]])[:, :, None]


def test_mean_1d_by_hand():
    result = mean_1d(by_hand())
    np.testing.assert_allclose(result.values[:, :, 0], [[1, 3, 2], [5, 5, 5], [3, 3, 3]])
    none, context, gene = Fallback.NONE, Fallback.CONTEXT_MEAN, Fallback.GENE_MEAN
    np.testing.assert_array_equal(result.fallback, [[none] * 3, [none] * 3, [context, context, gene]])
    assert result.status.converged
    assert result.status.n_iter == 0
    assert result.confidence is None


def test_mean_2d_by_hand():
    result = mean_2d(by_hand(), Mean2dOptions(context_weight=0.25))
    np.testing.assert_allclose(result.values[:, :, 0], [[1, 3, 2], [5, 0.25 * 3 + 0.75 * 5, 5], [3, 3, 3]])
    none, treatment, context, gene = list(Fallback)[:4]
    np.testing.assert_array_equal(
        result.fallback, [[none, none, treatment], [none, none, treatment], [context, context, gene]]
    )


@pytest.mark.parametrize("method", [mean_1d, mean_2d])
def test_a_gene_without_any_value(method):
    values = np.stack([by_hand()[:2, :2, 0], np.full((2, 2), NAN)], axis=2)
    result = method(values)
    np.testing.assert_allclose(result.values[:, :, 1], 3.0)
    assert not result.fallback.any()


@pytest.mark.parametrize("method", [mean_1d, mean_2d])
def test_most_missing_entries_make_the_code(rng, method):
    values = rng.normal(size=(4, 3, 5))
    values[0, :, :3] = NAN  # three genes never measured of the treatment,
    values[0, 0] = NAN  # and two more in a context
    values[1, :, :1] = NAN
    values[1, 0] = NAN
    result = method(values)
    assert (result.fallback[0] == Fallback.CONTEXT_MEAN).all()
    assert result.fallback[1, 0] == Fallback.NONE  # one of five
    assert (result.fallback[1, 1:] == Fallback.CONTEXT_MEAN).all()  # one of one
    assert not result.fallback[2:].any()


def test_single_entries_have_their_own_means():
    values = np.array([[[1.0, NAN], [3.0, 7.0]], [[NAN, 2.0], [4.0, 4.0]]])
    np.testing.assert_allclose(mean_1d(values).values, [[[1, 7], [3, 7]], [[4, 2], [4, 4]]])
    np.testing.assert_allclose(mean_2d(values).values, [[[1, 4.5], [3, 7]], [[2.5, 2], [4, 4]]])
    assert not mean_2d(values).fallback.any()


@pytest.mark.parametrize("method", [mean_1d, mean_2d])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_measured_values_bit_for_bit(rng, method, dtype):
    values = rng.normal(size=(6, 4, 5)).astype(dtype)
    values[rng.random(values.shape) < 0.3] = NAN
    result = method(values)
    measured = ~np.isnan(values)
    assert result.values.dtype == dtype
    assert not np.isnan(result.values).any()
    assert result.values[measured].tobytes() == values[measured].tobytes()


def test_nothing_measured():
    with pytest.raises(ValueError, match="Nothing was measured"):
        mean_1d(np.full((2, 2, 2), NAN))


@pytest.mark.parametrize("method", [mean_1d, mean_2d])
def test_means_across_blocks_are_named(rng, method):
    """They are what they are elsewhere, but nothing tells whether the contexts have anything to do with each other."""
    x = rng.normal(size=(6, 4, 3))
    linked = (np.arange(6)[:, None] < 3) == (np.arange(4) < 2)
    x[~linked] = x[0, 0] = NAN
    result = method(x)
    np.testing.assert_array_equal(result.fallback, np.where(linked, Fallback.NONE, Fallback.UNLINKED))
    treatment, context = np.nanmean(x[4], axis=0), np.nanmean(x[:, 1], axis=0)
    np.testing.assert_allclose(result.values[4, 1], treatment if method is mean_1d else (treatment + context) / 2)
