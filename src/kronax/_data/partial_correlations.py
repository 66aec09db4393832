"""Signed partial correlations, from the precision matrices that a graph method wrote."""

import numpy as np
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data.stored_graph import Axis, stored_matrix


def partial_correlations(data: AnnData | MuData, neighbors_key: str, axis: Axis) -> sparse.csr_array:
    r"""Compute ρ of cells or genes: CSR, no diagonal, no stored zeros.

    In a Kronecker sum, ρ includes the other axis' mean diagonal :math:`\bar ψ`:
    :math:`ρ_{jl} = -Φ_{jl} / \sqrt{(Φ_{jj} + \bar ψ)(Φ_{ll} + \bar ψ)}`. Where the other axis is not at hand (a modality
    of a MuData object), the axis' own mean diagonal takes its place: the two are equal by convention.
    """
    precision, _ = stored_matrix(data, neighbors_key, axis, "precision")
    diagonal = precision.diagonal()
    other = "var" if axis == "obs" else "obs"
    key = data.uns[neighbors_key]["precision_key"]
    matrices = getattr(data, f"{other}p")
    shift = _mean(matrices[key].diagonal() if key in matrices else diagonal)
    edges = precision.tocoo()
    off = edges.row != edges.col
    row, col = edges.row[off], edges.col[off]
    scale = np.sqrt((diagonal[row] + shift) * (diagonal[col] + shift))
    return sparse.csr_array((-edges.data[off] / scale, (row, col)), shape=precision.shape)


def _mean(diagonal: np.ndarray) -> float:
    """Average the diagonal over cells or genes with counts: the others have 0 there."""
    part = diagonal[diagonal != 0]
    return float(part.mean()) if len(part) else 0.0
