"""How good is a graph? Numbers that compare it with labels, with another graph, or with known edges."""

from kronax.metrics._agreement import top_k_agreement
from kronax.metrics._ami import ami_sweep
from kronax.metrics._assortativity import assortativity
from kronax.metrics._edges import edge_average_precision, edge_precision_recall
from kronax.metrics._tail_dependence import tail_dependence

__all__ = [
    "ami_sweep",
    "assortativity",
    "edge_average_precision",
    "edge_precision_recall",
    "tail_dependence",
    "top_k_agreement",
]
