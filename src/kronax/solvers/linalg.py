"""Eigenproblems, by whichever library solves them fastest."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

_LARGE = 4096  # rows from which one eigenproblem is worth all threads


def eigh_all(matrices: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Give eigenvalues, descending, and eigenvectors, their largest entry positive, of symmetric matrices.

    Without an accelerator by NumPy's LAPACK, which is ten times as fast as the one that XLA calls on a CPU. There the
    problems share the cores and each has one thread: threads that work on one small problem wait for each other, and
    where other programs are at work too, a hundred times longer than the problem takes.
    """
    if jax.default_backend() != "cpu":
        return [_ordered(*jnp.linalg.eigh(jnp.asarray(matrix))) for matrix in matrices]
    if max(map(len, matrices)) >= _LARGE:
        return [_ordered(*np.linalg.eigh(matrix)) for matrix in matrices]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda matrix: _ordered(*np.linalg.eigh(matrix)), matrices))


def _ordered(values: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.asarray(values)[::-1], np.asarray(vectors)[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values, vectors * np.sign(largest)
