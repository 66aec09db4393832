"""Tools: what learns something from the data."""

from collections.abc import Mapping
from typing import Any

from kronax.solvers.tensor.dnpp import DnppOptions
from kronax.solvers.tensor.factors.options import TOXITENCOMPL, AttentionOptions, FactorizationOptions
from kronax.solvers.tensor.means import Mean1dOptions, Mean2dOptions
from kronax.solvers.tensor.trace_norm.falrtc import HODOS_2018, FalrtcOptions
from kronax.solvers.tensor.trace_norm.halrtc import HalrtcOptions
from kronax.solvers.tensor.trace_norm.silrtc import SilrtcOptions
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.tl._complete_tensor import complete_tensor
from kronax.tl._gene_modules import gene_modules
from kronax.tl._gmgm import gmgm
from kronax.tl._graph_robustness import graph_robustness
from kronax.tl._med_magma import MED_MAGMA_2026, med_magma
from kronax.tl._module_activity import module_activity
from kronax.tl._next_experiments import next_experiments

HODOS_2018: FalrtcOptions
"""Settings of :cite:t:`Hodos2018` for ``method="falrtc"``, chosen for profiles of unit norm."""

MED_MAGMA_2026: Mapping[str, Any]
"""Arguments with which :func:`kronax.tl.med_magma` runs the algorithm of :cite:t:`Andrew2026`, corrected.

``kx.tl.med_magma(adata, **kx.tl.MED_MAGMA_2026)``: E-steps with Laplace's second moments under the whole estimate of the
step before, joint M-steps, as many as it takes to converge, and edges by the absolute values of the precision. It is for
comparison with the paper: it is level with the defaults on simulated trees, and behind them on block graphs, gene networks
and real cells.

Corrected (see :doc:`/methods`): the quotient, where there are zeros; the second moments; and the M-step, which has no solution
without a penalty, unless there are as many cells as genes. Here it has a ridge.

The paper leaves open, and kronax sets:

- The regularisation. The published package stops the M-step after 1,000 steps of gradient descent, which leaves
  :math:`Ψ ⊕ Φ` close to a multiple of the identity. So does a ridge of ``strength=100``.
- When EM has converged (``tol=1e-3``), and the most steps it may take (``max_iter=100``, as in the package).
- Whether counts are transformed (``power=1.0``: they are not) and means removed (``center=False``: they are not).
- The number of neighbours, of which the paper takes the best for the labels: `n_neighbors` of
  :func:`kronax.tl.med_magma`. Whether edges have weights: here those are absolute values, and below 1.
"""

TOXITENCOMPL: AttentionOptions
"""Published settings for ``method="attention_cp"``, as far as the paper gives them (:cite:t:`ToxiTenCompl2025`).

The limit of three standard deviations for outliers is not from the paper.
"""

__all__ = [
    "TOXITENCOMPL",
    "AttentionOptions",
    "DnppOptions",
    "FactorizationOptions",
    "FalrtcOptions",
    "HODOS_2018",
    "HalrtcOptions",
    "KroneckerOptions",
    "MED_MAGMA_2026",
    "Mean1dOptions",
    "Mean2dOptions",
    "SilrtcOptions",
    "complete_tensor",
    "gene_modules",
    "gmgm",
    "graph_robustness",
    "med_magma",
    "module_activity",
    "next_experiments",
]
