"""Completion by the trace norms of the unfoldings: FaLRTC, HaLRTC and SiLRTC (Liu et al., IEEE TPAMI 2013).

All three look for the tensor with the measured entries and the least

    ``Σ_i α_i ‖X_(i)‖_*``.                                                                                         (1)

FaLRTC and SiLRTC minimise its Moreau envelope: with the singular values ``s`` of unfolding ``i``, ``τ_i = μ_i/α_i`` and
``a_i = α_i²/μ_i``,

    ``f(X) = ½ Σ_i a_i Σ_j [s_ij² − max(s_ij − τ_i, 0)²]``,                                                         (2)
    ``∇f(X) = Σ_i a_i fold_i(U diag(min(s, τ_i)) Vᵀ)``, set to 0 on measured entries,                                (3)

with accelerated and with plain gradient steps; HaLRTC splits (1) itself, by ADMM. The first two are the same problem, and
all three have the same solution as ``μ → 0``. ``U diag(min(s, τ)) Vᵀ = U diag(min(s, τ)/s) Uᵀ X_(i)`` needs nothing but
the eigenvectors of the unfolding's Gram matrix.

The tensors stay where JAX has put them; the host decides on steps and, on a CPU, decomposes the Gram matrices.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers.completion import Completion, merged, require_values, whole_fibers, without_work
from kronax.solvers.unfold import along, compress, eigh, eigvalsh, expand, gram, inner

_DECAY = 1.15  # power of the iteration's number in the schedule of μ
_START = 0.3  # τ_i at the first iteration, of σ_max(X_(i))
_DOUBLINGS = 200  # of L, in one line search
_BALANCE = 10.0  # of ADMM's residuals: beyond this ratio ρ is changed ...
_BALANCED_UNTIL = 100  # ... up to this iteration, and then kept so that ADMM converges


@dataclass(frozen=True)
class FalrtcOptions:
    """Options of ``falrtc``.

    Attributes
    ----------
    alpha
        Weights of the modes (treatment, context, gene), positive or 0 (the mode is left out); scaled to sum 1.
    smoothing
        Final ``τ_i`` of Eq. 2, as a share of ``σ_max(X_(i))``.
    n_continuation
        Iteration at which ``μ`` has come down to its final value.
    max_iter
        Iterations, at most.
    tol
        The solve ends when an iteration, ``μ`` being final, changes the tensor by less than this share of the norm of
        the measured entries.
    lipschitz
        The line search starts at this share of the bound ``Σ a_i`` on the curvature of Eq. 2.
    restart
        Whether the momentum is dropped when the objective would increase (O'Donoghue and Candès 2015). The objective
        then never increases once ``μ`` is final.
    absolute
        Whether the numbers above are taken as they were in 2018: final ``μ_i = smoothing·α_i/√n_i`` with ``α`` not
        scaled and ``n_i`` the size of mode ``i``, ``tol`` and ``lipschitz`` absolute, ``tol`` looked at from the first
        iteration on.
    """

    alpha: tuple[float, float, float] = (1.0, 1.0, 0.0)
    smoothing: float = 1e-3
    n_continuation: int = 20
    max_iter: int = 500
    tol: float = 1e-4
    lipschitz: float = 1e-3
    restart: bool = True
    absolute: bool = False


HODOS_2018 = FalrtcOptions(
    alpha=(1.0, 1.0, 0.01),
    smoothing=0.01,
    n_continuation=5,
    max_iter=20,
    tol=0.1,
    lipschitz=1e-5,
    restart=False,
    absolute=True,
)
"""The settings of Hodos et al. 2018, made for profiles of unit norm."""


@dataclass(frozen=True)
class HalrtcOptions:
    """Options of ``halrtc``.

    Attributes
    ----------
    alpha
        Weights of the modes (treatment, context, gene), positive or 0 (the mode is left out); scaled to sum 1.
    threshold
        First ``τ_i = α_i/ρ``, on average over the modes, as a share of the largest ``σ_max(X_(i))``. ``ρ`` is then
        balanced between the two residuals for the first iterations.
    max_iter
        Iterations, at most.
    tol
        The solve ends when the unfoldings' copies differ from the tensor by less than this share of the norm of the
        measured entries, and the tensor changes by less than that too.
    """

    alpha: tuple[float, float, float] = (1.0, 1.0, 0.0)
    threshold: float = 0.1
    max_iter: int = 500
    tol: float = 1e-4


@dataclass(frozen=True)
class SilrtcOptions:
    """Options of ``silrtc``.

    Attributes
    ----------
    alpha
        Weights of the modes (treatment, context, gene), positive or 0 (the mode is left out); scaled to sum 1.
    smoothing
        ``τ_i = α_i/β_i`` as a share of ``σ_max(X_(i))``, as in :class:`FalrtcOptions`; its steps need it larger.
    max_iter
        Iterations, at most.
    tol
        The solve ends when an iteration changes the tensor by less than this share of the norm of the measured entries.
    """

    alpha: tuple[float, float, float] = (1.0, 1.0, 0.0)
    smoothing: float = 1e-2
    max_iter: int = 1000
    tol: float = 1e-5


def falrtc(
    values: np.ndarray,
    options: FalrtcOptions = FalrtcOptions(),
    *,
    width: int | None = None,
    progress: bool = False,
) -> Completion:
    """Complete a tensor by accelerated descent on the smoothed trace norms (Liu et al. 2013, Algorithm 3).

    Works on entries: missing fibers and single missing entries are one case. Both start at 0 or, with absolute options,
    at the mean of all measured entries. Where fibers are missing whole, the genes are first rotated to the span of the
    measured ones, which changes nothing but the time.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`FalrtcOptions`; :data:`HODOS_2018` are the published settings.
    width
        See :func:`kronax.solvers.unfold.compress`.
    progress
        Whether long work shows a progress bar.
    """

    def solve(problem: _Problem) -> _Solved:
        envelope = _schedule(problem, options)
        tol = options.tol if options.absolute else options.tol * problem.norm
        return _accelerated(problem, envelope, options, tol, progress)

    return _complete(values, options.alpha, width, solve, at_mean=options.absolute)


def halrtc(
    values: np.ndarray,
    options: HalrtcOptions = HalrtcOptions(),
    *,
    width: int | None = None,
    progress: bool = False,
) -> Completion:
    """Complete a tensor by ADMM on the trace norms of its unfoldings (Liu et al. 2013, Algorithm 4).

    Works on entries: missing fibers and single missing entries are one case.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`HalrtcOptions`.
    width
        See :func:`kronax.solvers.unfold.compress`.
    progress
        Whether long work shows a progress bar.
    """
    return _complete(values, options.alpha, width, lambda problem: _admm(problem, options, progress))


def silrtc(
    values: np.ndarray,
    options: SilrtcOptions = SilrtcOptions(),
    *,
    width: int | None = None,
    progress: bool = False,
) -> Completion:
    """Complete a tensor by block coordinate descent on the relaxed trace norms (Liu et al. 2013, Algorithm 1).

    Its two blocks are the unfoldings' low-rank copies and the missing entries; a round of both is a gradient step of
    length ``1/Σ a_i`` on Eq. 2. Works on entries: missing fibers and single missing entries are one case.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`SilrtcOptions`.
    width
        See :func:`kronax.solvers.unfold.compress`.
    progress
        Whether long work shows a progress bar.
    """

    def solve(problem: _Problem) -> _Solved:
        envelope = problem.envelope(options.smoothing * problem.alpha * problem.largest)
        return _plain(problem, envelope, options, progress)

    return _complete(values, options.alpha, width, solve)


def trace_norm(tensor: np.ndarray, alpha: tuple[float, float, float]) -> float:
    """Evaluate Eq. 1 for a tensor without gaps, the weights scaled to sum 1."""
    weights = np.asarray(alpha) / np.sum(alpha)
    with jax.enable_x64(True):
        x = jnp.asarray(tensor, jnp.float64)
        return sum(float(w * np.sqrt(eigvalsh(gram(x, i))).sum()) for i, w in enumerate(weights) if w > 0)


@dataclass(frozen=True)
class _Envelope:
    """The Moreau envelope of Eq. 1 for one ``μ``: Eq. 2 and the spectral part of Eq. 3, from a mode's ``s²``."""

    a: np.ndarray
    tau: np.ndarray

    @property
    def bound(self) -> float:
        """``Σ a_i``, the most that the gradient's length can change over a unit of distance."""
        return float(self.a.sum())

    def value(self, squares: list[np.ndarray]) -> float:  # (2)
        return 0.5 * sum(
            a * float((s2 - np.maximum(np.sqrt(s2) - tau, 0.0) ** 2).sum())
            for a, tau, s2 in zip(self.a, self.tau, squares, strict=True)
        )

    def gradient_maps(self, decomposed: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        """Give the matrices ``a U diag(min(s, τ)/s) Uᵀ`` that Eq. 3 multiplies the unfoldings with."""
        return [
            (vectors * (a * np.minimum(1.0, tau / np.sqrt(np.maximum(s2, tau**2))))) @ vectors.T
            for a, tau, (s2, vectors) in zip(self.a, self.tau, decomposed, strict=True)
        ]


@dataclass(frozen=True)
class _Problem:
    """A filled tensor on the device, and what its spectrum says.

    ``alpha``, ``raw`` (not scaled), ``sizes`` and ``largest`` (``σ_max``) are those of ``modes``, the modes in use.
    """

    start: Array
    missing: Array
    modes: tuple[int, ...]
    alpha: np.ndarray
    raw: np.ndarray
    sizes: np.ndarray
    largest: np.ndarray
    norm: float

    def envelope(self, mu: np.ndarray) -> _Envelope:
        return _Envelope(self.alpha**2 / mu, mu / self.alpha)


@dataclass(frozen=True)
class _Solved:
    tensor: Array
    objective: list[float]
    n_iter: int
    converged: bool
    reason: str


def _complete(
    values: np.ndarray, alpha: tuple[float, float, float], width: int | None, solve, *, at_mean: bool = False
) -> Completion:
    """Set the problem up, solve it in float64 from 0 or the overall mean, and put the result together."""
    measured = ~np.isnan(values)
    require_values(measured)
    if (result := without_work(values, measured)) is not None:
        return result
    wide = values.astype(np.float64)
    first = np.full((1, values.shape[2]), wide[measured].mean() if at_mean else 0.0)
    if whole_fibers(measured):  # the profile that missing fibers start from must lie in the span
        compressed = compress(wide, include=first, width=width)
    else:
        compressed = compress(wide, width=values.shape[2])
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
        start = jnp.asarray(filled)
        del filled
        problem = _Problem(
            start=start,
            missing=jnp.asarray(missing),
            modes=modes,
            alpha=raw / raw.sum(),
            raw=raw,
            sizes=np.array([values.shape[i] for i in modes]),
            largest=np.sqrt([eigvalsh(matrix)[-1] for matrix in _grams(start, modes)]),
            norm=norm,
        )
        solved = solve(problem)
        tensor = np.asarray(solved.tensor)
    return Completion(
        values=merged(values, expand(tensor, basis)),
        fallback=np.zeros(values.shape[:2], np.int8),
        confidence=None,
        variance=None,
        objective=np.array(solved.objective),
        n_iter=solved.n_iter,
        converged=solved.converged,
        reason=solved.reason,
        parameters={},
    )


@partial(jax.jit, static_argnames=["modes"])
def _grams(x: Array, modes: tuple[int, ...]) -> list[Array]:
    return [gram(x, mode) for mode in modes]


@partial(jax.jit, static_argnames=["modes"])
def _between(z: Array, y: Array, share: Array, modes: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """Give ``W`` between ``Z`` and ``Y``, and its Gram matrices."""
    w = share * z + (1.0 - share) * y
    return w, [gram(w, mode) for mode in modes]


@partial(jax.jit, static_argnames=["modes"])
def _gradient(w: Array, missing: Array, maps: list[Array], modes: tuple[int, ...]) -> tuple[Array, Array]:
    """Give Eq. 3 and its squared length."""
    total = sum(along(matrix, w, mode) for matrix, mode in zip(maps, modes, strict=True))
    gradient = jnp.where(missing, total, 0.0)
    return gradient, jnp.vdot(gradient, gradient)


@partial(jax.jit, static_argnames=["modes"])
def _step(w: Array, gradient: Array, length: Array, modes: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """Give ``W − length·∇f`` and its Gram matrices."""
    y = w - length * gradient
    return y, [gram(y, mode) for mode in modes]


@partial(jax.jit, static_argnames=["modes"])
def _line(w: Array, gradient: Array, modes: tuple[int, ...]) -> tuple[list[Array], list[Array]]:
    """Give what the Gram matrices of ``W − t∇f`` are made of besides that of ``W``: their terms in ``−t`` and ``t²``."""
    cross = [inner(w, gradient, mode) for mode in modes]
    return [matrix + matrix.T for matrix in cross], [gram(gradient, mode) for mode in modes]


@jax.jit
def _moved(z: Array, gradient: Array, length: Array) -> Array:
    return z - length * gradient


@jax.jit
def _distance(x: Array, y: Array) -> Array:
    return jnp.linalg.norm(jnp.ravel(x - y))


def _schedule(problem: _Problem, options: FalrtcOptions):
    """Give the envelope of every iteration ``k = 1, 2, …``: ``μ_k = max(slope·k^−1.15 + offset, μ_end)``."""
    first = _START * problem.alpha * problem.largest
    if options.absolute:
        last = options.smoothing * problem.raw / np.sqrt(problem.sizes)
    else:
        last = options.smoothing * problem.alpha * problem.largest
    end = options.n_continuation**-_DECAY
    if options.n_continuation > 1:
        slope = (first - last) / (1.0 - end)
        offset = (last - first * end) / (1.0 - end)
    else:
        slope, offset = 0.0, last
    return lambda k: problem.envelope(np.maximum(slope * k**-_DECAY + offset, last))


def _accelerated(problem: _Problem, schedule, options: FalrtcOptions, tol: float, progress: bool) -> _Solved:
    """Minimise Eq. 2 by the accelerated loop."""
    y = z = problem.start
    big_b = 0.0
    lipschitz = options.lipschitz if options.absolute else options.lipschitz * schedule(1).bound
    objective: list[float] = []
    numbers = tqdm(range(1, options.max_iter + 1), desc="FaLRTC", delay=2, leave=False, disable=not progress)
    for k in numbers:
        envelope, last = schedule(k), y
        flat = k > options.n_continuation
        while True:
            new, gradient, b, lipschitz, value = _line_search(problem, envelope, z, last, big_b, lipschitz)
            if not (options.restart and flat and big_b > 0 and value > objective[-1]):
                break
            z, big_b = last, 0.0  # without momentum the step starts at Y, from where it cannot increase f
        if options.restart and flat and value > objective[-1]:  # rounding is all that is left
            reason = f"no step of iteration {k} decreases the objective any further"
            return _Solved(last, objective, k - 1, True, reason)
        y = new
        objective.append(value)
        change = float(_distance(y, last))
        if change < tol and (flat or options.absolute):
            reason = f"an iteration changed the tensor by {change:.2g}, less than {tol:.2g}"
            return _Solved(y, objective, k, True, reason)
        z = _moved(z, gradient, np.float64(b))
        big_b += b
    reason = f"the last of {options.max_iter} iterations still changed the tensor by {change:.2g}, more than {tol:.2g}"
    return _Solved(y, objective, options.max_iter, False, reason)


def _line_search(problem: _Problem, envelope: _Envelope, z: Array, y: Array, big_b: float, lipschitz: float):
    """Double ``L`` until the step from ``W`` decreases ``f`` by ``‖∇f(W)‖²/(2L)``.

    Returns
    -------
    The new ``Y``, ``∇f(W)``, ``b``, ``L`` and ``f(Y)``.
    """
    modes = problem.modes
    while True:
        b = (1.0 + np.sqrt(1.0 + 4.0 * lipschitz * big_b)) / (2.0 * lipschitz)
        w, grams = _between(z, y, np.float64(b / (b + big_b)), modes)
        decomposed = [eigh(matrix) for matrix in grams]
        value = envelope.value([s2 for s2, _ in decomposed])
        gradient, square = _gradient(w, problem.missing, envelope.gradient_maps(decomposed), modes)
        square = float(square)
        if big_b == 0.0:  # W is Z whatever L is
            lipschitz = _first_accepted(envelope, w, grams, gradient, square, value, lipschitz, modes)
            b = 1.0 / lipschitz
        new, grams = _step(w, gradient, np.float64(1.0 / lipschitz), modes)
        new_value = envelope.value([eigvalsh(matrix) for matrix in grams])
        if big_b == 0.0 or _accepted(value, new_value, square, lipschitz, envelope):
            return new, gradient, b, lipschitz, new_value
        lipschitz *= 2.0


def _accepted(value: float, new_value: float, square: float, lipschitz: float, envelope: _Envelope) -> bool:
    """Say whether the decrease suffices; at the bound on the curvature it does but for rounding."""
    return value - new_value >= square / (2.0 * lipschitz) or lipschitz >= envelope.bound


def _first_accepted(
    envelope: _Envelope,
    w: Array,
    grams: list[Array],
    gradient: Array,
    square: float,
    value: float,
    lipschitz: float,
    modes: tuple[int, ...],
) -> float:
    """Find the first accepted of ``L, 2L, 4L, …`` for a ``W`` that does not depend on ``L``, by bisection.

    ``f(W) − f(W − t∇f) − ½t‖∇f‖²`` is concave in ``t`` and 0 at 0: what accepts one ``L`` accepts every larger one. Along
    the line the Gram matrices are quadratic in ``t``, so a trial costs eigenvalues and no product with the tensor.
    """
    linear, quadratic = _line(w, gradient, modes)
    parts = [tuple(map(np.asarray, part)) for part in zip(grams, linear, quadratic, strict=True)]

    def accepted(doublings: int) -> bool:
        trial = lipschitz * 2.0**doublings
        if trial >= envelope.bound:
            return True
        t = 1.0 / trial
        new_value = envelope.value([eigvalsh(g0 - t * g1 + t * t * g2) for g0, g1, g2 in parts])
        return _accepted(value, new_value, square, trial, envelope)

    low, high = -1, max(0, int(np.ceil(np.log2(envelope.bound / lipschitz))))
    while high - low > 1:  # low is refused, high accepted
        middle = (low + high) // 2
        low, high = (low, middle) if accepted(middle) else (middle, high)
    return lipschitz * 2.0**high


def _plain(problem: _Problem, envelope: _Envelope, options: SilrtcOptions, progress: bool) -> _Solved:
    """Minimise Eq. 2 by gradient steps of length ``1/Σ a_i``."""
    modes, tol, x = problem.modes, options.tol * problem.norm, problem.start
    objective: list[float] = []
    grams = _grams(x, modes)
    numbers = tqdm(range(1, options.max_iter + 1), desc="SiLRTC", delay=2, leave=False, disable=not progress)
    for k in numbers:
        decomposed = [eigh(matrix) for matrix in grams]
        objective.append(envelope.value([s2 for s2, _ in decomposed]))
        gradient, square = _gradient(x, problem.missing, envelope.gradient_maps(decomposed), modes)
        x, grams = _step(x, gradient, np.float64(1.0 / envelope.bound), modes)
        change = float(square) ** 0.5 / envelope.bound
        if change < tol:
            reason = f"an iteration changed the tensor by {change:.2g}, less than {tol:.2g}"
            return _Solved(x, objective, k, True, reason)
    reason = f"the last of {options.max_iter} iterations still changed the tensor by {change:.2g}, more than {tol:.2g}"
    return _Solved(x, objective, options.max_iter, False, reason)


@partial(jax.jit, static_argnames=["modes"])
def _shifted(x: Array, duals: list[Array], rho: Array, modes: tuple[int, ...]) -> tuple[list[Array], list[Array]]:
    """Give ``X + Y_i/ρ`` and the Gram matrices of their unfoldings."""
    shifted = [x + dual / rho for dual in duals]
    return shifted, [gram(tensor, mode) for tensor, mode in zip(shifted, modes, strict=True)]


@partial(jax.jit, static_argnames=["modes"])
def _admm_step(
    x: Array, missing: Array, shifted: list[Array], duals: list[Array], maps: list[Array], rho: Array, modes
) -> tuple[Array, list[Array], Array, Array]:
    """Update ``M_i``, ``X`` and ``Y_i``; give the two residuals too, ``max_i ‖M_i − X‖`` and ``‖ΔX‖``."""
    copies = [along(matrix, tensor, mode) for matrix, tensor, mode in zip(maps, shifted, modes, strict=True)]
    mean = sum(m - dual / rho for m, dual in zip(copies, duals, strict=True)) / float(len(modes))
    new = jnp.where(missing, mean, x)
    duals = [dual - rho * (m - new) for m, dual in zip(copies, duals, strict=True)]
    apart = jnp.stack([jnp.linalg.norm(jnp.ravel(m - new)) for m in copies])
    return new, duals, jnp.max(apart), jnp.linalg.norm(jnp.ravel(new - x))


def _admm(problem: _Problem, options: HalrtcOptions, progress: bool) -> _Solved:
    """Minimise Eq. 1 by the alternating direction method of multipliers."""
    modes, tol, x = problem.modes, options.tol * problem.norm, problem.start
    duals = [jnp.zeros_like(x) for _ in modes]
    rho = 1.0 / (len(modes) * options.threshold * problem.largest.max())
    objective: list[float] = []
    numbers = tqdm(range(1, options.max_iter + 1), desc="HaLRTC", delay=2, leave=False, disable=not progress)
    for k in numbers:
        shifted, grams = _shifted(x, duals, np.float64(rho), modes)
        maps, value = [], 0.0
        for alpha, matrix in zip(problem.alpha, grams, strict=True):
            squares, vectors = eigh(matrix)
            s = np.sqrt(squares)
            kept = np.maximum(s - alpha / rho, 0.0)
            maps.append((vectors * np.divide(kept, s, out=np.zeros_like(s), where=s > 0)) @ vectors.T)
            value += float(alpha * kept.sum())
        objective.append(value)
        x, duals, apart, change = _admm_step(x, problem.missing, shifted, duals, maps, np.float64(rho), modes)
        apart, change = float(apart), float(change)
        if max(apart, change) < tol:
            reason = f"copies differ from the tensor by {apart:.2g}, an iteration changed it by {change:.2g}: less than {tol:.2g}"
            return _Solved(x, objective, k, True, reason)
        if k <= _BALANCED_UNTIL and k % 5 == 0:
            rho *= 2.0 if apart > _BALANCE * change else 0.5 if change > _BALANCE * apart else 1.0
    reason = f"after {options.max_iter} iterations copies still differ by {apart:.2g}, and {change:.2g} changed, more than {tol:.2g}"
    return _Solved(x, objective, options.max_iter, False, reason)
