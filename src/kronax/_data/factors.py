"""Where the factors of a completion are kept: treatments in obsm, genes in varm, contexts in uns."""

from typing import Any

import numpy as np
from mudata import MuData

from kronax._data import keys
from kronax._data.tensor import Tensor
from kronax.solvers.tensor.completion import Completion


def for_uns(tensor: Tensor, result: Completion) -> dict[str, Any]:
    """Return what a factor method adds to uns, by name."""
    factors = result.factors
    if factors is None:
        return {}
    found: dict[str, Any] = {
        "contexts": np.array(tensor.contexts, dtype=str),
        "held_out_loss": factors.held_out_loss.astype(np.float64),
        "n_clipped": factors.scaling.n_clipped,
        "shift": factors.scaling.shift,
        "factor": factors.scaling.factor,
    }
    if factors.contexts is not None:
        found["context_factors"] = factors.contexts
    return found


def write(mdata: MuData, tensor: Tensor, result: Completion) -> None:
    """Write the factors of treatments and genes into every modality, if the method has any.

    Genes that some context lacks have no factors: NaN.
    """
    if (factors := result.factors) is None:
        return
    for c, context in enumerate(tensor.contexts):
        adata = mdata.mod[context]
        own = factors.genes if factors.contexts is not None else factors.genes[c]
        genes = np.full((adata.n_vars, own.shape[1]), np.nan, own.dtype)
        genes[tensor.columns[c]] = own
        adata.obsm[keys.TREATMENT_FACTORS] = factors.treatments.copy()
        adata.varm[keys.GENE_FACTORS] = genes
