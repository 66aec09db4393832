"""One place that knows the device: where eigenproblems are solved, what moves there and back, threads, sizes of blocks, and settings.

Without an accelerator decompositions are LAPACK's, through NumPy, which is ten times as fast as the one that XLA calls on a
CPU. With one they are solved there, and their results stay there until :func:`to_host` fetches them.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding
from jax.typing import DTypeLike
from scipy import linalg
from scipy.linalg import eigh_tridiagonal, lapack
from threadpoolctl import ThreadpoolController

SINGLE = 1024  # rows from which float32 saves time in an eigenproblem, up to those that use all threads
LARGE = 4096  # rows from which one eigenproblem is worth all threads
_CLEAR = 4e-4  # share of the largest eigenvalue down to which float32 finds others within a third of a percent
_ZERO = 1e-5  # share below which float32 may not tell an eigenvalue from zero
_SHARE = 1 / 64  # of an accelerator's memory for one block
Item, Result = TypeVar("Item"), TypeVar("Result")
Pieces = TypeVar("Pieces", bound=tuple)
Matrix = np.ndarray | Array
_one_at_a_time = threading.Lock()  # the limit belongs to the process: two that overlap would not restore it
_this_thread = threading.local()  # `limited` while it holds the limit, or works for a thread that does
_processes: set[int] = set()  # in which JAX was started from here: a forked one inherits the set, not JAX's threads


@contextmanager
def computing() -> Iterator[None]:
    """Compute with the default settings of JAX and NumPy, whatever the session's are.

    Checks of a session's own code (for NaN, for infinities, for promoted ranks, for transfers, for underflow) would stop
    where nothing is wrong: an objective is infinite outside its domain, and a tiny weight becomes 0.
    """
    current()
    with ExitStack() as settings:
        settings.enter_context(jax.debug_nans(False))
        settings.enter_context(jax.debug_infs(False))
        settings.enter_context(jax.numpy_rank_promotion("allow"))
        settings.enter_context(jax.transfer_guard("allow"))
        settings.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield


def current() -> jax.Device:
    """Return the device that JAX computes on now; refuse a process forked after JAX had started.

    Its threads are not in the fork, and the first computation would wait for them without end.
    """
    if _processes and os.getpid() not in _processes:
        msg = (
            "kronax cannot compute in a process forked from one in which it has computed: JAX's threads are not copied, and "
            "the call would never return. Start workers afresh, with `multiprocessing.get_context('spawn')` (or "
            "'forkserver', or joblib's backend 'loky'), or call kronax in the workers alone."
        )
        raise RuntimeError(msg)
    _processes.add(os.getpid())
    chosen = jax.config.jax_default_device
    return chosen if isinstance(chosen, jax.Device) else jax.local_devices(backend=chosen)[0]


def platform() -> str:
    """Name the kind of device that JAX computes on now: ``"cpu"`` or an accelerator."""
    return _assumed[-1] if _assumed else current().platform


def devices() -> list[jax.Device]:
    """Return the devices that one computation may be spread over: those of the kind in use, or the one that the session chose."""
    chosen = current()
    return [chosen] if jax.config.jax_default_device is not None else jax.local_devices(backend=chosen.platform)


def passes_on_devices() -> bool:
    """Return whether there is an accelerator, or more than one device: then passes over a matrix are made there."""
    return platform() != "cpu" or len(devices()) > 1


def block_size(on_cpu: int) -> int:
    """Return how many numbers of float64 a block of a larger computation may have: more on an accelerator with much memory."""
    limit = (current().memory_stats() or {}).get("bytes_limit", 0) if platform() != "cpu" else 0
    return max(on_cpu, int(_SHARE * limit / 8))


def to_device(array: Matrix, dtype: DTypeLike | None = None) -> Array:
    """Return an array on JAX's device, of this type if one is given; one that is there already is not copied."""
    if isinstance(array, Array):
        return array if dtype is None or array.dtype == dtype else array.astype(dtype)
    array = np.asarray(array, dtype)
    _note("up", array.nbytes)
    return jax.device_put(array)


def to_all(array: Matrix, everywhere: NamedSharding) -> Array:
    """Return an array of which every device has a copy."""
    if not isinstance(array, Array):
        _note("up", array.nbytes)
    return jax.device_put(array, everywhere)


