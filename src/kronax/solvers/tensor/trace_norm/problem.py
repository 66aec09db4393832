"""Completion by the trace norms of the unfoldings: the problem that FaLRTC, HaLRTC and SiLRTC share.

After Liu et al., IEEE TPAMI 2013. All three look for the tensor with the measured entries and the least

    ``Σ_i α_i ‖X_(i)‖_*``.                                                                                         (1)

FaLRTC and SiLRTC minimise its Moreau envelope: with the singular values ``s`` of unfolding ``i``, ``τ_i = μ_i/α_i`` and
``a_i = α_i²/μ_i``,

    ``f(X) = ½ Σ_i a_i Σ_j [s_ij² − max(s_ij − τ_i, 0)²]``,                                                         (2)
    ``∇f(X) = Σ_i a_i fold_i(U diag(min(s, τ_i)) Vᵀ)``, set to 0 on measured entries,                                (3)

with accelerated and with plain gradient steps; HaLRTC splits (1) itself, by ADMM. The first two are the same problem, and
all three have the same solution as ``μ → 0``. ``U diag(min(s, τ)) Vᵀ = U diag(min(s, τ)/s) Uᵀ X_(i)`` needs nothing but
the eigenvectors of the unfolding's Gram matrix.

The tensors, their Gram matrices and the eigenvectors of these stay where JAX computes. The host decides on steps, by the
eigenvalues.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers import checks
from kronax.solvers.device import Matrix, to_device, to_host
from kronax.solvers.status import Status, ended
from kronax.solvers.tensor.completion import (
    Completion,
    Fallback,
    merged,
    per_fiber,
    require_values,
    whole_fibers,
    without_work,
)
from kronax.solvers.tensor.connection import unlinked
from kronax.solvers.tensor.means import two_means
from kronax.solvers.tensor.unfold import (
    CONTEXT,
    GENE,
    TREATMENT,
    Compressed,
    along,
    by_fibers,
    compress,
    eigvalsh,
    gram,
    inner,
    shared_size,
    spectral,
)


def require_weights(value: Any, name: str) -> None:
    """Require ``α``: three weights, not all 0."""
    ok = (
        isinstance(value, tuple | list | np.ndarray)
        and len(value) == 3
        and all(checks.is_real(weight) and 0 <= weight < np.inf for weight in value)
        and any(weight > 0 for weight in value)
    )
    if not ok:
        msg = (
            f"`{name}` must be three weights, of treatments, contexts and genes, positive or 0 to leave one out, "
            f"not all 0; found {value!r}."
        )
        raise ValueError(msg)


def nothing_stands_in(options: Any) -> str:
    """Return the remedy for what was never measured: the tensor of least trace norm is 0 there."""
    return "use a method in which something stands in for it, such as 'kronecker', 'mean_1d' or 'dnpp'"


def trace_norm(tensor: np.ndarray, alpha: tuple[float, float, float]) -> float:
    """Evaluate Eq. 1 for a tensor without gaps, the weights scaled to sum 1."""
    weights = np.asarray(alpha) / np.sum(alpha)
    with jax.enable_x64(True):
        x = to_device(tensor, np.float64)
        return sum(float(w * np.sqrt(eigvalsh(gram(x, i))).sum()) for i, w in enumerate(weights) if w > 0)


@dataclass(frozen=True)
class Envelope:
    """The Moreau envelope of Eq. 1 for one ``μ``: Eq. 2 and the spectral part of Eq. 3, from a mode's ``s²``."""

    a: np.ndarray
    tau: np.ndarray

    @property
    def bound(self) -> float:
        """``Σ a_i``, a Lipschitz constant of the gradient."""
        return float(self.a.sum())

    def value(self, squares: list[np.ndarray]) -> float:
        """Return Eq. 2."""
        return 0.5 * sum(
            a * float((s2 - np.maximum(np.sqrt(s2) - tau, 0.0) ** 2).sum())
            for a, tau, s2 in zip(self.a, self.tau, squares, strict=True)
        )

    def gradient_maps(self, decomposed: list[tuple[np.ndarray, Matrix]]) -> list[Matrix]:
        """Return the matrices ``a U diag(min(s, τ)/s) Uᵀ`` that Eq. 3 multiplies the unfoldings with."""
        return [
            spectral(vectors, a * np.minimum(1.0, tau / np.sqrt(np.maximum(s2, tau**2))))
            for a, tau, (s2, vectors) in zip(self.a, self.tau, decomposed, strict=True)
        ]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Free:
    """The part of a tensor that a solve may change, and products over this part alone.

    ``entries`` is True where the tensor is free. Where the gene mode is in use and most fibers have no gap,
    ``fibers`` numbers those that do, filled up with numbers out of range so that tensors share compiled code, and ``fixed``
    is the others' share of the genes' Gram matrix. Otherwise both are None.
    """

    entries: Array
    fibers: Array | None
    fixed: Array | None

    def gram(self, x: Array, mode: int) -> Array:
        """Return the Gram matrix of a tensor that has the measured entries."""
        if mode != GENE or self.fixed is None:
            return gram(x, mode)
        return self.fixed + self.inner(x, x, mode)

    def inner(self, x: Array, gradient: Array, mode: int) -> Array:
        """Return ``X_(i) ∇_(i)ᵀ``, the gradient being 0 in fibers without a gap."""
        if mode != GENE or self.fibers is None:
            return inner(x, gradient, mode)
        return jnp.matmul(self._rows(x).T, self._rows(gradient), precision="highest")

    def along(self, matrix: Array, x: Array, mode: int) -> Array:
        """Multiply an unfolding from the left; fibers without a gap may be left out."""
        if mode != GENE or self.fibers is None:
            return along(matrix, x, mode)
        product = jnp.matmul(self._rows(x), matrix.T, precision="highest")
        return jnp.zeros_like(x).reshape(-1, x.shape[GENE]).at[self.fibers].set(product, mode="drop").reshape(x.shape)

    def _rows(self, x: Array) -> Array:
        return x.reshape(-1, x.shape[GENE]).at[self.fibers].get(mode="fill", fill_value=0.0)


