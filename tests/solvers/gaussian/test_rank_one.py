import numpy as np
import pytest

from kronax.solvers.gaussian import rank_one


def covariance(rng, m, samples=2):
    values, vectors = np.linalg.eigh(np.cov(rng.normal(size=(m, samples * m)) * rng.uniform(1, 4, (m, 1))))
    return values[::-1], vectors[:, ::-1]


def repeated(values, vectors, rng):
    return np.repeat(values[::4], 4)[: len(values)], rng.normal(size=len(values))


def without_half(values, vectors, rng):
    return np.where(np.arange(len(values)) < len(values) // 2, values, 0.0), rng.normal(size=len(values))


CASES = {
    "small": lambda values, vectors, rng: (values, 1e-3 * rng.normal(size=len(values))),
    "large": lambda values, vectors, rng: (values, 1e3 * rng.normal(size=len(values))),
    "nothing": lambda values, vectors, rng: (values, np.zeros(len(values))),
    "an eigenvector": lambda values, vectors, rng: (values, 30.0 * vectors[:, 2]),
    "equal eigenvalues": repeated,
    "no variance along half": without_half,
}


@pytest.mark.parametrize("m", [3, 40, 300])
@pytest.mark.parametrize("case", CASES)
def test_as_a_decomposition_of_the_sum(case, m):
    rng = np.random.default_rng(m)
    values, vectors = covariance(rng, m)
    values, added = CASES[case](values, vectors, rng)
    k = min(m, 10)
    found, leading = rank_one.leading_with(values, vectors, added, k)
    whole = (vectors * values) @ vectors.T + np.outer(added, added)
    size = found[0]
    np.testing.assert_allclose(found, np.linalg.eigvalsh(whole)[::-1], rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(whole @ leading, leading * found[:k], rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(leading.T @ leading, np.eye(k), rtol=0, atol=1e-11)


def test_eigenvalues_interlace():
    rng = np.random.default_rng(0)
    values, vectors = covariance(rng, 50)
    found, _ = rank_one.leading_with(values, vectors, rng.normal(size=50), 5)
    assert (found >= values).all()
    assert (found[1:] <= values[:-1]).all()
