"""The prior of ``kronecker``, chosen by cross-validation over whole fibers."""

from collections.abc import Iterator

import numpy as np
from tqdm.auto import tqdm

from kronax.solvers.tensor.wiener.descent import descend
from kronax.solvers.tensor.wiener.held_out import Folds, HeldOut
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.options import KroneckerOptions

# candidates only have to be ranked
_SWEEPS = 20
_TOL = 3e-3


def choose(folds: Folds, options: KroneckerOptions, progress: bool) -> Prior:
    """Settle the prior, by cross-validation over fibers where asked for."""
    grid = options.candidates
    if folds.task.similarity is None:
        grid = (*grid[:3], (0.0,))

    def at(place: tuple[int, ...]) -> Prior:
        return Prior(*(candidates[i] for candidates, i in zip(grid, place, strict=True)))

    middle = (*(len(candidates) // 2 for candidates in grid[:3]), 0)
    if max(map(len, grid)) == 1 or not folds.held:  # nothing to choose, or nothing to hold out
        return at(middle)
    bar = tqdm(desc="choice of the prior", unit=" candidates", delay=2, leave=False, disable=not progress)

    def errors(place: tuple[int, ...]) -> Iterator[float]:
        bar.update()
        yield from folds.each(squared_error, at(place), _TOL, _SWEEPS)

    with bar:
        return at(descend(errors, tuple(map(len, grid)), middle))


def squared_error(found: HeldOut) -> float:
    """Sum the squared errors, each as often as its precision says."""
    square = np.square(found.predicted - found.truth)
    total = np.nansum(square if found.weights is None else square * found.weights, dtype=np.float64)
    return float(total) * found.unit * found.unit
