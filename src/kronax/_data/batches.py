"""The batches of the cells: a column of ``obs``, read and checked, and what was found of every batch, written."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data import labels
from kronax._data.graph_in import Matrices
from kronax._data.isolated import expand
from kronax._data.matrix import Counts
from kronax._logging import warn
from kronax.solvers import checks
from kronax.solvers.medmagma.batches import Offsets
from kronax.solvers.rows.groups import Groups

SCALES = ("pooled", "separate")
_FEW = 20  # cells of a batch: with fewer, hardly any gene shows that its scale is another
_FEW_MATCHED = 0.1  # share of the cells of a batch


@dataclass(frozen=True)
class Named:
    """The batches of the rows of one matrix, and their names."""

    names: tuple[str, ...]
    batches: Groups


def check(batch_key: str | None, batch_scales: str) -> None:
    """Check how batches are to be treated."""
    _require_name(batch_key)
    checks.one_of(batch_scales, SCALES, "batch_scales")
    if batch_key is None and batch_scales != SCALES[0]:
        msg = f"batch_scales={batch_scales!r} says how the scales of batches are found: name their column with `batch_key`."
        raise ValueError(msg)


def _require_name(batch_key: Any) -> None:
    """Require the name of one column."""
    if batch_key is not None:
        join = "`adata.obs['batch'] = adata.obs['run'].astype(str) + '_' + adata.obs['donor'].astype(str)`"
        checks.text(batch_key, "batch_key", f"one column of `obs`; join several to one first, such as {join}")


def read(data: AnnData | MuData, batch_key: str | None, matrices: Matrices) -> dict[str, Named | None]:
    """Read the batches of the cells of every matrix; None without a key.

    Those of a MuData object are in its own ``obs``, or else in the ``obs`` of every modality.
    """
    if batch_key is None:
        return dict.fromkeys(matrices.counts)
    return {
        name: _read_one(column, matrices.counts[name].cells) for name, column in labels.columns(data, batch_key).items()
    }


def read_one(adata: AnnData, batch_key: str | None, counts: Counts) -> Named | None:
    """Read the batches of the cells of one object."""
    _require_name(batch_key)
    if batch_key is None:
        return None
    return _read_one(labels.columns(adata, batch_key)[""], counts.cells)


def large(named: Named, counts: Counts) -> pd.Categorical | None:
    """Return the batch of every cell of the object, missing in batches too small to tell much; None if all are, or it is the only one."""
    enough = named.batches.sizes >= _FEW
    codes = np.full(counts.shape[0], -1)
    codes[counts.cells] = np.where(enough, np.cumsum(enough) - 1, -1)[named.batches.codes]
    names = [name for name, large in zip(named.names, enough, strict=True) if large]
    return pd.Categorical.from_codes(codes, names) if names and len(named.names) > 1 else None


def _read_one(column: labels.Column, cells: np.ndarray) -> Named:
    """Read the batches of some cells."""
    (codes, names), where = labels.categories(column, cells, "batch"), column[1]
    columns = column_names(names)
    if unsavable := [name for name in columns if name == "_index" or not checks.savable(name)]:
        msg = f"{where} has batches called {checks.listed([repr(name) for name in unsavable], 3)}, which no file can hold: rename them."
        raise ValueError(msg)
    if len(set(columns)) < len(columns):
        alike = [name for name, column in zip(names, columns, strict=True) if columns.count(column) > 1]
        msg = f"{where} has batches that files cannot tell apart ({checks.listed([repr(name) for name in alike], 3)}): rename them."
        raise ValueError(msg)
    if len(names) > 1 and 2 * len(names) > len(cells):
        msg = (
            f"{where} has {len(names):,} values for {checks.number(len(cells), 'cell')}: most batches are a single cell, which cannot "
            "be told from what distinguishes cells. Name the column of the samples, runs or plates."
        )
        raise ValueError(msg)
    return Named(names, Groups(codes, len(names)))


def column_names(names: tuple[str, ...]) -> list[str]:
    """Return the names of batches as columns of a table in a file, where slashes divide."""
    return [name.replace("/", "|") for name in names]


def warn_of(named: Named | None, found: Offsets | None, of: str = "") -> None:
    """Warn of batches that tell little; ``of`` names the modality."""
    if named is None:
        return
    of = of and f" of {of!r}"
    if len(named.names) == 1:
        warn(f"All cells{of} are of one batch ({named.names[0]}): the result is the same as without `batch_key`.")
        return
    sizes = named.batches.sizes
    few = [f"{name!r}: {size}" for name, size in zip(named.names, sizes, strict=True) if size < _FEW]
    if few:
        warn(
            f"{checks.number(len(few), 'batch').replace('batchs', 'batches')}{of} of fewer than {_FEW} cells ({checks.listed(few, 3)}): so few hardly show which "
            "genes they detect differently. Check their cells, or leave them out."
        )
    if found is None:
        return
    alone = [
        f"{name} {share:.0%}"
        for name, share, size in zip(named.names, found.matched, sizes, strict=True)
        if share < _FEW_MATCHED and size >= _FEW
    ]
    if alone:
        warn(
            f"Few cells{of} of {checks.listed(alone, 3)} match cells of other batches. If these batches share no cell type with others, "
            "what distinguishes the batch cannot be told from what distinguishes its cells."
        )


def report(named: Named, found: Offsets) -> dict[str, Any]:
    """Return what ``uns`` holds of the batches."""
    return {
        "batches": np.array(named.names, dtype=str),
        "batch_spread": found.spread,
        "batch_matched": found.matched,
    }


def table(adata: AnnData, counts: Counts, named: Named, logs: np.ndarray) -> pd.DataFrame:
    """Return numbers of batches × genes as a table of genes × batches, whose columns files can hold."""
    columns = column_names(named.names)
    full = expand(logs.T, counts.genes, counts.shape[1], fill=np.nan)
    return pd.DataFrame(full, index=adata.var_names, columns=columns)
