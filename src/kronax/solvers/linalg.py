"""Eigenproblems, by whichever library solves them fastest."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from threadpoolctl import ThreadpoolController

LARGE = 4096  # rows from which one eigenproblem is worth all threads
_one_at_a_time = threading.Lock()  # the limit belongs to the process: two that overlap would not restore it


def eigh_all(matrices: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Give eigenvalues, descending, and eigenvectors, their largest entry positive, of symmetric matrices.

    Without an accelerator by NumPy's LAPACK, which is ten times as fast as the one that XLA calls on a CPU. There the
    problems share the cores and each has one thread: threads that work on one small problem wait for each other, and
    where other programs are at work too, a hundred times longer than the problem takes.
    """
    if platform() != "cpu":
        return [_ordered(*jnp.linalg.eigh(jnp.asarray(matrix))) for matrix in matrices]
    if max(map(len, matrices)) >= LARGE:
        return [_ordered(*np.linalg.eigh(matrix)) for matrix in matrices]
    with one_thread_each(), ThreadPoolExecutor(min(len(matrices), _cores())) as pool:
        return list(pool.map(lambda matrix: _ordered(*np.linalg.eigh(matrix)), matrices))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Give LAPACK one thread in every call: more would wait for each other in problems that are not large."""
    with _one_at_a_time, _blas().limit(limits=1, user_api="blas"):
        yield


def lapack(function: Callable[[np.ndarray], Any], matrix: np.ndarray) -> Any:
    """Call one of NumPy's decompositions, with one thread unless the matrix is large."""
    if min(matrix.shape) >= LARGE:
        return function(matrix)
    with one_thread_each():
        return function(matrix)


@cache
def _blas() -> ThreadpoolController:
    """Find the libraries once: looking for them takes longer than a small problem."""
    return ThreadpoolController()


def platform() -> str:
    """Name the kind of device that JAX computes on now: ``"cpu"`` or an accelerator."""
    return next(iter(jnp.zeros(()).devices())).platform


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ordered(values: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.asarray(values)[::-1], np.asarray(vectors)[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values, vectors * np.sign(largest)
