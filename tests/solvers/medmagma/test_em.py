"""MED-MAGMA as a whole: what its answer must not depend on, and what it must be."""

from dataclasses import replace

import anndata
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse, stats

from kronax.solvers.blocks import from_csr
from kronax.solvers.gaussian import kronecker_sum, m_step
from kronax.solvers.gaussian.lasso import newton
from kronax.solvers.gaussian.precision import LowRank, Partial, dense, mean_diagonal
from kronax.solvers.gaussian.shrinkage import leave_one_out, noise_level, shrink_singular_values
from kronax.solvers.graph.graph import on_edges
from kronax.solvers.graph.partial_correlations import partial_correlation_graph
from kronax.solvers.medmagma import em
from kronax.solvers.medmagma.steps import Steps
from kronax.solvers.rows.rows import InMemory
from kronax.solvers.scales import fiber, laplace
from kronax.solvers.scales.near_zero import GAUSSIAN_DISPERSION
from kronax.solvers.scales.quotient import pattern_counts, quotient
from kronax.solvers.status import Status

TALL, WIDE, SMALL = (40, 30), (30, 40), (24, 18)
SHAPES = pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])


def matrix(rng, shape: tuple[int, int] = TALL, *, signed: bool = False) -> np.ndarray:
    """Three groups of rows and columns, a third of zeros, heavy-tailed scales; no row or column empty."""
    n, m = shape
    blocks = rng.lognormal(0.0, 1.0, (3, 3))[np.arange(n)[:, None] % 3, np.arange(m) % 3]
    x = blocks * rng.lognormal(0.0, 0.5, shape) * (rng.random(shape) < 0.7)
    i = np.arange(max(n, m))
    x[i % n, i % m] = 1.0
    x *= rng.lognormal(0.0, 1.0, (n, 1)) * rng.lognormal(0.0, 1.0, m)
    return x * rng.choice([-1.0, 1.0], shape) if signed else x


def fit(x: np.ndarray, **arguments) -> em.Fit:
    return em.fit(sparse.csr_array(x), **arguments)


def noise_free(x: np.ndarray, found: em.Fit) -> np.ndarray:
    """Z, from the matrix and the scales: |Z| = (|X| / (r c))^γ."""
    scales = np.exp(found.log_rows[:, None] + found.log_cols)
    return np.sign(x) * (np.abs(x) / scales) ** found.tails.power


def assert_close(found, expected, tolerance: float):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def assert_same(found: em.Fit, expected: em.Fit, tolerance: float = 1e-7, *, rows=slice(None), cols=slice(None)):
    """Same embeddings and precisions, the expected ones' rows and columns rearranged."""
    assert found.rank == expected.rank
    assert found.status.n_iter == expected.status.n_iter
    assert found.tails.power == pytest.approx(expected.tails.power, rel=1e-9)
    assert found.noise == pytest.approx(expected.noise, rel=tolerance)
    np.testing.assert_allclose(found.status.objective, expected.status.objective, rtol=tolerance, atol=tolerance)
    for one, other, order in ((found.rows, expected.rows, rows), (found.cols, expected.cols, cols)):
        assert_close(one.embedding, other.embedding[order], tolerance)
        assert_close(dense(one.precision), dense(other.precision)[order][:, order], tolerance)


def assert_sound(found: em.Fit, shape: tuple[int, int]):
    """Finite, of the right shapes; each precision positive definite with the other axis at its mean, the constant fixed."""
    for axis, log_scale, size in (
        (found.rows, found.log_rows, shape[0]),
        (found.cols, found.log_cols, shape[1]),
    ):
        assert log_scale.shape == (size,)
        assert axis.embedding.shape[0] == size and axis.embedding.shape[1] >= 1
        for values in (log_scale, axis.embedding, dense(axis.precision)):
            assert np.isfinite(values).all()
    psi, phi = dense(found.rows.precision), dense(found.cols.precision)
    mean = np.diag(psi).mean()
    assert min(np.linalg.eigvalsh(psi)[0], np.linalg.eigvalsh(phi)[0]) + mean > 0
    np.testing.assert_allclose(np.diag(phi).mean(), mean, rtol=1e-9)
    np.testing.assert_allclose(found.log_cols.mean(), 0.0, atol=1e-12 * max(1, np.abs(found.log_cols).max()))
    assert np.isfinite(found.status.objective).all()
    assert found.status.reason


