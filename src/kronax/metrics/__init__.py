"""Metrics: how good a result is."""

from kronax.metrics._cross_validate import CrossValidation, cross_validate
from kronax.metrics._tensor_scores import calibration_slope, deg_auc

__all__ = ["CrossValidation", "calibration_slope", "cross_validate", "deg_auc"]
