"""What a user gave cannot be used: one sentence says what and why."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """What a user gave cannot be used; the message says what and why."""


def in_words(error: BaseException) -> str:
    """Return what an exception says in one line: its first line, and where, if a library noted that."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    first = text.splitlines()[0].strip() if text else ""
    places = [note.splitlines()[0] for note in getattr(error, "__notes__", []) if note.startswith("Error raised while")]
    return "; ".join([first or type(error).__name__, *places[:1]]).rstrip(".")


@contextmanager
def refused() -> Iterator[None]:
    """Make what kronax has to say about the data an `InputError`."""
    try:
        yield
    except (KeyError, ValueError, TypeError, MemoryError, FloatingPointError) as error:
        raise InputError(error.args[0] if error.args else type(error).__name__) from error
