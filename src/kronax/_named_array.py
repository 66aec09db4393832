"""A tensor as an array with names, of a MuData object or of what a cross-validation held out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kronax import _validate
from kronax._tensor import Tensor


@dataclass(frozen=True, repr=False)
class NamedArray:
    """Values with the names of what they are of. NumPy takes it for an array.

    Attributes
    ----------
    values
        Treatments × contexts × genes, float64. NaN where there is none.
    treatments, contexts, genes
        The names along its axes.
    """

    values: np.ndarray
    treatments: pd.Index
    contexts: pd.Index
    genes: pd.Index

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype, copy=copy) if copy is not None else np.asarray(self.values, dtype)

    def __repr__(self) -> str:
        n, c, p = self.values.shape
        return f"NamedArray, {n} treatments × {c} contexts × {p} genes, {np.isnan(self.values).mean():.0%} NaN"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of treatments, contexts and genes."""
        return self.values.shape


def of_tensor(tensor: Tensor) -> NamedArray:
    """Name a tensor's values."""
    return NamedArray(tensor.values, tensor.treatments, pd.Index(tensor.contexts), tensor.genes)


def of_held_out(profiles: AnnData, method: str | None) -> NamedArray:
    """Arrange the measured values of held-out fibers, or a method's predictions of them."""
    if method is not None:
        _validate.known(method, list(profiles.layers), "method")
    found = profiles.X if method is None else profiles.layers[method]
    treatment, context = (profiles.obs[key].cat for key in ("treatment", "context"))
    values = np.full((len(treatment.categories), len(context.categories), profiles.n_vars), np.nan)
    values[treatment.codes, context.codes] = found
    return NamedArray(values, treatment.categories, context.categories, profiles.var_names)
