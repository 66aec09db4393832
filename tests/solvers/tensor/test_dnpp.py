import numpy as np
import pytest

from kronax.solvers.tensor.completion import Fallback
from kronax.solvers.tensor.dnpp import DnppOptions, dnpp, similarities

NAN = np.nan
UP, STEEP, DOWN, BENT = [1.0, 2.0, 3.0], [0.0, 5.0, 10.0], [3.0, 2.0, 1.0], [1.0, 3.0, 2.0]


def tensor(*rows) -> np.ndarray:
    return np.array([[[NAN] * 3 if fiber is None else fiber for fiber in row] for row in rows])


def test_similarities_by_hand():
    s = similarities(tensor([UP, UP, None], [STEEP, DOWN, None], [BENT, None, UP], [None, None, STEEP]))
    np.testing.assert_allclose(s[0, 1], 0.0, atol=1e-15)  # the mean of 1 and −1
    np.testing.assert_allclose(s[0, 2], 0.5)
    np.testing.assert_allclose(s[2, 3], 1.0)
    assert np.isnan(s[0, 3])
    np.testing.assert_array_equal(s, s.T)


def test_constant_profiles_have_no_correlation():
    s = similarities(tensor([[2.0, 2.0, 2.0], UP], [UP, STEEP]))
    np.testing.assert_allclose(s[0, 1], 1.0)  # of the second context alone
    assert np.isnan(similarities(tensor([[2.0, 2.0, 2.0]], [UP]))[0, 1])


def test_similarities_over_the_shared_genes(rng):
    x = rng.normal(size=(5, 3, 12)) + 50.0
    x[rng.random(x.shape) < 0.3] = NAN
    x[0, 0, 1:], x[1, 0, 0] = NAN, 50.0  # one gene in common: no correlation in this context
    s = similarities(x)
    for i in range(5):
        for j in range(5):
            both = ~np.isnan(x[i]) & ~np.isnan(x[j])
            r = [np.corrcoef(x[i, c, k], x[j, c, k])[0, 1] for c, k in enumerate(both) if k.sum() > 1]
            np.testing.assert_allclose(s[i, j], np.mean(r), rtol=1e-9)


def test_weights_by_hand():
    # similarities of treatment 0 in context 0: 1 with treatment 1, ½ with treatment 2, −1 with treatment 3
    x = tensor([UP, None], [STEEP, [3.0, 0.0, 0.0]], [BENT, [0.0, 3.0, 0.0]], [DOWN, [0.0, 0.0, 99.0]])
    result = dnpp(x)
    np.testing.assert_allclose(result.values[0, 1], [2.0, 1.0, 0.0])
    assert result.fallback[0, 1] == Fallback.NONE
    np.testing.assert_allclose(dnpp(x, DnppOptions(n_neighbors=1)).values[0, 1], [3.0, 0.0, 0.0])


def test_neighbours_must_be_measured_in_the_context():
    x = tensor([UP, None], [UP, None], [BENT, [0.0, 3.0, 0.0]])  # the most similar treatment has no profile there
    np.testing.assert_allclose(dnpp(x, DnppOptions(n_neighbors=1)).values[0, 1], [0.0, 3.0, 0.0])


def test_every_fallback():
    # context 1: no positive neighbour; context 2: nobody measured; treatment 2: never measured
    x = tensor([UP, None, None], [DOWN, STEEP, None], [None, None, None])
    result = dnpp(x)
    np.testing.assert_allclose(result.values[0, 1], STEEP)
    np.testing.assert_allclose(result.values[0, 2], UP)
    np.testing.assert_allclose(result.values[2, 0], [2.0, 2.0, 2.0])
    np.testing.assert_allclose(result.values[2, 2], np.mean([UP, DOWN, STEEP], axis=0))
    codes = [[0, Fallback.CONTEXT_MEAN, Fallback.TREATMENT_MEAN], [0, 0, Fallback.TREATMENT_MEAN]]
    np.testing.assert_array_equal(result.fallback[:2], codes)
    np.testing.assert_array_equal(result.fallback[2], [Fallback.CONTEXT_MEAN] * 2 + [Fallback.GENE_MEAN])


def test_a_gene_without_any_value():
    x = tensor([[1.0, 2.0, NAN], [1.0, 2.0, NAN]], [[1.0, 3.0, NAN], None])
    result = dnpp(x)
    np.testing.assert_allclose(result.values[1, 1], [1.0, 2.0, np.nanmean(x)])
    assert not result.fallback.any()


def test_every_gene_has_its_own_neighbours():
    x = tensor([UP, [NAN, NAN, 7.0]], [STEEP, [3.0, NAN, 0.0]], [BENT, [0.0, 3.0, 1.0]])
    s = similarities(x)
    weight = s[0, 1] / (s[0, 1] + s[0, 2])
    np.testing.assert_allclose(dnpp(x).values[0, 1], [3.0 * weight, 3.0, 7.0])


@pytest.mark.parametrize("whole", [True, False])
def test_measured_values_bit_for_bit(rng, whole):
    x = rng.normal(size=(8, 4, 5)).astype(np.float32)
    x[rng.random(x.shape[: 2 if whole else 3]) < 0.3] = NAN
    result = dnpp(x)
    measured = ~np.isnan(x)
    assert not np.isnan(result.values).any()
    assert result.values[measured].tobytes() == x[measured].tobytes()


def test_order_of_treatments(rng):
    x = rng.normal(size=(9, 4, 20))
    x[rng.random(x.shape[:2]) < 0.4] = NAN
    order = rng.permutation(9)
    options = DnppOptions(n_neighbors=3)
    np.testing.assert_allclose(dnpp(x[order], options).values, dnpp(x, options).values[order], rtol=1e-12)


@pytest.mark.parametrize("whole", [True, False])
def test_neighbour_by_neighbour(rng, whole):
    x = rng.normal(size=(12, 3, 8))
    x[rng.random(x.shape[: 2 if whole else 3]) < 0.4] = NAN
    s, k = similarities(x), 3
    expected = x.copy()
    for d, c, g in np.argwhere(np.isnan(x)):
        here = [
            (s[d, other], x[other, c, g]) for other in range(12) if s[d, other] > 0 and not np.isnan(x[other, c, g])
        ]
        nearest = sorted(here, reverse=True)[:k]
        if nearest:
            expected[d, c, g] = np.average([v for _, v in nearest], weights=[w for w, _ in nearest])
    result = dnpp(x, DnppOptions(n_neighbors=k)).values
    np.testing.assert_allclose(result[~np.isnan(expected)], expected[~np.isnan(expected)], rtol=1e-9)
    assert not np.isnan(expected).all(axis=(0, 2)).any()


def test_no_more_neighbours_than_asked_for_where_several_are_alike():
    equal = [[0.0, 0.0, 9.0], [0.0, 9.0, 0.0], [9.0, 0.0, 0.0]]
    x = tensor([UP, None], *([UP, profile] for profile in equal))
    sizes = np.sort(dnpp(x, DnppOptions(n_neighbors=2)).values[0, 1])
    np.testing.assert_allclose(sizes, [0.0, 4.5, 4.5])


@pytest.mark.parametrize("unit", [1e-300, 1e300])
def test_unit_may_be_any_number(unit, rng):
    x = rng.normal(size=(8, 3, 6))
    x[rng.random((8, 3)) < 0.3] = NAN
    np.testing.assert_allclose(dnpp(unit * x).values / unit, dnpp(x).values, rtol=1e-12)
