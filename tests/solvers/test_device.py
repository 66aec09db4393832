"""The seam to the device: the same answers on either side, a count of what crosses it, and what work does not depend on."""

import multiprocessing
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from kronax.solvers import device
from kronax.solvers.gaussian import m_step
from kronax.solvers.medmagma import em
from kronax.solvers.rows.on_devices import OnDevices
from kronax.solvers.tensor.folds import hide
from kronax.solvers.tensor.registry import METHODS
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions

QUICK = {
    "kronecker": {"noise": 1.0, "own_share": 0.2, "common_share": 0.15},
    "mf": {"rank": 2, "max_epochs": 2},
    "cp": {"rank": 2, "max_epochs": 2},
    "attention_cp": {"rank": 2, "max_epochs": 2},
}
PLAIN = {"mean_1d", "mean_2d", "dnpp"}
DECOMPOSING = ["kronecker", "falrtc", "halrtc", "silrtc"]


@pytest.fixture
def gaps(rng):
    x = np.einsum("dr,cr,gr->dcg", *(rng.normal(size=(n, 3)) for n in (20, 6, 15))) + 0.5 * rng.normal(size=(20, 6, 15))
    return hide(x, (rng.random((20, 6)) < 0.3) & (np.arange(6) != np.arange(20)[:, None] % 6))


def options_of(method):
    return METHODS[method].options(**QUICK.get(method, {}))


@pytest.mark.parametrize("large", [4096, 50], ids=["side by side", "one after the other"])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_eigh_all(large, platform, rng, monkeypatch, x64):
    monkeypatch.setattr(device, "LARGE", large)
    squares = [square + square.T for square in (rng.normal(size=(m, m)) for m in (80, 3, 30, 1))]
    with device.as_if_on(platform), device.counted() as tally:
        found = device.eigh_all(squares)
    assert (tally.on_host, tally.on_device) == ((4, 0) if platform == "cpu" else (0, 4))
    assert len(found) == 4
    for square, (values, vectors) in zip(squares, found, strict=True):
        assert (np.diff(values) <= 0).all()
        np.testing.assert_allclose((vectors * values) @ vectors.T, square, atol=1e-11)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(square)), atol=1e-12)
        assert (vectors[np.abs(vectors).argmax(0), np.arange(len(square))] > 0).all()


def test_symmetric(rng, x64):
    """What a device computes, of which the triangles can differ by rounding; NumPy's is symmetric as it is."""
    upper = np.triu(rng.normal(size=(7, 7)))
    upper_and_more = upper + np.tril(rng.normal(size=(7, 7)), -1)
    np.testing.assert_array_equal(device.symmetric(jnp.asarray(upper_and_more)), np.where(upper == 0, upper.T, upper))
    assert device.symmetric(upper_and_more) is upper_and_more


def symmetric(rng, kind: str, m: int) -> np.ndarray:
    vectors = np.linalg.qr(rng.normal(size=(m, m)))[0]
    values = {
        "distinct": np.linspace(-1.0, 5.0, m),
        "in groups": 1.0 + np.arange(m) // 4,  # 4 times each
        "all equal": np.full(m, 2.0),
        "of rank 1": np.append(np.zeros(m - 1), 3.0),
        "far apart": 10.0 ** np.linspace(-14, 0, m),
        "zero": np.zeros(m),
    }
    if kind == "diagonal":
        return np.diag(rng.normal(size=m))
    if kind == "in two blocks":
        square = rng.normal(size=(m, m))
        square[: m // 2, m // 2 :] = square[m // 2 :, : m // 2] = 0.0
        return square + square.T
    square = (vectors * values[kind]) @ vectors.T
    return 0.5 * (square + square.T)


SPECTRA = ("distinct", "in groups", "all equal", "of rank 1", "far apart", "zero", "diagonal", "in two blocks")


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize(
    ("m", "k"), [(40, 1), (40, 7), (40, 20), (40, 40), (41, 19), (5, 1), (4, 1), (3, 2), (2, 1), (1, 1)]
)
def test_leading_eigh(kind, m, k, rng):
    """All eigenvalues, and what makes leading vectors eigenvectors, which equal eigenvalues do not determine."""
    square = symmetric(rng, kind, m)
    before = square.copy()
    values, vectors = device.leading_eigh(square, k)
    np.testing.assert_array_equal(square, before)
    size = max(1.0, np.abs(square).max())
    np.testing.assert_allclose(values, np.linalg.eigvalsh(square)[::-1], rtol=0, atol=1e-13 * size)
    assert vectors.shape[0] == m and k <= vectors.shape[1] <= m
    leading = values[: vectors.shape[1]]
    np.testing.assert_allclose(square @ vectors, vectors * leading, rtol=0, atol=1e-13 * m * size)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(leading)), atol=1e-12)
    assert (vectors[np.abs(vectors).argmax(0), np.arange(len(leading))] > 0).all()


