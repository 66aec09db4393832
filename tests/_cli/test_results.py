"""The folder of results: there with the data or not at all; what follows cannot undo them."""

import os
import resource
import tempfile

import pytest

from kronax._cli import results as module
from kronax._cli.refusals import InputError
from kronax._cli.results import Results


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def text(path) -> None:
    path.write_text("whole")


def half(error):
    """Return a writer that fails on the way."""

    def write(path):
        path.write_text("half")
        raise error

    return write


FULL = OSError(28, "No space left on device")


def test_parents_are_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a/b/../c/results", "here"):
        results = Results(module.Path(folder))
        assert not (tmp_path / folder).exists()
        results.write_first("data", text)
        results.add("figure", text)
        assert results.names == ["data", "figure"]
    assert names(tmp_path) == {"a", "here"}
    assert names(tmp_path / "a" / "c" / "results") == {"data", "figure"}


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for folder, reason in [
        (tmp_path, "is already there"),
        (tmp_path / "file", "is already there"),
        (tmp_path / "dangling", "is already there"),
        (tmp_path / "file" / "results", "cannot be made: Not a directory"),
        (tmp_path / "loop" / "results", "cannot be made: "),
        (tmp_path / ("x" * 300), "cannot be made: File name too long"),
        (tmp_path / "\0", "cannot be made: "),
    ]:
        with pytest.raises(InputError, match=reason):
            Results(folder)
    assert names(tmp_path) == {"file", "dangling", "loop"}


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), ValueError("a column cannot be written")])
def test_the_data_or_nothing(tmp_path, error):
    results = Results(tmp_path / "new" / "results")
    with pytest.raises((InputError, KeyboardInterrupt)):
        results.write_first("data", half(error))
    assert names(tmp_path) == set()
    assert results.names == []


def test_a_folder_that_fails_in_the_end(tmp_path, monkeypatch, capsys):
    """What was computed goes to another place, and that is said."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    (tmp_path / "spare").mkdir()
    results = Results(tmp_path / "results")
    (tmp_path / "results").mkdir()  # another job was faster
    (tmp_path / "results" / "theirs").write_text("")
    results.write_first("data", text)
    assert names(tmp_path / "results") == {"theirs"}
    assert results.folder.parent == tmp_path / "spare"
    assert (results.folder / "data").read_text() == "whole"
    assert results.missing
    assert f"The results are in {results.folder} instead." in capsys.readouterr().err


def test_extras_cannot_undo_the_data(tmp_path, capsys):
    results = Results(tmp_path / "results")
    results.write_first("data", text)
    results.add("figure", half(FULL))
    with results.extra("a comparison"):
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt):
        results.add("other", half(KeyboardInterrupt()))
    assert names(tmp_path) == {"results"}
    assert names(tmp_path / "results") == {"data"}
    assert results.missing == ["figure", "a comparison"]
    said = capsys.readouterr().err
    assert "warning: figure cannot be made: No space left on device.\n" in said
    assert "warning: a comparison cannot be made: ZeroDivisionError.\n" in said


def test_room(tmp_path):
    results = Results(tmp_path / "new" / "results")
    results.require_room(1)
    with pytest.raises(InputError, match="MiB are free for .*results"):
        results.require_room(2**70)


def test_limited_files(tmp_path):
    """As batch systems limit them."""
    results = Results(tmp_path / "results")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(InputError, match="up to 2 MiB, too much for .*: File too large. Make room"):
            results.require_room(2**21)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_without_permission(tmp_path, monkeypatch):
    """As on a read-only disk; a superuser may write anywhere, so the system's refusal is made up."""

    def refuse(*_args, **_options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot be made: Read-only file system"):
        Results(tmp_path / "results")
