"""Which fibers to measure next: those whose measurement lowers the posterior variance of all others most, one after the other.

Under the model of :mod:`kronax.solvers.tensor.wiener.kronecker`, the signals ``S_f`` of the fibers ``f = (d, c)`` have the covariance

    ``K = (F F ᵀ + diag(o)) ⊗ K_context``,                                                                          (7)

what treatments share and what is their own, and noise ``λ_f``. With ``K_context = E Eᵀ`` and the features ``φ_dc = F_d ⊗ E_c``,
``S_dc = φ_dc θ + b_dc``, where ``θ`` is standard normal and every treatment has its own ``b``, with covariance ``o_d K_context``.
Given ``θ``, treatments are independent. The posterior covariance is therefore

    ``P_ff' = ψ_f Λ⁻¹ ψ_f' + δ_dd' B_d,cc'``,                                                                       (8)

with what a treatment's own profiles leave of its features and of its own covariance, ``ψ`` and ``B``, and a matrix ``Λ`` of the size of
the features. Measuring ``f`` lowers the variance of the other fibers by ``Σ P_ff'² / (P_ff + λ)``, whatever its value will be, and
changes ``Λ``, ``ψ_d`` and ``B_d`` by one rank. No matrix of fibers × fibers is formed.

The genes' spectrum ``g`` is replaced by the one number ``Σ g² / Σ g``, which is that of a gene axis weighted by its signal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from kronax.solvers.device import to_device
from kronax.solvers.tensor.completion import unit_of
from kronax.solvers.tensor.side import NOTHING, Links, Side
from kronax.solvers.tensor.wiener import kernels
from kronax.solvers.tensor.wiener.coordinates import rotate
from kronax.solvers.tensor.wiener.kriging import Kriging
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.solvers.tensor.wiener.variance import kernels_of

_MOST_FEATURES, _MOST_NUMBERS = 1500, 5e7  # the largest products of eigenvalues; and of all features of fibers
_ROUNDING = 1e-12  # of the variance of all gaps: a smaller gain is none


@dataclass(frozen=True)
class Prior:
    """Covariance and noise of fibers: Eq. 7.

    Attributes
    ----------
    shared
        ``F Fᵀ``, ``(D, D)``.
    own
        ``o``, ``(D,)``.
    context
        ``(C, C)``.
    noise
        ``(D, C)``: that of the fibers that were measured, and of the others if they were.
    """

    shared: np.ndarray
    own: np.ndarray
    context: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class Experiments:
    """The fibers chosen, in their order.

    Attributes
    ----------
    treatment, context
        ``(n,)``.
    gain
        ``(n,)``: by how much each lowers the variance of the others, as a share of the variance of all before the first.
    """

    treatment: np.ndarray
    context: np.ndarray
    gain: np.ndarray


class Posterior:
    """The posterior covariance of all fibers: Eq. 8."""

    def __init__(self, prior: Prior, measured: np.ndarray) -> None:
        n_treatments, n_contexts = measured.shape
        most = int(max(min(_MOST_FEATURES, _MOST_NUMBERS / measured.size), n_contexts))
        self.noise, self.gaps = prior.noise, ~measured
        self.psi = _features(prior.shared, prior.context, most)
        self.own = prior.own[:, None, None] * prior.context
        precision = np.eye(self.psi.shape[2])
        for d in range(n_treatments):
            o = measured[d]
            if not o.any():
                continue
            inverse = np.linalg.inv(self.own[d][np.ix_(o, o)] + np.diag(prior.noise[d, o]))
            known, gain = self.psi[d, o], self.own[d][:, o] @ inverse
            precision += known.T @ inverse @ known
            self.psi[d] = self.psi[d] - gain @ known
            self.own[d] = self.own[d] - gain @ self.own[d][o]
        self.inverse = np.linalg.inv(precision)
        there = self.psi[self.gaps]
        self.all = there.T @ there
        self.left = self.psi @ self.inverse
        self.among = _rows(self.left @ self.all, self.left)
        self.shared = self.left @ np.swapaxes(self.psi, 1, 2)

    @property
    def variance(self) -> np.ndarray:
        """The diagonal of Eq. 8, ``(D, C)``."""
        return np.einsum("dcc->dc", self.shared + self.own)

    def gains(self) -> np.ndarray:
        """Return ``Σ P_ff'² / (P_ff + λ)`` of every fiber ``f`` over all other gaps ``f'``, ``(D, C)``."""
        both = self.shared + self.own  # with the treatment's own fibers; elsewhere, P has its first part alone
        others = self.gaps[:, None, :] & ~np.eye(self.gaps.shape[1], dtype=bool)
        itself = np.einsum("dcc->dc", self.shared)
        total = self.among - self.gaps * itself**2 + np.sum((both**2 - self.shared**2) * others, axis=2)
        return total / (np.einsum("dcc->dc", both) + self.noise)

    def measure(self, d: int, c: int) -> None:
        """Take in the measurement of a fiber: a change of one rank in everything, and anew in its treatment."""
        column, psi = self.own[d][:, c].copy(), self.psi[d, c].copy()
        unknown = column[c] + self.noise[d, c]
        share = column / unknown
        self.gaps[d, c] = False
        self._forget(d, psi, share)
        way = self.inverse @ psi  # Λ⁻¹ loses way wayᵀ / scale
        scale = unknown + psi @ way
        along = self.psi @ way
        self.among += (along / scale) * (
            (along / scale) * (way @ self.all @ way) - 2.0 * (self.left @ (self.all @ way))
        )
        self.left -= (along / scale)[:, :, None] * way
        self.shared -= along[:, :, None] * along[:, None, :] / scale
        self.inverse -= np.outer(way, way) / scale
        self.psi[d] -= np.outer(share, psi)
        self.own[d] -= np.outer(column, column) / unknown
        self.left[d] = self.psi[d] @ self.inverse
        self.among[d] = _rows(self.left[d] @ self.all, self.left[d])
        self.shared[d] = self.left[d] @ self.psi[d].T

    def _forget(self, d: int, psi: np.ndarray, share: np.ndarray) -> None:
        """Let the sum over gaps be over those that are left of a treatment, whose features will lose ``share ψᵀ``.

        With ``v = Σ share ψ_c`` over these gaps, the sum of ``ψ ψᵀ`` changes by ``−v ψᵀ − ψ vᵀ + (Σ share² − 1) ψ ψᵀ``.
        """
        gaps = self.gaps[d]
        v, rest = share[gaps] @ self.psi[d, gaps], np.square(share[gaps]).sum() - 1.0
        self.all += rest * np.outer(psi, psi) - np.outer(v, psi) - np.outer(psi, v)
        one, other = self.left @ psi, self.left @ v
        self.among += rest * one**2 - 2.0 * one * other


def _rows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Multiply row by row."""
    return np.einsum("...k,...k->...", one, other)


