"""Tools: what learns something from the data."""

from kronax.tl._gene_modules import gene_modules
from kronax.tl._gmgm import gmgm
from kronax.tl._med_magma import med_magma

__all__ = ["gene_modules", "gmgm", "med_magma"]
