"""Checks of values that users hand in, and the sentences that say what was found and what to do about it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np


def known(name: Any, names: Iterable[str], what: str, *, where: str = "", most: int = 5) -> None:
    """Require one of perhaps many names; the error lists the most similar ones, or the first few, or `most`.

    ``where`` says in which place they are looked for.
    """
    names = list(map(str, names))
    if not isinstance(name, str) or name not in names:
        hint = did_you_mean(name, names) or f" There are {listed(names, most)}."
        msg = f"There is no {what} {name!r}{where and f' in {where}'}.{hint}"
        raise KeyError(msg)


def did_you_mean(name: Any, names: Iterable) -> str:
    """Ask whether one of the names that are most alike was meant; case matters little."""
    by_small: dict[str, list[str]] = {}
    for text in names:
        if isinstance(text, str):
            by_small.setdefault(text.casefold(), []).append(text)
    close = difflib.get_close_matches(name.casefold(), by_small) if isinstance(name, str) else []
    alike = [text for small in close for text in by_small[small]]
    return f" Did you mean {' or '.join(map(repr, alike))}?" if alike else ""


def listed(names: Sequence[Any], most: int = 5) -> str:
    """Write the first few of many names."""
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")


def number(n: int, noun: str) -> str:
    """Count things."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def type_of(value: Any) -> str:
    """Name the type of what was found; if it is a class, say so."""
    return f"the class {value.__qualname__}" if isinstance(value, type) else type(value).__qualname__


def one_of(value: Any, allowed: Iterable, name: str) -> None:
    """Require one of a few values."""
    allowed = list(allowed)
    single = isinstance(value, str) or not hasattr(value, "__len__")  # of lists and arrays, `in` asks something else
    if not (single and value in allowed):
        msg = f"`{name}` must be one of {allowed}, found {value!r}.{did_you_mean(value, allowed)}"
        raise ValueError(msg)


def text(value: Any, name: str, what: str) -> None:
    """Require a single str, which names ``what``."""
    if not isinstance(value, str):
        msg = f"`{name}` must be a str, {what}; found {type_of(value)}."
        raise TypeError(msg)


def items(value: Any, name: str, what: str) -> list:
    """Return the items of a list, an array or the like; refuse a text or a single value."""
    single = isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
    if single or isinstance(value, np.ndarray) and not value.ndim:
        msg = f"`{name}` must be a list of {what}, found {value!r}."
        if not isinstance(value, Mapping):
            msg += f" A single one is written `{name}=[{value!r}]`."
        raise TypeError(msg)
    return list(value)


def texts(value: Any, name: str, what: str) -> list[str]:
    """Return a list of names; a single name is a list of one."""
    found = [value] if isinstance(value, str) else items(value, name, what)
    for item in found:
        text(item, name, f"or a list of {what}")
    return list(map(str, found))  # those of an array are NumPy's


def numbers(value: Any, name: str) -> list[float]:
    """Return a list of numbers."""
    if isinstance(value, str):
        msg = f"`{name}` must be a list of numbers, found {value!r}."
        raise TypeError(msg)
    found = items(value, name, "numbers")
    for item in found:
        if not isinstance(item, Real) or isinstance(item, bool):
            msg = f"`{name}` must be a list of numbers, found {item!r} in it."
            raise TypeError(msg)
    return [float(item) for item in found]


def integer(value: Any, name: str, *, low: int, high: int | None = None, why: str = "") -> None:
    """Require an integer between two bounds, both included."""
    span = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    ok = (
        isinstance(value, Integral) and not isinstance(value, bool) and value >= low and (high is None or value <= high)
    )
    if not ok:
        msg = f"`{name}` must be {span}{why}, found {value!r}."
        raise ValueError(msg)


def name(value: Any, argument: str) -> None:
    """Require a name that can be a key in a file."""
    if not savable(value):
        msg = f"`{argument}` must be {SAVABLE}, found {value!r}."
        raise ValueError(msg)


SAVABLE = "a non-empty str without '/', a backslash or a NUL character, and neither '.' nor '..'"


def savable(value: Any) -> bool:
    """Return whether a name can be a key in HDF5 and Zarr, where '.' and '..' are places and slashes divide."""
    return isinstance(value, str) and value not in ("", ".", "..") and not any(sign in value for sign in "/\\\0")


def positive(value: Any, name: str, *, high: float = np.inf) -> None:
    """Require a positive finite number, at most ``high``."""
    ok = is_real(value) and 0 < value < np.inf and value <= high
    if not ok:
        limit = f" of at most {high:g}" if np.isfinite(high) else ""
        msg = f"`{name}` must be a positive number{limit}, found {value!r}."
        raise ValueError(msg)


def not_negative(value: Any, name: str, *, below: float = np.inf) -> None:
    """Require a finite number of at least 0, and less than ``below``."""
    ok = is_real(value) and 0 <= value < below
    if not ok:
        limit = f" and less than {below:g}" if np.isfinite(below) else ""
        msg = f"`{name}` must be a number of at least 0{limit}, found {value!r}."
        raise ValueError(msg)


def at_least(value: Any, name: str, low: float) -> None:
    """Require a finite number of at least ``low``."""
    if not (is_real(value) and low <= value < np.inf):
        msg = f"`{name}` must be a number of at least {low:g}, found {value!r}."
        raise ValueError(msg)


def share(value: Any, name: str) -> None:
    """Require a number from 0 to 1."""
    if not (is_real(value) and 0 <= value <= 1):
        msg = f"`{name}` must be a number from 0 to 1, found {value!r}."
        raise ValueError(msg)


def is_real(value: Any) -> bool:
    """Return whether this is a real number and not a truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def boolean(value: Any, name: str) -> None:
    """Require True or False."""
    if not isinstance(value, bool | np.bool_):
        msg = f"`{name}` must be True or False, found {value!r}."
        raise ValueError(msg)


def auto_or_boolean(value: Any, name: str) -> None:
    """Require True, False or ``"auto"``."""
    if not (isinstance(value, bool | np.bool_) or isinstance(value, str) and value == "auto"):
        msg = f"`{name}` must be 'auto', True or False, found {value!r}."
        raise ValueError(msg)


def finite(*arrays: np.ndarray) -> None:
    """Require that an estimate is finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        msg = (
            "The estimate is not finite; nothing was written. Values that differ by very many orders of magnitude can "
            "be the cause: try a smaller `power`, or look for outliers."
        )
        raise FloatingPointError(msg)