def test_leading_eigh_where_bisection_fails(monkeypatch):
    """Of eigenvalues that differ by rounding alone, LAPACK may not find as many as are asked for, which differs between processors."""
    noise = 1e-16 * np.random.default_rng(0).normal(size=(200, 200))

    def fails(*_: object, **__: object) -> None:
        raise np.linalg.LinAlgError

    monkeypatch.setattr(device, "eigh_tridiagonal", fails)
    values, vectors = device.leading_eigh(np.eye(200) + noise + noise.T, 20)
    np.testing.assert_allclose(values, 1.0, rtol=0, atol=1e-13)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(vectors.shape[1]), atol=1e-12)


@pytest.mark.parametrize(("least", "single"), [(1e-3, True), (2e-5, True), (0.0, False), (1e-7, False)])
def test_leading_eigh_in_single_precision(least, single, rng, monkeypatch):
    """Where that can tell the smallest eigenvalue from zero; the leading ones are then those of float64, and vectors orthonormal."""
    monkeypatch.setattr(device, "SINGLE", 60)
    directions = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    expected = np.r_[100.0 ** np.linspace(0, -1, 60)[:-1], least]
    square = (directions * expected) @ directions.T
    square = 0.5 * (square + square.T)
    before = square.copy()
    values, vectors = device.leading_eigh(square, 12)
    np.testing.assert_array_equal(square, before)
    error = np.abs(values - expected).max()
    assert (1e-10 < error < 1e-6) if single else error < 1e-13
    np.testing.assert_allclose(values[:12], expected[:12], rtol=1e-10)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(vectors * directions[:, :12], axis=0)), 1.0, rtol=1e-10)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_inverse(platform, rng):
    square = np.cov(rng.normal(size=(30, 60)))
    before = square.copy()
    with device.as_if_on(platform), device.counted() as tally:
        found = device.inverse(square)
    assert (tally.on_host, tally.on_device) == ((1, 0) if platform == "cpu" else (0, 1))
    np.testing.assert_array_equal(square, before)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, np.linalg.inv(square), atol=1e-11)


