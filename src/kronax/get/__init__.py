"""What reads results back."""

from kronax.get._module_activity import module_activity
from kronax.get._profiles import profiles
from kronax.get._wide import wide

__all__ = ["module_activity", "profiles", "wide"]
