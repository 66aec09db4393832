"""Whole fibers held out of a tensor, to choose the prior by and to tell how far predictions can be trusted."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from kronax.solvers.device import to_host
from kronax.solvers.tensor.connection import Blocks, in_blocks
from kronax.solvers.tensor.folds import fiber_folds
from kronax.solvers.tensor.wiener.coordinates import Task
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.solvers.tensor.wiener.sweep import Start, solve, start_of

_MOST_TREATMENTS = 400  # at most, drawn at random,
_MOST_WORK = 3e9  # and so few that one product of a matrix of their size with the tensor has fewer multiplications
_CONTEXTS = 10  # held out one after the other, if there are so many
_FEWEST_BRIDGES = 5  # bridging treatments: with fewer, their held-out profiles say little about others

Result = TypeVar("Result")


class HeldOut(NamedTuple):
    """What was predicted without some fibers.

    Attributes
    ----------
    mask
        ``(D, C)``: the fibers that are told about.
    missing, filled
        Where the solve had no value, and what it ended with, ``(D, C, r)``.
    truth, predicted
        Of the fibers, ``(n, r)``; NaN where not measured.
    weights
        Precisions of the fibers, ``(n, 1)`` or ``(n, r)``; None if all are alike.
    unit
        That of all values.
    """

    mask: np.ndarray
    missing: np.ndarray
    filled: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    weights: np.ndarray | None
    unit: float = 1.0


@dataclass(frozen=True)
class Folds:
    """Whole fibers held out of a task: for every fold their mask, and where a solve without them starts."""

    task: Task
    held: list[tuple[np.ndarray, Start]]

    def each(self, function: Callable[[HeldOut], Result], prior: Prior, tol: float, max_iter: int) -> Iterator[Result]:
        """Yield a function of what is predicted of every fold.

        All priors start alike: otherwise those tried last would start nearer to their fixed points, an unfair comparison.
        """
        values, weights = self.task.values, self.task.weights
        for mask, start in self.held:
            x = to_host(solve(self.task, prior, tol, max_iter, False, start)[0])
            of_mask = None if weights is None else weights[mask]
            yield function(HeldOut(mask, start.missing, x, values[mask], x[mask], of_mask))


def folds_of(task: Task, options: KroneckerOptions) -> Folds:
    """Hold fibers out of the part of a task that candidates are ranked on; no folds if there are none to spare."""
    task = for_ranking(task, options.random_state)
    some = ~np.isnan(task.values).all(axis=2)
    n_spare = int(some[some.sum(axis=1) > 1].sum())
    if n_spare < 2:
        return Folds(task, [])
    masks = fiber_folds(some, min(options.n_folds, n_spare), options.random_state)
    return Folds(task, _held(task, masks))


def folds_across(task: Task, blocks: Blocks, options: KroneckerOptions) -> Folds:
    """Hold out, of treatments that bridge blocks of contexts, all that was measured in one of the blocks.

    What such a treatment was measured for in other blocks is then all that its predictions can rest on, as it is for
    treatments that were never measured in the block. No folds if too few bridge any.
    """
    task = for_ranking(task, options.random_state, blocks.bridging)
    some = ~np.isnan(task.values).all(axis=2)
    in_block = in_blocks(some, blocks.context)
    bridging = np.random.default_rng(options.random_state).permutation(np.flatnonzero(in_block.sum(axis=1) > 1))
    if len(bridging) < _FEWEST_BRIDGES:
        return Folds(task, [])
    n_folds = min(options.n_folds, len(bridging))
    masks = np.zeros((n_folds, *some.shape), bool)
    for i, treatment in enumerate(bridging):
        for j, block in enumerate(np.flatnonzero(in_block[treatment])[:n_folds]):
            masks[(i + j) % n_folds, treatment] |= some[treatment] & (blocks.context == block)
    return Folds(task, _held(task, masks))


def folds_of_contexts(task: Task, options: KroneckerOptions) -> Folds:
    """Hold out all that was measured in a context, in several contexts in turn, as it is with those never measured."""
    task = for_ranking(task, options.random_state)
    some = ~np.isnan(task.values).all(axis=2)
    known = np.random.default_rng(options.random_state).permutation(np.flatnonzero(some.any(axis=0)))
    if len(known) < 3:
        return Folds(task, [])
    number = np.arange(some.shape[1])
    return Folds(task, _held(task, [some & (number == c) for c in known[: max(options.n_folds, _CONTEXTS)]]))


def _held(task: Task, masks: Iterable[np.ndarray]) -> list[tuple[np.ndarray, Start]]:
    """Pair masks of held-out fibers with the start of a solve without them."""
    return [(mask, start_of(task, mask)) for mask in masks]


def for_ranking(task: Task, random_state: int, wanted: np.ndarray | None = None) -> Task:
    """Return the part of a task that the candidates of the cross-validation are ranked on, in float32.

    As many treatments as fit in half of it are those ``wanted`` (D,); the others are drawn at random.
    """
    return some_treatments(task, ranked(task.values.shape, random_state, wanted))


def ranked(shape: tuple[int, ...], random_state: int, wanted: np.ndarray | None = None) -> np.ndarray:
    """Return the numbers of the treatments of :func:`for_ranking`."""
    n, *others = shape
    most = max(min(_MOST_TREATMENTS, int(np.sqrt(_MOST_WORK / np.prod(others)))), 2)
    if n <= most:
        return np.arange(n)
    rng = np.random.default_rng(random_state)
    first = rng.permutation(np.flatnonzero(np.zeros(n, bool) if wanted is None else wanted))[: most // 2]
    rest = np.setdiff1d(np.arange(n), first)
    return np.sort(np.concatenate([first, rng.choice(rest, most - len(first), replace=False)]))


def some_treatments(task: Task, some: np.ndarray) -> Task:
    """Return the part of a task with these treatments, in float32."""
    axes = None if task.axes is None else task.axes.astype(np.float32)
    return replace(
        task,
        values=task.values[some].astype(np.float32),
        axes=axes,
        dtype=np.float32,
        similarity=None if task.similarity is None else task.similarity[np.ix_(some, some)],
        weights=None if task.weights is None else task.weights[some],
    )
