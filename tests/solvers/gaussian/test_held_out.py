"""Eigenvalues by cross-validation: the variance that held-out samples show, nothing else."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from kronax.solvers.gaussian import held_out

N, M = 40, 30


def matrix(rng, n: int = N, m: int = M) -> np.ndarray:
    """Variances over one and a half orders of magnitude along both axes."""
    return np.logspace(0, -0.75, n)[:, None] * rng.normal(size=(n, m)) * np.logspace(0, -0.75, m)


def by_hand(z: np.ndarray, fold: np.ndarray, dim: int, kept: int) -> np.ndarray:
    """Eigenvalues of ``ZZᵀ``, the columns in folds, from singular vectors of the matrix itself."""
    found = np.zeros(dim)
    for k in range(fold.max() + 1):
        u, s, _ = np.linalg.svd(z[:, fold != k], full_matrices=False)
        u = u[:, s > 1e-6 * s[0]][:, :dim]
        test = z[:, fold == k]
        energy = ((u.T @ test) ** 2).sum(1)
        null = dim - len(energy)
        found += np.append(energy, np.full(null, ((test**2).sum() - energy.sum()) / null if null else 0.0))
    values, weights = list(found[:kept]), [1] * kept
    if kept < dim:
        values.append(found[kept:].mean())
        weights.append(dim - kept)
    return IsotonicRegression(increasing=False).fit_transform(np.arange(len(values)), values, sample_weight=weights)


def total(values: np.ndarray, dim: int) -> float:
    return values.sum() + (dim - len(values)) * values[-1]


def test_folds_follow_the_key(rng):
    key = rng.normal(size=32)
    fold = held_out.folds(key, 3)
    np.testing.assert_array_equal(np.bincount(fold), [11, 11, 10])
    np.testing.assert_array_equal(fold[np.argsort(key)], np.arange(32) % 3)
    order = rng.permutation(32)
    np.testing.assert_array_equal(held_out.folds(key[order], 3), fold[order])


def test_folds_do_not_depend_on_the_sign_of_the_key(rng):
    """An eigenvector has no sign: only the numbers of the folds may change."""
    for size in (30, 31, 32):
        key = rng.normal(size=size)
        one, other = held_out.folds(key, 3), held_out.folds(-key, 3)
        np.testing.assert_array_equal(one[:, None] == one, other[:, None] == other)


def estimated(samples: np.ndarray, fold: np.ndarray, dim: int | None = None, kept: int | None = None) -> np.ndarray:
    """Give what is found for one axis, of which there are samples × variables; all variables free if not told."""
    dim = dim or samples.shape[1]
    (found,) = held_out.eigenvalues(held_out.Samples(samples, fold, dim, kept or min(dim, len(samples))))
    return found


@pytest.mark.parametrize("shape", [(N, M), (M, M), (90, M), (M, 90)])  # samples × variables
def test_eigenvalues(shape, rng):
    z = matrix(rng, *shape)
    fold = held_out.folds(rng.normal(size=shape[0]), 3)
    found = estimated(z, fold)
    assert len(found) == min(shape) + (shape[1] > shape[0])
    np.testing.assert_allclose(found, by_hand(z.T, fold, shape[1], min(shape)), rtol=1e-8)
    assert total(found, shape[1]) == pytest.approx((z**2).sum(), rel=1e-10)


@pytest.mark.parametrize("shape", [(N, M), (90, M), (M, 90)])
def test_any_basis_will_do(shape, rng):
    """Orthonormal coordinates of the samples, no more than there are samples, stand for the variables."""
    z = matrix(rng, *shape)
    fold = held_out.folds(rng.normal(size=shape[0]), 3)
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    found = estimated(u * s, fold, shape[1], min(shape))
    np.testing.assert_allclose(found, estimated(z, fold), rtol=1e-8)


def test_several_axes_at_once(rng):
    z = matrix(rng)
    folds = held_out.folds(rng.normal(size=M), 3), held_out.folds(rng.normal(size=N), 3)
    axes = held_out.Samples(z.T, folds[0], N, M), held_out.Samples(z, folds[1], M, M)
    for both, single in zip(
        held_out.eigenvalues(*axes), (estimated(z.T, folds[0]), estimated(z, folds[1])), strict=True
    ):
        np.testing.assert_array_equal(both, single)


def test_centred_matrix(rng):
    """One dimension less on the axis that was centred: none of the variance is given to the vector of ones."""
    z = matrix(rng)
    z -= z.mean(0)
    col_fold, row_fold = held_out.folds(rng.normal(size=M), 3), held_out.folds(rng.normal(size=N), 3)
    np.testing.assert_allclose(estimated(z.T, col_fold, N - 1, M), by_hand(z, col_fold, N - 1, M), rtol=1e-8)
    np.testing.assert_allclose(estimated(z, row_fold, M, M), by_hand(z.T, row_fold, M, M), rtol=1e-8)


def test_descending_and_positive(rng):
    z = matrix(rng)
    z[:, 20:] = z[:, :10]  # rank 20
    fold = held_out.folds(np.arange(M) % 10 + 0.0, 3)
    for found in (estimated(z.T, fold, N, 20), estimated(z, np.arange(N) % 3, M, 20)):
        assert len(found) == 21
        assert (np.diff(found) <= 0).all() and (found > 0).all()


def test_variables_that_are_combinations_of_others(rng):
    """They add directions that show no variance: of these the samples know nothing, so they get the least of the others."""
    samples = rng.normal(size=(80, M)) * np.logspace(0, -0.75, M)
    twins = np.hstack([samples, samples[:, :4]])
    fold = np.arange(80) % 4
    found = estimated(twins, fold, kept=M)
    assert len(found) == M + 1
    assert found[-1] == found[-2] > 1e-3 * found.mean()


def test_white_noise_is_flat(rng):
    """Sample eigenvalues of white noise spread over (√N ± √M)²; those held out do not."""
    z = rng.normal(size=(300, 200))
    e = np.linalg.eigvalsh(z.T @ z)
    found = estimated(z, np.arange(300) % 3)
    assert e.max() / e.min() > 50
    assert found.max() / found.min() < 1.5


def test_inverse_is_far_better_than_that_of_the_sample(rng):
    """150 samples of 100 variables, relative Frobenius norm: as good as the oracle on the same vectors, nearly."""
    v, _ = np.linalg.qr(rng.normal(size=(100, 100)))
    variances = np.logspace(-0.75, 0.75, 100)
    z = rng.normal(size=(150, 100)) * np.sqrt(variances) @ v.T
    inverse = (v / variances) @ v.T
    e, u = np.linalg.eigh(z.T @ z)
    found = estimated(z, np.arange(150) % 3)[::-1]

    def error(values):
        return np.linalg.norm((u / values) @ u.T - inverse) / np.linalg.norm(inverse)

    assert error(e / 150) > 3.0
    assert error(found / 150) < 0.7