@SHAPES
@pytest.mark.parametrize("max_iter", [1, 3])
def test_scales_of_rows_and_columns_change_nothing_but_the_scales(shape, max_iter, rng):
    x = matrix(rng, shape)
    r, c = rng.lognormal(0.0, 1.5, shape[0]), rng.lognormal(0.0, 1.5, shape[1])
    clean, noisy = (fit(one, max_iter=max_iter) for one in (x, r[:, None] * x * c))
    assert_same(noisy, clean)
    for found in (clean, noisy):
        np.testing.assert_allclose(
            found.margins.skewness, stats.skew(noise_free(x, clean), axis=0), rtol=1e-6, atol=1e-6
        )
    assert noisy.tails.dispersion == pytest.approx(clean.tails.dispersion, rel=1e-10)
    log_r, log_c = np.log(r), np.log(c)
    expected = clean.log_rows + log_r + log_c.mean(), clean.log_cols + log_c - log_c.mean()
    np.testing.assert_allclose(noisy.log_rows, expected[0], atol=1e-7)
    np.testing.assert_allclose(noisy.log_cols, expected[1], atol=1e-7)


@SHAPES
def test_order_of_rows_and_columns(shape, rng):
    x = matrix(rng, shape)
    rows, cols = map(rng.permutation, shape)
    straight, permuted = fit(x), fit(x[rows][:, cols])
    assert_same(permuted, straight, rows=rows, cols=cols)
    np.testing.assert_allclose(permuted.log_rows, straight.log_rows[rows], atol=1e-7)
    np.testing.assert_allclose(permuted.log_cols, straight.log_cols[cols], atol=1e-7)


def test_transposing_exchanges_the_axes(rng):
    x = matrix(rng)
    straight, transposed = (fit(side, center=False, penalty=m_step.Penalty(joint=True)) for side in (x, x.T))
    for one, other in ((transposed.rows, straight.cols), (transposed.cols, straight.rows)):
        assert_close(one.embedding, other.embedding, 1e-8)
        assert_close(dense(one.precision), dense(other.precision), 1e-8)
    for one, other in ((transposed.log_rows, straight.log_cols), (transposed.log_cols, straight.log_rows)):
        differences = one - other  # a constant moves to the axis that takes it
        np.testing.assert_allclose(differences, differences[0], atol=1e-8)


def test_transposing_a_square_matrix(rng):
    x = matrix(rng, (30, 30))
    straight, transposed = (fit(side, center=False, penalty=m_step.Penalty(joint=True)) for side in (x, x.T))
    for one, other in ((transposed.rows, straight.cols), (transposed.cols, straight.rows)):
        assert_close(one.embedding @ one.embedding.T, other.embedding @ other.embedding.T, 1e-7)
        assert_close(dense(one.precision), dense(other.precision), 1e-7)


@SHAPES
@pytest.mark.parametrize("signed", [False, True])
def test_noise_free_matrix_is_on_the_fiber_and_scaled(shape, signed, rng):
    x = matrix(rng, shape, signed=signed)
    found = fit(x)
    assert_sound(found, shape)
    z = noise_free(x, found)
    # log|Z| = γ·log|Y| + (row term) + (column term)
    y = quotient(sparse.csr_array(x)).matrix.toarray()
    i, j = np.nonzero(x)
    design = np.hstack([np.eye(shape[0])[i], np.eye(shape[1])[j]])
    change = np.log(np.abs(z[i, j])) - found.tails.power * np.log(np.abs(y[i, j]))
    np.testing.assert_allclose(design @ np.linalg.lstsq(design, change)[0], change, atol=1e-9)
    # the mode for Ω = I: sums of squares are the pattern's counts
    np.testing.assert_allclose((z**2).sum(1), (x != 0).sum(1), rtol=1e-7)
    np.testing.assert_allclose((z**2).sum(0), (x != 0).sum(0), rtol=1e-7)


def shrunk_eigenvalues(values: np.ndarray, dim: int, n_samples: int) -> np.ndarray:
    shrunk = leave_one_out(values, dim, n_samples)
    return np.append(shrunk[:-1], np.full(dim - len(shrunk) + 1, shrunk[-1]))


