"""``kronecker``: an empirical-Bayes Wiener smoother over treatments, contexts and genes.

The model of a tensor is ``X = S + noise``, ``vec S ~ N(0, K_treatment ⊗ K_context ⊗ K_gene)``, white noise. With the
kernels' eigenvectors ``V`` and eigenvalues ``w``, the posterior mean of ``S`` given a tensor without gaps is

    ``Z = (V_d, V_c, V_g) h (V_d, V_c, V_g)ᵀ X``,   ``h_ijk = w_i w_j w_k / (w_i w_j w_k + λ)``.                    (1)

Given a tensor with gaps, it is the fixed point of ``X = measured values, Z elsewhere``. All kernels are scaled to mean
eigenvalue 1. Two are computed from the filled tensor in every sweep: a power of the genes' spectrum, and a mixture with the
treatments' Gram matrix ``Γ``,

    ``K_treatment = (1 − u) [(1 − s − t) Γ + s I + t 11ᵀ] + u S``.                                                  (2)

``s`` weights what a treatment shares with no other, which is learnt from its other contexts; ``t`` weights what it shares
with all, the context's mean. ``S`` is a given similarity of treatments, if there is one. The contexts' kernel is learnt from measured values alone,

    ``K_context = A^½ R A^½``,   ``r_bc = (n_bc ρ_bc + ρ̄) / (n_bc + 1)``,   ``log a_c = (n_c log m_c + log m̄) / (n_c + 1)``,    (3)

with the mean square ``m_c`` of ``n_c`` profiles and the correlation ``ρ_bc`` of the ``n_bc`` treatments measured in both,
each as if one more treatment had shown the usual value: ``ρ̄ = (Σ n_bc ρ_bc + 5·½) / (Σ n_bc + 5)`` over pairs ``b < c``, or what a
given similarity or coordinates of contexts predict (:mod:`kronax.solvers.tensor.wiener.contexts`). Predictions are left out, because they confirm the kernel that made
them: a right one they would only reproduce on average, a wrong one they would keep, and a context with few profiles would keep
whatever size it began with.

With precisions ``w`` of the measured values, relative to the most precise, the fixed point of ``X = Z + w∘(Y − Z)`` is the posterior
mean with noise ``λ / w``; ``w = 0`` where nothing was measured.

A sweep thus costs one treatments × treatments eigenproblem, and products of a matrix of that size with the tensor. Starting
each sweep ahead of where the last one ended, as in Nesterov's method, halves their number and leaves the fixed point
unchanged.
"""

from dataclasses import asdict

import jax
import numpy as np

from kronax.solvers.device import to_host
from kronax.solvers.tensor.completion import (
    Completion,
    Fallback,
    equivariant,
    merged,
    per_fiber,
    require_values,
    without_any,
    without_work,
)
from kronax.solvers.tensor.connection import unlinked
from kronax.solvers.tensor.means import two_means
from kronax.solvers.tensor.method import Memory, tensors
from kronax.solvers.tensor.side import NOTHING, Side
from kronax.solvers.tensor.wiener.choose import choose
from kronax.solvers.tensor.wiener.confidence import calibration, expected_cosines, relative_size
from kronax.solvers.tensor.wiener.coordinates import Task, rotate
from kronax.solvers.tensor.wiener.held_out import folds_of
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.solvers.tensor.wiener.shared import Known
from kronax.solvers.tensor.wiener.sweep import solve, start_of
from kronax.solvers.tensor.wiener.unmeasured import Unmeasured, predict_unmeasured, with_similarity
from kronax.solvers.tensor.wiener.variance import posterior_variance, require_fibers


