"""Plots."""

from kronax.pl._gene_modules import gene_modules

__all__ = ["gene_modules"]
