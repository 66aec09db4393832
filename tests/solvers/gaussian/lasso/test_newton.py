"""The sparse Kronecker-sum Gaussian: optimal, exactly sparse, and the same as other solvers where those apply."""

import re

import numpy as np
import pytest
from scipy import optimize
from sklearn.covariance import graphical_lasso
from tqdm.auto import tqdm

from kronax.solvers.gaussian import kronecker_sum
from kronax.solvers.gaussian.lasso import newton, splitting
from kronax.solvers.gaussian.lasso.newton import KroneckerLasso, penalties

N, P = 8, 6
LARGE = 40, 30
TOL = 1e-8
SHAPES = pytest.mark.parametrize("shape", [(N, P), (P, N)])


def grams(rng, shape: tuple[int, int] = (N, P)) -> tuple[np.ndarray, np.ndarray]:
    """S₁ and S₂ of a matrix with dependent rows and columns."""
    n, p = shape
    z = rng.normal(size=(n, n)) @ rng.normal(size=shape) @ (np.eye(p) + 0.5 * rng.normal(size=(p, p)))
    z /= np.sqrt(np.mean(z**2))
    return z @ z.T, z.T @ z


def well_posed(rng, n: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Expectations of S₁ and S₂ under a Kronecker sum: without a penalty the optimum exists."""
    factors = [rng.normal(size=(size, size)) for size in (n, p)]
    (lam, u), (mu, v) = (np.linalg.eigh(a @ a.T / len(a) + np.eye(len(a))) for a in factors)
    k = 1.0 / (lam[:, None] + mu)
    return (u * k.sum(1)) @ u.T, (v * k.sum(0)) @ v.T


def objective(psi, phi, s, r) -> float:
    """Eq. 5 with the Kronecker sum formed."""
    omega = np.kron(psi, np.eye(len(phi))) + np.kron(np.eye(len(psi)), phi)
    if np.linalg.eigvalsh(omega).min() <= 0:
        return np.inf
    l1 = np.vdot(r[0], np.abs(psi)) + np.vdot(r[1], np.abs(phi))
    return np.vdot(s[0], psi) + np.vdot(s[1], phi) - np.linalg.slogdet(omega)[1] + l1


def partial_traces(psi, phi) -> tuple[np.ndarray, np.ndarray]:
    """The two partial traces of (Ψ ⊕ Φ)⁻¹, from the full inverse."""
    n, p = len(psi), len(phi)
    inverse = np.linalg.inv(np.kron(psi, np.eye(p)) + np.kron(np.eye(n), phi)).reshape(n, p, n, p)
    return np.einsum("ijkj->ik", inverse), np.einsum("ijil->jl", inverse)


def assert_optimal(found: KroneckerLasso, s, r, tol: float = 1e-6):
    """Σ − S is R·sign where an entry is not zero and within ±R where it is: Eq. 5 is convex, so that is the optimum."""
    assert found.status.converged
    for x, a, b, penalty in zip((found.rows, found.cols), s, partial_traces(found.rows, found.cols), r, strict=True):
        size = np.sqrt(np.outer(np.diag(a), np.diag(a)))
        force = (b - a) / size
        np.testing.assert_array_equal(x, x.T)
        np.testing.assert_allclose(force[x != 0], (penalty * np.sign(x) / size)[x != 0], atol=tol)
        assert (np.abs(force[x == 0]) <= penalty[x == 0] / size[x == 0] + tol).all()
    assert np.trace(found.rows) / len(found.rows) == pytest.approx(np.trace(found.cols) / len(found.cols), rel=1e-9)


def diagonal_free(matrix: np.ndarray) -> np.ndarray:
    return matrix[~np.eye(len(matrix), dtype=bool)]


@SHAPES
@pytest.mark.parametrize("strength", [0.02, 0.1, 0.3, (0.05, 0.3)])
def test_optimality(shape, strength, rng):
    """Whatever the shape: the null eigenvalues of the larger Gram matrix do no harm."""
    s = grams(rng, shape)
    r = penalties(*s, strength)
    found = newton.fit(*s, r, tol=TOL)
    assert_optimal(found, s, r)
    assert found.status.objective[-1] == pytest.approx(objective(found.rows, found.cols, s, r), rel=1e-12)


def test_sparsity_is_exact_and_grows_with_the_strength(rng):
    s = grams(rng)
    zeros = [
        sum((x == 0).sum() for x in (found.rows, found.cols))
        for found in (newton.fit(*s, penalties(*s, strength), tol=TOL) for strength in (0.01, 0.1, 0.4))
    ]
    assert zeros[0] < zeros[1] < zeros[2] < N * (N - 1) + P * (P - 1)


@pytest.mark.parametrize("strength", [0.02, 0.2])
def test_objective_never_increases(strength, rng):
    s = grams(rng)
    found = newton.fit(*s, penalties(*s, strength), tol=TOL)
    assert found.status.n_iter == len(found.status.objective) - 1 > 2
    assert (np.diff(found.status.objective) <= 1e-12 * np.abs(found.status.objective[-1])).all()


def test_agrees_with_an_independent_optimiser(rng):
    """Split every off-diagonal entry into two non-negative parts: a smooth problem with bounds."""
    n, p = N, P
    s = grams(rng)
    r = penalties(*s, 0.1)
    upper = [np.triu_indices(size, 1) for size in (n, p)]
    counts = [len(i[0]) for i in upper]

    def matrices(x):
        parts, out = np.split(x, np.cumsum([n, p, counts[0], counts[0], counts[1]])), []
        for diagonal, plus, minus, i in ((parts[0], *parts[2:4], upper[0]), (parts[1], *parts[4:6], upper[1])):
            matrix = np.zeros((len(diagonal), len(diagonal)))
            matrix[i] = plus - minus
            out.append(matrix + matrix.T + np.diag(diagonal))
        return out

    def value(x):
        psi, phi = matrices(x)
        omega = np.kron(psi, np.eye(p)) + np.kron(np.eye(n), phi)
        if np.linalg.eigvalsh(omega).min() <= 1e-9:
            return 1e10, np.zeros_like(x)
        pieces = np.split(x, np.cumsum([n, p]))[2]
        weights = np.concatenate([2 * r[k][upper[k]] for k in (0, 0, 1, 1)])
        gradients = [a - b for a, b in zip(s, partial_traces(psi, phi), strict=True)]
        off = [2 * g[i] for g, i in zip(gradients, upper, strict=True)]
        slope = np.concatenate([*map(np.diag, gradients), off[0], -off[0], off[1], -off[1]])
        slope[n + p :] += weights
        smooth = np.vdot(s[0], psi) + np.vdot(s[1], phi) - np.linalg.slogdet(omega)[1]
        return smooth + weights @ pieces, slope

    start = np.concatenate([np.full(n, 1.0), np.full(p, 1.0), np.zeros(2 * sum(counts))])
    bounds = [(None, None)] * (n + p) + [(0, None)] * (2 * sum(counts))
    options = {"maxiter": 10_000, "maxfun": 100_000, "ftol": 1e-16, "gtol": 1e-10}
    other = optimize.minimize(value, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
    psi, phi = matrices(other.x)
    t = 0.5 * (np.trace(phi) / p - np.trace(psi) / n)
    found = newton.fit(*s, r, tol=1e-10)
    assert found.status.objective[-1] == pytest.approx(other.fun, rel=1e-9)
    np.testing.assert_allclose(found.rows, psi + t * np.eye(n), atol=1e-4)
    np.testing.assert_allclose(found.cols, phi - t * np.eye(p), atol=1e-4)


def covariance(rng, p: int = 10) -> np.ndarray:
    x = rng.normal(size=(40, p)) @ (np.eye(p) + 0.4 * rng.normal(size=(p, p)))
    return x.T @ x / 40


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_one_row_is_the_graphical_lasso(alpha, rng):
    """n = 1: Ψ is a number ψ, tr S₁ = tr S₂, and Eq. 5 in Θ = ψI + Φ is the graphical lasso of S₂."""
    s2 = covariance(rng)
    off = 1.0 - np.eye(len(s2))
    found = newton.fit(np.array([[np.trace(s2)]]), s2, (np.zeros((1, 1)), alpha * off), tol=1e-9)
    _, expected = graphical_lasso(s2, alpha, tol=1e-10, enet_tol=1e-10, max_iter=1000)
    np.testing.assert_allclose(found.rows[0, 0] * np.eye(len(s2)) + found.cols, expected, atol=1e-5)


def test_independent_rows_of_one_variance_are_the_graphical_lasso(rng):
    """S₁ = cI, or a penalty that no off-diagonal entry overcomes: Ψ = ψI, and Θ = ψI + Φ belongs to S₂/n."""
    n, alpha = N, 0.1
    s2 = n * covariance(rng, P)
    s1 = np.full((n, n), 0.2) + (np.trace(s2) / n - 0.2) * np.eye(n)
    r = 0.3 * (1.0 - np.eye(n)), n * alpha * (1.0 - np.eye(len(s2)))
    found = newton.fit(s1, s2, r, tol=1e-9)
    _, expected = graphical_lasso(s2 / n, alpha, tol=1e-10, enet_tol=1e-10, max_iter=1000)
    np.testing.assert_allclose(found.rows, found.rows[0, 0] * np.eye(n), atol=1e-9)
    np.testing.assert_allclose(found.rows[0, 0] * np.eye(len(s2)) + found.cols, expected, atol=1e-5)


def test_without_a_penalty_it_is_the_kronecker_sum(rng):
    s = well_posed(rng, N, P)
    (e, u), (f, v) = map(np.linalg.eigh, s)
    exact = kronecker_sum.fit(e, f, np.ones(N), np.ones(P))
    for strength, tol in ((0.0, 1e-6), (1e-6, 1e-3)):
        found = newton.fit(*s, penalties(*s, strength), tol=1e-9)
        np.testing.assert_allclose(found.rows, (u * exact.lam) @ u.T, atol=tol)
        np.testing.assert_allclose(found.cols, (v * exact.mu) @ v.T, atol=tol)


def test_strength_from_which_everything_is_diagonal(rng):
    s = grams(rng)
    correlations = (a / np.sqrt(np.outer(np.diag(a), np.diag(a))) - np.eye(len(a)) for a in s)
    edge = max(np.abs(matrix).max() for matrix in correlations)
    above = newton.fit(*s, penalties(*s, edge))
    below = newton.fit(*s, penalties(*s, 0.98 * edge), tol=TOL)
    assert all((diagonal_free(x) == 0).all() for x in (above.rows, above.cols))
    exact = kronecker_sum.fit(np.diag(s[0]).copy(), np.diag(s[1]).copy(), np.ones(N), np.ones(P))
    np.testing.assert_allclose(np.diag(above.rows), exact.lam, rtol=1e-5)
    np.testing.assert_allclose(np.diag(above.cols), exact.mu, rtol=1e-5)
    assert sum((diagonal_free(x) != 0).sum() for x in (below.rows, below.cols)) > 0


def test_permutations(rng):
    s = grams(rng)
    i, j = rng.permutation(N), rng.permutation(P)
    one = newton.fit(*s, penalties(*s, 0.1), tol=TOL)
    t = s[0][np.ix_(i, i)], s[1][np.ix_(j, j)]
    other = newton.fit(*t, penalties(*t, 0.1), tol=TOL)
    np.testing.assert_allclose(other.rows, one.rows[np.ix_(i, i)], atol=1e-6)
    np.testing.assert_allclose(other.cols, one.cols[np.ix_(j, j)], atol=1e-6)


def test_exchange_of_the_axes(rng):
    s = grams(rng)
    r = penalties(*s, (0.1, 0.2))
    one, other = (newton.fit(*a, b, tol=TOL) for a, b in ((s, r), (s[::-1], r[::-1])))
    np.testing.assert_allclose(other.cols, one.rows, atol=1e-6)
    np.testing.assert_allclose(other.rows, one.cols, atol=1e-6)


def test_scale(rng):
    """Strengths are relative: S a hundred times as large, Ψ and Φ a hundredth, on the same support."""
    s = grams(rng)
    t = 100.0 * s[0], 100.0 * s[1]
    one, other = (newton.fit(*a, penalties(*a, 0.1), tol=TOL) for a in (s, t))
    np.testing.assert_allclose(100.0 * other.rows, one.rows, atol=1e-5)
    np.testing.assert_array_equal(other.rows != 0, one.rows != 0)


def test_blocks(rng):
    """Where S₁ falls apart, Ψ does, exactly; and where |S₁| stays below the penalty between two sets, too."""
    z = np.zeros((N, P))
    z[:5, :3], z[5:, 3:] = rng.normal(size=(5, 3)), rng.normal(size=(3, 3))
    s = z @ z.T, z.T @ z
    r = penalties(*s, 0.05)
    found = newton.fit(*s, r, tol=TOL)
    assert_optimal(found, s, r)
    assert (found.rows[:5, 5:] == 0).all() and (found.cols[:3, 3:] == 0).all()
    assert (diagonal_free(found.rows[:5, :5]) != 0).any()
    s[0][:5, 5:] = s[0][5:, :5] = 0.9 * r[0][:5, 5:].min()
    again = newton.fit(*s, r, tol=TOL)
    np.testing.assert_allclose(again.rows, found.rows, atol=1e-6)
    assert (again.rows[:5, 5:] == 0).all()


def test_diagonals_of_any_spread(rng):
    """Variances a millionfold apart."""
    s2 = covariance(rng) * np.outer(*[np.logspace(-1.5, 1.5, 10)] * 2)
    s = np.array([[np.trace(s2)]]), s2
    r = penalties(*s, 0.1)
    assert_optimal(newton.fit(*s, r, tol=1e-6), s, r, tol=1e-6)  # eigenvalues are exact to 1e-16 of the largest


def test_nearly_collinear_variables(rng):
    x = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 10)) + 0.02 * rng.normal(size=(60, 10))
    s = np.array([[np.trace(x.T @ x) / 60]]), x.T @ x / 60
    r = penalties(*s, 0.02)
    assert_optimal(newton.fit(*s, r, tol=1e-7), s, r, tol=1e-6)


def test_warm_start_ends_at_the_same_solution_sooner(rng):
    s = grams(rng)
    r = penalties(*s, 0.05)
    near = newton.fit(*s, penalties(*s, 0.055))
    cold, warm = newton.fit(*s, r, tol=TOL), newton.fit(*s, r, start=(near.rows, near.cols), tol=TOL)
    assert warm.status.n_iter < cold.status.n_iter
    np.testing.assert_allclose(warm.rows, cold.rows, atol=1e-6)


def test_too_few_steps_are_not_convergence(rng):
    s = grams(rng)
    found = newton.fit(*s, penalties(*s, 0.02), tol=TOL, max_iter=1)
    assert found.status.n_iter == 1
    assert not found.status.converged
    assert "Newton's iteration stopped at a residual of" in found.status.reason


def test_universal_strengths_on_noise(rng):
    """Hardly an edge where there is none; half the strength lets many in."""
    n, p = LARGE
    z = rng.normal(size=LARGE)
    s = z @ z.T, z.T @ z
    strengths = newton.universal_strengths(n, p)
    assert strengths == pytest.approx((np.sqrt(2 * np.log(n) / p), np.sqrt(2 * np.log(p) / n)))
    assert newton.universal_strengths(50, 4)[0] == 1.0
    degrees = []
    for share in (1.0, 0.5):
        found = newton.fit(*s, penalties(*s, tuple(share * x for x in strengths)))
        degrees.append(np.mean([(x != 0).sum() / len(x) - 1 for x in (found.rows, found.cols)]))
    assert degrees[0] < 0.5
    assert degrees[1] > 5


def with_strong_directions(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """S₁ and S₂ of a matrix of which three directions, one of them common to all rows, make up nearly everything."""
    rng = np.random.default_rng(seed)
    n, p = LARGE
    common = rng.normal(size=(3, p)) + np.array([[2.0], [0.0], [0.0]])
    z = 6.0 * rng.normal(size=(n, 3)) @ common + rng.normal(size=(n, p))
    for axis in (1, 0, 1):
        z /= np.sqrt(np.mean(z**2, axis=axis, keepdims=True))
    return z @ z.T, z.T @ z


@SHAPES
@pytest.mark.parametrize("strength", [0.02, 0.3, (0.05, 0.3)])
def test_both_ways_end_at_the_same_solution(shape, strength, rng):
    """Splitting first, or Newton's method from the diagonal."""
    s = grams(rng, shape)
    both = strength if isinstance(strength, tuple) else (strength, strength)
    found = newton.solve(*s, both)
    alone = newton.fit(*s, penalties(*s, both), tol=TOL)
    assert_optimal(found, s, penalties(*s, both), tol=1e-5)
    assert found.status.n_iter < alone.status.n_iter
    assert found.status.objective[-1] == pytest.approx(alone.status.objective[-1], rel=1e-9)
    np.testing.assert_array_equal(found.rows != 0, alone.rows != 0)
    np.testing.assert_array_equal(found.cols != 0, alone.cols != 0)


@pytest.mark.parametrize("seed", range(2))
def test_strong_directions(seed):
    """Newton's method alone is far from the solution after twenty steps; after splitting it needs a few."""
    s = with_strong_directions(seed)
    r = penalties(*s, 0.2)
    found = newton.solve(*s, (0.2, 0.2))
    assert_optimal(found, s, r, tol=1e-5)
    assert found.status.n_iter <= 5
    alone = newton.fit(*s, r, max_iter=20)
    assert not alone.status.converged
    assert found.status.objective[-1] < alone.status.objective[-1]


def test_nothing_is_left_to_do_at_the_solution(rng):
    s = grams(rng)
    known = newton.solve(*s, (0.1, 0.1))
    again = newton.solve(*s, (0.1, 0.1), start=(known.rows, known.cols))
    assert again.status.n_iter == 0
    np.testing.assert_allclose(again.rows, known.rows, atol=1e-5)


def test_a_start_outside_the_domain():
    """Splitting that was cut short: its pair is not always one of precisions."""
    s = with_strong_directions(0)
    rough = splitting.split(*s, penalties(*s, 0.05), (np.eye(40), np.eye(30)), max_iter=8)
    least = [np.linalg.eigvalsh(x)[0] for x in rough]
    assert sum(least) < 0
    rows, cols = newton._inside(*rough)
    mean = np.trace(rough[0]) / 40 + np.trace(rough[1]) / 30
    assert np.linalg.eigvalsh(rows)[0] + least[1] == pytest.approx(1e-6 * mean)
    np.testing.assert_array_equal(diagonal_free(rows), diagonal_free(rough[0]))
    np.testing.assert_array_equal(cols, rough[1])
    np.testing.assert_array_equal(newton._inside(np.eye(3), np.eye(2))[0], np.eye(3))


def test_steps_are_counted_in_words(rng, monkeypatch, capsys):
    """Without a known end, a bar writes the number and the unit side by side."""
    plain = tqdm.__init__

    def without_delay(self, *iterable, **arguments):
        plain(self, *iterable, **arguments | {"delay": 0, "mininterval": 0})

    monkeypatch.setattr(tqdm, "__init__", without_delay)
    s = grams(rng)
    start = tuple(np.eye(len(gram)) for gram in s)
    for solve in (newton.fit, lambda *args, **named: splitting.split(*args, start, **named)):
        solve(*s, penalties(*s, 0.1), progress="l1")
        assert re.search(r"l1: \d+ step \[.*residual=\d.*goal=1e-\d\d", capsys.readouterr().err)
