"""Outliers clipped and values scaled before a tensor is factorised, and the way back."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Scale = Literal["standard", "minmax"]


@dataclass(frozen=True)
class Scaling:
    """``scaled = (x − shift) / factor``, a number per context or one for all of them.

    Attributes
    ----------
    shift, factor
        ``(C,)``.
    n_clipped
        ``(C,)``: number of measured entries that were clipped.
    """

    shift: np.ndarray
    factor: np.ndarray
    n_clipped: np.ndarray

    def undo(self, scaled: np.ndarray) -> np.ndarray:
        """Take ``(…, C, G)`` back to the scale of the data."""
        return scaled * self.factor[:, None] + self.shift[:, None]


def scaled(
    values: np.ndarray, scale: Scale | None, *, per_context: bool = False, outlier_z: float | None = None
) -> tuple[np.ndarray, Scaling]:
    """Clip outliers and scale; the input is not changed.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    scale
        To mean 0 and variance 1, to [0, 1], or not at all. What is constant is only shifted.
    per_context
        Whether every context has its own mean, standard deviation, least and largest value.
    outlier_z
        Entries more than so many standard deviations from the mean are clipped there; None clips nothing.

    Returns
    -------
    The scaled values, in their own floating-point dtype, and what was done.
    """
    n_contexts = values.shape[1]
    groups = [slice(c, c + 1) for c in range(n_contexts)] if per_context else [slice(None)]
    new = values.copy()
    shift, factor, n_clipped = np.zeros(n_contexts), np.ones(n_contexts), np.zeros(n_contexts, np.int64)
    for group in groups:
        found = values[:, group]
        known = found[~np.isnan(found)].astype(np.float64)
        if not known.size:
            continue
        if outlier_z is not None:
            reach = outlier_z * known.std()
            low, high = known.mean() - reach, known.mean() + reach
            n_clipped[group] = ((found < low) | (found > high)).sum(axis=(0, 2))
            new[:, group] = np.clip(found, low, high)
            known = known.clip(low, high)
        if scale is not None:
            standard = scale == "standard"
            shift[group] = known.mean() if standard else known.min()
            size = known.std() if standard else np.ptp(known)
            factor[group] = size if size > np.finfo(values.dtype).eps * np.abs(known).max() else 1.0
    result = Scaling(shift, factor, n_clipped)
    return ((new - shift[:, None]) / factor[:, None]).astype(values.dtype), result
