"""Simulated data whose truth is known."""

from kronax.datasets._drug_response import drug_response
from kronax.datasets._kronecker_sum import kronecker_sum
from kronax.datasets._screen import screen
from kronax.datasets._skewed_response import skewed_response

__all__ = [
    "drug_response",
    "kronecker_sum",
    "screen",
    "skewed_response",
]