@equivariant
def kronecker(
    values: np.ndarray,
    options: KroneckerOptions = KroneckerOptions(),
    *,
    progress: bool = False,
    side: Side = NOTHING,
    known: Known | None = None,
) -> Completion:
    """Complete a tensor by the Wiener smoother of Eq. 1, its kernels learnt on the way.

    Starts at means. Where fibers are missing whole, the genes are first rotated to the principal axes of the
    measured ones, which changes nothing but the time. Single missing entries are filled in the same way; the genes'
    kernel then has the eigenvectors of the first filled tensor. A treatment never measured is predicted by similar ones, if a
    similarity is given and of use, otherwise by its context's mean; a context never measured by those that it is linked with,
    otherwise by the treatment's mean; and flagged. So are fibers without a link
    between treatment and context: their predictions assume the usual correlation ``ρ̄`` of contexts.

    The confidence is the expected cosine of a predicted profile and its measurement. Predictions are ranked by their norm
    relative to that of measured profiles. The confidence is what held-out fibers of the same rank reached in a
    cross-validation; across blocks of contexts that few treatments link, what fibers held out across blocks reached.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`KroneckerOptions`.
    progress
        Whether long work shows a progress bar.
    side
        Similarities and coordinates, and precisions of the measured values.
    known
        The prior, and what held-out fibers reached, where both are known (:mod:`kronax.solvers.tensor.wiener.shared`).
    """
    measured = ~np.isnan(values)
    require_values(measured)
    if (result := without_work(values, measured)) is not None:
        return result
    with jax.enable_x64(True):
        task = with_similarity(rotate(values, measured, options, side), side, options.random_state)
        prior, within = known or _found_out(task, options, progress)
        expected = expected_cosines(task, within, prior, options)
        start = start_of(task)
        target = start.target
        x, status = solve(task, prior, options.tol, options.max_iter, progress, start)
        variance = posterior_variance(task, x, prior) if options.variance else None
        unmeasured = predict_unmeasured(task, to_host(x), prior, options, side)
        predicted, basis = unmeasured.values, task.basis
    del x, task, start  # each as large as the tensor
    if basis is not None:
        predicted = predicted @ basis
    predicted, fallback = _fall_back(values, measured, predicted, unmeasured)
    completed = merged(values, predicted)
    size = relative_size(values, measured, completed)
    by_similarity = np.where(fallback == Fallback.SIMILARITY, unmeasured.expected(size), np.nan)
    return Completion(
        values=completed,
        fallback=fallback,
        confidence=np.where(fallback == Fallback.NONE, expected(size), by_similarity),
        variance=variance,
        information=unmeasured.information,
        status=status,
        parameters=_chosen(prior, unmeasured, target),
        stand_in="similar ones, or means," if unmeasured.treatments.any() or unmeasured.contexts.any() else "means",
        notes=unmeasured.notes,
    )


def _found_out(task: Task, options: KroneckerOptions, progress: bool) -> Known:
    """Choose the prior and calibrate the confidences by fibers held out of the task."""
    folds = folds_of(task, options)
    prior = choose(folds, options, progress)
    return Known(prior, calibration(folds, prior, options))


def _chosen(prior: Prior, unmeasured: Unmeasured, target: dict[str, float]) -> dict[str, float | str]:
    """Return the parameters; those of side information only where some was given."""
    parameters = asdict(prior)
    if unmeasured.kriging is None:
        del parameters["similarity_share"]
        return parameters | target
    kriging = unmeasured.kriging
    return parameters | {"treatment_similarity": kriging.name or "none", "delta": kriging.delta} | target


def _fall_back(
    values: np.ndarray, measured: np.ndarray, predicted: np.ndarray, unmeasured: Unmeasured
) -> tuple[np.ndarray, np.ndarray]:
    """Put ``mean_2d`` where the treatment, the context or the gene was never measured, and nothing similar; return the codes."""
    unknown, apart = without_any(~measured), unlinked(measured)
    if not (unknown.any() or apart.any()):
        return predicted, np.zeros(values.shape[:2], np.int8)
    similar = unmeasured.fibers[:, :, None] & measured.any(axis=(0, 1))
    mean, code = two_means(values)
    code = np.where(unknown, code, np.where(apart, Fallback.UNLINKED, Fallback.NONE))
    code = np.where(similar, Fallback.SIMILARITY, code)
    return np.where(unknown & ~similar, mean, predicted), per_fiber(code, ~measured, measured.any(axis=(0, 1)))


def needs(measured: np.ndarray, options: KroneckerOptions) -> Memory:
    """Estimate the memory of a solve; for the variance, require a number of fibers without gaps that it allows."""
    memory = tensors(12, with_gaps=23)(measured, options)
    if not options.variance:
        return memory
    n_whole = int(measured.all(axis=2).sum())
    require_fibers(n_whole)
    return Memory(max(memory.n_bytes, 16 * measured.size + 24 * n_whole**2), "complete with `variance=False`")
