"""Tools: what learns something from the data."""

from kronax.tl._gene_modules import gene_modules
from kronax.tl._gmgm import gmgm
from kronax.tl._graph_robustness import graph_robustness
from kronax.tl._med_magma import med_magma
from kronax.tl._module_activity import module_activity

__all__ = ["gene_modules", "gmgm", "graph_robustness", "med_magma", "module_activity"]