def free_part(x: Array, missing: np.ndarray, modes: tuple[int, ...]) -> Free:
    """Return the free part; the gene mode needs only fibers with a gap, if most fibers have none."""
    n_fibers = missing.shape[TREATMENT] * missing.shape[CONTEXT]
    gappy = np.flatnonzero(missing.any(axis=GENE))
    room = shared_size(len(gappy))
    entries = to_device(missing)
    if GENE not in modes or by_fibers(missing.shape, GENE) or 2 * room > n_fibers:
        return Free(entries, None, None)
    fibers = np.pad(gappy, (0, room - len(gappy)), constant_values=n_fibers)
    others = jnp.where(entries.any(axis=GENE, keepdims=True), 0.0, x)
    return Free(entries, to_device(fibers), gram(others, GENE))


@dataclass(frozen=True)
class Problem:
    """A filled tensor on the device, and what its spectrum says.

    ``alpha``, ``raw`` (not scaled), ``sizes`` and ``largest`` (``σ_max``) are those of ``modes``, the modes in use.
    """

    start: Array
    free: Free
    modes: tuple[int, ...]
    alpha: np.ndarray
    raw: np.ndarray
    sizes: np.ndarray
    largest: np.ndarray
    norm: float

    def envelope(self, mu: np.ndarray) -> Envelope:
        """Return the envelope for these ``μ_i``."""
        return Envelope(self.alpha**2 / mu, mu / self.alpha)


@dataclass(frozen=True)
class Solved:
    """The tensor that a loop ended with, and how it ended."""

    tensor: Array
    status: Status


def reached(x: Array, objective: list[float], change: float, tol: float) -> Solved:
    """Return the result of a loop that converged."""
    reason = f"an iteration changed the tensor by {change:.2g}, less than {tol:.2g}"
    return Solved(x, ended(True, reason, objective))


