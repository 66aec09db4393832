"""Do the replicates of a treatment agree more than replicates of different treatments do?"""

from itertools import product

import numpy as np

_ROUNDS = 200  # of draws, until there are as many as wanted


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
    if np.prod([len(slot) for slot in slots], dtype=float) <= n_draws:
        sets = np.array(list(product(*slots)), np.intp).reshape(-1, len(slots))
        return _distinct(np.unique(np.sort(sets, axis=1), axis=0), treatment_of)
    found, n_found = [], 0
    for _ in range(_ROUNDS):
        drawn = np.column_stack([rng.choice(slot, n_draws) for slot in slots])
        found.append(_distinct(drawn, treatment_of))
        n_found += len(found[-1])
        if n_found >= n_draws:
            break
    return np.concatenate(found)[:n_draws]


def _distinct(sets: np.ndarray, treatment_of: np.ndarray) -> np.ndarray:
    """Keep the sets of which no two samples have the same treatment."""
    treatments = np.sort(treatment_of[sets], axis=1)
    return sets[(np.diff(treatments, axis=1) != 0).all(axis=1)]


def p_values(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Compute the share of null sets that agree at least as well, the observed one counted among them.

    ``p = (1 + #{null ≤ observed}) / (1 + #null)`` (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 2010).
    """
    return (1.0 + np.searchsorted(np.sort(null), observed, side="right")) / (1.0 + len(null))
