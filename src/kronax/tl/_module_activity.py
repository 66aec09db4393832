import warnings
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats
from scipy.stats import ConstantInputWarning

from kronax._data import keys, objects
from kronax._data.aside import tell
from kronax._data.chunks import read_any
from kronax._data.isolated import expand
from kronax._data.modules import NO_MODULES, categorical, learnt_from, shares
from kronax._data.whole import whole_or_nothing
from kronax._data.written import clear, of_activity, params_of, without_none
from kronax._logging import warn
from kronax.solvers import checks

_CONSTANT = 1e-12  # a spread smaller than this, relative to the mean, is rounding


def module_activity(
    adata: AnnData,
    *,
    groupby: str | None = None,
    modules: str = keys.GENE_MODULE,
    layer: str | None = None,
    key_added: str = keys.MODULE_ACTIVITY,
    copy: bool = False,
) -> AnnData | None:
    """Compute the activity of every gene module in every cell, and test whether it differs between groups of cells.

    A module's activity in a cell is its genes' share of the cell's total. Groups are compared by one-way analysis of
    variance, one module at a time; :math:`p` values are adjusted for the number of modules by the Benjamini–Hochberg
    procedure. Groups derived from the same matrix, such as clusters, differ by construction, and their :math:`p` values
    are meaningless. Use labels from an independent source.

    Parameters
    ----------
    adata
        Cells × genes, with the result of :func:`kronax.tl.gene_modules`.
    groupby
        Column of ``obs`` with at least two groups. If None, nothing is tested. Cells with a missing value
        get activities, but are not tested.
    modules
        Column of ``var`` with the modules. Genes with a missing value are in none, but count towards the total.
    layer
        Layer to read, counts or log-normalised. If None, the matrix the graph was learnt from: the layer named in
        ``adata.uns[neighbors_key]["params"]``, or `adata.X` if none is named or it no longer exists.
    key_added
        Name of the results; ``key`` below.
    copy
        Return a copy and leave `adata` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the AnnData object with the results:

    ``adata.obsm["key"]`` : cells × modules, float64
        Shares, from 0 to 1. NaN for cells without a non-zero value.
    ``adata.uns["key"]`` : dict
        ``modules``, the names of the columns; ``params``; and with `groupby` ``anova``, a dict. Its arrays ``F``,
        ``p``, ``p_adjusted`` and ``eta_squared`` (the share of the variance that lies between groups) have one value
        per module, NaN if its share is the same in all cells. ``groups`` and ``n_cells`` are the groups compared and
        their numbers of cells; ``df_between`` and ``df_within``, the degrees of freedom.
        :func:`kronax.get.module_activity` turns it into a table.

    Raises
    ------
    KeyError
        If a column or the layer does not exist.
    ValueError
        If no gene is in a module; the matrix has negative, masked, NaN or infinite values; fewer than two
        groups have cells with counts; or none of the groups has two.

    References
    ----------
    :cite:t:`Andrew2026`, section 4.3; :cite:t:`Benjamini1995`.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.med_magma(adata)
    >>> kx.tl.gene_modules(adata)
    >>> kx.tl.module_activity(adata, groupby="bulk_labels")
    >>> bool((adata.uns["module_activity"]["anova"]["p_adjusted"] < 0.01).all())
    True
    """
    objects.is_anndata(adata, backed=True)
    checks.name(key_added, "key_added")
    for key in (modules, params_of(adata, modules).get("neighbors_key")):
        if key == key_added:
            msg = f"`key_added` must not be {key!r}, whose entry in `adata.uns` would be lost."
            raise ValueError(msg)
    objects.key_in(modules, adata.var, "adata.var", NO_MODULES)
    if groupby is not None:
        objects.key_in(groupby, adata.obs, "adata.obs")
    module_of = categorical(adata.var[modules], f"adata.var[{modules!r}]")
    if layer is None:
        layer = _layer_of(adata, modules)
    counts = read_any(adata, layer)
    activity = expand(shares(counts, module_of), counts.cells, adata.n_obs, fill=np.nan)
    found: dict[str, Any] = {
        "modules": np.array(module_of.categories, dtype=str),
        "params": without_none({"groupby": groupby, "modules": modules, "layer": layer}),
    }
    if groupby is not None:
        found["anova"] = _anova(activity, categorical(adata.obs[groupby], f"adata.obs[{groupby!r}]"), groupby)

    adata = adata.copy() if copy else adata
    with whole_or_nothing(adata):
        tell(clear(adata, key_added, of_activity(key_added)))
        adata.obsm[key_added] = activity
        adata.uns[key_added] = found
        if (n_empty := adata.n_obs - len(counts.cells)) > 0:
            msg = f"{n_empty} of {adata.n_obs} cells have no non-zero value: their activities are NaN, and they are not tested."
            warn(msg)
    return adata if copy else None


def _layer_of(adata: AnnData, modules: str) -> str | None:
    """Name the layer that the modules' graph was learnt from, if all that is known and there."""
    neighbors_key = params_of(adata, modules).get("neighbors_key")
    return learnt_from(adata, neighbors_key) if neighbors_key in adata.uns else None


def _anova(activity: np.ndarray, group_of: pd.Categorical, groupby: str) -> dict[str, Any]:
    """Compare the groups, one-way, for every module."""
    known = ~np.isnan(activity).any(axis=1)
    members = [np.flatnonzero(known & (group_of.codes == code)) for code in range(len(group_of.categories))]
    names = [name for name, cells in zip(group_of.categories, members, strict=True) if len(cells)]
    members = [cells for cells in members if len(cells)]
    sizes = np.array([len(cells) for cells in members])
    if len(members) < 2 or sizes.max() < 2:
        msg = (
            f"`adata.obs[{groupby!r}]` has {len(members)} groups of cells with counts, the largest of {sizes.max(initial=0)}; "
            "at least two groups are needed, and one of at least two cells."
        )
        raise ValueError(msg)
    compared = activity[np.concatenate(members)]
    varies = np.ptp(compared, axis=0) > _CONSTANT * compared.mean(axis=0)
    f, p, adjusted, eta = np.full((4, activity.shape[1]), np.nan)
    between, within = len(members) - 1, sizes.sum() - len(members)
    if varies.any():
        # F is infinite if groups differ but their cells do not; some versions of SciPy warn of this
        with np.errstate(divide="ignore"), warnings.catch_warnings(action="ignore", category=ConstantInputWarning):
            f[varies], p[varies] = stats.f_oneway(*[activity[cells][:, varies] for cells in members])
        adjusted[varies] = stats.false_discovery_control(p[varies])
        eta[varies] = 1.0 / (1.0 + within / (between * f[varies]))  # SS between / SS total
    return {
        "F": f,
        "p": p,
        "p_adjusted": adjusted,
        "eta_squared": eta,
        "groups": np.array(names, dtype=str),
        "n_cells": sizes,
        "df_between": int(between),
        "df_within": int(within),
    }
