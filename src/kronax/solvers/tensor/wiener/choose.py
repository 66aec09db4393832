"""The prior of ``kronecker``, chosen by cross-validation over whole fibers."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from tqdm.auto import tqdm

from kronax.solvers.tensor.wiener.held_out import Folds
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.options import KroneckerOptions

# candidates only have to be ranked
_SWEEPS = 20
_TOL = 3e-3
_TRIAL = 2  # folds: a candidate with larger errors than the best one's in all of these is given up


def choose(folds: Folds, options: KroneckerOptions, progress: bool) -> Prior:
    """Settle the prior, by cross-validation over fibers where asked for."""
    grid = options.candidates

    def at(place: tuple[int, ...]) -> Prior:
        return Prior(*(candidates[i] for candidates, i in zip(grid, place, strict=True)))

    middle = tuple(len(candidates) // 2 for candidates in grid)
    if max(map(len, grid)) == 1 or not folds.held:  # nothing to choose, or nothing to hold out
        return at(middle)
    values = folds.task.values
    bar = tqdm(desc="choice of the prior", unit=" candidates", delay=2, leave=False, disable=not progress)

    def errors(place: tuple[int, ...]) -> Iterator[float]:
        bar.update()
        for mask, _, x in folds.predictions(at(place), _TOL, _SWEEPS):
            yield float(np.nansum(np.square(x[mask] - values[mask]), dtype=np.float64))

    with bar:
        return at(descend(errors, tuple(map(len, grid)), middle))


def descend(
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
    found = list(islice(errors, _TRIAL))
    if all(mine >= other for mine, other in zip(found, best, strict=False)):
        return [np.inf]
    return found + list(errors)