def stopped(x: Array, objective: list[float], change: float, tol: float) -> Solved:
    """Return the result of a loop that ran out of iterations."""
    n = len(objective)
    reason = f"the last of {n} iterations still changed the tensor by {change:.2g}, more than {tol:.2g}"
    return Solved(x, ended(False, reason, objective))


def iterations(name: str, max_iter: int, progress: bool) -> Iterable[int]:
    """Count from 1, with a progress bar when it takes long."""
    return tqdm(range(1, max_iter + 1), desc=name, delay=2, leave=False, disable=not progress)


def complete(values: np.ndarray, alpha: tuple[float, float, float], solve, *, at_mean: bool = False) -> Completion:
    """Set the problem up, solve it in float64 from 0 or the overall mean, and put the result together."""
    measured = ~np.isnan(values)
    require_values(measured)
    if (result := without_work(values, measured)) is not None:
        return result
    wide = values.astype(np.float64)
    first = np.full((1, values.shape[2]), wide[measured].mean() if at_mean else 0.0)
    if whole_fibers(measured):  # the profile that missing fibers start from must lie in the span
        compressed = compress(wide, include=first)
    else:
        compressed = Compressed(wide, None)
    scores, basis = compressed.scores, compressed.basis
    if basis is not None:
        first = first @ basis.T
    norm = float(np.linalg.norm(wide[measured]))
    missing = np.isnan(scores)
    filled = np.where(missing, first, scores)
    del wide, scores, compressed, measured  # large, and not needed while the solve runs
    modes = tuple(i for i in range(3) if alpha[i] > 0)
    raw = np.array([alpha[i] for i in modes])
    with jax.enable_x64(True):
        start = to_device(filled)
        del filled
        free = free_part(start, missing, modes)
        problem = Problem(
            start=start,
            free=free,
            modes=modes,
            alpha=raw / raw.sum(),
            raw=raw,
            sizes=np.array([values.shape[i] for i in modes]),
            largest=np.sqrt([eigvalsh(matrix)[-1] for matrix in grams(start, free, modes)]),
            norm=norm,
        )
        solved = solve(problem)
        tensor = to_host(solved.tensor)
    completed = merged(values, tensor) if basis is None else _expanded(values, tensor, basis)
    completed, fallback = _fall_back(values, completed)
    return Completion(
        values=completed,
        fallback=fallback,
        status=solved.status,
    )


def _fall_back(values: np.ndarray, completed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put ``mean_2d`` where no measurement links treatment and context: the least trace norm would be that of zeros."""
    measured = ~np.isnan(values)
    apart = unlinked(measured)
    if not apart.any():
        return completed, np.zeros(values.shape[:2], np.int8)
    code = np.where(apart, Fallback.UNLINKED, Fallback.NONE)
    fallback = per_fiber(code, ~measured, measured.any(axis=(0, 1)))
    return np.where(apart, two_means(values)[0], completed).astype(values.dtype), fallback


def _expanded(values: np.ndarray, tensor: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Rotate the fibers that were missing, in all genes then, back to genes."""
    completed, gaps = values.copy(), np.isnan(values[:, :, 0])
    completed[gaps] = tensor[gaps] @ basis
    return completed


@partial(jax.jit, static_argnames=["modes"])
def grams(x: Array, free: Free, modes: tuple[int, ...]) -> list[Array]:
    """Return the Gram matrices of some modes."""
    return [free.gram(x, mode) for mode in modes]


@partial(jax.jit, static_argnames=["modes"])
def gradient_and_square(w: Array, free: Free, maps: list[Matrix], modes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return Eq. 3 and its squared length."""
    total = sum(free.along(matrix, w, mode) for matrix, mode in zip(maps, modes, strict=True))
    gradient = jnp.where(free.entries, total, 0.0)
    return gradient, jnp.vdot(gradient, gradient)


@partial(jax.jit, static_argnames=["modes"])
def step(
    w: Array, gradient: Array, free: Free, length: np.float64, modes: tuple[int, ...]
) -> tuple[Array, list[Array]]:
    """Return ``W − length·∇f`` and its Gram matrices."""
    y = w - length * gradient
    return y, [free.gram(y, mode) for mode in modes]
