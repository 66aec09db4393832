"""The device: eigenproblems by whichever library solves them fastest, threads, and the settings to compute with."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

LARGE = 4096  # rows from which one eigenproblem is worth all threads
Item, Result = TypeVar("Item"), TypeVar("Result")
_one_at_a_time = threading.RLock()  # the limit belongs to the process: two that overlap would not restore it
_processes: set[int] = set()  # in which JAX was started from here: a forked one inherits the set, not JAX's threads


@contextmanager
def computing() -> Iterator[None]:
    """Compute with JAX's and NumPy's own settings, whatever those of the session are.

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
    """Return the device that JAX computes on now; refuse a process forked from one in which it had started.

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
    with jax.transfer_guard("allow"):
        return next(iter(jnp.zeros(()).devices()))


def eigh_all(matrices: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Give eigenvalues, descending, and eigenvectors, their largest entry positive, of symmetric matrices."""
    return side_by_side(eigh_of_platform(), matrices, max(map(len, matrices)))


def eigh_of_platform() -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Give what solves one eigenproblem as :func:`eigh_all` does, in any thread.

    Without an accelerator it is NumPy's LAPACK, which is ten times as fast as the one that XLA calls on a CPU.
    """
    if platform() == "cpu":
        return lambda matrix: _ordered(*np.linalg.eigh(matrix))
    return lambda matrix: _ordered(*jnp.linalg.eigh(jnp.asarray(matrix)))


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item], size: int) -> list[Result]:
    """Call a function that decomposes matrices of ``size`` rows on every item.

    On a CPU the calls share the cores and each has one thread: threads that work on one small problem wait for each other,
    and where other programs are at work too, a hundred times longer than the problem takes.
    """
    if platform() != "cpu" or size >= LARGE:
        return [function(item) for item in items]
    with one_thread_each():
        return on_all_cores(function, items)


def on_all_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function on every item, in as many threads as there are cores."""
    return list(each_on_all_cores(function, items))


def each_on_all_cores(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Give the results of :func:`on_all_cores` one by one, in the order of the items."""
    with ThreadPoolExecutor(min(len(items), _cores())) as pool:
        yield from pool.map(function, items)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Give LAPACK one thread in every call: more would wait for each other in problems that are not large.

    They would also stay awake for a while after each product, in the way of those of XLA.
    """
    with _one_at_a_time, _blas().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def threads_for(size: int) -> Iterator[None]:
    """Give LAPACK one thread unless the matrices, of ``size`` rows, are large."""
    with nullcontext() if size >= LARGE else one_thread_each():
        yield


def lapack(function: Callable[[np.ndarray], Any], matrix: np.ndarray) -> Any:
    """Call one of NumPy's decompositions, with one thread unless the matrix is large."""
    with threads_for(min(matrix.shape)):
        return function(matrix)


@cache
def _blas() -> ThreadpoolController:
    """Find the libraries once: looking for them takes longer than a small problem."""
    return ThreadpoolController()


def platform() -> str:
    """Name the kind of device that JAX computes on now: ``"cpu"`` or an accelerator."""
    return current().platform


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ordered(values: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.asarray(values)[::-1], np.asarray(vectors)[:, ::-1]
    return values, vectors * np.where(vectors.max(axis=0) >= -vectors.min(axis=0), 1.0, -1.0)
