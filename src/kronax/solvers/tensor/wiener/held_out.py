"""Whole fibers held out of a tensor, to choose the prior by and to tell how far predictions can be trusted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Folds:
    """Whole fibers held out of a task: for every fold their mask, and where a solve without them starts."""

    task: Task
    held: list[tuple[np.ndarray, Start]]

    def predictions(
        self, prior: Prior, tol: float, max_iter: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the mask of every fold, its gaps, and what is predicted there.

        All priors start alike: otherwise those tried last would start nearer to their fixed points, an unfair comparison.
        """
        for mask, start in self.held:
            yield mask, start.missing, to_host(solve(self.task, prior, tol, max_iter, False, start)[0])


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
    n, *others = task.values.shape
    most = max(min(_MOST_TREATMENTS, int(np.sqrt(_MOST_WORK / np.prod(others)))), 2)
    some = np.arange(n)
    if n > most:
        rng = np.random.default_rng(random_state)
        first = rng.permutation(np.flatnonzero(np.zeros(n, bool) if wanted is None else wanted))[: most // 2]
        others = np.setdiff1d(some, first)
        some = np.sort(np.concatenate([first, rng.choice(others, most - len(first), replace=False)]))
    axes = None if task.axes is None else task.axes.astype(np.float32)
    return replace(
        task,
        values=task.values[some].astype(np.float32),
        axes=axes,
        dtype=np.float32,
        similarity=None if task.similarity is None else task.similarity[np.ix_(some, some)],
        weights=None if task.weights is None else task.weights[some],
    )
