"""Simulated data whose truth is known."""

from kronax.datasets._kronecker_sum import kronecker_sum

__all__ = ["kronecker_sum"]
