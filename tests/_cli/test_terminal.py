"""What is printed reaches any terminal, and no terminal stops the work."""

import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

from kronax import __main__
from kronax._cli import terminal


@pytest.fixture
def stdout_to(monkeypatch):
    """Put something in the place of standard output."""

    def put(stream):
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return put


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "3 x 4, 0.1, ..., 2; \\xe9\\u4e2d"),
        ("latin-1", "3 × 4, 0.1, ..., 2; é\\u4e2d"),
        ("utf-8", "3 × 4, 0.1, …, 2; é中"),
    ],
)
def test_every_encoding_shows_something(stdout_to, encoding, shown):
    stream = stdout_to(io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with terminal.plain():
        print("3 × 4, 0.1, …, 2; é中", end="")
    assert stream.buffer.getvalue().decode(encoding) == shown


@pytest.mark.parametrize("name", ["a b.h5ad", "é中😀.h5ad", '"\\.h5ad', "5×\n.h5ad", "\udcff.h5ad"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_in_code_are_what_they_were(stdout_to, encoding, name):
    stream = stdout_to(io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with terminal.plain():
        print(terminal.in_code(name))
    assert eval(stream.buffer.getvalue().decode(encoding)) == name


def test_a_pipe_without_a_reader(stdout_to):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as stream:
        stdout_to(stream)
        with terminal.plain():
            print("x" * 100_000)
            print("and on", flush=True)


def test_closed_streams(stdout_to, monkeypatch):
    stdout_to(None)
    monkeypatch.setattr(sys, "stderr", None)
    with terminal.plain():
        sys.stdout.write("into the void")
        sys.stderr.write("also")
    assert sys.stdout is None


def test_warnings_are_told_once_and_plainly(capsys):
    with terminal.plain():
        for _ in range(3):
            warnings.warn("Names\nare not unique.", UserWarning, stacklevel=2)
    assert capsys.readouterr().err == "warning: Names are not unique.\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_interrupt(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stopped, terminal.plain():
        os.kill(os.getpid(), number)
        signal.pause()
    assert stopped.value.args == (number,)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_heard_that_arrive_in_a_callback(number):
    """Python drops exceptions of the callbacks of its garbage collector, of which JAX has one."""
    sent = []

    def callback(*_args):
        if len(sent) < 2:  # and the second one, too
            sent.append(number)
            os.kill(os.getpid(), number)

    try:
        with pytest.raises(KeyboardInterrupt), terminal.plain():
            gc.callbacks.append(callback)
            gc.collect()
            assert sent  # the first one is dropped
            for _ in range(100):
                time.sleep(0.1)
        late = signal.signal(number, lambda *_: sent.append("late"))
        time.sleep(2 * terminal._AGAIN)
        signal.signal(number, late)
        assert sent == [number, number]  # the second one is not sent once there is nobody left to hear it
    finally:
        gc.callbacks.remove(callback)


def test_no_signal_is_sent_once_there_is_nobody_left_to_hear_it(monkeypatch):
    """One that was dropped just before the end waits to be sent again: it does so no more, nor does the end wait for it."""
    monkeypatch.setattr(terminal, "_AGAIN", 10.0)
    before, sent = set(threading.enumerate()), []

    def callback(*_args):
        if not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with terminal.plain():
            gc.callbacks.append(callback)
            gc.collect()
            (waiting,) = set(threading.enumerate()) - before
        assert sent and not waiting.is_alive()
    except KeyboardInterrupt:
        pytest.fail("the signal was sent again")
    finally:
        gc.callbacks.remove(callback)
        for timer in set(threading.enumerate()) - before:
            timer.cancel()


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGHUP, before)
        with terminal.plain():
            os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize(
    ("words", "shown"), [(["--help"], "cells x genes"), (["complete", "--help"], "treatments x genes")]
)
def test_help_in_ascii(stdout_to, words, shown):
    stream = stdout_to(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit, match="0"):
        __main__.main(words)
    assert shown in stream.buffer.getvalue().decode("ascii")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_report_that_cannot_be_written_is_told():
    code = "from kronax._cli import terminal\nwith terminal.plain(): print('a report')"
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=True, timeout=200
        )
    assert found.stderr.decode().splitlines() == ["the report cannot be written: No space left on device"]


def test_the_program_in_a_batch_job():
    """No terminal, no home, nothing but ASCII, and a figure backend that is not there."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii"}
    environment |= {"HOME": "/nonexistent", "MPLBACKEND": "no_such_backend", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "kronax", "none×.h5ad"]
    refused = subprocess.run(command, capture_output=True, check=False, env=environment, timeout=200)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(b"python -m kronax: error: none")
