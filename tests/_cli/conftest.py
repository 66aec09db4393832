"""The command line in this process."""

import contextlib
import io
from collections.abc import Callable

import pytest

from kronax import __main__

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run the command line: exit code, standard output, standard error."""

    def called(*words: object) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = __main__.main([str(word) for word in words])
        return code, out.getvalue(), err.getvalue()

    return called