def from_pieces(pieces: Iterable[Pieces], split: NamedSharding) -> Pieces:
    """Return arrays that are split along their first axis, from tuples of arrays, one for every device.

    A piece goes to its device before the next is made: on the host, and on any device, the whole never exists.
    """
    devices, placed = split.mesh.devices.ravel(), []
    for device, piece in zip(devices, pieces, strict=True):
        placed.append([jax.device_put(array, device) for array in piece])
    sizes = [sum(array.nbytes for array in arrays) for arrays in zip(*placed, strict=True)]
    for size in sizes:
        _note("up", size)
    wholes = (
        jax.make_array_from_single_device_arrays(
            (len(devices) * len(arrays[0]), *arrays[0].shape[1:]), split, list(arrays)
        )
        for arrays in zip(*placed, strict=True)
    )
    return type(piece)(*wholes)


def beside(array: np.ndarray, other: Matrix) -> Matrix:
    """Return an array where another one is: on the host, or on JAX's device."""
    return to_device(array) if isinstance(other, Array) else array


def to_host(array: Matrix) -> np.ndarray:
    """Return a NumPy array; one that is on the host already is not copied."""
    if isinstance(array, Array):
        _note("down", array.nbytes)
        return np.asarray(jax.device_get(array))
    return np.asarray(array)


def symmetric(product: Matrix) -> Matrix:
    """Return a Gram matrix as exactly symmetric as NumPy computes it; JAX's upper triangle takes the place of the lower one."""
    if not isinstance(product, Array):
        return product
    with jax.enable_x64(True):
        return jnp.triu(product) + jnp.triu(product, 1).T