def shrunk_spectrum(d: np.ndarray, df: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All directions of rows and columns, and their shrunk variances; of rows with means subtracted, that of the means is the last."""
    n, m = d.shape
    u, s, vt = np.linalg.svd(d)
    if df < n:
        kept = u[:, : min(df, m)]
        u = np.linalg.qr(np.column_stack([kept, np.ones(n), u[:, min(df, m) :]]))[0][:, :n]
        u = np.column_stack([kept, u[:, len(kept.T) + 1 :], np.full(n, n**-0.5)])
    values = s[: min(df, m)] ** 2
    return u, vt, shrunk_eigenvalues(values, df, m), shrunk_eigenvalues(values, m, df)


@pytest.mark.parametrize("shape", [TALL, WIDE, (45, 10), (10, 45)])
@pytest.mark.parametrize("center", [False, True])
def test_is_what_the_equations_give(shape, center, rng):
    """The first step once more, with dense matrices and full decompositions."""
    n, m = shape
    x = matrix(rng, shape)
    found = fit(x, center=center)
    jointly = fit(x, center=center, penalty=m_step.Penalty(joint=True))
    z = noise_free(x, found)

    u, s, vt = np.linalg.svd(z, full_matrices=False)
    noise = noise_level(s**2, shape)
    shrunk = shrink_singular_values(s, noise, shape)
    rank = int((shrunk > 0).sum())
    assert found.rank == rank
    assert found.noise == pytest.approx(noise, rel=1e-9)
    for axis, vectors in ((found.rows, u), (found.cols, vt.T)):
        # at least two directions, which noise alone leaves as they are
        kept = vectors[:, : max(rank, 2)] * (shrunk if rank >= 2 else s)[: max(rank, 2)]
        assert_close(np.abs(axis.embedding), np.abs(kept), 1e-8)
        assert_close(axis.embedding @ axis.embedding.T, kept @ kept.T, 1e-8)

    d = z - z.mean(0) if center else z
    df = n - center  # degrees of freedom among the rows
    u, vt, e, f = shrunk_spectrum(d, df)
    with jax.enable_x64(True):
        solved = kronecker_sum.fit(e, f, np.ones(df), np.ones(m))
    lam = np.append(solved.lam, [solved.lam.mean()] * (n - df))
    psi, phi = (u * lam) @ u.T, (vt.T * solved.mu) @ vt
    assert np.linalg.eigvalsh(psi)[0] + np.linalg.eigvalsh(phi)[0] > 0
    t = 0.5 * (np.diag(phi).mean() - np.diag(psi).mean())
    assert_close(dense(jointly.rows.precision), psi + t * np.eye(n), 1e-6)
    assert_close(dense(jointly.cols.precision), phi - t * np.eye(m), 1e-6)
    # each axis with the other at its mean, columns of unit variance, less if they have few entries: inverse covariances, in the unit in
    # which all diagonals are ½
    share = np.minimum(1.0, (x != 0).sum(axis=0) / 15)
    u, vt, e, f = shrunk_spectrum(d * np.sqrt(share / np.mean(d**2, axis=0)), df)
    inverse = 1.0 / np.append(e, [1.0 / (1.0 / e).mean()] * (n - df)), 1.0 / f
    for precision, vectors, values in (
        (found.rows.precision, u, inverse[0]),
        (found.cols.precision, vt.T, inverse[1]),
    ):
        whole = (vectors * values) @ vectors.T
        size = np.sqrt(np.diag(whole))
        assert_close(dense(precision), whole / np.outer(size, size) - 0.5 * np.eye(len(whole)), 1e-6)


def test_signed_data_are_gaussian_as_they_are(rng):
    x = matrix(rng, signed=True)
    found = fit(x)
    assert found.tails.dispersion > GAUSSIAN_DISPERSION
    assert found.tails.power == 1.0
    assert fit(np.abs(x)).tails.power == pytest.approx(GAUSSIAN_DISPERSION / found.tails.dispersion, rel=1e-12)


def test_power_brings_the_dispersion_down(rng):
    x = matrix(rng)
    found = fit(x)
    assert found.tails.dispersion > GAUSSIAN_DISPERSION and found.tails.power < 1
    again = fit(x**found.tails.power)
    assert again.tails.dispersion == pytest.approx(GAUSSIAN_DISPERSION, rel=1e-10)
    assert again.tails.power == pytest.approx(1.0, rel=1e-10)
    assert fit(x**0.1).tails.power == 1.0


@SHAPES
def test_powers_of_the_data_give_the_same_graphs(shape, rng):
    x = matrix(rng, shape)
    one, squared = fit(x), fit(x**2)
    assert min(one.tails.dispersion, squared.tails.dispersion) >= GAUSSIAN_DISPERSION
    assert squared.tails.power == pytest.approx(0.5 * one.tails.power, rel=1e-10)
    for side in ("rows", "cols"):
        assert_close(getattr(squared, side).embedding, getattr(one, side).embedding, 1e-7)
        assert_close(dense(getattr(squared, side).precision), dense(getattr(one, side).precision), 1e-7)
        np.testing.assert_allclose(getattr(squared, f"log_{side}"), 2 * getattr(one, f"log_{side}"), atol=1e-7)


def test_given_power_is_used(rng):
    x = matrix(rng)
    found = fit(x, power=0.3)
    assert found.tails.power == 0.3
    by_hand = fit(x**0.3, power=1.0)
    assert_close(found.rows.embedding, by_hand.rows.embedding, 1e-8)
    np.testing.assert_allclose(found.log_rows, by_hand.log_rows / 0.3, atol=1e-7)


@SHAPES
def test_centring_sets_the_direction_of_the_mean_apart(shape, rng):
    """Deviations from the genes' means have no part along the vector of ones: it is an eigenvector of Ψ."""
    x = matrix(rng, shape)
    for center, tells in ((True, False), (False, True)):
        found = fit(x, center=center, penalty=m_step.Penalty(joint=True))
        along = dense(found.rows.precision) @ np.ones(shape[0])
        assert (np.ptp(along) > 1e-3 * np.abs(along).max()) == tells
        if center:
            np.testing.assert_allclose(along, along[0], rtol=1e-7)


def counts(rng, rank: int, n: int = 900, p: int = 700, *, share: float, dispersion: float) -> np.ndarray:
    """Counts whose means have a known rank: that many kinds of cells, unequal genes and depths.

    ``share`` of them are not zero; with ``dispersion``, they are negative binomial.
    """
    programs = np.exp(1.5 * rng.normal(size=(rank, p)) * (rng.random((rank, p)) < 0.3))
    means = programs[rng.integers(rank, size=n)] * (rng.gamma(0.7, 1.0, p) + 0.05)
    means *= rng.lognormal(0.0, 0.4, (n, 1))
    sizes = np.logspace(-4, 4, 81) / means.mean()
    zeros = [np.mean((1 + size * means[::20] * dispersion) ** (-1 / dispersion)) for size in sizes]
    means *= np.interp(1 - share, zeros[::-1], sizes[::-1])
    x = rng.poisson(means * rng.gamma(1 / dispersion, dispersion, (n, p)))
    return x[x.any(1)][:, x.any(0)]


@pytest.mark.parametrize("share", [0.05, 0.3])
@pytest.mark.parametrize("dispersion", [1e-3, 0.3], ids=["Poisson", "negative binomial"])
def test_rank_of_counts(share, dispersion, rng):
    """Rare genes and shallow cells have less noise than others, which white noise would take for structure."""
    for rank in (3, 10):
        x = counts(rng, rank, share=share, dispersion=dispersion)
        assert abs(fit(x, whole=False).rank - rank) <= 0.3 * rank
        assert abs(fit(x.T, whole=False).rank - rank) <= 0.3 * rank
    assert fit(counts(rng, 1, share=share, dispersion=dispersion), whole=False).rank == 1


def test_no_scale_changes_the_directions_of_counts(rng):
    x = counts(rng, 5, 300, 200, share=0.1, dispersion=0.3)
    scaled = x * rng.lognormal(0.0, 1.0, (len(x), 1)) * rng.lognormal(0.0, 1.0, x.shape[1])
    found, expected = fit(scaled, whole=False), fit(x, whole=False)
    assert found.rank == expected.rank
    assert found.noise == pytest.approx(expected.noise, rel=1e-7)
    assert_close(np.abs(found.rows.embedding), np.abs(expected.rows.embedding), 1e-6)


@SHAPES
def test_n_comps_is_a_limit(shape, rng):
    groups = rng.lognormal(0.0, 1.0, (6, 6))[np.arange(shape[0])[:, None] % 6, np.arange(shape[1]) % 6]
    x = groups * rng.lognormal(0.0, 0.1, shape)
    full, two = fit(x), fit(x, n_comps=2)
    assert full.rank > 2 and full.rows.embedding.shape[1] == full.rank
    assert two.rank == full.rank
    assert two.rows.embedding.shape == (shape[0], 2) and two.cols.embedding.shape == (shape[1], 2)
    for axis, whole in ((two.rows, full.rows), (two.cols, full.cols)):
        lengths, others = (np.linalg.norm(found.embedding[:, :2], axis=0) for found in (axis, whole))
        np.testing.assert_allclose(axis.embedding / lengths, whole.embedding[:, :2] / others, atol=1e-10)
        assert (lengths <= others).all()  # the directions left out are noise for those that are kept


@SHAPES
def test_more_steps(shape, rng):
    x = matrix(rng, shape)
    found = fit(x, max_iter=3, tol=1e-12)
    assert_sound(found, shape)
    assert (found.status.n_iter, len(found.status.objective)) == (3, 3)
    assert not found.status.converged
    one = fit(x)
    assert (one.status.n_iter, len(one.status.objective), one.status.converged) == (1, 1, True)
    assert one.status.objective[0] == pytest.approx(found.status.objective[0], rel=1e-12)
    moved = np.log(np.abs(noise_free(x, found)[x != 0] / noise_free(x, one)[x != 0]))
    assert np.sqrt(np.mean(moved**2)) > 1e-4
    # not the mode for Ω = I any more, but of the same size
    np.testing.assert_allclose((noise_free(x, found) ** 2).sum(), np.count_nonzero(x), rtol=1e-9)


def test_convergence_is_a_step_that_changes_little(rng):
    x = matrix(rng)
    found = fit(x, max_iter=50, tol=1e-3)
    assert found.status.converged
    assert 2 <= found.status.n_iter < 50
    assert len(found.status.objective) == found.status.n_iter
    before, last = (fit(x, max_iter=n, tol=1e-12) for n in (found.status.n_iter - 1, found.status.n_iter))
    assert_same(last, found)
    pattern = x != 0
    change = np.log(np.abs(noise_free(x, last)[pattern] / noise_free(x, before)[pattern]))
    assert np.sqrt(np.mean(change**2)) < 1e-3


class Scripted(Steps):
    """Steps of EM, of which some are said to move as far as asked for, or to be left unsolved from some step on."""

    def __init__(self, x: np.ndarray, moves=(), n_solved: int = 10) -> None:
        super().__init__(InMemory(quotient(sparse.csr_array(x)).matrix), 50, 0, m_step.Penalty(), progress=False)
        self.moves, self.left = iter(moves), n_solved

    def _from(self, *start, **how):
        step = super()._from(*start, **how)
        self.left -= 1
        return (
            step
            if self.left >= 0
            else replace(step, status=Status(False, "it was left unsolved", 1, step.status.objective))
        )

    def distance(self, old, new) -> float:
        return next(self.moves, 0.0)

    def run(self, max_iter: int):
        with jax.enable_x64(True):
            return em._iterate(self, max_iter, 1e-12, False)


def assert_same_step(found, expected):
    np.testing.assert_array_equal(found.step.lead.rows, expected.step.lead.rows)
    np.testing.assert_array_equal(dense(found.step.estimate.cols[0]), dense(expected.step.estimate.cols[0]))


def test_step_that_moves_further_than_the_one_before_is_dropped(rng):
    x = matrix(rng)
    found = Scripted(x, moves=[0.1, 0.2]).run(10)
    assert not found.status.converged
    assert found.status.n_iter == 2
    assert len(found.status.objective) == 3  # the dropped one included
    assert "step 3 was dropped" in found.status.reason
    assert_same_step(found, Scripted(x, moves=[0.1]).run(2))


def test_step_that_was_not_solved_is_dropped(rng):
    x = matrix(rng)
    found = Scripted(x, n_solved=1).run(10)
    assert not found.status.converged
    assert found.status.n_iter == 1
    assert "step 2 was dropped: it was left unsolved" in found.status.reason
    assert_same_step(found, Scripted(x).run(1))


def test_first_step_that_was_not_solved_is_no_convergence(rng):
    found = Scripted(matrix(rng), n_solved=0).run(1)
    assert not found.status.converged
    assert found.status.n_iter == 1
    assert found.status.reason == "it was left unsolved"


@SHAPES
def test_equal_rows_and_columns(shape, rng):
    n, m = shape
    x = matrix(rng, shape)
    x[n // 2 :] = x[: n // 2]
    x[:, m // 2 :] = x[:, : m // 2]
    x[x.sum(1) == 0, 0] = 1.0
    x[0, x.sum(0) == 0] = 1.0
    found = fit(x)
    assert_sound(found, shape)
    twins = np.flatnonzero((x[: n // 2] == x[n // 2 :]).all(1))
    assert len(twins) > 5
    embedding = found.rows.embedding
    np.testing.assert_allclose(embedding[twins], embedding[twins + n // 2], atol=1e-7)


@SHAPES
def test_rank_deficient(shape, rng):
    n, m = shape
    x = rng.gamma(1.0, 1.0, (n, 4)) @ rng.gamma(1.0, 1.0, (4, m))
    found = fit(x, power=1.0)
    assert_sound(found, shape)
    z = noise_free(x, found)
    assert np.linalg.matrix_rank(z, tol=1e-6) == 4
    assert found.rows.embedding.shape[1] <= 4


@pytest.mark.parametrize(("shape", "center"), [((2, 2), True), ((3, 2), True), ((2, 3), True), ((3, 2), False)])
def test_smallest_matrices(shape, center, rng):
    assert_sound(fit(rng.gamma(1.0, 1.0, shape), center=center), shape)


def test_pattern_in_two_islands(rng):
    x = matrix(rng)
    x[:25, 12:] = x[25:, :12] = 0.0
    i = np.arange(40)
    x[i, np.where(i < 25, i % 12, 12 + i % 18)] = 1.0
    assert (x.sum(0) > 0).all()
    r, c = rng.lognormal(0.0, 1.5, 40), rng.lognormal(0.0, 1.5, 30)
    clean, noisy = fit(x), fit(r[:, None] * x * c)
    assert_sound(clean, TALL)
    assert clean.status.converged
    assert_same(noisy, clean)


def test_presence_alone(rng):
    """A matrix of zeros and ones: |Y| is 1, and the pattern is what there is to learn from."""
    x = (matrix(rng) > 0).astype(float)
    found = fit(x)
    assert_sound(found, TALL)
    assert found.tails.dispersion < 1e-10 and found.tails.power == 1.0


def test_same_numbers_twice(rng):
    x = matrix(rng)
    one, two = fit(x, max_iter=3), fit(x, max_iter=3)
    for side in ("rows", "cols"):
        np.testing.assert_array_equal(getattr(one, f"log_{side}"), getattr(two, f"log_{side}"))
        np.testing.assert_array_equal(getattr(one, side).embedding, getattr(two, side).embedding)
        np.testing.assert_array_equal(*(dense(getattr(found, side).precision) for found in (one, two)))


def test_input_and_settings_stay(rng):
    x = sparse.csr_array(matrix(rng))
    before, x64 = x.copy(), jax.config.jax_enable_x64
    em.fit(x, max_iter=2)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(x, part), getattr(before, part))
    assert jax.config.jax_enable_x64 == x64


@pytest.mark.parametrize(("joint", "kind"), [(False, Partial), (True, LowRank)])
def test_both_axes_have_the_same_mean_diagonal(joint, kind, rng):
    found = fit(matrix(rng), penalty=m_step.Penalty(joint=joint), max_iter=3)
    assert isinstance(found.rows.precision, kind) and isinstance(found.cols.precision, kind)
    assert mean_diagonal(found.rows.precision) == pytest.approx(mean_diagonal(found.cols.precision), rel=1e-12)


@pytest.mark.parametrize("complete", [False, True])
def test_bytes_grow_with_every_size(complete):
    def needed(*sizes, **options):
        return em.bytes_needed(*sizes, complete=complete, **options)

    assert needed(1000, 500, 10**5) < needed(500, 1000, 10**5)  # pairs of genes are tested, those of cells are not
    for more in ((9000, 500, 10**5), (5000, 800, 10**5), (5000, 500, 10**6)):
        assert needed(*more) > needed(5000, 500, 10**5)
    assert needed(2000, 500, 10**5, within=True) > needed(
        2000, 500, 10**5
    )  # with many cells, genes are looked at within groups anyway
    # never less than the input in float64 and the embedding's Gram matrix
    assert needed(10**4, 2000, 10**7) > 8 * (2 * 10**7 + 2000**2)


def test_patterns_that_hang_together_loosely(rng):
    """A band, on which Sinkhorn's iteration crawls: Newton's method takes over, to the same sums."""
    n = 120
    band = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1
    x = sparse.csr_array(np.where(band, np.exp(rng.normal(size=(n, n))), 0.0))
    with jax.enable_x64(True):
        y, counts = quotient(x).matrix, pattern_counts(x)
        slow = fiber.sinkhorn(InMemory(y), 1e-9)
        mode = fiber.newton(from_csr(y), fiber.identity(n, n), *map(jnp.asarray, counts), slow.a, slow.b, 1e-9)
    assert float(slow.residual) > 1e-6
    assert float(mode.residual) < 1e-9
    assert fit(x).status.converged


# Penalties, and moments beyond the mode


@pytest.mark.parametrize("center", [False, True])
def test_l1_solves_its_problem_for_z(center, rng):
    """Exactly sparse, and the solver's own answer for S₁ and S₂ of the noise-free matrix."""
    x = matrix(rng, SMALL)
    found = fit(x, center=center, penalty=m_step.Penalty("l1", 0.2))
    z = noise_free(x, found)
    z = z - z.mean(0) if center else z
    s1, s2 = z @ z.T, z.T @ z
    expected = newton.fit(s1, s2, newton.penalties(s1, s2, 0.2))
    assert found.status.converged and expected.status.converged and found.strength == (0.2, 0.2)
    for axis, other in ((found.rows, expected.rows), (found.cols, expected.cols)):
        np.testing.assert_array_equal(dense(axis.precision) != 0, other != 0)
        assert_close(dense(axis.precision), other, 1e-3)
        assert 0.1 < (other == 0).mean() < 1.0


@pytest.mark.parametrize("shape", [(24, 18), (18, 24)])
def test_strengths_are_those_of_rows_and_columns(shape, rng):
    x = matrix(rng, shape)
    strong_rows = fit(x, penalty=m_step.Penalty("l1", (1.0, 0.05)))
    strong_cols = fit(x, penalty=m_step.Penalty("l1", (0.05, 1.0)))
    for found, diagonal, full in ((strong_rows, "rows", "cols"), (strong_cols, "cols", "rows")):
        off = dense(getattr(found, diagonal).precision)
        assert np.count_nonzero(off - np.diag(np.diag(off))) == 0
        assert np.count_nonzero(dense(getattr(found, full).precision)) > 2 * shape[full == "cols"]
    chosen = fit(x, penalty=m_step.Penalty("l1")).strength
    np.testing.assert_allclose(chosen, [np.sqrt(2 * np.log(a) / b) for a, b in (shape, shape[::-1])])


def test_ridge_solves_its_problem_for_z(rng):
    """Gradient of Eqs. 3 and 3′ at the matrices found, in the matrices."""
    x = matrix(rng, (30, 12))
    found = fit(x, center=False, penalty=m_step.Penalty("ridge", 0.05))
    z = noise_free(x, found)
    psi, phi = dense(found.rows.precision), dense(found.cols.precision)
    unit = ((z**2).sum() / z.size) ** 2
    omega = np.kron(psi, np.eye(12)) + np.kron(np.eye(30), phi)
    inverse = np.linalg.inv(omega) - 2 * 0.05 * unit * omega
    blocks = inverse.reshape(30, 12, 30, 12)
    assert_close(np.einsum("ijkj->ik", blocks), z @ z.T, 1e-6)
    assert_close(np.einsum("ijil->jl", blocks), z.T @ z, 1e-6)
    assert found.status.converged and found.strength == (0.05,)


def test_ridge_that_held_out_data_choose(rng):
    x = matrix(rng)
    found = fit(x, penalty=m_step.Penalty("ridge"))
    assert_sound(found, TALL)
    assert found.status.converged and 1e-7 < found.strength[0] < 1e2


def test_moments_beyond_the_mode(rng):
    """What is added to ZZᵀ and ZᵀZ is the difference to Laplace's moments, of no trace, and changes the estimate."""
    x = matrix(rng, SMALL)
    mode, found = fit(x), fit(x, laplace=laplace.Laplace())
    z = noise_free(x, found)
    expected = laplace.moments(z, 0.5 * np.eye(24), 0.5 * np.eye(18))
    for added, moments, square in zip(
        found.spectrum.beyond, (expected.rows, expected.cols), (z @ z.T, z.T @ z), strict=True
    ):
        unit = np.trace(square)
        assert_close(added, unit * (moments / np.trace(moments) - square / unit), 1e-6)
        assert abs(np.trace(added)) < 1e-9 * unit
        assert 1e-3 < np.abs(added).max() / np.abs(square).max() < 0.5
    assert mode.spectrum.beyond is None
    assert_sound(found, SMALL)
    assert np.abs(dense(found.rows.precision) - dense(mode.rows.precision)).max() > 1e-4


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("kind", ["l1", "ridge"])
def test_penalties_with_moments_beyond_the_mode(kind, center, rng):
    """Both axes' moments keep one trace, without which the problem has no end, also where some eigenvalue had to be cut."""
    penalty = m_step.Penalty(kind, 0.3)
    found = fit(matrix(rng, (30, 14)), center=center, laplace=laplace.Laplace(), penalty=penalty)
    assert found.spectrum.beyond is not None and found.status.converged
    assert_sound(found, (30, 14))


def second_moments(x: np.ndarray, found: em.Fit) -> tuple[np.ndarray, np.ndarray]:
    """E[ZZᵀ] and E[ZᵀZ] for an estimate, ``|Z|`` having the geometric mean of the mode for Ω = I."""
    z, first = noise_free(x, found), noise_free(x, fit(x, power=found.tails.power))
    pattern = x != 0
    z = z * np.exp(np.log(np.abs(first[pattern] / z[pattern])).mean())
    moments = laplace.moments(z, dense(found.rows.precision), dense(found.cols.precision))
    return moments.rows, moments.cols


@pytest.mark.parametrize("shape", [(24, 18), (18, 24)])
def test_where_em_with_one_objective_ends(shape, rng):
    """The gradient of Eq. 9 is zero: that of its first two terms are the second moments under the estimate itself."""
    x, strength = matrix(rng, shape), 10.0
    n, p = shape
    penalty = m_step.Penalty("ridge", strength)
    found = fit(x, center=False, penalty=penalty, laplace=laplace.Laplace(), max_iter=300, tol=1e-8)
    assert found.status.converged and found.status.n_iter > 2
    omega = np.kron(dense(found.rows.precision), np.eye(p)) + np.kron(np.eye(n), dense(found.cols.precision))
    unit = (np.count_nonzero(x) / x.size) ** 2
    right = (np.linalg.inv(omega) - 2.0 * strength * unit * omega).reshape(n, p, n, p)
    rows, cols = second_moments(x, found)
    assert_close(np.einsum("ijkj->ik", right), rows, 1e-5)
    assert_close(np.einsum("ijil->jl", right), cols, 1e-5)
    z = noise_free(x, found)
    np.testing.assert_allclose((z**2).sum(), np.count_nonzero(x), rtol=1e-9)
    assert np.abs((z**2).sum(1) / (x != 0).sum(1) - 1).max() > 1e-3  # not the mode for Ω = I any more


@pytest.mark.parametrize("beyond", [None, laplace.Laplace()], ids=["mode", "laplace"])
@pytest.mark.parametrize("strength", [0.3, 100.0])
def test_em_with_one_objective_never_raises_it(strength, beyond, rng):
    penalty = m_step.Penalty("ridge", strength)
    found = fit(matrix(rng, SMALL), center=False, penalty=penalty, laplace=beyond, max_iter=12, tol=1e-12)
    assert found.status.n_iter == 12 and "max_iter=12" in found.status.reason
    assert (np.diff(found.status.objective) < 0).all()
    assert_sound(found, SMALL)


def test_scales_do_not_change_em_with_one_objective(rng):
    x = matrix(rng, SMALL)
    r, c = rng.lognormal(0.0, 1.5, 24), rng.lognormal(0.0, 1.5, 18)
    penalty = m_step.Penalty("ridge", 10.0)
    clean, noisy = (
        fit(one, center=False, penalty=penalty, laplace=laplace.Laplace(), max_iter=4)
        for one in (x, r[:, None] * x * c)
    )
    assert_same(noisy, clean)


def test_step_without_second_moments_is_dropped(rng):
    """Hardly more entries than scales and next to no penalty: the mode gets lost, the step before it stays."""
    x = rng.lognormal(0.0, 3.0, (12, 12)) * np.eye(12)
    i = np.arange(12)
    x[i, (i + 1) % 12] = rng.lognormal(0.0, 3.0, 12)
    penalty = m_step.Penalty("ridge", 1e-3)
    found = fit(x, center=False, penalty=penalty, laplace=laplace.Laplace(), max_iter=40, tol=1e-9, power=1.0)
    assert not found.status.converged and "was dropped" in found.status.reason
    assert len(found.status.objective) == found.status.n_iter + 1
    assert_sound(found, (12, 12))


def test_l1_goes_on_from_the_step_before(rng):
    """The second step of EM solves for a Z nearby: it starts where the first one ended, and ends where a cold start does."""
    x, penalty = matrix(rng, SMALL), m_step.Penalty("l1", 0.2)
    first, second = (fit(x, penalty=penalty, max_iter=n, tol=1e-12) for n in (1, 2))
    moments = [m_step._second_moments(side()) for side in (second.spectrum.of_rows, second.spectrum.of_cols)]
    before = dense(first.rows.precision), dense(first.cols.precision)
    warm, cold = (newton.solve(*moments, (0.2, 0.2), start=start) for start in (before, None))
    np.testing.assert_array_equal(dense(second.rows.precision), warm.rows)
    assert not np.array_equal(warm.rows, cold.rows)  # by another way
    assert warm.status.objective[-1] == pytest.approx(cold.status.objective[-1], rel=1e-9)


def test_l1_needs_variances(rng):
    x = rng.normal(size=(20, 10))
    x[:, 4] = 1.0
    with pytest.raises(ValueError, match=r"1 columns do not vary \(the first: number 4 .* penalty=\"shrinkage\""):
        em.fit_without_noise(sparse.csr_array(x), penalty=m_step.Penalty("l1"))


def test_l1_that_leaves_no_edge(rng):
    found = fit(matrix(rng, SMALL), penalty=m_step.Penalty("l1", 1.0))
    assert found.status.converged
    graph = partial_correlation_graph(found.cols.precision, 0.5, 5)
    assert graph.connectivities.nnz == 0
    np.testing.assert_array_equal(on_edges(found.cols.precision, graph).toarray(), dense(found.cols.precision))


def test_moments_beyond_the_mode_of_a_transposed_matrix(rng):
    x = matrix(rng, SMALL)
    straight, transposed = (fit(one, center=False, laplace=laplace.Laplace()) for one in (x, x.T))
    for one, other in zip(straight.spectrum.beyond, transposed.spectrum.beyond[::-1], strict=True):
        assert_close(one, other, 1e-6)


def test_goes_beyond_the_mode_where_it_is_worth_it(rng):
    assert fit(matrix(rng, SMALL), laplace=laplace.Laplace(required=False)).spectrum.beyond is not None
    assert fit(matrix(rng, SMALL)).spectrum.beyond is None
    assert not laplace.worthwhile(300, 300, 90_000)
    assert not laplace.worthwhile(20, 5000, 100_000)
    assert not laplace.worthwhile(30, 30, 100)


def test_steps_with_moments_beyond_the_mode(rng):
    found = fit(matrix(rng, SMALL), laplace=laplace.Laplace(), max_iter=3, n_comps=2)
    assert len(found.status.objective) >= 2
    assert_sound(found, SMALL)


def test_steps_that_would_go_too_far_are_shorter(rng, shared_data):
    """Where a whole step raises Eq. 9, a part of it lowers it; with whole ones alone, the seventh was one too many here."""
    x = anndata.read_h5ad(shared_data / "grn" / "sergio_DS4_rep1_clean.h5ad").X.toarray().astype(float)
    x = x[rng.choice(900, 100, replace=False)][:, rng.choice(100, 30, replace=False)]
    penalty = m_step.Penalty("ridge", 100.0)
    found = fit(x, center=False, power=1.0, penalty=penalty, laplace=laplace.Laplace(), max_iter=15)
    assert found.status.n_iter == 15 or found.status.converged, found.status.reason
    assert (np.diff(found.status.objective) < 0).all()
    assert_sound(found, x.shape)
