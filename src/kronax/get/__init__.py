"""What reads results back."""

from kronax.get._profiles import profiles

__all__ = ["profiles"]
