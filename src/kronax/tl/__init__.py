"""Tools: what learns something from the data."""

from kronax.tl._med_magma import med_magma

__all__ = ["med_magma"]
