"""Do the replicates of a treatment agree more than replicates of different treatments do?"""

from itertools import product

import numpy as np

_ROUNDS = 20  # times as many sets are drawn as are wanted, at most: of some batches, a treatment has no sample
_NUMBERS = 2**22  # drawn at a time


def mean_cosine_distances(cosines: np.ndarray) -> np.ndarray:
    """Compute the average cosine distance (ACD) within sets from the cosines in each, (k, r, r)."""
    r = cosines.shape[-1]
    between = cosines.sum(axis=(-2, -1)) - np.trace(cosines, axis1=-2, axis2=-1)
    return 1.0 - between / (r * (r - 1))


def null_sets(slots: list[np.ndarray], treatment_of: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw sets of samples that could have been the replicates of one treatment, each from another treatment.

    Parameters
    ----------
    slots
        For every replicate, the numbers of the samples from which its place is filled: those of the same batch.
    treatment_of
        Treatment of every sample.
    n_draws
        Sets wanted; all that there are, if they are fewer.

    Returns
    -------
    (k, r); no rows if no such set exists.
    """
    if sum(np.log(max(1, len(slot))) for slot in slots) <= np.log(n_draws):
        sets = np.array(list(product(*slots)), np.intp).reshape(-1, len(slots))
        return _distinct(np.unique(np.sort(sets, axis=1), axis=0), treatment_of)
    by_treatment = [_by_treatment(slot, treatment_of) for slot in slots]
    there = np.flatnonzero(sum(n_samples > 0 for _, _, n_samples in by_treatment))
    if len(there) < len(slots):
        return np.zeros((0, len(slots)), np.intp)
    found, n_found, size = [], 0, max(1, min(n_draws, _NUMBERS // len(there)))
    for _ in range(_ROUNDS * -(-n_draws // size)):
        chosen = there[rng.permuted(np.tile(np.arange(len(there)), (size, 1)), axis=1)[:, : len(slots)]]
        sets = np.full(chosen.shape, -1, np.intp)
        for place, (samples, starts, n_samples) in enumerate(by_treatment):
            treatment = chosen[:, place]
            any_of = starts[treatment] + (rng.random(size) * n_samples[treatment]).astype(np.intp)
            sets[:, place] = np.where(n_samples[treatment] > 0, samples[np.minimum(any_of, len(samples) - 1)], -1)
        found.append(sets[(sets >= 0).all(axis=1)])
        n_found += len(found[-1])
        if n_found >= n_draws:
            break
    return np.concatenate(found)[:n_draws]


def _by_treatment(slot: np.ndarray, treatment_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort samples by treatment; return them, where each treatment's begin, and how many they are."""
    n_samples = np.bincount(treatment_of[slot], minlength=int(treatment_of.max()) + 1)
    return slot[np.argsort(treatment_of[slot], kind="stable")], np.cumsum(n_samples) - n_samples, n_samples


def _distinct(sets: np.ndarray, treatment_of: np.ndarray) -> np.ndarray:
    """Keep the sets of which no two samples have the same treatment."""
    treatments = np.sort(treatment_of[sets], axis=1)
    return sets[(np.diff(treatments, axis=1) != 0).all(axis=1)]


def p_values(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Compute the share of null sets that agree at least as well, the observed one counted among them.

    ``p = (1 + #{null ≤ observed}) / (1 + #null)`` (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 2010).
    """
    return (1.0 + np.searchsorted(np.sort(null), observed, side="right")) / (1.0 + len(null))
