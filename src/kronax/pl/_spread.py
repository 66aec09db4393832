"""Labels that stand where they were meant to, as nearly as they can without lying upon one another."""

import numpy as np

_GROWTH = 1.05  # of all distances, when pushing alone does not help
_PUSHES = 50  # before that


def spread(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Move boxes apart until none overlaps another.

    Parameters
    ----------
    places
        Centres, ``(n, 2)``, all different.
    sizes
        Widths and heights, ``(n, 2)``.

    Returns
    -------
    Centres, ``(n, 2)``.
    """
    places = np.array(places, float)
    room = (sizes[:, None] + sizes) / 2  # (n, n, 2): centres this far apart along either axis do not overlap
    step = 0
    while (clash := _overlap(places, room)).any():
        away = places[:, None] - places
        lack = room - np.abs(away)
        narrow = lack[..., 0] < lack[..., 1]  # along which axis the way out is shorter
        push = np.zeros_like(away)
        for axis, along in ((0, narrow), (1, ~narrow)):
            direction = np.where(away[..., axis] != 0, np.sign(away[..., axis]), _by_order(len(places)))
            push[..., axis] = np.where(clash & along, direction * (lack[..., axis] / 2 + 1e-6), 0.0)
        places += push.sum(axis=1) / np.maximum(clash.sum(axis=1), 1)[:, None]
        step += 1
        if step % _PUSHES == 0:
            places *= _GROWTH
    return places


def _overlap(places: np.ndarray, room: np.ndarray) -> np.ndarray:
    clash = (np.abs(places[:, None] - places) < room).all(axis=2)
    np.fill_diagonal(clash, False)
    return clash


def _by_order(n: int) -> np.ndarray:
    """Give a direction to those that stand at the same place: the later one moves up."""
    return np.sign(np.subtract.outer(np.arange(n), np.arange(n)))
