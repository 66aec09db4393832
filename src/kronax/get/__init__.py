"""What reads results back."""

from kronax.get._profiles import profiles
from kronax.get._wide import wide

__all__ = ["profiles", "wide"]
