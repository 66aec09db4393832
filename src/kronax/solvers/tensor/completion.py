"""What every method of tensor completion returns, and what it has to know about the gaps."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import wraps
from typing import Any

import numpy as np

from kronax.solvers.device import on_all_cores
from kronax.solvers.status import Status
from kronax.solvers.tensor.factors.transform import Scaling


class Fallback(IntEnum):
    """How a fiber was predicted when the method itself had nothing to say about it.

    ``SIMILARITY``: nothing was measured of the treatment, or of the context; the prediction rests on what similar ones showed.
    ``UNLINKED``: no measurement links the treatment with the context. The prediction assumes that contexts and treatments
    resemble one another across the gap as they do elsewhere; no measurement shows whether they do.
    """

    NONE = 0
    TREATMENT_MEAN = 1
    CONTEXT_MEAN = 2
    GENE_MEAN = 3
    OVERALL_MEAN = 4
    BIASES = 5
    UNLINKED = 6
    SIMILARITY = 7


@dataclass(frozen=True)
class Factors:
    """The factors of a model, ``k`` components each, and how it was trained.

    Attributes
    ----------
    treatments
        ``(D, k)``.
    contexts
        ``(C, k)``; None where every context has its own factors of genes.
    genes
        ``(G, k)``; of every context ``(C, G, k)``.
    held_out_loss
        The weighted squared error of the held-out fibers at every epoch; NaN if none were held out. In squared units of the
        scaled values, like the objective, which is the loss in training.
    scaling
        What was clipped and how values were scaled.
    """

    treatments: np.ndarray
    contexts: np.ndarray | None
    genes: np.ndarray
    held_out_loss: np.ndarray
    scaling: Scaling


@dataclass(frozen=True)
class Completion:
    """A completed tensor and how it was reached.

    Attributes
    ----------
    values
        ``(D, C, G)``: the measured entries bit for bit, predictions elsewhere.
    fallback
        ``(D, C)`` codes of :class:`Fallback`: what stands in a fiber instead of the method's own prediction; see
        :func:`per_fiber`.
    confidence
        ``(D, C)``, the cosine to be expected between a prediction and its measurement; NaN where nothing is missing.
        None from methods that cannot tell.
    variance
        ``(D, C)``, posterior variance of a missing entry without its noise, the mean over the fiber's genes; 0 where
        nothing is missing. None unless asked for.
    status
        How the solve ended.
    information
        ``(D,)``: how much similar treatments say of one that was never measured, in [0, 1]; NaN for others. None if no similarity
        of treatments was given.
    parameters
        What the method chose itself, by name.
    factors
        Of a factor model; None from the others.
    stand_in
        What predicts treatments, contexts and genes of which nothing was measured, in words.
    doubts, notes
        Sentences about the result: what may be wrong with it, and what is good to know.
    """

    values: np.ndarray
    fallback: np.ndarray
    status: Status
    confidence: np.ndarray | None = None
    variance: np.ndarray | None = None
    information: np.ndarray | None = None
    parameters: dict[str, float | str] = field(default_factory=dict)
    factors: Factors | None = None
    stand_in: str = "means"
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def unit_of(values: np.ndarray) -> float:
    """Return the power of two that brings the largest value to size 1: squares are then numbers, in single precision too.

    To divide by it, and to multiply, is exact.
    """
    largest = np.fmax.reduce(np.abs(values), axis=None, initial=0.0)
    return 2.0 ** (int(np.frexp(largest)[1]) - 1)


def equivariant(solve: Callable[..., Completion]) -> Callable[..., Completion]:
    """Solve for values divided by their unit, and give that of the values to the predictions."""

    @wraps(solve)
    def solved(values: np.ndarray, *args: Any, **options: Any) -> Completion:
        unit = unit_of(values)
        found = solve(values / unit, *args, **options)
        return replace(
            found,
            values=merged(values, found.values * unit),
            variance=None if found.variance is None else found.variance * unit * unit,
        )

    return solved


def whole_fibers(measured: np.ndarray) -> bool:
    """Return whether every fiber ``(d, c)`` is either measured in all genes or in none."""
    return bool((measured.all(axis=2) == measured.any(axis=2)).all())


def measured_fibers(values: np.ndarray) -> np.ndarray | None:
    """Return which fibers ``(D, C)`` are measured; None if some are measured only in part."""
    first = ~np.isnan(values[:, :, 0])

    def is_whole(c: int) -> bool:
        return bool((np.isnan(values[:, c]) != first[:, c, None]).all())

    return first if all(on_all_cores(is_whole, range(values.shape[1]))) else None


def per_fiber(code: np.ndarray, missing: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Return the most frequent code among each fiber's missing entries, and the lowest of equally frequent ones.

    The last axis of arrays is that of the genes. Only ``genes`` that were measured somewhere count: the others have a stand-in
    in every fiber, which says nothing about the fiber.
    """
    counted = missing & genes
    counts = [np.count_nonzero(counted & (code == kind), axis=-1) for kind in Fallback]
    return np.argmax(counts, axis=0).astype(np.int8)


def without_any(missing: np.ndarray, *, contexts: bool = True) -> np.ndarray:
    """Mark the entries of treatments, of ``contexts`` on request, and of genes of which nothing was measured."""
    marked = missing.all(axis=(1, 2))[:, None, None] | missing.all(axis=(0, 1))
    return marked | missing.all(axis=(0, 2))[:, None] if contexts else np.broadcast_to(marked, missing.shape)


def require_values(measured: np.ndarray) -> None:
    """Refuse a tensor without a single measured entry."""
    if not measured.any():
        msg = "Nothing was measured: every entry of the tensor is NaN."
        raise ValueError(msg)


def merged(values: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the measured entries bit for bit and the predictions elsewhere, in the dtype of ``values``."""
    completed = values.copy()
    np.copyto(completed, predicted, where=np.isnan(values), casting="same_kind")
    return completed


def without_work(values: np.ndarray, measured: np.ndarray) -> Completion | None:
    """Return the result for a tensor without gaps or with only zeros, which needs no solve; None for others."""
    if not measured.all() and values[measured].any():
        return None
    reason = "nothing was missing" if measured.all() else "every measured entry is 0"
    return Completion(
        values=merged(values, np.zeros(())),
        fallback=np.zeros(values.shape[:2], np.int8),
        status=Status(True, reason),
    )
