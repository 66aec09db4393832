"""What a user has under a name of ours: it is kept under another one, and that is told once."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Any

from kronax._logging import warn

Place = tuple[str, str]  # a part of an object, such as "obs", and a name in it


def free_name(key: str, taken: Any) -> str:
    """Return a free name for what the user has under a name of ours."""
    names = chain([f"{key}_before"], (f"{key}_before_{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def set_aside(holders: Sequence[Any], places: Iterable[Place]) -> dict[Place, Place]:
    """Rename what is there, in all objects alike; return the old and the new names."""
    moved = {}
    for part, key in places:
        having = [data for data in holders if key in getattr(data, part)]
        if having:
            new = free_name(key, {name for data in holders for name in getattr(data, part)})
            for data in having:
                _rename(data, part, key, new)
            moved[part, key] = (part, new)
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
        new = [
            f"`{part}[{old!r}]` was your own, and is now `{part}[{name!r}]`" for (part, old), (_, name) in moved.items()
        ]
        names = "that name" if len(new) == 1 else "those names"
        warn(f"{'; '.join(new)}: kronax writes its results under {names}.")
