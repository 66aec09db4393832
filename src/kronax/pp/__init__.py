"""Preprocessing."""

from kronax.pp._align import align
from kronax.pp._quotient import quotient
from kronax.pp._tensor import tensor

__all__ = ["align", "quotient", "tensor"]
