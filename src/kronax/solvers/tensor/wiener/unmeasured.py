"""What ``kronecker`` predicts of treatments and contexts that were never measured, by what they resemble."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kronax.solvers.tensor.side import Side
from kronax.solvers.tensor.wiener.confidence import expected_of_new_contexts, expected_of_new_treatments
from kronax.solvers.tensor.wiener.coordinates import Task
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.kriging import Kriging, krige
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.solvers.tensor.wiener.sweep import start_of


@dataclass(frozen=True)
class Unmeasured:
    """Predictions by similarity.

    Attributes
    ----------
    values
        The completed tensor ``(D, C, r)``, with these predictions.
    treatments, contexts
        ``(D,)`` and ``(C,)``: those that were never measured and are predicted by similar ones.
    fibers
        ``(D, C)``: fibers of these.
    expected
        The function from relative sizes ``(D, C)`` to expected cosines, of the same fibers.
    kriging
        Of the treatments; None if no similarity was given.
    notes
        What is good to know.
    """

    values: np.ndarray
    treatments: np.ndarray
    contexts: np.ndarray
    fibers: np.ndarray
    expected: Callable[[np.ndarray], np.ndarray]
    kriging: Kriging | None
    notes: tuple[str, ...] = ()

    @property
    def information(self) -> np.ndarray | None:
        """``q`` of treatments that were never measured."""
        return None if self.kriging is None else self.kriging.information


def with_similarity(task: Task, side: Side, seed: int) -> Task:
    """Put into a task the similarity that predicts treatments best from means; none if they do as well alone."""
    if not side.treatments:
        return task
    start = start_of(task)
    best = krige(np.asarray(start.filled), ~np.isnan(task.values).all(axis=2), side.treatments, seed)
    return replace(task, similarity=best.similarity if best.name else None)


def predict_unmeasured(task: Task, x: np.ndarray, prior: Prior, options: KroneckerOptions, side: Side) -> Unmeasured:
    """Predict treatments that were never measured by given similarities; contexts are predicted already where something links them."""
    measured = ~np.isnan(task.values).all(axis=2)
    d, c = measured.any(axis=1), measured.any(axis=0)
    kriging = krige(x, measured, side.treatments, options.random_state) if side.treatments else None
    notes: tuple[str, ...] = ()
    new_treatments, new_contexts = np.zeros_like(d), ~c & (task.links is not None)
    of_treatments = of_contexts = _unknown
    if kriging is not None and kriging.name and not d.all():
        new_treatments = ~d
        x = x.copy()
        x[new_treatments] = kriging.predicted(x)
        of_treatments = expected_of_new_treatments(task.values, x, kriging)
    elif kriging is not None and not kriging.name:
        notes = (
            f"no similarity of treatments ({', '.join(side.treatments)}) predicts those left out better than the mean: "
            "treatments never measured have the mean",
        )
    if new_contexts.any():
        of_contexts = expected_of_new_contexts(task, prior, options)

    def expected(size: np.ndarray) -> np.ndarray:
        by_treatment, by_context = of_treatments(size), of_contexts(size)
        both = np.minimum(by_treatment, by_context)
        return np.where(new_treatments[:, None], np.where(new_contexts, both, by_treatment), by_context)

    covered = (d | new_treatments)[:, None] & (c | new_contexts)
    return Unmeasured(
        values=x,
        treatments=new_treatments,
        contexts=new_contexts,
        fibers=covered & (new_treatments[:, None] | new_contexts),
        expected=expected,
        kriging=kriging,
        notes=notes,
    )


def _unknown(size: np.ndarray) -> np.ndarray:
    return np.full_like(size, np.nan)