def choose_experiments(prior: Prior, measured: np.ndarray, candidates: np.ndarray, n: int) -> Experiments:
    """Choose up to ``n`` of the candidates ``(D, C)``, each given those before it, as long as they tell of others."""
    posterior = Posterior(prior, measured)
    candidates = candidates & ~measured
    total = posterior.variance[~measured].sum()
    found = []
    for _ in range(min(n, int(candidates.sum()))):
        gains = np.where(candidates, posterior.gains(), -np.inf)
        d, c = np.unravel_index(gains.argmax(), gains.shape)
        if not gains[d, c] > _ROUNDING * total:
            break
        found.append((d, c, gains[d, c] / total))
        posterior.measure(d, c)
        candidates[d, c] = False
    treatment, context, gain = np.array(found).reshape(-1, 3).T
    return Experiments(treatment.astype(int), context.astype(int), gain)


def _features(shared: np.ndarray, context: np.ndarray, most: int) -> np.ndarray:
    """Return features ``φ`` with ``φ φᵀ = shared ⊗ context``, ``(D, C, k)``, of at most so many products of eigenvalues."""
    (w_d, v_d), (w_c, v_c) = np.linalg.eigh(shared), np.linalg.eigh(context)
    w = np.outer(np.maximum(w_d, 0.0), np.maximum(w_c, 0.0))
    largest = np.argsort(-w, axis=None)[: min(most, int((w > 1e-12 * w.max()).sum()))]
    i, j = np.unravel_index(largest, w.shape)
    return v_d[:, None, i] * (v_c[None, :, j] * np.sqrt(w[i, j]))


