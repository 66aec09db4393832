"""A tensor as an array with names, of a MuData object or of what a cross-validation held out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kronax._data.tensor import Tensor
from kronax._logging import warn
from kronax.solvers import checks


@dataclass(frozen=True, repr=False)
class NamedArray:
    """A tensor as an array with names, which NumPy accepts as an array.

    Attributes
    ----------
    values
        Treatments × contexts × genes, float64; NaN where there is no value.
    treatments
        Names along the first axis.
    contexts
        Names along the second axis.
    genes
        Names along the third axis.

    References
    ----------
    :cite:t:`Hodos2018`, for tensors of this kind.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50, missing=0)
    >>> tensor = kx.get.array(mdata)
    >>> np.mean(tensor, axis=0).shape
    (4, 50)
    >>> tensor.values[tensor.treatments.get_loc("drug3"), tensor.contexts.get_loc("line1")].shape
    (50,)
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
        checks.known(method, list(profiles.layers), "method")
    found = profiles.X if method is None else profiles.layers[method]
    treatment, context = (profiles.obs[key].cat for key in ("treatment", "context"))
    values = np.full((len(treatment.categories), len(context.categories), profiles.n_vars), np.nan)
    values[treatment.codes, context.codes] = found
    return NamedArray(values, treatment.categories, context.categories, profiles.var_names)


def in_order(predicted: Any, truth: Any) -> Any:
    """Return predictions in the order of the measured values if both have names, as tensors and tables have; else as they are."""
    axes = _axes(predicted), _axes(truth)
    if not axes[0] or len(axes[0]) != len(axes[1]):
        return predicted
    values, changed = np.asarray(predicted), False
    for axis, (names, wanted) in enumerate(zip(*axes, strict=True)):
        if (places := places_of(wanted, names, "names of measured and predicted values")) is not None:
            values, changed = values.take(places, axis), True
    return values if changed else predicted


def _axes(values: Any) -> list[pd.Index]:
    if isinstance(values, NamedArray):
        return [values.treatments, values.contexts, values.genes]
    return list(values.axes) if isinstance(values, pd.DataFrame | pd.Series) else []


def places_of(wanted: pd.Index, names: pd.Index, what: str) -> np.ndarray | None:
    """Find the place of every wanted name; None where order alone counts: names are the same, have nothing in common, or are mere places."""
    if names.nlevels != wanted.nlevels or len(names) != len(wanted):
        return None
    if isinstance(names, pd.RangeIndex) or isinstance(wanted, pd.RangeIndex):
        return None
    if names.equals(wanted) or not names.isin(wanted).any():
        return None
    once = pd.Series(np.arange(len(names)), names)[~names.duplicated(keep=False)]
    places = np.where(wanted.duplicated(keep=False), -1, once.reindex(wanted, fill_value=-1))
    if (places < 0).any():
        msg = (
            f"The {what} do not agree: there is not one {wanted[int((places < 0).argmax())]!r} in both. Bring them together, or pass "
            "arrays without names, `np.asarray(…)`, whose orders are the same."
        )
        raise ValueError(msg)
    return places


def beside(names: Sequence[str], ours: Iterable[str], kind: str) -> list[str]:
    """Return names to stand beside our own rows; one called like such a row gets its kind before it, with a warning."""
    taken, found = {*ours, *names}, []
    for name in names:
        written = name
        while written != name and written in taken or written in ours:
            written = f"{kind} {written}"
        found.append(written)
    if changed := [f"{old!r} is {new!r}" for old, new in zip(names, found, strict=True) if old != new]:
        warn(f"Names of {kind}s are also those of rows of the result, where {checks.listed(changed)}.")
    return found
