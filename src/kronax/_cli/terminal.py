"""Standard output and error as batch jobs have them: ASCII, closed, or a pipe whose reader has gone."""

import codecs
import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, NoReturn

_AGAIN = 0.1  # seconds before a signal that was not heard is sent once more
_IN_ASCII = str.maketrans(
    {"×": "x", "…": "...", "–": "-", "—": "-", "’": "'", "§": "section", "ü": "ue", "≥": ">=", "·": "-"}
)


class Terminated(KeyboardInterrupt):
    """The system asks the program to end; ``args`` holds the number of the signal."""


@contextmanager
def plain() -> Iterator[None]:
    """Print what any terminal can show, every warning once and on one line; end on a signal as on Ctrl-C."""
    with ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stack.enter_context(_lenient(name))
        stack.enter_context(_plain_warnings())
        stack.enter_context(_signals_interrupt())
        yield


def note(text: str) -> None:
    """Print a remark to standard error."""
    print(text, file=sys.stderr)


def in_code(text: str) -> str:
    """Return a string as it is written in Python, in characters that standard output can show."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return ascii(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if text.isprintable() else repr(text)


class _Lenient:
    """A stream that falls silent where its reader has gone or its disk is full, so that the work goes on."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._fall_silent(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._fall_silent(error)

    def _fall_silent(self, error: OSError) -> None:
        """Discard what is still in the buffer, and all that follows; say so, unless nobody is there to read it."""
        if error.errno != errno.EPIPE and self._stream is sys.__stdout__ and sys.__stderr__ is not None:
            with suppress(OSError):
                print(f"the report cannot be written: {error.strerror}", file=sys.__stderr__, flush=True)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def _lenient(name: str) -> Iterator[None]:
    """Make a standard stream lenient; if it was closed before the program began, its output is discarded."""
    before = getattr(sys, name)
    if before is None:
        lenient = stream = open(os.devnull, "w", encoding="utf-8")
    else:
        stream, lenient = before, _Lenient(before)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="kronax_in_ascii")
    setattr(sys, name, lenient)
    try:
        yield
    finally:
        lenient.flush()
        setattr(sys, name, before)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that a stream's encoding lacks: by similar ones or, in names, by Python's escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end].translate(_IN_ASCII)
    return found.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("kronax_in_ascii", _in_ascii)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print every warning once, on one line and without the line of code that it comes from."""
    told = set()

    def tell(message: Warning | str, *_args: object, **_kwargs: object) -> None:
        text = " ".join(str(message).split())
        if text not in told:
            told.add(text)
            note(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


class _SentAgain:
    """Hook for what Python drops, as in callbacks of its collector: an interrupt among it is sent once more."""

    def __init__(self) -> None:
        self.before = sys.unraisablehook
        self._timer = threading.Timer(0, str)

    def __call__(self, dropped: Any) -> None:
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            self.before(dropped)
        elif not self._timer.is_alive():
            number = dropped.exc_value.args[0] if isinstance(dropped.exc_value, Terminated) else signal.SIGINT
            self._timer = threading.Timer(_AGAIN, signal.pthread_kill, (threading.main_thread().ident, number))
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """Send nothing from now on."""
        self._timer.cancel()
        if self._timer.is_alive():
            self._timer.join()


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let signals that end a job, as batch systems send them, interrupt it: nothing half-written stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: object) -> NoReturn:
        raise Terminated(number)

    sys.unraisablehook = again = _SentAgain()
    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # nohup
    }
    try:
        yield
    finally:
        again.cancel()  # a signal that came after the handlers have gone would end the process
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = again.before
