from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax._data import keys
from kronax.datasets._graph_precision import graph_precision
from kronax.solvers import checks
from kronax.solvers.gaussian.simulate import kronecker_sum_gaussian, noise_scales

_GRAPHS = ("barabasi_albert", "block")
_SIGNS = ("positive", "random")
_NOISES = ("chi2", "lognormal")


def kronecker_sum(
    n_obs: int = 200,
    n_vars: int = 201,
    *,
    graph: Literal["barabasi_albert", "block"] = "barabasi_albert",
    signs: Literal["positive", "random"] = "positive",
    block_size: int = 10,
    noise: float = 0.0,
    noise_distribution: Literal["chi2", "lognormal"] = "chi2",
    zeros: float = 0.0,
    random_state: int = 0,
) -> AnnData:
    r"""Simulate a matrix whose rows and columns depend on one another along two known graphs.

    One draw of :math:`\operatorname{vec} Z \sim \mathcal N(0, (Ψ ⊕ Φ)^{-1})`, exact up to rounding, is multiplied by
    random scales of its rows and columns, :math:`X = \operatorname{diag}(r)\, Z \operatorname{diag}(c)`, and some of
    its entries may be set to zero. Values are real numbers, including negative ones, not counts.

    Both precision matrices are :math:`I + N / (1.1\,|λ|)`, where :math:`N = D^{-1/2} A D^{-1/2}` is the adjacency
    matrix normalised by degrees, and :math:`λ` its smallest eigenvalue. The smallest eigenvalue of :math:`Ψ` and
    :math:`Φ` is therefore :math:`1 - 1/1.1` for every graph. For a Barabási–Albert tree :math:`|λ| = 1`, which is how
    the paper makes its matrices.

    Parameters
    ----------
    n_obs, n_vars
        Numbers of rows and columns, at least 2.
    graph
        Graph of the rows, and of the columns: ``"barabasi_albert"``, a tree in which every vertex joins one of the
        earlier ones, with preference for those of large degree; or ``"block"``, disconnected complete graphs.
    signs
        Signs of the off-diagonal entries of :math:`Ψ` and :math:`Φ`: ``"positive"``, all of them, as in the paper, or
        ``"random"``. A positive entry means a negative partial correlation.
    block_size
        Number of vertices of a block, at least 2; the last block has what is left. No effect on trees.
    noise
        Strength :math:`s` of the noise; 0 for none.
    noise_distribution
        ``"chi2"``: scales are :math:`χ^2_1` variables to the power of :math:`s`, as in the paper. ``"lognormal"``:
        :math:`\log r_i` and :math:`\log c_j` are normal with standard deviation :math:`s`.
    zeros
        Expected share of the entries that are set to zero, independently of each other; from 0 to less than 1.
    random_state
        Seed. The graphs, :math:`Z`, the noise and the zeros are drawn from separate streams: changing `noise` or
        `zeros` changes nothing else.

    Returns
    -------
    AnnData object:

    ``X`` : array, float64
        The simulated matrix.
    ``layers["latent"]`` : array, float64
        :math:`Z`.
    ``obsp["truth"]``, ``varp["truth"]`` : CSR matrix, float64
        :math:`Ψ` and :math:`Φ`. Their off-diagonal entries are the edges of the two graphs.
    ``obs["scale"]``, ``var["scale"]`` : float64
        :math:`r` and :math:`c`.
    ``uns["kronecker_sum"]`` : dict
        ``params``: the arguments, other than the numbers of rows and columns.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    :cite:t:`Andrew2026`, section 4.1.

    Examples
    --------
    >>> import kronax as kx
    >>> adata = kx.datasets.kronecker_sum(40, 30, noise=1.0)
    >>> adata.shape
    (40, 30)
    >>> adata.obsp["truth"].nnz  # a tree of 40 vertices has 39 edges, each stored twice, and the diagonal
    118
    """
    for value, name in ((n_obs, "n_obs"), (n_vars, "n_vars"), (block_size, "block_size")):
        checks.integer(value, name, low=2)
    checks.one_of(graph, _GRAPHS, "graph")
    checks.one_of(signs, _SIGNS, "signs")
    checks.one_of(noise_distribution, _NOISES, "noise_distribution")
    checks.not_negative(noise, "noise")
    checks.not_negative(zeros, "zeros", below=1.0)
    checks.integer(random_state, "random_state", low=0)

    graphs, latent, scales, dropped = map(np.random.default_rng, np.random.SeedSequence(random_state).spawn(4))
    psi, phi = (graph_precision(n, graph, signs, block_size, graphs) for n in (n_obs, n_vars))
    z = kronecker_sum_gaussian(psi, phi, latent)[0]
    r, c = (noise_scales(n, noise, noise_distribution, scales) for n in (n_obs, n_vars))
    x = r[:, None] * z * c
    x[dropped.random(x.shape) < zeros] = 0.0
    return AnnData(
        x,
        obs=pd.DataFrame({keys.SCALE: r}, index=[f"obs_{i}" for i in range(n_obs)]),
        var=pd.DataFrame({keys.SCALE: c}, index=[f"var_{j}" for j in range(n_vars)]),
        layers={keys.LATENT: z},
        obsp={keys.TRUTH: sparse.csr_matrix(psi)},
        varp={keys.TRUTH: sparse.csr_matrix(phi)},
        uns={
            keys.KRONECKER_SUM: {
                "params": {
                    "graph": graph,
                    "signs": signs,
                    "block_size": int(block_size),
                    "noise": float(noise),
                    "noise_distribution": noise_distribution,
                    "zeros": float(zeros),
                    "random_state": int(random_state),
                }
            }
        },
    )
