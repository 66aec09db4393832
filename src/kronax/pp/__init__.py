"""Preprocessing."""

from kronax.pp._quotient import quotient

__all__ = ["quotient"]
