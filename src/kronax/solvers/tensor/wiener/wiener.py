"""``kronecker``: an empirical-Bayes Wiener smoother over treatments, contexts and genes.

The model of a tensor is ``X = S + noise``, ``vec S ~ N(0, K_treatment ⊗ K_context ⊗ K_gene)``, white noise. With the
kernels' eigenvectors ``V`` and eigenvalues ``w``, the posterior mean of ``S`` given a tensor without gaps is

    ``Z = (V_d, V_c, V_g) h (V_d, V_c, V_g)ᵀ X``,   ``h_ijk = w_i w_j w_k / (w_i w_j w_k + λ)``.                    (1)

Given one with gaps it is the fixed point of ``X = measured values, Z elsewhere``. All kernels are scaled to mean
eigenvalue 1. Two are those of the filled tensor itself, taken anew in every sweep: a power of the genes' spectrum, and of
the treatments' Gram matrix ``Γ`` the mixture

    ``K_treatment = (1 − s − t) Γ + s I + t 11ᵀ``.                                                                  (2)

What a treatment shares with no other, ``s``, is learnt from its other contexts; what it shares with all, ``t``, is the
context's mean. The contexts' kernel is learnt from what was measured alone,

    ``K_context = A^½ R A^½``,   ``r_bc = (n_bc ρ_bc + ρ̄) / (n_bc + 1)``,   ``log a_c = (n_c log m_c + log m̄) / (n_c + 1)``,    (3)

with the mean square ``m_c`` of ``n_c`` profiles and the correlation ``ρ_bc`` of the ``n_bc`` that were measured in both,
each as if one more treatment had shown what is usual. Predictions would add nothing: if the kernel is right, their
products with measurements have its entries for a mean, and if it is wrong, they keep it so, a context with few profiles
at any size that it began with.

So a sweep costs one eigenproblem, of the number of treatments, and products of a matrix of that size with the tensor.
Going on from a point ahead of where a sweep ends, as in Nesterov's method, halves the number of sweeps and leaves the
fixed point where it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.optimize import isotonic_regression
from tqdm.auto import tqdm

from kronax.solvers.device import lapack
from kronax.solvers.tensor.completion import (
    Completion,
    Fallback,
    merged,
    per_fiber,
    require_values,
    whole_fibers,
    without_work,
)
from kronax.solvers.tensor.folds import fiber_folds
from kronax.solvers.tensor.means import two_means
from kronax.solvers.tensor.unfold import CONTEXT, TREATMENT, along, eigh, gram

# the inner cross-validation only has to rank its candidates
_CV_TREATMENTS = 400  # at most, drawn at random,
_CV_WORK = 3e9  # and so few that one product of a matrix of their size with the tensor has fewer multiplications
_CV_SWEEPS = 20
_CV_TOL = 3e-3
_CV_TRIAL = 2  # folds: a candidate with larger errors than the best one's in all of these is given up
_CONFIDENCE_TOL, _CONFIDENCE_SWEEPS = 1e-3, 100  # near enough for a confidence
_GROUPS, _LEAST_GROUP = 10, 20  # of held-out fibers: groups at most, and fibers in each at least
MOST_FIBERS = 8000  # for the posterior variance: beyond, its eigenproblem takes gigabytes and hours


@dataclass(frozen=True)
class KroneckerOptions:
    """Options of ``"kronecker"``: a Wiener smoother with a kernel each of treatments, contexts and genes.

    Attributes
    ----------
    noise
        Noise variance λ relative to kernels whose mean eigenvalue is 1; or ``"cv"``: chosen by cross-validation.
    own_share
        Weight of the identity in the treatment kernel, in [0, 1): what a treatment shares with no other; or ``"cv"``.
    common_share
        Weight of the all-ones matrix in the treatment kernel, in [0, 1): what all treatments share; or ``"cv"``. The
        rest, ``1 - own_share - common_share``, must be positive and is the weight of the learnt similarities.
    gene_power
        Exponent applied to the eigenvalues of the genes' Gram matrix to obtain the gene kernel; 0 treats all directions
        alike.
    max_iter
        Maximum number of sweeps over the tensor.
    tol
        Convergence tolerance: the solver stops when a sweep changes the missing entries by less than this share of the
        norm of the measured ones.
    variance
        Whether to compute the posterior variance. This takes the eigenvectors of a square matrix of all profiles
        without gaps, of which there must be at least 1 and at most 8000.
    single_precision
        Whether to compute products in float32, which halves memory and time.
    n_folds
        Number of folds of the inner cross-validation over whole profiles, which ``"cv"`` asks for. It starts from the
        middle candidates and changes one of the three parameters by one step at a time, as long as the squared error of
        the held-out profiles falls. For large tensors it uses a random subset of the treatments.
    noises
        Candidates for `noise`, ascending.
    own_shares
        Candidates for `own_share`, ascending.
    common_shares
        Candidates for `common_share`, ascending.
    random_state
        Seed of the folds and of the subset of treatments.

    References
    ----------
    Described in :doc:`/tensors`; it belongs to the family of :cite:t:`Allen2010`.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> options = kx.tl.KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.0)
    >>> kx.tl.complete_tensor(mdata, options=options)
    >>> mdata.uns["completion"]["chosen"]["noise"]
    1.0
    """

    noise: float | Literal["cv"] = "cv"
    own_share: float | Literal["cv"] = "cv"
    common_share: float | Literal["cv"] = "cv"
    gene_power: float = 0.5
    max_iter: int = 100
    tol: float = 1e-3
    variance: bool = False
    single_precision: bool = False
    n_folds: int = 5
    noises: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    own_shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65)
    common_shares: tuple[float, ...] = (0.0, 0.15, 0.3)
    random_state: int = 0


@dataclass(frozen=True)
class Kernel:
    """A positive semi-definite matrix: eigenvalues ``(k,)`` and eigenvectors ``(n, k)``."""

    values: np.ndarray
    vectors: np.ndarray

    @property
    def dense(self) -> np.ndarray:
        """The matrix itself."""
        return (self.vectors * self.values) @ self.vectors.T


def posterior_mean(x: np.ndarray, treatment: Kernel, context: Kernel, gene: Kernel | None, noise: float) -> np.ndarray:
    """Give Eq. 1 for fixed kernels and a tensor without gaps; ``gene=None`` is the identity."""
    genes, axes = (np.ones(x.shape[2]), None) if gene is None else (gene.values, gene.vectors)
    with jax.enable_x64(True):
        sizes = treatment.values, context.values, genes, np.float64(noise)
        return np.asarray(_smooth(jnp.asarray(x, jnp.float64), treatment.vectors, context.vectors, axes, *sizes))


@jax.jit
def _smooth(
    x: Array, v_d: Array, v_c: Array, axes: Array | None, w_d: Array, w_c: Array, w_g: Array, noise: Array
) -> Array:
    """Give Eq. 1. ``axes`` are the genes' eigenvectors, or None where ``x`` is already in their coordinates."""
    rotated = x if axes is None else jnp.matmul(x, axes, precision="highest")
    rotated = along(v_d.T, along(v_c.T, rotated, CONTEXT), TREATMENT)
    prior = w_d[:, None, None] * w_c[:, None] * w_g
    rotated = rotated * (prior / (prior + noise))
    rotated = along(v_c, along(v_d, rotated, TREATMENT), CONTEXT)
    return rotated if axes is None else jnp.matmul(rotated, axes.T, precision="highest")


