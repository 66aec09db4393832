"""The priors that the folds of a cross-validation need, from solves that they share.

A fold's prior is chosen, and its confidences are calibrated, without the fold's values: those of other folds are held out beside them.
Without the folds ``a``, ``b`` and ``c``, the predictions of ``a`` and ``b`` tell about a prior for ``c``, and those of ``b`` and ``c`` about
one for ``a``: three folds share a solve. The sets are ``{i, i + 1, i + 3}`` modulo the number of folds. Their members differ by 1, 2 and 3,
so a fold is in three sets, with six other folds. Of ten folds, seven stay in training; a completion by itself would hold out a fifth of
the other nine, and so keep 72% of what was measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import jax
import numpy as np

from kronax.solvers.device import computing, each_solved, to_host
from kronax.solvers.tensor.completion import unit_of
from kronax.solvers.tensor.folds import hide
from kronax.solvers.tensor.side import NOTHING, Side
from kronax.solvers.tensor.wiener.choose import choose
from kronax.solvers.tensor.wiener.confidence import Cosines, calibration
from kronax.solvers.tensor.wiener.coordinates import Task, relative_weights, rotate
from kronax.solvers.tensor.wiener.held_out import HeldOut, Result, ranked, some_treatments
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.solvers.tensor.wiener.sweep import Start, solve, start_of

_STEPS = (0, 1, 3)
_FEWEST = 7  # folds: with fewer, two sets share more than one


class Known(NamedTuple):
    """What a completion need not find out: the prior, and the cosines that held-out fibers reached with it."""

    prior: Prior
    within: Cosines


@dataclass(frozen=True)
class _Set:
    """Three folds held out together.

    Attributes
    ----------
    task, start
        The rest, and where a solve starts.
    compared
        ``(D, C)``: held-out fibers whose treatment and context keep a fiber.
    fold
        Of these, ``(n,)``.
    truth
        Their values ``(n, r)``, and last the length of what lies outside the task's coordinates, if it has its own.
    weights
        Their precisions; None if all are alike.
    unit
        Of the task and the truth: no value of the three folds tells of it.
    found
        What was made of predictions, by how they were made and by the fold that it is for.
    solving
        Held while it is made: who needs the same waits for it.
    """

    task: Task
    start: Start
    compared: np.ndarray
    fold: np.ndarray
    truth: np.ndarray
    weights: np.ndarray | None
    unit: float
    found: dict[tuple, dict[int, Any]] = field(default_factory=dict)
    solving: Lock = field(default_factory=Lock)

    def each(self, function: Callable[[HeldOut], Result], *how: Any) -> dict[int, Result]:
        """Return, for each of the three folds, a function of what is predicted of the other two; solve once."""
        with self.solving:
            if (function, *how) not in self.found:
                prior, tol, max_iter = how
                x = to_host(solve(self.task, prior, tol, max_iter, False, self.start)[0])
                of_all = {int(k): function(self._without(k, x)) for k in np.unique(self.fold)}
                self.found[function, *how] = of_all
            return self.found[function, *how]

    def _without(self, k: int, x: np.ndarray) -> HeldOut:
        """Return what is predicted of the folds other than ``k``."""
        others = self.fold != k
        mask = self.compared.copy()
        mask[self.compared] = others
        beyond = self.truth.shape[1] - x.shape[2]  # nothing is predicted there
        predicted = np.pad(x[mask], ((0, 0), (0, beyond)))
        weights = None if self.weights is None else self.weights[others]
        return HeldOut(mask, self.start.missing, x, self.truth[others], predicted, weights, self.unit)


@dataclass(frozen=True)
class _Folds:
    """The sets that a fold is in; used like :class:`kronax.solvers.tensor.wiener.held_out.Folds`."""

    held: list[_Set]
    number: int

    @property
    def task(self) -> Task:
        """The task of one set; in what matters here, all are alike."""
        return self.held[0].task

    def each(self, function: Callable[[HeldOut], Result], *how: Any) -> Iterator[Result]:
        """Yield, for every set, a function of what is predicted of its two other folds."""
        return (one.each(function, *how)[self.number] for one in self.held)


def share(
    values: np.ndarray,
    fold: np.ndarray,
    n_folds: int,
    options: KroneckerOptions,
    *,
    n_at_once: float = 1,
    side: Side = NOTHING,
) -> list[Known | None]:
    """Choose the prior of every fold, and calibrate its confidences, without its values.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    fold
        ``(D, C)``: in which fold a fiber is held out; negative where in none.
    n_folds
        How many there are.
    options
        Of the completions.
    n_at_once
        How many solves there is memory for.
    side
        Similarities and coordinates, and precisions of the measured values.

    Returns
    -------
    One for every fold; None where a completion is to find out for itself: with fewer than seven folds, with similarities of
    treatments, of which each completion chooses one, and where a set leaves nothing to compare.
    """
    if n_folds < _FEWEST or side.treatments:
        return [None] * n_folds
    members = sets_of(n_folds)
    with jax.enable_x64(True):
        sets = [_set(values, np.isin(fold, list(of)), fold, options, side) for of in members]
        if any(of - set(one.fold) for of, one in zip(members, sets, strict=True)):
            return [None] * n_folds
    of_fold = [_Folds([one for one, of in zip(sets, members, strict=True) if k in of], k) for k in range(n_folds)]
    return list(each_solved(partial(_known, options=options), of_fold, n_at_once))


def sets_of(n_folds: int) -> list[set[int]]:
    """Return which folds are held out together."""
    return [{(i + step) % n_folds for step in _STEPS} for i in range(n_folds)]


def _known(folds: _Folds, options: KroneckerOptions) -> Known:
    with computing(), jax.enable_x64(True):
        prior = choose(folds, options, progress=False)
        return Known(prior, calibration(folds, prior, options))


def _set(values: np.ndarray, hidden: np.ndarray, fold: np.ndarray, options: KroneckerOptions, side: Side) -> _Set:
    """Hold fibers out of the part of a tensor that candidates are ranked on."""
    rest = hide(values, hidden)
    measured, unit = ~np.isnan(rest), unit_of(rest)
    task = rotate(rest / unit, measured, options, side)
    rows = ranked(task.values.shape, options.random_state)
    kept = measured[rows].any(axis=2)
    compared = hidden[rows] & kept.any(axis=1, keepdims=True) & kept.any(axis=0)
    truth = values[rows][compared].astype(np.float64) / unit
    if task.basis is not None:
        scores = truth @ task.basis.T
        beyond = np.linalg.norm(truth - scores @ task.basis, axis=1, keepdims=True)
        truth = np.hstack([scores, beyond])
    weights = relative_weights(side.weights, ~np.isnan(values))
    weights = None if weights is None else weights[rows][compared]
    task = some_treatments(task, rows)
    return _Set(task, start_of(task), compared, fold[rows][compared], truth.astype(np.float32), weights, unit)
