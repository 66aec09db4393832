"""Metrics: how good a result is."""

from kronax.metrics._by_category import by_category

__all__ = ["by_category"]
