"""Communities of a graph by the Leiden algorithm, as :func:`scanpy.tl.leiden` finds them."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax.solvers.communities.consensus import N_ITERATIONS


def leiden(graph: sparse.csr_matrix, resolution: float, random_state: int) -> np.ndarray:
    """Return the community of every vertex: weighted modularity, igraph's implementation."""
    import scanpy as sc

    vertices = AnnData(obs=pd.DataFrame(index=pd.RangeIndex(graph.shape[0]).astype(str)))
    sc.tl.leiden(
        vertices,
        resolution=resolution,
        adjacency=graph,
        flavor="igraph",
        n_iterations=N_ITERATIONS,
        directed=False,
        random_state=random_state,
    )
    return vertices.obs["leiden"].cat.codes.to_numpy()
