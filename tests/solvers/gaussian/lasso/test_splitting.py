"""Douglas–Rachford splitting for Eq. 5: its two proximal points, and the fixed point."""

import numpy as np
import pytest
from scipy import optimize

from kronax.solvers.gaussian.lasso import newton, splitting

N, P = 8, 6  # as in the tests of Newton's method: what is compiled there serves here
SIZES = P, N


def symmetric(rng, n: int) -> np.ndarray:
    a = rng.normal(size=(n, n))
    return a + a.T


def grams(rng, n: int = N, p: int = P) -> tuple[np.ndarray, np.ndarray]:
    z = rng.normal(size=(n, 2)) @ rng.normal(size=(2, p)) + 0.5 * rng.normal(size=(n, p))
    return z @ z.T, z.T @ z


def kronecker_sum(psi: np.ndarray, phi: np.ndarray) -> np.ndarray:
    return np.kron(psi, np.eye(len(phi))) + np.kron(np.eye(len(psi)), phi)


def gradient(psi, phi, s) -> tuple[np.ndarray, np.ndarray]:
    """Of the likelihood, from the full inverse."""
    inverse = np.linalg.inv(kronecker_sum(psi, phi)).reshape(N, P, N, P)
    return s[0] - np.einsum("ijkj->ik", inverse), s[1] - np.einsum("ijil->jl", inverse)


@pytest.mark.parametrize("rho", [0.01, 1.0])
def test_proximal_point_of_the_likelihood(rng, rho):
    """The gradient of likelihood and ρ‖(Ψ − A) ⊕ (Φ − B)‖² is zero, with Kronecker sums formed."""
    s, point = grams(rng), (symmetric(rng, N), symmetric(rng, P))
    (psi, phi), eigenvalues = splitting._likely(s, point, rho, SIZES, None)
    slope = gradient(psi, phi, s)
    a, b = psi - point[0], phi - point[1]
    np.testing.assert_allclose(slope[0] + 2 * rho * (P * a + np.trace(b) * np.eye(N)), 0.0, atol=1e-6)
    np.testing.assert_allclose(slope[1] + 2 * rho * (N * b + np.trace(a) * np.eye(P)), 0.0, atol=1e-6)
    (again, _), _ = splitting._likely(s, point, rho, SIZES, eigenvalues)
    np.testing.assert_allclose(again, psi, atol=1e-6)


def test_proximal_point_of_the_penalty(rng):
    """Off the diagonal each entry is the minimum of R|x| + ρp(x − y)², found by a search."""
    y, rho, r = symmetric(rng, 4), 0.3, 0.8 * (1.0 - np.eye(4))
    found = splitting._shrunk(y, r / (2.0 * rho * P))
    np.testing.assert_array_equal(np.diag(found), np.diag(y))
    for i, k in ((0, 1), (0, 2), (1, 3), (2, 3)):
        best = optimize.minimize_scalar(lambda x, y=y[i, k]: 0.8 * abs(x) + rho * P * (x - y) ** 2, (-9, 9), tol=1e-12)
        assert found[i, k] == pytest.approx(best.x, abs=1e-6)


def test_solution_is_a_fixed_point(rng):
    s = grams(rng)
    r = newton.penalties(*s, 0.1)
    exact = newton.fit(*s, r, tol=1e-10)
    after_two = splitting.split(*s, r, (exact.rows, exact.cols), max_iter=2)
    for found, x in zip(after_two, (exact.rows, exact.cols), strict=True):
        np.testing.assert_array_equal(found != 0, x != 0)
        np.testing.assert_allclose(found, x, atol=1e-7)


def test_extrapolation_solves_a_linear_problem():
    """On a linear map, Anderson's steps are those of GMRES: as many as there are eigenvalues."""
    rates = np.repeat([0.99, 0.9, 0.5], 2)
    history, point = splitting._History((1, 3)), (np.eye(3), np.zeros((1, 1)))
    upper = np.triu_indices(3)
    target = np.arange(1.0, 7.0)
    for _ in range(6):
        x = point[0][upper]
        move = np.zeros((3, 3))
        move[upper] = (rates - 1.0) * (x - target)
        point = history.next(point, (move + np.triu(move, 1).T, np.zeros((1, 1))))
    np.testing.assert_allclose(point[0][upper], target, rtol=1e-4)
    np.testing.assert_array_equal(point[0], point[0].T)


def test_converges_with_few_steps_and_zeros_are_exact(rng):
    s = grams(rng, 30, 20)
    r = newton.penalties(*s, 0.2)
    start = np.eye(30), np.eye(20)
    rows, cols = splitting.split(*s, r, start, max_iter=200)
    further = splitting.split(*s, r, start, tol=1e-9)
    np.testing.assert_allclose(rows, further[0], atol=1e-4 * np.abs(rows).max())
    assert 0.0 < (rows == 0).mean() < 1.0
    np.testing.assert_array_equal(cols, cols.T)
