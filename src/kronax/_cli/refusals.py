"""What a user gave cannot be used: one sentence says what and why."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

_OF_THE_SYSTEM = {errno.EAGAIN: "another program holds it open"}  # instead of "Resource temporarily unavailable"


class InputError(Exception):
    """What a user gave cannot be used; the message says what and why."""


def require_there(path: Path, needed: str) -> None:
    """Require a file, or a folder, of this name."""
    if not os.path.exists(path):  # False for names that no file can have, too
        msg = f"{path} is {'a link to what is ' if os.path.islink(path) else ''}not there; {needed} is needed."
        raise InputError(msg)


def in_words(error: BaseException) -> str:
    """Return an exception's message in one line, with the place in the file if anndata noted it."""
    if isinstance(error, OSError) and error.errno:
        return _OF_THE_SYSTEM.get(error.errno, os.strerror(error.errno))
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    first = text.splitlines()[0].strip().rstrip(".") if text else type(error).__name__
    notes = "\n".join(getattr(error, "__notes__", []))
    place = re.search(r"key '(.*?)' of <.*?> (?:to|from) (\S*)", notes)
    return f"{first} (at {place[2].rstrip('/')}/{place[1]})" if place else first


@contextmanager
def refused(words: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Turn kronax's errors about the data into an `InputError`; ``words``, patterns, say what Python's names are called here."""
    try:
        yield
    except (KeyError, ValueError, TypeError, MemoryError, FloatingPointError) as error:
        text = str(error.args[0]) if error.args else type(error).__name__
        for name, here in words.items():
            text = re.sub(name, lambda _, here=here: here, text)
        raise InputError(text) from error
