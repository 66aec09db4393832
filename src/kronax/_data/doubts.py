"""Warnings of doubtful values and names in a tensor that can still be used, each with the remedy."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_float_dtype, is_hashable
from scipy import sparse

from kronax._data.tensor import Tensor
from kronax._logging import logger, warn
from kronax.solvers import checks

_APART = 10.0  # times; contexts of one unit differ by a factor of 2 or 3 in the sizes of their profiles
_CONTROLS = re.compile(
    r"(dmso|vehicle|veh|ctrl|ctl|control|untreated|unstimulated|unperturbed|untransfected|mock|scramble[d]?|pbs|saline|water|solvent"
    r"|media|medium|nontargeting|nt|negcon|neg|safetargeting|placebo)\d{0,2}"
)
_BESIDE_CONTROL = (
    "negative",
    "neg",
    "non",
    "targeting",
    "safe",
    "sham",
    "cells",
    "only",
    "group",
    "sample",
    "sirna",
    "sgrna",
)
_NAMELESS = ("", "nan", "none", "na", "n/a", "<na>", "nat", "null")
_OF_LEVELS = 0.5  # of the variance between genes' means; of levels it is .7 to .99, of responses a few hundredths
_ENOUGH = 50  # values: with fewer, a context may lack negative ones by chance
_DESIGN = re.compile(
    r"dose|dosage|conc(entration)?(s?$|_|\d)|(?<!pseudo)(?<!pseudo[_-])(?<!latent_)(?<!life)(?<!sen)time(?!stamp)|hour|duration|"
    r"(^|_)(days?|hrs?|h|um|nm|mm|mins?)(_|$)",
    re.IGNORECASE,
)
_PLACE = re.compile(r"cell_?(line|type)|tissue|organ", re.IGNORECASE)
_DIFFERENCES = "`mdata = mudata.MuData({{c: anndata.AnnData(a.X - {level}, obs=a.obs, var=a.var){rest} for c, a in mdata.mod.items()}}, axis=-1)`"


def of_input(tensor: Tensor) -> None:
    """Warn of levels in place of differences, of contexts in different units, and of names that look alike."""
    of_levels(tensor.values, controls(tensor.treatments))
    _of_mixed(tensor)
    of_scales(tensor)
    of_names(tensor.treatments, "treatments")
    of_names(tensor.contexts, "contexts")


def of_levels(matrix: np.ndarray | sparse.spmatrix | sparse.sparray, control: Sequence[str] = ()) -> None:
    """Warn of raw counts and of levels of expression: none is negative, and most of the variance is between genes' means.

    Responses may be positive too, such as fold changes or absolute values; but genes do not differ so much in their means.
    """
    entries = matrix.data if sparse.issparse(matrix) else matrix
    entries = entries[~np.isnan(entries)]
    if not entries.size or entries.min() < 0 or entries.max() <= 0:
        return
    whole = entries.max() > 1 and (np.mod(entries, 1) == 0).all()
    if not whole and _between_genes(matrix) < _OF_LEVELS:
        return
    found = "All values are non-negative whole numbers, as raw counts are." if whole else "No value is negative."
    warn(
        f"{found} Predictions of levels mostly reflect how strongly each gene is expressed, and so do their scores: in a "
        f"cross-validation they may reach .98 and mean nothing. Use {'logarithms, and of these ' if whole else ''}differences from "
        f"controls (log fold changes): {_differences(control)}"
    )


def _between_genes(matrix: np.ndarray | sparse.spmatrix | sparse.sparray) -> float:
    """Compute the share of the variance that is between the means of genes, the last axis."""
    if sparse.issparse(matrix):
        matrix = matrix.copy()
        matrix.data = np.nan_to_num(matrix.data, copy=True).astype(np.float64)
        n, total = np.full(matrix.shape[1], matrix.shape[0]), np.asarray(matrix.sum(axis=0)).ravel()
        squared = float(np.square(matrix.data).sum())
    else:
        values = matrix.reshape(-1, matrix.shape[-1])
        n, total, squared = (~np.isnan(values)).sum(axis=0), np.nansum(values, axis=0), float(np.nansum(values**2))
    known = n > 0
    grand = total[known].sum() ** 2 / n.sum()
    return float(((total[known] ** 2 / n[known]).sum() - grand) / max(squared - grand, np.finfo(float).tiny))


def _differences(control: Sequence[str]) -> str:
    """Write the code that makes differences of levels."""
    names = list(map(str, control))
    if len(names) == 1:
        return _DIFFERENCES.format(level=f"a[{names[0]!r}].X", rest=f"[a.obs_names != {names[0]!r}].copy()") + "."
    if names:
        here = f"a.obs_names.isin({names!r})"
        code = _DIFFERENCES.format(level=f"np.nanmean(a[{here}].X, axis=0)", rest=f"[~{here}].copy()")
        return f"{code}, from the mean of all controls; where every dose has its own, subtract that instead."
    return _DIFFERENCES.format(level="np.nanmean(a.X, axis=0)", rest="") + ", where no control was profiled."


def of_scales(tensor: Tensor) -> None:
    """Warn of contexts whose profiles are of very different sizes: the typical root mean square of each."""
    sizes, largest = {}, float(np.nanmax(np.abs(tensor.values))) or 1.0  # in whose unit no square overflows
    for c, context in enumerate(tensor.contexts):
        profiles = tensor.values[tensor.measured[:, c], c] / largest
        size = largest * float(np.median(np.sqrt(np.nanmean(np.square(profiles), axis=1)))) if len(profiles) else 0.0
        if size > 0:
            sizes[context] = size
    if sizes and max(sizes.values()) > _APART * min(sizes.values()):
        ordered = sorted(sizes, key=sizes.__getitem__)
        shown = ordered if len(ordered) <= 6 else [*ordered[:3], *ordered[-3:]]
        listed = ", ".join(f"{context} {sizes[context]:.3g}" for context in shown)
        where = "X" if tensor.layer is None else f"layers[{tensor.layer!r}]"
        warn(
            f"Contexts are on scales that differ {max(sizes.values()) / min(sizes.values()):.0f}-fold (typical root mean square of a "
            f"profile: {listed}{', the others between' if len(shown) < len(ordered) else ''}). The largest dominate the fit. "
            "If their units differ, convert them, or bring all to one scale: "
            f"`for a in mdata.mod.values(): a.{where} = a.{where} / np.sqrt(np.nanmean(a.{where} ** 2))`."
        )


def _of_mixed(tensor: Tensor) -> None:
    """Warn of contexts without negative values beside others with many: levels beside differences."""
    values = np.moveaxis(tensor.values, 1, 0).reshape(len(tensor.contexts), -1)
    n, negative = (~np.isnan(values)).sum(axis=1), (values < 0).sum(axis=1)
    levels, others = (n >= _ENOUGH) & (negative == 0), negative > 0.1 * n
    if levels.any() and others.any():
        names = [tensor.contexts[c] for c in np.flatnonzero(levels)]
        warn(
            f"No value of {checks.listed(names)} is negative, while those of {tensor.contexts[np.flatnonzero(others)[0]]} are in "
            f"{negative[others].sum() / n[others].sum():.0%}. Levels in some contexts and differences from controls in others do not "
            "go together: use differences in all."
        )


def of_names(names: Iterable[str], what: str) -> None:
    """Warn of names that stand for missing ones, and of those that differ by blanks or case only, with the pairs."""
    names = sorted(set(map(str, names)))  # in whatever order they come, the same text, which is told once
    if nameless := [name for name in names if name.strip().casefold() in _NAMELESS]:
        warn(
            f"{checks.listed([repr(name) for name in nameless])} among the names of {what}: is the name missing there?"
        )
    having: dict[str, list[str]] = {}
    for name in names:
        having.setdefault("".join(name.split()).casefold(), []).append(name)
    alike = [same for same in having.values() if len(same) > 1]
    if alike:
        pairs = checks.listed([" and ".join(map(repr, same)) for same in alike])
        n = checks.number(sum(map(len, alike)), what.removesuffix("s") + " name")
        warn(
            f"{n} differ by blanks or case only: {pairs}. They count as different {what}; if they are the same, write them "
            "alike, e.g. with `.str.strip().str.lower()`."
        )


def controls(names: Iterable[str]) -> list[str]:
    """Find the names that controls usually have."""
    return [name for name in map(str, names) if _is_control(name)]


def _is_control(name: str) -> bool:
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
    parts = [
        word for word in words if not re.fullmatch(r"\d{1,3}(um|nm|mm|h|hr|d)?", word) and word not in _BESIDE_CONTROL
    ]
    return bool(words) and (
        bool(_CONTROLS.fullmatch("".join(words))) or bool(parts) and all(_CONTROLS.fullmatch(part) for part in parts)
    )


def of_controls(treatments: Iterable[str], columns: Mapping[str, Iterable[str]] | None = None) -> None:
    """Warn of controls among the treatments, which are made of columns of obs with these values, or named along var."""
    treatments = list(treatments)
    for column, names in (columns or {"": treatments}).items():
        if found := controls(names):
            where = f"~adata.obs[{column!r}]" if column else ":, ~adata.var_names"
            one = len(found) == 1
            warn(
                f"{checks.listed(found)} {'looks like a control, and stays' if one else 'look like controls, and stay'} among the "
                f"treatments, predicted and scored. Leave {'it' if one else 'them'} out, `adata = adata[{where}.isin({found!r})]`; "
                f"or, of levels, subtract {'it' if one else 'them'} first: {_differences(controls(treatments) or found)}"
            )
            return


def of_averaged(
    table: pd.DataFrame, pair: np.ndarray, obs_key: list[str], context_key: list[str], aggregate: str
) -> None:
    """Warn of doses, times and tissues that vary between rows of one treatment and context; log what else does."""

    def apart(key: str, of_context: bool) -> str:
        by = (obs_key, [*context_key, key]) if of_context else ([*obs_key, key], context_key)
        by_treatment, by_context = (columns[0] if len(columns) == 1 else columns for columns in by)
        return f"kx.pp.tensor(adata, obs_key={by_treatment!r}, context_key={by_context!r})"

    told = of_combined(table, pair, f"combined by {aggregate}", apart)
    others = [key for key in table if key not in told and _is_plain(table[key])]
    few = [key for key in others if 2 * table[key].nunique() < len(table)]
    if varying := [str(key) for key in few if (_n_values(table[key], pair) > 1).any()]:
        logger.info("tensor: rows that are combined by %s differ in %s", aggregate, checks.listed(varying))


def of_combined(table: pd.DataFrame, pair: np.ndarray, how: str, apart: Callable[[str, bool], str]) -> list[str]:
    """Warn of doses, times and tissues that vary between rows of one treatment and context, and return their columns.

    ``apart`` writes how to keep a column's values apart; it is told whether they are places, which belong to the context.
    """
    named = [
        key for key in table if _DESIGN.search(str(key)) or _PLACE.search(str(key)) and not is_float_dtype(table[key])
    ]
    told = []
    for key in filter(lambda key: _is_plain(table[key]), named):
        n_values = _n_values(table[key], pair)
        if n := int((n_values > 1).sum()):
            told.append(key)
            values = checks.listed([str(value) for value in table[key][pair == n_values.idxmax()].dropna().unique()])
            warn(
                f"`adata.obs[{key!r}]` differs between rows of {n:,} of {len(n_values):,} pairs of a treatment and a context (in one: "
                f"{values}), which are {how}. To keep them apart: {apart(key, not _DESIGN.search(str(key)))}; or choose one of them first."
            )
    return told


def _n_values(column: pd.Series, pair: np.ndarray) -> pd.Series:
    """Count the different values of a column for every pair."""
    return column.groupby(pair, sort=False).nunique()


def _is_plain(column: pd.Series) -> bool:
    """Return whether a column holds values that can be told apart: no lists."""
    return infer_dtype(column) != "mixed" or column.map(is_hashable).all()
