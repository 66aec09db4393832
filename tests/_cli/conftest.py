"""The command line in this process."""

import contextlib
import io
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from kronax import __main__

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    """Hear signals even where the tests were started with nohup or in the background, which ignores some."""
    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGTERM: signal.SIG_DFL,
    }
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in defaults if main}
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, defaults[number])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def room(run, monkeypatch) -> Callable[..., int]:
    """Run with so many bytes free on the disk, too few; return how many the results may take."""

    def needed(free: int, *words: object) -> int:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        code, _, err = run(*words)
        found = re.search(r"The results may take up to ([\d,]+) MiB", err)
        assert code == 2 and found, err
        return int(found[1].replace(",", "")) * 2**20

    return needed


@pytest.fixture(scope="session")
def run() -> Run:
    """Run the command line: exit code, standard output, standard error."""

    def called(*words: object) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = __main__.main([str(word) for word in words])
        return code, out.getvalue(), err.getvalue()

    return called
