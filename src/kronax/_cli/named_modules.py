"""Gene modules, called by the cells in which they are most active and by their hubs."""

import numpy as np
import pandas as pd
from anndata import AnnData

from kronax._data import keys
from kronax._data.chunks import read_any
from kronax._data.modules import categorical, gene_names, hubs, mean_activity, noise_among
from kronax._data.stored_graph import stored_graph
from kronax.pl._names import short

MOST = 15  # modules that are named
_ACTIVE = 0.5  # standard deviations above the average cell, at least
_ERRORS = 3  # standard errors of a group's mean above it, at least
_N_HUBS = 5


def lines(adata: AnnData, layer: str | None, groupby: str | None, gene_symbols: str | None) -> list[str]:
    """Name the modules, those first that are active in one group of cells, those of noise last; the largest, if there are many.

    Without groups, by their hubs alone.
    """
    module_of = categorical(adata.var[keys.GENE_MODULE], keys.GENE_MODULE)
    names = hubs(stored_graph(adata, keys.MED_MAGMA, "var"), module_of, gene_names(adata, gene_symbols), _N_HUBS)
    size = module_of.value_counts()
    groups = most_active(adata, layer, module_of, groupby) if groupby is not None else {}
    noise = noise_among(adata, keys.GENE_MODULE, module_of)
    shown = sorted(module_of.categories, key=lambda module: (module in noise, module not in groups, -size[module]))[
        :MOST
    ]
    kind = "cluster " if groupby == keys.QUICKSTART_CLUSTERS else ""
    remarks = {module: f" · {kind}{group}" for module, group in groups.items()} | dict.fromkeys(noise, " · noise")
    called = [f"module {module}{remarks.get(module, '')}" for module in shown]
    wide = max(map(len, called))
    what = (
        f"the {'cluster' if kind else repr(groupby)} in which each stands out, and its hubs" if groups else "their hubs"
    )
    title = f"  Gene modules: {what}"
    found = [
        f"    {name:<{wide}}   {', '.join(names[module])}   ({size[module]:,} genes)"
        for name, module in zip(called, shown, strict=True)
    ]
    rest = len(module_of.categories) - len(shown)
    return [title, *found, *([f"    and {rest} more"] if rest else [])]


def most_active(adata: AnnData, layer: str | None, module_of: pd.Categorical, groupby: str) -> dict[str, str]:
    """Name, for every module that stands out in one, the group of cells in which it is most active on average."""
    group_of = categorical(adata.obs[groupby], groupby)
    table = mean_activity(read_any(adata, layer), module_of, group_of)
    size = group_of.value_counts().to_numpy()
    by_chance = np.maximum(_ACTIVE, _ERRORS / np.sqrt(size))
    mean = np.where(table >= by_chance, table, -np.inf)  # NaN is not
    called = short(table.columns)
    return {module: called[row.argmax()] for module, row in zip(table.index, mean, strict=True) if row.max() > 0}
