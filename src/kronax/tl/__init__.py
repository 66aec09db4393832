"""Tools: what learns something from the data."""

from kronax.solvers.factorization import TOXITENCOMPL, AttentionOptions, FactorizationOptions
from kronax.solvers.falrtc import HODOS_2018, FalrtcOptions
from kronax.solvers.halrtc import HalrtcOptions
from kronax.solvers.means import Mean1dOptions, Mean2dOptions
from kronax.solvers.neighbours import DnppOptions
from kronax.solvers.silrtc import SilrtcOptions
from kronax.solvers.wiener import KroneckerOptions
from kronax.tl._complete_tensor import complete_tensor
from kronax.tl._gene_modules import gene_modules
from kronax.tl._med_magma import med_magma

__all__ = [
    "HODOS_2018",
    "TOXITENCOMPL",
    "AttentionOptions",
    "DnppOptions",
    "FactorizationOptions",
    "FalrtcOptions",
    "HalrtcOptions",
    "KroneckerOptions",
    "Mean1dOptions",
    "Mean2dOptions",
    "SilrtcOptions",
    "complete_tensor",
    "gene_modules",
    "med_magma",
]
