"""Plots."""

from kronax.pl._batch_mixing import batch_mixing
from kronax.pl._best_method import best_method
from kronax.pl._cell_specificity import cell_specificity
from kronax.pl._context_factors import context_factors
from kronax.pl._deg_roc import deg_roc
from kronax.pl._density_curve import density_curve
from kronax.pl._effects import effects
from kronax.pl._gene_modules import gene_modules
from kronax.pl._gene_network import gene_network
from kronax.pl._graph_robustness import graph_robustness
from kronax.pl._measured_fibers import measured_fibers
from kronax.pl._next_experiments import next_experiments
from kronax.pl._precision import precision
from kronax.pl._predicted_against_true import predicted_against_true
from kronax.pl._prediction_distributions import prediction_distributions
from kronax.pl._training import training
from kronax.pl._treatment_profiles import treatment_profiles

__all__ = [
    "batch_mixing",
    "best_method",
    "cell_specificity",
    "context_factors",
    "deg_roc",
    "density_curve",
    "effects",
    "gene_modules",
    "gene_network",
    "graph_robustness",
    "measured_fibers",
    "next_experiments",
    "precision",
    "predicted_against_true",
    "prediction_distributions",
    "training",
    "treatment_profiles",
]
