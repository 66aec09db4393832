from collections.abc import Sequence

import numpy as np
import pandas as pd

from kronax._data import named, objects
from kronax._data.named import NamedArray
from kronax.metrics._cross_validate import CrossValidation
from kronax.solvers import checks
from kronax.solvers.tensor import categories as _categories


def by_category(
    truth: np.ndarray | NamedArray | CrossValidation,
    predicted: np.ndarray | NamedArray | str,
    *,
    cutoffs: tuple[float, float, float, float] | None = None,
    contexts: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Score predictions overall, by context, and by category of expression.

    In skewed data most values are near zero, and overall means say how well these are predicted. The categories −2 to
    2, from strongly under- to strongly over-expressed, show whether the few large values are.

    Parameters
    ----------
    truth
        Measured values, treatments × contexts × genes, as from :func:`kronax.get.array`; NaN where not measured. Or the
        result of :func:`kronax.metrics.cross_validate`, for the held-out values.
    predicted
        Predicted values, of the same shape; NaN where there is no prediction. Names are brought to the order of those of
        `truth`. For a cross-validation, the name of a method.
    cutoffs
        Four limits between the categories, ascending, in the units of the values. If None, symmetric about 0 and such
        that 8% of the measured values lie outside category 0, and 0.05% in −2 or 2.
    contexts
        Names of the contexts. If None, those of `truth` if it has names, otherwise their numbers.

    Returns
    -------
    Table with a row ``"all"``; one for ``"extreme"``, the categories other than 0 together; one for each category,
    ``"category -2"`` to ``"category 2"``; and one for each context (of one that is called like another row, with
    ``"context "`` before it). Columns: ``n``, the number of values compared;
    ``mae`` and ``mse``, the mean absolute and mean squared error in units of the values and their square;
    ``variance_ratio``, the variance of the predictions divided by that of the truth, near 0 if predictions shrink
    towards the mean. NaN if there is nothing to compare.

    Raises
    ------
    KeyError
        If the cross-validation has no such method.
    TypeError
        If `truth` or `predicted` is neither an array nor, together, a cross-validation and a method.
    ValueError
        If the shapes differ, are not three-dimensional, or do not match the number of context names; or if no entry has
        both values.

    References
    ----------
    :cite:t:`ToxiTenCompl2025`, sections 2 and 4.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> truth = np.linspace(-3, 3, 24).reshape(4, 2, 3)
    >>> scores = kx.metrics.by_category(truth, 0.5 * truth, cutoffs=(-2, -1, 1, 2))
    >>> float(scores.loc["all", "variance_ratio"])
    0.25
    """
    if isinstance(truth, CrossValidation):
        checks.known(predicted, truth.methods, "method")
        profiles = truth.profiles
        truth, predicted = (named.of_held_out(profiles, method) for method in (None, predicted))
    if contexts is None and isinstance(truth, NamedArray):
        contexts = truth.contexts
    predicted = named.in_order(predicted, truth)
    truth, predicted = objects.array(truth, "truth"), objects.array(predicted, "predicted")
    if truth.shape != predicted.shape or truth.ndim != 3:
        msg = (
            "`truth` and `predicted` must have the same shape with three axes, treatments × contexts × genes; found "
            f"{truth.shape} and {predicted.shape}."
        )
        raise ValueError(msg)
    names = list(map(str, range(truth.shape[1]) if contexts is None else checks.items(contexts, "contexts", "names")))
    if len(names) != truth.shape[1]:
        msg = f"`contexts` names {len(names)} contexts; `truth` has {truth.shape[1]}."
        raise ValueError(msg)
    both = ~(np.isnan(truth) | np.isnan(predicted))
    if not both.any():
        msg = "There is nothing to compare: no entry has both a measured and a predicted value."
        raise ValueError(msg)
    chosen = _categories.cutoffs_of(truth) if cutoffs is None else checks.numbers(cutoffs, "cutoffs")
    category = _categories.categories(truth, chosen)
    parts = {"all": both, "extreme": both & (category != 0)}
    parts |= {f"category {number}": both & (category == number) for number in _categories.CATEGORIES}
    for c, name in enumerate(named.beside(names, list(parts), "context")):
        parts[name] = both & (np.arange(len(names)) == c)[:, None]
    return pd.DataFrame({name: _scores(truth[part], predicted[part]) for name, part in parts.items()}).T.astype(
        {"n": np.int64}
    )


def _scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score two vectors."""
    if not truth.size:
        return {"n": 0, "mae": np.nan, "mse": np.nan, "variance_ratio": np.nan}
    error = predicted - truth
    variance = truth.var()
    return {
        "n": truth.size,
        "mae": float(np.abs(error).mean()),
        "mse": float(np.square(error).mean()),
        "variance_ratio": float(predicted.var() / variance) if variance > 0 else np.nan,
    }
