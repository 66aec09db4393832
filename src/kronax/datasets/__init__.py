"""Simulated data whose truth is known."""

from kronax.datasets._drug_response import drug_response

__all__ = ["drug_response"]
