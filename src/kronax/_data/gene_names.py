"""Gene names that contexts do not share: how many are lost, and how the names differ."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from kronax._logging import warn
from kronax.solvers import checks

_ENSEMBL = re.compile(r"ENS[A-Z]*[GTP]\d{6,}")


def warn_of_lost(names: Mapping[str, pd.Index], n_shared: int) -> None:
    """Warn where contexts share less than half the genes of the one with the fewest."""
    fewest = min(len(index) for index in names.values())
    if 2 * n_shared < fewest:
        counts = checks.listed([f"{context!r} has {len(index):,}" for context, index in names.items()])
        warn(
            f"Only {checks.number(n_shared, 'gene')} {'is' if n_shared == 1 else 'are'} shared by all {len(names)} contexts "
            f"({counts}); of the others little or nothing can be predicted. {how_they_differ(names, n_shared)}"
        )


def how_they_differ(names: Mapping[str, pd.Index], n_shared: int) -> str:
    """Return a sentence on how the names of genes differ between contexts, and how to make them agree."""
    ensembl = {context for context, index in names.items() if _share(index, _ENSEMBL) > 0.5}
    if ensembl and len(ensembl) < len(names):
        others = [context for context in names if context not in ensembl]
        return (
            f"{checks.listed(sorted(ensembl))}: Ensembl identifiers such as {_first(names[min(ensembl)], True)}; {checks.listed(others)}: names such "
            f"as {_first(names[others[0]], False)}. Use one kind of names in all."
        )
    ways: dict[str, tuple[Callable[[pd.Index], pd.Index], str]] = {
        "case": (lambda index: index.astype(str).str.upper(), ".str.upper()"),
        "blanks around them": (lambda index: index.astype(str).str.strip(), ".str.strip()"),
        "versions such as '.1'": (
            lambda index: index.astype(str).str.replace(r"\.\d+$", "", regex=True),
            r".str.replace(r'\.\d+$', '', regex=True)",
        ),
    }
    for size in range(1, len(ways) + 1):
        for chosen in combinations(ways, size):
            alike = [_through(index, [ways[way][0] for way in chosen]) for index in names.values()]
            n = len(set.intersection(*map(set, alike)))
            if n > 2 * n_shared:
                code = "".join(ways[way][1] for way in chosen)
                return (
                    f"Without differences in {' and '.join(chosen)}, {n:,} would be: "
                    f"`for a in mdata.mod.values(): a.var_names = a.var_names{code}`."
                )
    firsts = checks.listed([f"{index[0]} in {context!r}" for context, index in names.items()])
    return f"Use the same kind of gene names in all (the first are {firsts})."


def _first(index: pd.Index, is_ensembl: bool) -> str:
    """Return the first identifier of Ensembl, or the first other name."""
    return next(name for name in map(str, index) if bool(_ENSEMBL.match(name)) == is_ensembl)


def _through(index: pd.Index, ways: Sequence[Callable[[pd.Index], pd.Index]]) -> pd.Index:
    for way in ways:
        index = way(index)
    return index


def _share(index: pd.Index, kind: re.Pattern) -> float:
    return float(np.mean([bool(kind.match(str(name))) for name in index]))
