"""The folder of results: it is made with the data, whole or not at all; later files are added and cannot harm the data."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kronax._cli.refusals import InputError, in_words
from kronax._cli.terminal import note

Write = Callable[[Path], None]


class Results:
    """A new folder, and what became of the results.

    Attributes
    ----------
    folder
        Where they are, or will be.
    names
        Of the files that are there.
    missing
        What could not be made, besides the data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        self.missing: list[str] = []
        _require_new(folder)
        if ".." in folder.parts:
            self.folder = folder.resolve()  # "a/../b" leads nowhere before there is an a

    @property
    def beside(self) -> Path:
        """The nearest parent that is already there."""
        return _existing_parent(self.folder)

    def require_room(self, n_bytes: int) -> None:
        """Require that a file as large as the results may be made, and has room on the disk."""
        needed, free = f"{n_bytes / 2**20:,.0f} MiB", shutil.disk_usage(self.beside).free
        remedy = "Make room, or name another place with --out."
        if n_bytes > free:
            msg = f"The results may take up to {needed}; {free / 2**20:,.0f} MiB are free for {self.folder}. {remedy}"
            raise InputError(msg)
        try:
            with tempfile.TemporaryFile(dir=self.beside, prefix=".kronax-") as file:
                file.truncate(n_bytes)  # takes no room, but is refused where the system limits the size of files
        except OSError as error:
            msg = f"The results may take up to {needed}, too much for {self.folder}: {in_words(error)}. {remedy}"
            raise InputError(msg) from error

    def write_first(self, name: str, write: Write) -> None:
        """Write the data, in the folder for temporary files if the one asked for fails since the work began."""
        try:
            _publish(self.folder, name, write)
        except Exception as error:  # noqa: BLE001 - no failure of any kind may cost the computed results
            reason = in_words(error)
            spare = Path(tempfile.gettempdir(), f"kronax-{os.getpid()}-{self.folder.name}")
            try:
                _publish(spare, name, write)
            except Exception:  # noqa: BLE001 - the first failure is reported
                msg = f"{self.folder} cannot be written: {reason}."
                raise InputError(msg) from error
            note(f"warning: {self.folder} cannot be written: {reason}. The results are in {spare} instead.")
            self.folder = spare
            self.missing.append("the folder that was asked for")
        self.names.append(name)

    def add(self, name: str, write: Write) -> None:
        """Write one more file, whole or not at all; the work goes on without it if that fails."""
        with self.extra(name), tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".kronax-") as scratch:
            write(Path(scratch, name))
            os.replace(Path(scratch, name), self.folder / name)
            self.names.append(name)

    @contextmanager
    def extra(self, what: str) -> Iterator[None]:
        """Go on without something that the results do not need, and say so."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the same
            note(f"warning: {what} cannot be made: {in_words(error)}.")
            self.missing.append(what)


def _require_new(folder: Path) -> None:
    """Require that a folder can be made, before the work begins."""
    try:
        if os.path.lexists(folder) or folder.resolve().exists():
            msg = f"{folder} is already there; name a new folder with --out, or remove it."
            raise InputError(msg)
        if any(parent.is_symlink() for parent in folder.resolve().parents):  # Python 3.13 leaves them as they are
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        with tempfile.TemporaryDirectory(dir=_existing_parent(folder), prefix=".kronax-") as scratch:
            Path(scratch, folder.resolve().name).mkdir()
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"{folder} cannot be made: {in_words(error)}."
        raise InputError(msg) from error


def _existing_parent(folder: Path) -> Path:
    return next(parent for parent in folder.resolve().parents if parent.exists())


def _publish(folder: Path, name: str, write: Write) -> None:
    """Make a folder, with its parents, that holds one file: all of it at once, by renaming."""
    parent = _existing_parent(folder)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".kronax-") as scratch:
        new = folder.resolve().relative_to(parent)
        made = Path(scratch, new)
        made.mkdir(parents=True)
        write(made / name)
        Path(scratch, new.parts[0]).rename(parent / new.parts[0])
