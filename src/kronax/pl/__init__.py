"""Plots."""

from kronax.pl._context_factors import context_factors
from kronax.pl._gene_modules import gene_modules
from kronax.pl._prediction_distributions import prediction_distributions
from kronax.pl._training import training

__all__ = ["context_factors", "gene_modules", "prediction_distributions", "training"]