def eigh(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix, both left where they are computed."""
    return _decomposed(np.linalg.eigh, jnp.linalg.eigh, matrix)


def leading_eigh(matrix: Matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, on the host, all eigenvalues of a symmetric matrix, descending, and at least ``k`` leading eigenvectors."""
    if platform() != "cpu":
        values, vectors = eigh(matrix)
        return _ordered(values, vectors[:, -k:])
    with threads_for(len(matrix)):
        return _leading_on_this_thread(to_host(matrix), k)


@contextmanager
def solved_beside(matrix: Matrix, rank: int) -> Iterator[Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """Solve an eigenproblem on another core meanwhile; what is yielded returns the result of :func:`eigh_all`, when it is there.

    The vectors may be in float32; beyond the ``rank`` first, eigenvalues are zero.
    """
    if platform() != "cpu" or len(matrix) >= LARGE:
        yield cache(lambda: eigh_all([matrix])[0])
        return
    solve = partial(_in_single_if_clear, to_host(matrix), rank)
    with one_thread_each():
        if _cores() < 2:
            yield cache(solve)
            return
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(solve).result


def _in_single_if_clear(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, descending, and eigenvectors, from float32 where it knows the smallest; on this thread."""
    if len(matrix) >= SINGLE:
        values, vectors = _in_single(matrix)
        if values[rank - 1] > _CLEAR * values[0]:
            return values, vectors
    return _ordered(*_on_this_thread(matrix))


def _leading_on_this_thread(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the same by LAPACK; the caller has set the number of threads."""
    if k >= len(matrix) // 2:
        return _ordered(*_on_this_thread(matrix))
    try:
        values, vectors = _tridiagonal_eigh(matrix, k, np.float32 if len(matrix) >= SINGLE else np.float64)
        if vectors.dtype == np.float32:
            clear = values[0] > _ZERO * values[-1]
            values, vectors = _refined(matrix, values, vectors) if clear else _tridiagonal_eigh(matrix, k, np.float64)
    except np.linalg.LinAlgError:  # of equal eigenvalues, some are not found
        return _ordered(*_on_this_thread(matrix))
    _note("on_host")
    return _ordered(values, vectors)


def _tridiagonal_eigh(matrix: np.ndarray, k: int, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray]:
    """Return all eigenvalues, ascending, and the ``k`` last eigenvectors: ``A = QTQᵀ``, then only those of ``T`` asked for.

    SciPy's own choice of eigenvectors leaves the other eigenvalues out, and a second call would reduce ``A`` to ``T`` again, which
    is nearly all of the work.
    """
    m, square = len(matrix), np.array(matrix, dtype, order="F")
    reduce, multiply = linalg.get_lapack_funcs(("sytrd", "ormqr"), (square,))
    n_work = linalg.get_lapack_funcs("sytrd_lwork", (square,))(m, lower=1)[0]
    reduced, *sides, tau, _ = reduce(square, lower=1, lwork=int(n_work), overwrite_a=True)
    sides = [side.astype(np.float64) for side in sides]
    values = eigh_tridiagonal(*sides, eigvals_only=True)
    vectors = eigh_tridiagonal(*sides, select="i", select_range=(m - k, m - 1))[1].astype(dtype)
    reflectors, lower = np.asfortranarray(reduced[1:, :-1]), np.asfortranarray(vectors[1:])
    size = int(multiply("L", "N", reflectors, tau, lower, -1)[1][0])
    vectors[1:] = multiply("L", "N", reflectors, tau, lower, size)[0]  # Q leaves the first row as it is
    return values, vectors


def _refined(matrix: np.ndarray, values: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same in float64: the leading ones are those of ``A`` in the space of ``A`` times what float32 found."""
    space = np.linalg.qr(matrix @ vectors.astype(np.float64))[0]
    leading, inside = np.linalg.eigh(space.T @ matrix @ space)
    return np.sort(np.append(values[: -len(leading)], leading)), space @ inside


def inverse(matrix: Matrix) -> np.ndarray:
    """Return, on the host, the inverse of a symmetric positive definite matrix, exactly symmetric: half the work of any matrix."""
    if platform() != "cpu":
        _note("on_device")
        with jax.enable_x64(True):
            found = to_host(jnp.linalg.inv(to_device(matrix)))
        return 0.5 * (found + found.T)
    _note("on_host")
    with threads_for(len(matrix)):
        factor, failed = lapack.dpotrf(to_host(matrix).T, lower=1)
        found, _ = (factor, failed) if failed else lapack.dpotri(factor, lower=1)
    if failed:
        msg = "The matrix is not positive definite."
        raise np.linalg.LinAlgError(msg)
    lower = np.tril(found)
    return lower + np.tril(lower, -1).T


def eigvalsh(matrix: Matrix) -> Matrix:
    """Return the eigenvalues of a symmetric matrix, ascending."""
    return _decomposed(np.linalg.eigvalsh, jnp.linalg.eigvalsh, matrix)


def qr(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """Return the factors Q and R of a matrix, the columns of Q orthonormal."""
    return _decomposed(np.linalg.qr, jnp.linalg.qr, matrix)


def _decomposed(host: Callable[[np.ndarray], Any], accelerator: Callable[[Array], Any], matrix: Matrix) -> Any:
    if platform() != "cpu":
        _note("on_device")
        with jax.enable_x64(True):  # the matrix keeps its own precision
            return accelerator(to_device(matrix))
    _note("on_host")
    with threads_for(min(matrix.shape)):
        return host(to_host(matrix))


def eigh_each(matrices: Sequence[Matrix]) -> list[tuple[Matrix, Matrix]]:
    """Return eigenvalues, ascending, and eigenvectors of several symmetric matrices, left where they are computed."""
    if platform() != "cpu":
        return [eigh(matrix) for matrix in matrices]
    return on_each(_on_this_thread, [to_host(matrix) for matrix in matrices], max(map(len, matrices)))


def eigh_all(matrices: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, on the host, eigenvalues, descending, and eigenvectors, their largest entry positive, of symmetric matrices."""
    return [_ordered(*solved) for solved in eigh_each(matrices)]


def eigh_in_single(matrix: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the result of :func:`eigh_all` for one matrix, found in float32 in half the time; the vectors are in float32."""
    if platform() == "cpu":
        with threads_for(len(matrix)):
            return _in_single(to_host(matrix))
    _note("on_device")
    values, vectors = _ordered(*jnp.linalg.eigh(to_device(matrix, np.float32)))
    return values.astype(np.float64), vectors


def _in_single(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same by LAPACK, which NumPy would call in float64; the caller has set the number of threads."""
    _note("on_host")
    values, vectors = _ordered(
        *linalg.eigh(matrix.astype(np.float32), driver="evd", overwrite_a=True, check_finite=False)
    )
    return values.astype(np.float64), vectors


def _on_this_thread(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what LAPACK finds; the caller has set the number of threads."""
    _note("on_host")
    return np.linalg.eigh(matrix)


def _ordered(values: Matrix, vectors: Matrix) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = to_host(values)[::-1], to_host(vectors)[:, ::-1]
    upright = vectors.max(axis=0) >= -vectors.min(axis=0)
    return values, vectors * np.where(upright, 1.0, -1.0).astype(vectors.dtype)


def on_each(function: Callable[[Item], Result], items: Sequence[Item], size: int) -> list[Result]:
    """Call a function that decomposes matrices of ``size`` rows on every item.

    On a CPU the calls share the cores, and each has one thread: several threads on one small problem wait for each other,
    a hundred times longer than the problem takes if other programs run too.
    """
    if platform() != "cpu" or size >= LARGE:
        return [function(item) for item in items]
    with one_thread_each():
        return on_all_cores(function, items)


def on_all_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function on every item, in as many threads as there are cores."""
    return list(each_on_all_cores(function, items))


def each_on_all_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the results of :func:`on_all_cores` one by one, in the order of the items."""
    n_workers = min(len(items), _cores())
    if n_workers < 2:  # a thread takes longer to start than a small block to pass
        yield from map(function, items)
        return
    own = dict(vars(_this_thread))  # a thread that works for one that holds the limit must not wait for it
    with ThreadPoolExecutor(n_workers, initializer=lambda: vars(_this_thread).update(own)) as pool:
        yield from pool.map(function, items)


def each_solved(function: Callable[[Item], Result], items: Sequence[Item], n_at_once: float) -> Iterator[Result]:
    """Yield the results of a function that computes with JAX, in the order of the items.

    On a CPU, so many items at once, and no more than there are cores. The first is alone, for it compiles what the others use. An
    interruption does not wait for those that have begun.
    """
    here = jax.config.jax_default_device
    n_workers = int(min(len(items) - 1, _cores(), n_at_once)) if platform() == "cpu" else 1
    if n_workers < 2:
        yield from map(function, items)
        return

    def solve(item: Item) -> Result:
        with jax.default_device(here):  # what a session chose, it chose for its own thread
            return function(item)

    first, *others = items
    yield function(first)
    pool = ThreadPoolExecutor(n_workers, initializer=lambda: setattr(_this_thread, "limited", True))
    try:
        with one_thread_each():
            yield from pool.map(solve, others)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Restrict LAPACK to one thread in every call: more would wait for each other in problems that are not large.

    They would also stay awake for a while after each product, and hinder the threads of XLA.
    """
    if hasattr(_this_thread, "limited"):
        yield
        return
    with _one_at_a_time, _blas().limit(limits=1, user_api="blas"):
        _this_thread.limited = True
        try:
            yield
        finally:
            vars(_this_thread).pop("limited", None)


@contextmanager
def threads_for(size: int) -> Iterator[None]:
    """Restrict LAPACK to one thread unless the matrices, of ``size`` rows, are large."""
    with nullcontext() if size >= LARGE else one_thread_each():
        yield


@cache
def _blas() -> ThreadpoolController:
    """Find the libraries once: looking for them takes longer than a small problem."""
    return ThreadpoolController()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(eq=False)
class Tally:
    """Counts of arrays moved to the device and back, their bytes, and of decompositions on the host and on the device."""

    up: int = 0
    down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    on_host: int = 0
    on_device: int = 0


_tallies: list[Tally] = []
_assumed: list[str] = []
_noting = threading.Lock()


@contextmanager
def counted() -> Iterator[Tally]:
    """Count transfers and decompositions meanwhile."""
    tally = Tally()
    _tallies.append(tally)
    try:
        yield tally
    finally:
        _tallies.remove(tally)


def _note(what: str, size: int | None = None) -> None:
    with _noting:
        for tally in _tallies:
            setattr(tally, what, getattr(tally, what) + 1)
            if size is not None:
                setattr(tally, f"bytes_{what}", getattr(tally, f"bytes_{what}") + size)


@contextmanager
def as_if_on(name: str) -> Iterator[None]:
    """Take the paths of another platform meanwhile, even one that JAX lacks, so that every path can be tested anywhere."""
    _assumed.append(name)
    try:
        yield
    finally:
        _assumed.pop()
