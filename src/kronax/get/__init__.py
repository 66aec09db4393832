"""What reads results back."""

from kronax._data.named import NamedArray
from kronax.get._array import array
from kronax.get._edges import edges
from kronax.get._module_activity import module_activity
from kronax.get._modules import modules
from kronax.get._profiles import profiles
from kronax.get._wide import wide

__all__ = ["NamedArray", "array", "edges", "module_activity", "modules", "profiles", "wide"]
