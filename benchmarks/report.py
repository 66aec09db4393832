"""What every benchmark prints: tables, versions, the machine and the command line."""

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "kronax",
    "MED-MAGMA",
    "GmGM",
    "scanpy",
    "anndata",
    "jax",
    "numpy",
    "scipy",
    "scikit-learn",
    "pynndescent",
    "umap-learn",
    "igraph",
)


def progress(text: str) -> None:
    """Print progress to stderr, so that stdout holds only results."""
    print(text, file=sys.stderr, flush=True)


def header() -> str:
    """Describe the command line, the machine and the versions."""
    return "\n".join([command_line(), machine(), versions()])


def command_line() -> str:
    return "Command: " + shlex.join(["python", *sys.argv])


def machine() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"Machine: {platform.system()} {platform.machine()}, {usable} CPUs"


def load() -> str:
    """Return how many processes wanted a CPU over the last minute; if more than there are CPUs, timings mean little."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def versions() -> str:
    found = [f"{name} {number}" for name in PACKAGES if (number := _version(name))]
    return f"Versions: Python {platform.python_version()}, {', '.join(found)}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Lay out a table: the first column to the left, all others to the right."""
    cells = [list(columns), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]
    if markdown:
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join(
            [f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])]
        )
    rule = "-" * len("  ".join(lines[0]))
    return "\n".join([title, rule, "  ".join(lines[0]), rule, *("  ".join(line) for line in lines[1:])])
