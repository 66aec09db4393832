"""Cell and gene graphs learnt together from one count matrix, and completion of treatments × contexts × genes."""

from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kronax import datasets, get, metrics, pl, pp, tl

__version__ = version("kronax")
__all__ = ["__version__", "datasets", "get", "metrics", "pl", "pp", "tl"]


def __getattr__(name: str) -> ModuleType:
    """Import a part of the package when it is first used: all of them take seconds, which no ``--help`` should."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return list(__all__)
