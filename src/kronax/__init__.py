"""Cell and gene graphs learnt together from one count matrix, unharmed by multiplicative noise."""

from importlib.metadata import version

from kronax import metrics, pl, pp, tl

__version__ = version("kronax")
__all__ = ["__version__", "metrics", "pl", "pp", "tl"]