@partial(jax.jit, donate_argnames=["x", "last"])
def _sweep(
    x: Array, last: Array, missing: Array, weight: Array, *kernels: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Put Eq. 1 in the place of the missing entries of ``x``.

    Returns
    -------
    The filled tensor; the one to go on from, ``weight`` times the way from the ``last`` one to this further on, or this
    one itself if that way has become wrong (O'Donoghue and Candès 2015); whether it has not; and the square of the change.
    """
    new = jnp.where(missing, _smooth(x, *kernels), x)
    change, way = new - x, new - last
    right = jnp.vdot(change, way) > 0.0
    return new, new + jnp.where(right, weight, 0.0) * way, right, jnp.vdot(change, change)


@jax.jit
def _second_moments(x: Array, axes: Array | None) -> tuple[Array, Array]:
    """Give the Gram matrix of treatments and the genes' spectrum."""
    rotated = x if axes is None else jnp.matmul(x, axes, precision="highest")
    return gram(x, TREATMENT), jnp.sum(jnp.square(rotated), axis=(0, 1))


def kronecker(
    values: np.ndarray,
    options: KroneckerOptions = KroneckerOptions(),
    *,
    width: int | None = None,
    progress: bool = False,
) -> Completion:
    """Complete a tensor by the Wiener smoother of Eq. 1, its kernels learnt on the way.

    Starts at ``mean_2d``. Where fibers are missing whole, the genes are first rotated to the principal axes of the
    measured ones, which changes nothing but the time. Single missing entries are filled in the same way; the genes'
    kernel then has the eigenvectors of the first filled tensor. A treatment never measured is predicted by its
    context's mean, a context never measured by the treatment's mean, and flagged.

    The confidence is the cosine of a predicted profile and its measurement that is to be expected. The norm of a
    prediction relative to that of measured profiles ranks predictions; what held-out fibers of that rank reached, in a
    cross-validation, is the confidence.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`KroneckerOptions`.
    width
        See :func:`kronax.solvers.tensor.unfold.compress`.
    progress
        Whether long work shows a progress bar.
    """
    measured = ~np.isnan(values)
    require_values(measured)
    if (result := without_work(values, measured)) is not None:
        return result
    with jax.enable_x64(True):
        task = _rotate(values, measured, options, width)
        folds = _folds(task, options)
        prior = _choose(folds, options, progress)
        calibration = _calibration(folds, prior, options)
        x, trace, converged, reason = _solve(task, prior, options.tol, options.max_iter, progress, _start(task.values))
        variance = _variance(task, x, prior) if options.variance else None
        predicted, basis = np.asarray(x), task.basis
    del x, task  # each as large as the tensor
    if basis is not None:
        predicted = predicted @ basis
    predicted, fallback = _fall_back(values, measured, predicted)
    completed = merged(values, predicted)
    confidence = calibration(_relative_size(values, measured, completed))
    return Completion(
        values=completed,
        fallback=fallback,
        confidence=np.where(fallback == Fallback.NONE, confidence, np.nan),
        variance=variance,
        objective=np.array(trace),
        n_iter=len(trace),
        converged=converged,
        reason=reason,
        parameters=asdict(prior),
    )


@dataclass(frozen=True)
class _Prior:
    """``λ`` of Eq. 1, ``s`` and ``t`` of Eq. 2."""

    noise: float
    own_share: float
    common_share: float


@dataclass(frozen=True)
class _Task:
    """A tensor ``(D, C, r)`` in the coordinates in which it is smoothed.

    ``values`` are NaN where missing; ``basis`` (r, G) leads back to the genes, None if these are the coordinates;
    ``axes`` (r, k) are the genes' eigenvectors in these coordinates, None if they are the coordinates themselves;
    ``n_axes`` is the number of eigenvalues of the genes' kernel that can differ from 0.
    """

    values: np.ndarray
    basis: np.ndarray | None
    axes: np.ndarray | None
    n_axes: int
    gene_power: float
    dtype: type


def _rotate(values: np.ndarray, measured: np.ndarray, options: KroneckerOptions, width: int | None) -> _Task:
    """Choose the genes' coordinates: their principal axes, of the measured fibers if these are whole."""
    n_genes = values.shape[2]
    dtype = np.float32 if options.single_precision else np.float64
    if whole_fibers(measured):
        rows = values[measured[:, :, 0]].astype(np.float64)
        axes = _principal_axes(rows)
        n_axes = axes.shape[1]
        size = min(n_genes, max(n_axes, width or 0))
        basis = np.zeros((size, n_genes))
        basis[:n_axes] = axes.T
        scores = np.full((*measured.shape[:2], size), np.nan, dtype)
        scores[measured[:, :, 0]] = rows @ basis.T
        return _Task(scores, basis, None, n_axes, options.gene_power, dtype)
    axes = None
    if options.gene_power > 0:
        start = np.where(measured, values, two_means(values)[0])
        axes = _principal_axes(start.reshape(-1, n_genes)).astype(dtype)
    return _Task(
        values.astype(dtype), None, axes, n_genes if axes is None else axes.shape[1], options.gene_power, dtype
    )


def _principal_axes(rows: np.ndarray) -> np.ndarray:
    """Give the principal axes of a matrix, not centred, ``(G, min(n, G))``, the largest first."""
    if len(rows) >= rows.shape[1]:
        return eigh(rows.T @ rows)[1][:, ::-1]
    span, coordinates = lapack(np.linalg.qr, rows.T)
    return span @ eigh(coordinates @ coordinates.T)[1][:, ::-1]


@dataclass(frozen=True)
class _Start:
    """Where a solve starts: a tensor ``filled`` by ``mean_2d``, where values were ``missing``, and the contexts' kernel."""

    filled: np.ndarray
    missing: np.ndarray
    context: Kernel


def _start(values: np.ndarray) -> _Start:
    """Fill a tensor, with 0 in treatments, contexts and genes without any value."""
    missing = np.isnan(values)
    filled = np.where(missing, two_means(values)[0].astype(values.dtype), values)
    filled[_without_any(missing)] = 0.0
    return _Start(filled, missing, _context_kernel(filled, missing))


def _without_any(missing: np.ndarray) -> np.ndarray:
    """Mark the entries of treatments, contexts and genes of which nothing was measured."""
    return missing.all(axis=(1, 2))[:, None, None] | missing.all(axis=(0, 2))[:, None] | missing.all(axis=(0, 1))


def _kernels(task: _Task, x: Array, prior: _Prior, missing: np.ndarray) -> tuple[Kernel, np.ndarray]:
    """Take the treatments' kernel (Eq. 2) and the genes' spectrum from a filled tensor."""
    treatments, genes = _second_moments(x, task.axes)
    has = ~missing.all(axis=(1, 2))
    similar = 1.0 - prior.own_share - prior.common_share
    mixture = np.asarray(treatments, np.float64) * (similar * has.sum() / float(jnp.trace(treatments)))
    mixture += prior.own_share * np.diag(has) + prior.common_share * np.outer(has, has)  # (2)
    w_g = np.ones(len(genes))
    if task.gene_power > 0:
        w_g = _mean_one(np.asarray(genes, np.float64) ** task.gene_power, task.n_axes)
    return Kernel(*eigh(mixture)), w_g


def _context_kernel(filled: np.ndarray, missing: np.ndarray) -> Kernel:
    """Take the contexts' kernel from what was measured (Eq. 3)."""
    n_contexts, n_genes = filled.shape[1:]
    products, squares, both = (np.zeros((n_contexts, n_contexts)) for _ in range(3))
    for profiles, gaps in zip(filled, missing, strict=True):  # treatment by treatment, to save memory
        known = (~gaps).astype(np.float64)
        values = profiles * known
        products += values @ values.T
        squares += values**2 @ known.T  # of a context's entries, those that were measured in the other too
        both += known @ known.T
    shared, n = both / n_genes, np.diag(both) / n_genes
    has = n > 0
    rho = _ratio(products, np.sqrt(squares * squares.T))
    usual = np.average(rho, weights=shared - np.diag(n)) if has.sum() > 1 and (shared - np.diag(n)).any() else 0.0
    r = (shared * rho + usual) / (shared + 1.0)
    np.fill_diagonal(r, 1.0)
    size, mean = _ratio(np.diag(squares), np.diag(both)), np.trace(squares) / np.trace(both)
    log_a = np.log(np.where(size > 0, size, mean) / mean) * n / (n + 1.0)
    root = np.where(has, np.exp(0.5 * log_a), 0.0)
    values, vectors = eigh(r * np.outer(root, root))
    return Kernel(_mean_one(values, int(has.sum())), vectors)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _mean_one(spectrum: np.ndarray, count: int) -> np.ndarray:
    """Scale eigenvalues to mean 1 over the ``count`` of them that can differ from 0."""
    return spectrum * (count / spectrum.sum())


def _solve(
    task: _Task, prior: _Prior, tol: float, max_iter: int, progress: bool, start: _Start
) -> tuple[Array, list[float], bool, str]:
    """Iterate Eq. 1; give the filled tensor, the relative change of every sweep, whether it ended well, and why."""
    missing, context = start.missing, start.context
    goal = tol * float(np.linalg.norm(np.where(missing, 0.0, start.filled)))
    x, new, gaps = jnp.array(start.filled), jnp.array(start.filled), jnp.asarray(missing)
    del start  # as large as the tensor
    momentum = 0
    trace: list[float] = []
    for _ in tqdm(range(max_iter), desc="kronecker", unit="sweep", delay=2, leave=False, disable=not progress):
        treatment, genes = _kernels(task, x, prior, missing)
        arrays = treatment.vectors, context.vectors, task.axes, treatment.values, context.values, genes, prior.noise
        weight = np.asarray(momentum / (momentum + 3.0), task.dtype)
        on_device = (None if a is None else jnp.asarray(a, task.dtype) for a in arrays)
        new, x, right, square = _sweep(x, new, gaps, weight, *on_device)
        momentum = momentum + 1 if right else 0
        trace.append(float(square) ** 0.5)
        if trace[-1] < goal:
            reason = f"a sweep changed the missing entries by {trace[-1]:.2g}, less than {goal:.2g}"
            return new, trace, True, reason
    reason = f"the last of {max_iter} sweeps still changed the missing entries by {trace[-1]:.2g}, more than {goal:.2g}"
    return new, trace, False, reason


@dataclass(frozen=True)
class _Folds:
    """Whole fibers held out of a task: for every fold their mask, and where a solve without them starts."""

    task: _Task
    held: list[tuple[np.ndarray, _Start]]

    def predictions(
        self, prior: _Prior, tol: float, max_iter: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Give the mask of every fold, its gaps, and what is predicted there.

        All priors start alike, or those that were tried last, nearer to their fixed points, would not be compared fairly.
        """
        for mask, start in self.held:
            yield mask, start.missing, np.asarray(_solve(self.task, prior, tol, max_iter, False, start)[0])


def _folds(task: _Task, options: KroneckerOptions) -> _Folds:
    """Hold fibers out of the part of a task that candidates are ranked on; no folds if there are none to spare."""
    task = _for_ranking(task, options.random_state)
    some = ~np.isnan(task.values).all(axis=2)
    n_spare = int(some[some.sum(axis=1) > 1].sum())
    if n_spare < 2:
        return _Folds(task, [])
    masks = fiber_folds(some, min(options.n_folds, n_spare), options.random_state)
    return _Folds(task, [(mask, _start(np.where(mask[:, :, None], np.nan, task.values))) for mask in masks])


def _choose(folds: _Folds, options: KroneckerOptions, progress: bool) -> _Prior:
    """Settle the prior, by cross-validation over fibers where asked for."""
    grid = [
        candidates if chosen == "cv" else (float(chosen),)
        for chosen, candidates in (
            (options.noise, options.noises),
            (options.own_share, options.own_shares),
            (options.common_share, options.common_shares),
        )
    ]

    def at(place: tuple[int, ...]) -> _Prior:
        return _Prior(*(candidates[i] for candidates, i in zip(grid, place, strict=True)))

    middle = tuple(len(candidates) // 2 for candidates in grid)
    if max(map(len, grid)) == 1 or not folds.held:  # nothing to choose, or nothing to hold out
        return at(middle)
    values = folds.task.values
    bar = tqdm(desc="cross-validation", unit=" candidate", delay=2, leave=False, disable=not progress)

    def errors(place: tuple[int, ...]) -> Iterator[float]:
        bar.update()
        for mask, _, x in folds.predictions(at(place), _CV_TOL, _CV_SWEEPS):
            yield float(np.nansum(np.square(x[mask] - values[mask]), dtype=np.float64))

    with bar:
        return at(_descend(errors, tuple(map(len, grid)), middle))


def _for_ranking(task: _Task, random_state: int) -> _Task:
    """Give the part of a task that the candidates of the cross-validation are ranked on, in float32."""
    n, *others = task.values.shape
    most = min(_CV_TREATMENTS, int(np.sqrt(_CV_WORK / np.prod(others))))
    some = np.arange(n)
    if n > most:
        some = np.sort(np.random.default_rng(random_state).choice(n, max(most, 2), replace=False))
    axes = None if task.axes is None else task.axes.astype(np.float32)
    return replace(task, values=task.values[some].astype(np.float32), axes=axes, dtype=np.float32)


def _descend(
    errors: Callable[[tuple[int, ...]], Iterator[float]], shape: tuple[int, ...], start: tuple[int, ...]
) -> tuple[int, ...]:
    """Go over a grid, one coordinate after the other and step by step, until no step makes the errors' sum smaller."""
    best, known = start, {start: list(errors(start))}
    improved = True
    while improved:
        improved = False
        for axis, size in enumerate(shape):
            for direction in (-1, 1):
                while 0 <= best[axis] + direction < size:
                    near = (*best[:axis], best[axis] + direction, *best[axis + 1 :])
                    if near not in known:
                        known[near] = _raced(errors(near), known[best])
                    if sum(known[near]) >= sum(known[best]):
                        break
                    best, improved = near, True
    return best


def _raced(errors: Iterator[float], best: list[float]) -> list[float]:
    """Take a candidate's errors fold by fold; give it up, as infinitely bad, when the first are all larger than the best's."""
    found = list(islice(errors, _CV_TRIAL))
    if all(mine >= other for mine, other in zip(found, best, strict=False)):
        return [np.inf]
    return found + list(errors)


def _fall_back(values: np.ndarray, measured: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put ``mean_2d`` where the treatment, the context or the gene was never measured; give the codes of fibers."""
    unknown = _without_any(~measured)
    if not unknown.any():
        return predicted, np.zeros(values.shape[:2], np.int8)
    mean, code = two_means(values)
    code = per_fiber(np.where(unknown, code, 0), ~measured, measured.any(axis=(0, 1)))
    return np.where(unknown, mean, predicted), code


def _calibration(folds: _Folds, prior: _Prior, options: KroneckerOptions) -> Callable[[np.ndarray], np.ndarray]:
    """Give the function from a prediction's relative size to the cosine that it is expected to have with a measurement.

    Were the kernels the true ones, both would be the same. As they are learnt from the data, the function is what held-out
    fibers reached, made ascending: means over groups of them, straight lines in between.
    """
    sizes, cosines = [], []
    tol, max_iter = max(options.tol, _CONFIDENCE_TOL), min(options.max_iter, _CONFIDENCE_SWEEPS)
    for mask, missing, x in folds.predictions(prior, tol, max_iter):
        sizes.append(_relative_size(np.where(missing, np.nan, x), ~missing, x)[mask])
        cosines.append(_cosines(folds.task.values[mask], x[mask]))
    size, cosine = (np.concatenate([*part, []]) for part in (sizes, cosines))
    size, cosine = size[~np.isnan(cosine)], cosine[~np.isnan(cosine)]
    if len(size) == 0:
        return lambda relative_size: np.minimum(relative_size, 1.0)
    groups = np.array_split(np.argsort(size, kind="stable"), np.clip(len(size) // _LEAST_GROUP, 1, _GROUPS))
    knots = [size[group].mean() for group in groups]
    level = isotonic_regression([cosine[group].mean() for group in groups]).x
    return lambda relative_size: np.where(  # NaN where nothing is missing
        np.isnan(relative_size), np.nan, np.clip(np.interp(relative_size, knots, level), 0.0, 1.0)
    )


def _cosines(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Give the cosine between rows over the entries that were measured; NaN where undefined."""
    has = ~np.isnan(truth)
    t, p = (np.where(has, x, 0.0).astype(np.float64) for x in (truth, predicted))
    length = np.linalg.norm(t, axis=1) * np.linalg.norm(p, axis=1)
    return np.divide((t * p).sum(axis=1), length, out=np.full(len(t), np.nan), where=length > 0)


def _relative_size(values: np.ndarray, measured: np.ndarray, completed: np.ndarray) -> np.ndarray:
    """Relate the size of a prediction to that expected of a measured fiber of its treatment and context.

    The size of a context is that of its kernel (Eq. 3): where little is known of it, predictions are not of its own size.
    """
    known, gaps = measured.sum(axis=2), (~measured).sum(axis=2)
    square = _squares(values, measured)
    overall = square.sum() / known.sum()

    def relative(axis: int) -> np.ndarray:  # the mean square of a treatment or context
        count = known.sum(axis=axis)
        mean = np.divide(square.sum(axis=axis), count, out=np.full(count.shape, overall), where=count > 0)
        return mean / overall if overall > 0 else np.ones_like(mean)

    n = known.sum(axis=0) / values.shape[2]
    expected = overall * relative(1)[:, None] * relative(0) ** (n / (n + 1.0))
    size = np.divide(_squares(completed, ~measured), gaps, out=np.full(gaps.shape, np.nan), where=gaps > 0)
    ratio = np.divide(size, expected, out=np.zeros_like(size), where=expected > 0)
    return np.where(gaps > 0, np.sqrt(ratio), np.nan)


def _squares(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Sum the squares of some of a fiber's entries, ``(D, C)``; treatment by treatment, to save memory."""
    return np.array([np.square(v, dtype=np.float64).sum(axis=1, where=w) for v, w in zip(values, where, strict=True)])


def _variance(task: _Task, x: Array, prior: _Prior) -> np.ndarray:
    """Give the posterior variance of the signal in missing entries, ``(D, C)``, averaged over genes, in squared units.

    With the eigenvalues ``e`` and eigenvectors ``U`` of the measured fibers' covariance ``K_oo``, and along gene axis
    ``k`` with eigenvalue ``g``: ``g K_ff − Σ_e (g K_fo U)_e² / (g e + λ)``. The kernels are relative; the mean square of
    the measured entries, which is that of ``S`` and of the noise, sets the unit. A fiber with some entries measured
    counts as missing: its variance is an upper bound.
    """
    missing = np.isnan(task.values)
    whole = ~missing.any(axis=2)
    rows, cols = np.nonzero(whole)
    if len(rows) > MOST_FIBERS:
        msg = (
            f"The posterior variance needs the eigenvectors of a {len(rows)} × {len(rows)} matrix "
            f"({24 * len(rows) ** 2 / 2**30:.0f} GiB); it is offered up to {MOST_FIBERS} measured fibers. "
            "Complete without it, or fewer treatments."
        )
        raise ValueError(msg)
    context = _context_kernel(np.asarray(x), missing)
    treatment, genes = _kernels(task, x, prior, missing)
    n_genes = task.values.shape[2] if task.basis is None else task.basis.shape[1]
    n_axes = task.n_axes
    if task.gene_power == 0:  # no direction is without signal, outside the measured fibers' span neither
        genes, n_axes = np.ones(n_genes), n_genes
    k_d, k_c = treatment.dense, context.dense
    values, vectors = eigh(k_d[np.ix_(rows, rows)] * k_c[np.ix_(cols, cols)])
    gain = np.array([(genes**2 / (genes * e + prior.noise)).sum() for e in values])
    before = np.outer(np.diag(k_d), np.diag(k_c))
    variance = before * genes.sum()
    for c in range(len(k_c)):
        variance[:, c] -= np.square((k_d[:, rows] * k_c[c, cols]) @ vectors) @ gain
    square = np.nansum(np.square(task.values), dtype=np.float64) / len(rows)  # of a fiber
    unit = square / (before[whole].mean() * genes.sum() + prior.noise * n_axes)
    return np.where(missing.any(axis=2), np.maximum(unit * variance / n_genes, 0.0), 0.0)
