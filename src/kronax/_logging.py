"""kronax' logger: one line per call on standard error, silenced by ``logging.getLogger("kronax").setLevel("WARNING")``."""

import inspect
import logging
import sys
import warnings

with warnings.catch_warnings():
    # In a notebook without ipywidgets, the first import warns that bars will be plain text; the solvers' are the next ones
    warnings.filterwarnings("ignore", message="IProgress not found")
    import tqdm.auto  # noqa: F401

logger = logging.getLogger("kronax")
if not logger.handlers:
    _handler = logging.StreamHandler()
    _handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(_handler)
    logger.propagate = False
    if logger.level == logging.NOTSET:  # it may have been silenced before any part of kronax was used
        logger.setLevel(logging.INFO)


def shows_progress() -> bool:
    """Return whether long work may draw a progress bar: in a terminal or notebook, elsewhere only at the level DEBUG."""
    seen = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
    return logger.isEnabledFor(logging.INFO if seen else logging.DEBUG)


def warn(msg: str) -> None:
    """Warn at the user's line: that of the first caller outside kronax."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "kronax":
        level, frame = level + 1, frame.f_back
    warnings.warn(msg, UserWarning, stacklevel=level)
