import numpy as np
import pandas as pd
from anndata import AnnData

from kronax._data import keys, objects

_TESTED = ("F", "p", "p_adjusted", "eta_squared")


def module_activity(adata: AnnData, *, key: str = keys.MODULE_ACTIVITY) -> pd.DataFrame:
    """Get the activities of gene modules, and whether they differ between groups of cells, as a table.

    Parameters
    ----------
    adata
        Cells × genes, with the result of :func:`kronax.tl.module_activity`. Not changed.
    key
        The ``key_added`` given to that function.

    Returns
    -------
    Modules × columns:

    ``share`` : float64
        The module's share of a cell's total, from 0 to 1, averaged over the cells that have one.
    ``F``, ``p``, ``p_adjusted``, ``eta_squared`` : float64
        Analysis of variance, if groups were compared: the F statistic, its :math:`p` value, that after
        Benjamini–Hochberg adjustment, and the share of the variance that lies between groups. NaN for a module whose
        share is the same in all cells.

    Raises
    ------
    KeyError
        If there is no such result.
    TypeError
        If `adata` is not an AnnData object.

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
    >>> table = kx.get.module_activity(adata)
    >>> table.columns.tolist()
    ['share', 'F', 'p', 'p_adjusted', 'eta_squared']
    """
    objects.is_anndata(adata)
    remedy = "Run kx.tl.module_activity first."
    found = objects.entry(adata, key, "modules", remedy)
    objects.key_in(key, adata.obsm, "adata.obsm", remedy)
    activity = np.asarray(adata.obsm[key])
    table = pd.DataFrame(
        {"share": pd.DataFrame(activity).mean().to_numpy()}, index=pd.Index(found["modules"], name="module")
    )
    return table.assign(**{name: found["anova"][name] for name in _TESTED}) if "anova" in found else table
