"""What the command line's jobs share: refusals in one sentence, and a folder that is written whole or not at all."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """What a user gave cannot be used; the message says what and why."""


@contextmanager
def told_to_the_user() -> Iterator[None]:
    """Make what kronax has to say about the data an `InputError`."""
    try:
        yield
    except (KeyError, ValueError, TypeError, MemoryError, FloatingPointError) as error:
        raise InputError(error.args[0] if error.args else type(error).__name__) from error


def require_file(path: Path, kind: str) -> None:
    """Require that a file is there."""
    if not path.is_file():
        msg = f"{path} is {'a folder' if path.is_dir() else 'not there'}; {kind} file is needed."
        raise InputError(msg)


def parts_of(path: Path, kind: str) -> set[str]:
    """Name what an HDF5 file holds."""
    import h5py

    require_file(path, kind)
    try:
        with h5py.File(path) as file:
            return set(file)
    except OSError as error:
        msg = f"{path} cannot be read as {kind} file: {error}."
        raise InputError(msg) from error


def require_new(out: Path) -> None:
    """Require that a folder can be made, before the work begins."""
    if out.exists():
        msg = f"{out} is already there; name a new folder with --out, or remove it."
        raise InputError(msg)
    try:
        with tempfile.TemporaryDirectory(dir=existing_parent(out), prefix=".kronax-"):
            pass
    except OSError as error:
        msg = f"{out} cannot be made: {error.strerror or error}."
        raise InputError(msg) from error


def existing_parent(out: Path) -> Path:
    """Give the nearest parent that is already there."""
    return next(parent for parent in out.resolve().parents if parent.exists())


def write_all(out: Path, write: Callable[[Path], list[str]]) -> list[str]:
    """Write all files, or none, into a new folder, made with its parents; give their names."""
    try:
        parent = existing_parent(out)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".kronax-") as scratch:
            missing = out.resolve().relative_to(parent)
            folder = Path(scratch, missing)
            folder.mkdir(parents=True)
            names = write(folder)
            Path(scratch, missing.parts[0]).rename(parent / missing.parts[0])
    except OSError as error:
        msg = f"{out} cannot be written: {error.strerror or error}."
        raise InputError(msg) from error
    return names
