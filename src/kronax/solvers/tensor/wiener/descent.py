"""Descent over a grid of candidates, one coordinate after the other."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

_TRIAL = 2  # folds: a candidate with larger errors than the best one's in all of these is given up


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
