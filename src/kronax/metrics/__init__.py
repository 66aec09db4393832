"""How good is a result? Numbers that compare a graph or a completed tensor with what is known."""

from kronax.metrics._agreement import top_k_agreement
from kronax.metrics._ami import ami_sweep
from kronax.metrics._assortativity import assortativity
from kronax.metrics._batch_mixing import batch_mixing
from kronax.metrics._by_category import by_category
from kronax.metrics._cell_specificity import cell_specificity
from kronax.metrics._cross_validate import CrossValidation, cross_validate
from kronax.metrics._density_curve import DensityCurve, density_curve
from kronax.metrics._downstream_auc import DownstreamAuc, downstream_auc
from kronax.metrics._edges import edge_average_precision, edge_precision_recall
from kronax.metrics._graph_connectivity import graph_connectivity
from kronax.metrics._tail_dependence import tail_dependence
from kronax.metrics._tensor_scores import calibration_slope, deg_auc

__all__ = [
    "CrossValidation",
    "DensityCurve",
    "DownstreamAuc",
    "ami_sweep",
    "assortativity",
    "batch_mixing",
    "by_category",
    "calibration_slope",
    "cell_specificity",
    "cross_validate",
    "deg_auc",
    "density_curve",
    "downstream_auc",
    "edge_average_precision",
    "edge_precision_recall",
    "graph_connectivity",
    "tail_dependence",
    "top_k_agreement",
]
