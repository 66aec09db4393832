import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import align, doubts, gene_names, keys, objects
from kronax._data import measured as marks
from kronax._data import tensor as tensors
from kronax._logging import logger
from kronax.solvers import checks


def from_wide(
    adata: AnnData, *, context_key: str = "context", gene_key: str = "gene", layer: str | None = None
) -> MuData:
    """Convert a matrix with one row per context and gene and one column per treatment to a tensor.

    This is the layout of DrugMatrix. The inverse is :func:`kronax.get.wide` with ``layer=None``. All values of the
    matrix count as measured, unless a layer says otherwise.

    Parameters
    ----------
    adata
        (Context × gene) × treatments; NaN where missing. Genes that a context lacks are added to it as missing. If X is
        read and there is a ``layers["measured"]``, as from :func:`kronax.get.wide` of a completed layer, values for
        which it is False are treated as predictions; it may have any dtype that says true or false. Of another layer,
        ``layers["{layer}_measured"]`` says so.
    context_key
        Column of ``obs`` with the context of each row.
    gene_key
        Column of ``obs`` with the gene of each row.
    layer
        Layer to read; X if None.

    Returns
    -------
    MuData with one modality per context (``axis=-1``, aligned as by :func:`kronax.pp.align`), contexts and genes in
    order of first appearance. In each modality, treatments × genes:

    ``X`` : float
        Measured values; NaN where missing.
    ``layers["completed"]`` : float, ``layers["completed_measured"]`` : bool
        Measured values and predictions, and which of them were measured; if there are predictions.
    ``obs["measured"]`` : bool
        Whether the treatment has a measured value.

    The columns of ``adata.var`` are copied to ``obs``.

    Raises
    ------
    KeyError
        If a column or the layer does not exist.
    TypeError
        If `adata` is not a numeric AnnData object in memory.
    ValueError
        If columns are not unique, a row has no context or gene, a gene occurs twice in a context, there are fewer than two
        contexts, or one whose name cannot be saved.

    References
    ----------
    :cite:t:`ToxiTenCompl2025`, section 3.1.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.skewed_response(n_treatments=40, n_genes=30)
    >>> wide = kx.get.wide(mdata, layer=None)
    >>> wide.shape
    (240, 40)
    >>> kx.pp.from_wide(wide)["tissue0"].shape
    (40, 30)
    """
    made_by = f"of the values and a table of what rows are, with columns {context_key!r} and {gene_key!r}: "
    made_by += "`anndata.AnnData(values, obs=rows, var=treatments)`"
    objects.is_anndata(adata, "an AnnData object, (context × gene) × treatments", made_by)
    objects.unique_columns(adata.obs, "adata.obs")
    objects.unique_columns(adata.var, "adata.var")
    for key, argument in ((context_key, "context_key"), (gene_key, "gene_key")):
        checks.text(key, argument, "a column of `adata.obs`")
        objects.key_in(key, adata.obs, "adata.obs")
    context, gene = (_labels(adata, key) for key in (context_key, gene_key))
    repeated = pd.MultiIndex.from_arrays([context, gene]).duplicated()
    if repeated.any():
        first = int(np.flatnonzero(repeated)[0])
        msg = (
            f"{int(repeated.sum())} rows repeat a gene of their context, such as {gene[first]!r} in {context[first]!r}. "
            "Average them first."
        )
        raise ValueError(msg)
    contexts, genes = (list(dict.fromkeys(labels)) for labels in (context, gene))
    tensors.require_names(contexts, context_key)
    if len(contexts) < 2:
        msg = f"A tensor needs at least 2 contexts; `adata.obs[{context_key!r}]` has {len(contexts)}: {contexts}."
        raise ValueError(msg)
    tensors.require_unique(adata.var_names, "treatments (var_names)", "Average them first.", "`adata`")
    found = tensors.matrix(adata, layer, "adata")
    predicted = marks.predicted(adata, layer)
    if predicted is not None:
        text = "from_wide: %d values are predictions according to layers[%r]: in layers[%r], and missing in X"
        logger.info(text, predicted.sum(), marks.mark(layer), keys.COMPLETED)
    doubts.of_names(contexts, "contexts")
    doubts.of_names(adata.var_names, "treatments")
    doubts.of_controls(adata.var_names)
    by_context = {name: pd.Index(gene[context == name]) for name in contexts}
    n_shared = len(set.intersection(*map(set, by_context.values())))
    gene_names.warn_of_lost(by_context, n_shared)
    dtype = np.result_type(found.dtype, np.float32)
    column = pd.Index(genes).get_indexer(gene)
    modalities, measured = {}, {}
    for name in contexts:
        rows = np.flatnonzero(context == name)
        block = found[rows].toarray() if sparse.issparse(found) else found[rows]
        values = np.full((adata.n_vars, len(genes)), np.nan, dtype)
        values[:, column[rows]] = block.T
        layers = {}
        if predicted is not None:
            layers[keys.COMPLETED] = values.copy()
            values[:, column[rows]] = np.where(predicted[rows], np.nan, block).T
            layers[marks.mark(keys.COMPLETED)] = ~np.isnan(values)
        var = pd.DataFrame(index=pd.Index(genes))
        modalities[name] = AnnData(values, obs=adata.var.copy(), var=var, layers=layers)
        measured[name] = ~np.isnan(values).all(axis=1)
    align.write_measured(modalities, measured)
    with tensors.without_pulling():
        return MuData(modalities, axis=-1)


def _labels(adata: AnnData, key: str) -> np.ndarray:
    """Read a column as str."""
    column = adata.obs[key]
    if column.isna().any():
        msg = f"`adata.obs[{key!r}]` is missing in {int(column.isna().sum())} rows. Remove them, or name them."
        raise ValueError(msg)
    return np.array(objects.texts(column), dtype=object)
