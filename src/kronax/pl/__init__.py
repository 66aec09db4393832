"""Plots."""

from kronax.pl._gene_modules import gene_modules
from kronax.pl._graph_robustness import graph_robustness

__all__ = ["gene_modules", "graph_robustness"]
