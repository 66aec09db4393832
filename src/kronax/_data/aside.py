"""What a user has under a name of ours: it is kept under another one, and that is told once."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Any

from kronax._logging import warn

Place = tuple[str, str]  # a part of an object, such as "obs", and a name in it; or "obs.index", and its name
_TABLES = ("obs", "var")


def free_name(key: str, taken: Any) -> str:
    """Return a free name for what the user has under a name of ours."""
    names = chain([f"{key}_before"], (f"{key}_before_{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def set_aside(holders: Sequence[Any], places: Iterable[Place]) -> dict[Place, Place]:
    """Rename what is there, in all objects alike; return the old and the new names.

    An index of that name too: beside a column of its name, it cannot be saved.
    """
    moved = {}
    for part, key in places:
        having = [data for data in holders if key in getattr(data, part)]
        if having:
            new = free_name(key, {name for data in holders for name in getattr(data, part)})
            for data in having:
                _rename(data, part, key, new)
            moved[part, key] = (part, new)
        for table in [getattr(data, part) for data in holders if part in _TABLES]:
            if table.index.name == key:
                new = free_name(key, table)
                table.index = table.index.rename(new)
                moved[f"{part}.index", key] = (f"{part}.index", new)
    return moved


def _rename(data: Any, part: str, old: str, new: str) -> None:
    """Give an entry another name, and to a column's colours with it."""
    content = getattr(data, part)
    content[new] = content[old]
    del content[old]
    if part == "obs" and (colors := data.uns.pop(f"{old}_colors", None)) is not None:
        data.uns[f"{new}_colors"] = colors


def tell(moved: Mapping[Place, Place]) -> None:
    """Warn of what was set aside, all of it at once."""
    if moved:
        new = [f"`{called(old)}` was your own, and is now `{called(name)}`" for old, name in moved.items()]
        names = "that name" if len(new) == 1 else "those names"
        warn(f"{'; '.join(new)}: kronax writes its results under {names}.")


def called(place: Place) -> str:
    """Name a place as code does."""
    part, name = place
    return f"{part}.name = {name!r}" if part.endswith(".index") else f"{part}[{name!r}]"
