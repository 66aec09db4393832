"""Ways to hide measured parts of a tensor, and the correlation of what was hidden with what was predicted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NEVER_HELD_OUT = -1


@dataclass(frozen=True)
class FiberFolds:
    """Folds of measured fibers.

    Attributes
    ----------
    fold
        ``(D, C)``: the fold in which a fiber is held out, :data:`NEVER_HELD_OUT` for those that are not measured, and for
        the only measured fiber of a treatment, which has to stay in training.
    n_folds
        Number of folds.
    """

    fold: np.ndarray
    n_folds: int

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield, for every fold, the mask ``(D, C)`` of what is held out."""
        return (self.fold == k for k in range(self.n_folds))


def fiber_folds(measured: np.ndarray, n_folds: int = 10, random_state: int = 0) -> FiberFolds:
    """Deal measured fibers into folds so that every treatment keeps one in training.

    Fibers are dealt at random into folds whose sizes differ by at most one. If all fibers of a treatment fall into one fold,
    one of them is swapped with a fiber of another fold, whose treatment can spare it. Every measured fiber is held out exactly
    once, except a treatment's only one.

    Parameters
    ----------
    measured
        ``(D, C)``, bool.
    n_folds
        At least 2.
    random_state
        Seed.

    Raises
    ------
    ValueError
        If there are fewer fibers to hold out than folds.
    """
    rng = np.random.default_rng(random_state)
    rows, cols = np.nonzero(measured & (measured.sum(axis=1, keepdims=True) > 1))
    if n_folds < 2 or len(rows) < n_folds:
        msg = (
            f"Cannot make {n_folds} folds of {len(rows)} fibers: at least 2 folds are needed, and no more than there are "
            "measured fibers of treatments with two or more."
        )
        raise ValueError(msg)
    dealt = rng.permutation(len(rows)) % n_folds
    count = np.zeros((len(measured), n_folds), np.int64)  # of a treatment's fibers in a fold
    np.add.at(count, (rows, dealt), 1)
    total = count.sum(axis=1)
    for treatment in rng.permutation(np.flatnonzero(total > 0)):
        if count[treatment].max() < total[treatment]:
            continue
        mine = rng.choice(np.flatnonzero(rows == treatment))
        here = dealt[mine]
        left = total[rows] - count[rows, here]
        # the other treatment, too, must keep a fiber outside this fold
        fits = (dealt != here) & (rows != treatment) & (left > 1)
        if not fits.any():
            msg = f"No {n_folds} folds found in which every treatment keeps a measured fiber in training."
            raise ValueError(msg)
        other = rng.choice(np.flatnonzero(fits))
        there = dealt[other]
        for fiber, old, new in ((mine, here, there), (other, there, here)):
            count[rows[fiber], old] -= 1
            count[rows[fiber], new] += 1
            dealt[fiber] = new
    fold = np.full(measured.shape, NEVER_HELD_OUT)
    fold[rows, cols] = dealt
    return FiberFolds(fold, n_folds)


def entry_folds(measured: np.ndarray, n_folds: int = 10, random_state: int = 0) -> np.ndarray:
    """Deal single measured entries into folds, at random: ``(D, C, G)``, :data:`NEVER_HELD_OUT` where missing.

    For missing profiles, this split is far too optimistic: the rest of every profile stays in training.
    """
    rng = np.random.default_rng(random_state)
    fold = np.full(measured.shape, NEVER_HELD_OUT, np.int16)
    fold[measured] = rng.permutation(int(measured.sum())) % n_folds
    return fold


def cold_start_folds(
    measured: np.ndarray, n_folds: int = 10, *, axis: int = 0, keep: int = 0, random_state: int = 0
) -> FiberFolds:
    """Hold out all fibers of a treatment (or context) together.

    Parameters
    ----------
    measured
        ``(D, C)``, bool.
    n_folds
        Number of folds into which treatments (or contexts) are dealt at random; at most one for each.
    axis
        0 for treatments, 1 for contexts.
    keep
        Number of fibers of each that stay in training, drawn at random. One with no more than these is never held out.
    random_state
        Seed.
    """
    rng = np.random.default_rng(random_state)
    fold = np.full(measured.shape, NEVER_HELD_OUT)
    by_unit, has = (fold, measured) if axis == 0 else (fold.T, measured.T)
    units = rng.permutation(np.flatnonzero(has.sum(axis=1) > keep))
    if n_folds < 2 or len(units) < n_folds:
        kind = ("treatments", "contexts")[axis]
        msg = f"Cannot make {n_folds} folds of {len(units)} {kind}. Give n_folds={max(len(units), 2)} or fewer, at least 2."
        if keep:
            msg = (
                f"Cannot make {n_folds} folds of the {len(units)} {kind} with more measured fibers than the {keep} that "
                "`keep` leaves in training. Keep fewer, or make fewer folds."
            )
        raise ValueError(msg)
    for number, unit in enumerate(units):
        by_unit[unit, rng.permutation(np.flatnonzero(has[unit]))[keep:]] = number % n_folds
    return FiberFolds(fold, n_folds)


def hide(values: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Return a copy in which held-out fibers ``(D, C)`` or entries ``(D, C, G)`` are NaN."""
    hidden = values.copy()
    hidden[held_out] = np.nan
    return hidden


def unit_norm(profiles: np.ndarray) -> np.ndarray:
    """Scale profiles (last axis) to unit norm, as in the protocol of 2018; zeros stay zeros, NaN stay NaN."""
    length = np.sqrt(np.nansum(np.square(profiles), axis=-1, keepdims=True))
    return np.divide(profiles, length, out=np.array(profiles, np.float64), where=length > 0)


def pooled_correlation(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return Pearson's correlation over all entries that neither array misses (PCT); NaN where it is undefined."""
    both = ~(np.isnan(truth) | np.isnan(predicted))
    t, p = truth[both].astype(np.float64), predicted[both].astype(np.float64)
    if t.size < 2:
        return float("nan")
    t, p = t - t.mean(), p - p.mean()
    length = np.linalg.norm(t) * np.linalg.norm(p)
    return float(t @ p / length) if length > 0 else float("nan")
