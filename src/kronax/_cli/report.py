"""How both jobs tell what came out."""

from collections.abc import Iterable


def aligned(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return lines of a name, a value and a remark, one below the other."""
    return "\n".join(f"  {name:<14}{value:>12}   {remark}".rstrip() for name, value, remark in rows)


def next_lines(lines: Iterable[str]) -> str:
    """Return lines of Python to go on with, under a heading."""
    return "\n".join(["Next, in Python:", *(f"  {line}" for line in lines)])