def next_experiments(
    values: np.ndarray,
    completed: np.ndarray,
    candidates: np.ndarray,
    n: int,
    parameters: Mapping[str, Any],
    options: KroneckerOptions,
    side: Side = NOTHING,
) -> Experiments:
    """Choose fibers by the kernels of a completed tensor.

    A treatment that was never measured is expected where Eq. 5 of :mod:`kronax.solvers.tensor.wiener.kriging` predicts it; what that
    leaves open it shares with those that resemble it, and has of its own, in the proportion ``1 : δ``.

    Parameters
    ----------
    values, completed
        ``(D, C, G)``, with and without gaps.
    candidates
        ``(D, C)``: fibers that can be measured.
    n
        How many are chosen.
    parameters
        What the completion chose: :attr:`Completion.parameters`.
    options
        Those of the completion.
    side
        The side information that these name.
    """
    measured, unit = ~np.isnan(values), unit_of(values)
    values, completed = values / unit, completed / unit
    with jax.enable_x64(True):
        task = rotate(values, measured, options, side)
        key = parameters.get("treatment_similarity", "none")
        similarity = side.treatments.get(key)
        shares = {name: float(parameters[name]) for name in ("noise", "own_share", "common_share")}
        alike = float(parameters.get("similarity_share", 0.0)) if similarity is not None else 0.0
        task = replace(task, similarity=similarity, links=task.links or Links())
        x = completed if task.basis is None else completed @ task.basis.T
        chosen = kernels.Prior(**shares, similarity_share=alike)
        treatment, context, genes = kernels_of(task, to_device(x, task.dtype), chosen)
    some = measured.any(axis=2)
    own = (1.0 - alike) * shares["own_share"]
    delta = float(parameters.get("delta", np.inf))
    shared, own = _with_new(treatment.dense, own, some.any(axis=1), similarity, delta)
    noise = np.full(some.shape, shares["noise"] * genes.sum() / np.square(genes).sum())
    if task.weights is not None:
        noise[some] /= task.weights.mean(axis=2)[some]
    return choose_experiments(Prior(shared, own, context.dense, noise), some, candidates, n)


def _with_new(
    kernel: np.ndarray, own: float, known: np.ndarray, similarity: np.ndarray | None, delta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the treatments' kernel into shared and own parts, and extend it to treatments that were never measured."""
    o, new = known, ~known
    shared, owns = kernel.copy(), np.where(known, own, 0.0)
    shared[o, o] -= own
    if not new.any():
        return shared, owns
    usual = np.diag(kernel)[o].mean()
    if similarity is None or not np.isfinite(delta):
        weights, open_, owns[new] = np.full((int(new.sum()), int(o.sum())), 1.0 / o.sum()), 0.0, usual
    else:
        kriging = Kriging("given", delta, similarity, known)
        weights = kriging.weights
        weights += (1.0 - weights.sum(axis=1, keepdims=True)) / o.sum()  # of the mean
        open_ = similarity[np.ix_(new, new)] - kriging.weights @ similarity[np.ix_(o, new)]
        open_, owns[new] = open_ * usual / (1.0 + delta), usual * delta / (1.0 + delta)
    among = shared[np.ix_(o, o)]
    shared[np.ix_(new, o)] = weights @ among
    shared[np.ix_(o, new)] = shared[np.ix_(new, o)].T
    shared[np.ix_(new, new)] = weights @ among @ weights.T + open_
    return shared, owns


def bytes_needed(n_fibers: int) -> int:
    """Estimate the memory for features of so many fibers, five arrays of which are held at a time."""
    return int(8 * 5 * min(_MOST_NUMBERS, n_fibers * min(n_fibers, _MOST_FEATURES)))
