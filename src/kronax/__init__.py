"""Cell and gene graphs learnt together from one count matrix, and completion of treatments × contexts × genes."""

from importlib.metadata import version

from kronax import _logging, datasets, get, metrics, pl, pp, tl

__version__ = version("kronax")
__all__ = ["__version__", "datasets", "get", "metrics", "pl", "pp", "tl"]
