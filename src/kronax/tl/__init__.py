"""Tools: what learns something from the data."""

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
from kronax.tl._med_magma import med_magma
from kronax.tl._module_activity import module_activity

HODOS_2018: FalrtcOptions
"""Settings of :cite:t:`Hodos2018` for ``method="falrtc"``, chosen for profiles of unit norm."""

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
    "Mean1dOptions",
    "Mean2dOptions",
    "SilrtcOptions",
    "complete_tensor",
    "gene_modules",
    "gmgm",
    "graph_robustness",
    "med_magma",
    "module_activity",
]
