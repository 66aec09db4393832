import jax
import numpy as np
import pytest

from kronax.solvers.tensor import unfold

SHAPES = [(5, 4, 3), (3, 2, 11)]  # the second has more genes than fibers


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", range(3))
def test_fold_undoes_unfold(rng, shape, mode):
    x = rng.normal(size=shape)
    with jax.enable_x64(True):
        matrix = unfold.unfold(x, mode)
        assert matrix.shape == (shape[mode], x.size // shape[mode])
        np.testing.assert_array_equal(unfold.fold(matrix, mode, shape), x)


def test_unfolding_has_the_fibers_in_its_columns(rng):
    x = rng.normal(size=(2, 3, 4))
    np.testing.assert_array_equal(unfold.unfold(x, unfold.CONTEXT)[1], x[:, 1].ravel().astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", range(3))
def test_gram_has_the_squared_singular_values(rng, shape, mode):
    x = rng.normal(size=shape)
    with jax.enable_x64(True):
        gram = unfold.gram(x, mode)
        singular = np.linalg.svd(unfold.unfold(x, mode), compute_uv=False)
    assert len(gram) <= max(shape[mode], x.size // shape[mode])
    np.testing.assert_allclose(np.sort(unfold.eigvalsh(gram))[::-1][: len(singular)], singular**2, rtol=1e-10)
    np.testing.assert_allclose(unfold.eigh(gram)[0], unfold.eigvalsh(gram), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", range(3))
def test_spectral_map_along_a_mode(rng, shape, mode):
    x = rng.normal(size=shape)
    with jax.enable_x64(True):
        s2, vectors = unfold.eigh(unfold.gram(x, mode))
        mapped = unfold.along((vectors / (1.0 + s2)) @ vectors.T, x, mode)
        u, s, vt = np.linalg.svd(unfold.unfold(x, mode), full_matrices=False)
        expected = unfold.fold((u * (s / (1.0 + s**2))) @ vt, mode, shape)
    np.testing.assert_allclose(mapped, expected, rtol=1e-10, atol=1e-12)


def test_compression_loses_nothing(rng):
    x = rng.normal(size=(4, 3, 50))
    x[1, 2] = x[0, 0] = np.nan
    small = unfold.compress(x)
    assert small.scores.shape == (4, 3, 16)  # of 10 fibers
    np.testing.assert_allclose(small.basis @ small.basis.T, np.diag(np.arange(16) < 10), atol=1e-14)
    np.testing.assert_allclose(small.scores @ small.basis, x, rtol=1e-12, atol=1e-12)


def test_compression_includes(rng):
    x = rng.normal(size=(4, 3, 50))
    x[1, 2] = np.nan
    ones = np.ones((1, 50))
    small = unfold.compress(x, include=ones)
    assert small.scores.shape == (4, 3, 16)
    np.testing.assert_allclose(ones @ small.basis.T @ small.basis, ones, rtol=1e-12)


def test_no_compression_without_gain(rng):
    x = rng.normal(size=(4, 3, 12))
    assert unfold.compress(x).basis is None
    assert unfold.compress(x).scores is x


def test_nearly_as_many_fibers_share_a_size():
    """The training sets of folds, which differ by one fiber, have one size or two; and little is filled up."""
    sizes = np.array([unfold.shared_size(n) for n in range(1, 3000)])
    n = np.arange(1, 3000)
    assert (sizes >= n).all()
    assert (sizes <= np.maximum(n + 7, 17 / 16 * n)).all()
    for few in range(10, 2000, 7):
        assert len({unfold.shared_size(m) for m in range(few, few + few // 32 + 2)}) <= 2