def test_inverse_of_what_has_none(rng):
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        device.inverse(symmetric(rng, "distinct", 20))


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_eigh_in_single(platform, rng, x64):
    square = symmetric(rng, "distinct", 80)
    before = square.copy()
    with device.as_if_on(platform), device.counted() as tally:
        values, vectors = device.eigh_in_single(square)
    assert (tally.on_host, tally.on_device) == ((1, 0) if platform == "cpu" else (0, 1))
    np.testing.assert_array_equal(square, before)
    assert (values.dtype, vectors.dtype) == (np.float64, np.float32)
    expected = full(square)
    np.testing.assert_allclose(values, expected[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(vectors, expected[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("large", [4096, 20], ids=["at the same time", "one after the other"])
def test_solved_beside(platform, large, cores, rng, monkeypatch, x64):
    monkeypatch.setattr(device, "LARGE", large)
    monkeypatch.setattr(device, "_cores", lambda: cores)
    one, other = (symmetric(rng, "distinct", 40) for _ in range(2))
    with device.as_if_on(platform), device.counted() as tally:
        with device.solved_beside(other, 40) as solved:
            values, vectors = device.leading_eigh(one, 5)
            whole = solved()
            assert all(found is same for found, same in zip(solved(), whole, strict=True))
    assert (tally.on_host, tally.on_device) == ((2, 0) if platform == "cpu" else (0, 2))
    with device.as_if_on(platform):
        again = device.leading_eigh(one, 5)
    for found, expected in zip((values, vectors[:, :5], *whole), (*leading(one), *full(other)), strict=True):
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected, atol=1e-11)
    np.testing.assert_array_equal(again[0], values)
    np.testing.assert_array_equal(again[1], vectors)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize(
    ("least", "rank", "dtype"),
    [(0.1, 40, np.float32), (1e-5, 40, np.float64), (0.0, 39, np.float32), (0.0, 40, np.float64)],
)
def test_solved_beside_in_single_precision(least, rank, dtype, cores, rng, monkeypatch):
    """Where that is enough for the smallest eigenvalue that is not known to be zero."""
    monkeypatch.setattr(device, "SINGLE", 40)
    monkeypatch.setattr(device, "_cores", lambda: cores)
    vectors = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    square = (vectors * np.append(np.linspace(1.0, 0.2, 39), least)) @ vectors.T
    with device.solved_beside(square, rank) as solved:
        values, vectors = solved()
    assert (values.dtype, vectors.dtype) == (np.float64, dtype)
    expected, atol = full(square), 1e-12 if dtype == np.float64 else 1e-6
    np.testing.assert_allclose(values, expected[0], rtol=0, atol=atol)
    np.testing.assert_allclose(vectors, expected[1], rtol=0, atol=100 * atol)


def full(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NumPy's, in descending order, the largest entry of every vector positive."""
    values, vectors = (part[..., ::-1] for part in np.linalg.eigh(square))
    return values, vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(len(values))])


def leading(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = full(square)
    return values, vectors[:, :5]


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_decompositions_stay_where_they_are_computed(platform, rng, x64):
    square = rng.normal(size=(8, 8))
    square = square @ square.T
    kind = np.ndarray if platform == "cpu" else jax.Array
    with device.as_if_on(platform), device.counted() as tally:
        values, vectors = device.eigh(square)
        (span, triangle), spectrum = device.qr(square), device.eigvalsh(square)
    assert all(isinstance(part, kind) for part in (values, vectors, span, triangle, spectrum))
    assert (tally.up, tally.down) == ((0, 0) if platform == "cpu" else (3, 0))
    np.testing.assert_allclose((vectors * values) @ vectors.T, square, atol=1e-10)
    np.testing.assert_allclose(span @ triangle, square, atol=1e-10)
    np.testing.assert_allclose(spectrum, values, rtol=1e-10)


def test_only_what_crosses_is_counted(x64):
    with device.counted() as tally:
        there = device.to_device(np.arange(3.0))
        assert device.to_device(there) is there
        assert device.to_device(there, np.float32).dtype == np.float32
        back = device.to_host(there)
        assert device.to_host(back) is back
    device.to_host(there)
    assert (tally.up, tally.down) == (1, 1)
    np.testing.assert_array_equal(back, [0.0, 1.0, 2.0])


def test_blocks_are_no_smaller_on_an_accelerator():
    assert device.block_size(1000) == 1000
    with device.as_if_on("gpu"):
        assert device.block_size(1000) >= 1000


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("method", DECOMPOSING)
def test_with_an_accelerator_nothing_is_decomposed_on_the_host(gaps, rng, method, compressed):
    options = options_of(method)
    if compressed:  # more genes than fibers
        gaps = np.concatenate([gaps[:6], 0.1 * rng.normal(size=(6, 6, 45)) + gaps[:6, :, :1]], axis=2)
    with device.counted() as on_cpu:
        expected = METHODS[method](gaps, options)
    with device.as_if_on("gpu"), device.counted() as on_gpu:
        found = METHODS[method](gaps, options)
    assert on_cpu.on_device == on_gpu.on_host == 0
    assert on_cpu.on_host == on_gpu.on_device > 0
    np.testing.assert_allclose(found.values, expected.values, atol=1e-8)
    assert found.status.n_iter == expected.status.n_iter


def test_a_sweep_brings_back_one_number(gaps):
    """And takes nothing along; each has one eigenproblem, cross-validation's too."""
    options = KroneckerOptions(**QUICK["kronecker"], tol=1e-9)
    tallies = []
    for n_sweeps in (2, 3):
        with device.as_if_on("gpu"), device.counted() as tally:
            assert kronecker(gaps, replace(options, max_iter=n_sweeps)).status.n_iter == n_sweeps
        tallies.append(tally)
    few, more = tallies
    assert more.up == few.up
    assert more.down - few.down == more.on_device - few.on_device > 0


@pytest.mark.parametrize("method", sorted(PLAIN))
def test_means_and_neighbours_leave_the_device_alone(gaps, method):
    with device.as_if_on("gpu"), device.counted() as tally:
        METHODS[method](gaps, options_of(method))
    assert (tally.up, tally.down, tally.on_host, tally.on_device) == (0, 0, 0, 0)


@pytest.mark.parametrize("method", DECOMPOSING)
def test_nothing_moves_past_the_seam(gaps, method):
    """JAX itself refuses what moves without being asked to."""
    options = options_of(method)
    expected = METHODS[method](gaps, options).values  # constants of compiled code move once
    with jax.transfer_guard("disallow"):
        np.testing.assert_array_equal(METHODS[method](gaps, options).values, expected)
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        jnp.sin(np.ones(3))


def test_settings_of_the_session_are_left_out_and_come_back():
    with jax.debug_nans(True), jax.debug_infs(True), jax.numpy_rank_promotion("raise"), np.errstate(all="raise"):
        with device.computing():
            assert np.isnan(jnp.log(-jnp.ones(())))
            assert np.isinf(jnp.log(jnp.zeros(())))
            assert (jnp.ones((2, 3)) + jnp.ones(3)).shape == (2, 3)
            assert np.float64(1e-300) ** 2 == 0
        assert jax.config.jax_debug_nans and jax.config.jax_debug_infs
        assert jax.config.jax_numpy_rank_promotion == "raise" and np.geterr()["under"] == "raise"


def test_transfers_are_allowed():
    with jax.transfer_guard("disallow_explicit"), device.computing():
        assert float(jnp.asarray(np.ones(3)).sum()) == 3


def answer(queue) -> None:
    try:
        queue.put(str(device.current()))
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_is_refused_once_jax_has_started():
    device.current()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=answer, args=(queue,))
    worker.start()
    said = queue.get(timeout=60)
    worker.join(60)
    assert not worker.is_alive()
    assert "get_context('spawn')" in said


@pytest.mark.parametrize("name", METHODS)
def test_no_method_minds_the_settings_of_the_session(name, gaps):
    with jax.numpy_rank_promotion("raise"), jax.debug_infs(True), np.errstate(all="raise"):
        found = METHODS[name](gaps, options_of(name))
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize("penalty", [m_step.Penalty(), m_step.Penalty("l1", 0.2)], ids=lambda penalty: penalty.kind)
def test_graphs_are_learnt_without_decomposing_on_the_host(rng, penalty):
    counts = sparse.csr_array(1.0 + rng.poisson(np.exp(rng.normal(size=(24, 2)) @ rng.normal(size=(2, 18)))))
    with device.counted() as on_cpu:
        expected = em.fit(counts, penalty=penalty)
    with device.as_if_on("gpu"), device.counted() as on_gpu:
        found = em.fit(counts, penalty=penalty)
    assert on_cpu.on_device == on_gpu.on_host == 0
    assert on_cpu.on_host == on_gpu.on_device > 0
    np.testing.assert_allclose(found.status.objective, expected.status.objective, rtol=1e-9)
    np.testing.assert_allclose(found.rows.embedding, expected.rows.embedding, atol=1e-7)


def test_passes_on_a_device_do_not_mind_a_mesh_of_the_session(rng):
    counts = sparse.csr_array(1.0 + rng.poisson(np.exp(rng.normal(size=(24, 2)) @ rng.normal(size=(2, 18)))))
    expected = em.fit(counts)
    with device.as_if_on("gpu"), jax.set_mesh(jax.make_mesh((1,), ("x",))):
        found = em.fit(counts)
    np.testing.assert_allclose(found.rows.embedding, expected.rows.embedding, atol=1e-7)


def test_the_matrix_goes_up_once_and_only_what_is_written_comes_down(rng):
    """Coordinates along 50 directions, which tell what is noise, and some more, which tell how alike rows are; not ``U`` or ``Z``."""
    n, m = 10_000, 60
    counts = sparse.csr_array(rng.poisson(np.exp(rng.normal(size=(n, 2)) @ rng.normal(size=(2, m)))).astype(float))
    counts = counts[np.diff(counts.indptr) > 0]
    with device.as_if_on("gpu"), device.counted() as matrix:
        OnDevices(counts)
    with device.as_if_on("gpu"), device.counted() as tally:
        em.fit(counts, n_comps=2)
    assert matrix.up == 3
    assert 0 < tally.bytes_up - matrix.bytes_up < 8 * n  # nothing with a number for every cell
    assert tally.bytes_down < 8 * (n * (54 + 45 + 3) + 4 * m * m)


@pytest.mark.parametrize("n_at_once", [1, 3, np.inf])
def test_solved_in_order_the_first_alone_and_the_others_at_once(n_at_once, monkeypatch):
    monkeypatch.setattr(device, "_cores", lambda: 4)
    together, most, alone = set(), [], []

    def solve(item):
        together.add(item)
        time.sleep(0.02)
        most.append(len(together))
        alone.append((item, len(together)))
        together.discard(item)
        return item**2

    assert list(device.each_solved(solve, range(9), n_at_once)) == [item**2 for item in range(9)]
    assert dict(alone)[0] == 1
    assert max(most) <= min(n_at_once, 4)
    assert max(most) > 1 or n_at_once == 1


def test_solves_at_once_keep_the_sessions_device_and_stop_with_the_first_error(monkeypatch):
    monkeypatch.setattr(device, "_cores", lambda: 2)
    with jax.default_device(jax.devices()[0]):
        assert all(device.each_solved(lambda _: jax.config.jax_default_device == jax.devices()[0], range(4), 2))
    begun = []

    def solve(item):
        begun.append(item)
        if item == 2:
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match="2"):
        list(device.each_solved(solve, range(1000), 2))
    assert len(begun) < 1000


def test_one_thread_for_lapack_within_and_as_before_after(monkeypatch):
    monkeypatch.setattr(device, "_cores", lambda: 2)

    def threads(_=None):
        return [library["num_threads"] for library in device._blas().info() if library["user_api"] == "blas"]

    before = threads()
    with device.one_thread_each(), device.one_thread_each():
        assert set(threads()) == {1}
    found = list(device.each_solved(threads, range(4), 2))
    assert found[0] == before
    assert all(set(of) == {1} for of in found[1:])
    assert threads() == before
    device.eigh(np.eye(3))
    assert threads() == before


def test_threads_that_work_for_one_with_the_limit_do_not_wait_for_it(monkeypatch):
    monkeypatch.setattr(device, "_cores", lambda: 2)
    squares = [np.eye(n) for n in (3, 4)]

    def solve(square: np.ndarray) -> float:
        with device.one_thread_each():  # as every pass over rows does
            return float(device.eigvalsh(square).sum())

    found = []
    worker = threading.Thread(target=lambda: found.extend(device.on_each(solve, squares, 4)), daemon=True)
    worker.start()
    worker.join(timeout=60)
    assert found == [3.0, 4.0]


def test_the_blas_in_numpys_wheels_is_limited():
    """Eigenproblems are solved with it; SciPy's wheels have another."""
    if np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"] != "scipy-openblas":
        pytest.skip("this NumPy is not from a wheel with a BLAS of its own")
    installed = Path(np.__file__).parents[1]
    found = [Path(library["filepath"]) for library in device._blas().info() if library["user_api"] == "blas"]
    within = [path.relative_to(installed).parts[0] for path in found if path.is_relative_to(installed)]
    assert any(name.startswith("numpy") for name in within)
