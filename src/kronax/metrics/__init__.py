"""Metrics: how good a result is."""

from kronax.metrics._cell_specificity import cell_specificity
from kronax.metrics._cross_validate import CrossValidation, cross_validate
from kronax.metrics._density_curve import DensityCurve, density_curve
from kronax.metrics._downstream_auc import DownstreamAuc, downstream_auc
from kronax.metrics._tensor_scores import calibration_slope, deg_auc

__all__ = [
    "CrossValidation",
    "DensityCurve",
    "DownstreamAuc",
    "calibration_slope",
    "cell_specificity",
    "cross_validate",
    "deg_auc",
    "density_curve",
    "downstream_auc",
]
