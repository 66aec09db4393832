"""Categories of expression, from −2 (strongly under-expressed) over 0 to 2 (strongly over-expressed)."""

from typing import Any

import numpy as np

from kronax.solvers import checks

CATEGORIES = (-2, -1, 0, 1, 2)
_QUANTILES = (0.92, 0.9995)  # of |x|: 92% of the entries in category 0, a few in ten thousand in ±2


def cutoffs_of(values: np.ndarray) -> tuple[float, float, float, float]:
    """Choose cut-offs, symmetric about 0, by quantiles of ``|x|``: 8% of the entries outside category 0, 0.05% in ±2."""
    inner, outer = np.nanquantile(np.abs(values), _QUANTILES)
    return -float(outer), -float(inner), float(inner), float(outer)


def require_cutoffs(value: Any, name: str) -> None:
    """Require four ascending numbers."""
    ok = (
        isinstance(value, tuple | list | np.ndarray)
        and len(value) == 4
        and all(checks.is_real(cutoff) and np.isfinite(cutoff) for cutoff in value)
        and all(low < high for low, high in zip(value, value[1:], strict=False))
    )
    if not ok:
        msg = f"`{name}` must be four ascending numbers, between the categories −2, −1, 0, 1 and 2, or None; found {value!r}."
        raise ValueError(msg)


def categories(values: np.ndarray, cutoffs: tuple[float, float, float, float]) -> np.ndarray:
    """Return the category of every value; a value on a cut-off belongs to the inner one. NaN get 0."""
    low, mild, high, top = cutoffs
    above = (values >= low, values >= mild, values > high, values > top)
    return np.where(np.isnan(values), 0, sum(a.astype(np.int8) for a in above) - 2)


def frequencies(values: np.ndarray, cutoffs: tuple[float, float, float, float]) -> np.ndarray:
    """Return the share of the measured entries in every category, ``(5,)``."""
    measured = values[~np.isnan(values)]
    return np.bincount(categories(measured, cutoffs) + 2, minlength=5) / len(measured)


def require_entries(share: np.ndarray, cutoffs: tuple[float, float, float, float], *, given: bool) -> None:
    """Refuse cut-offs, given or by default, that leave a category empty."""
    if (share > 0).all():
        return
    empty = ", ".join(str(category) for category, part in zip(CATEGORIES, share, strict=True) if part == 0)
    shown = ", ".join(f"{cutoff:g}" for cutoff in cutoffs)
    msg = f"No measured entry falls into expression category {empty} with the "
    if given:
        msg += f"cut-offs {shown}. Move the cut-offs inwards, or give none: they are then quantiles of the measured values."
    else:
        msg += (
            f"default cut-offs {shown}, which put 0.05% of the entries in categories -2 and 2: there are too few entries, or too "
            "few of one sign. Give `cutoffs` further inwards, such as `tuple(np.nanquantile(values, [0.01, 0.05, 0.95, 0.99]))`, "
            "or `weight_power=0`."
        )
    raise ValueError(msg)
