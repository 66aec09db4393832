"""Preprocessing."""

from kronax.pp._align import align
from kronax.pp._effects import effects
from kronax.pp._from_gct import from_gct
from kronax.pp._from_wide import from_wide
from kronax.pp._neighbors import neighbors
from kronax.pp._quotient import quotient
from kronax.pp._tensor import tensor
from kronax.pp._treatment_similarity import treatment_similarity

__all__ = ["align", "effects", "from_gct", "from_wide", "neighbors", "quotient", "tensor", "treatment_similarity"]
