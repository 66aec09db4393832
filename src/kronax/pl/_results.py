"""What the plots of a cross-validation read."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from kronax._data import objects
from kronax.metrics._cross_validate import CrossValidation
from kronax.pl._fiber_map import most_first
from kronax.solvers import checks


def is_cross_validation(result: Any) -> None:
    """Require the result of a cross-validation."""
    objects.result_of(result, CrossValidation, "kx.metrics.cross_validate")


def chosen_methods(result: Any, methods: str | Iterable[str] | None) -> list[str]:
    """Return the methods of a cross-validation that a user named; all for None."""
    is_cross_validation(result)
    return chosen_of(result.methods, methods)


def contexts_of(result: CrossValidation) -> pd.Series:
    """Return how many fibers were measured in every context of which some were held out, the most first."""
    per_context = result.profiles.obs.groupby("context", observed=True)["n_treatments"].first()
    return per_context.iloc[most_first(per_context.to_numpy())]


def chosen_of(available: list[str], methods: str | Iterable[str] | None) -> list[str]:
    """Return the methods that a user named; all for None."""
    if methods is None:
        return available
    methods = checks.texts(methods, "methods", "names of methods")
    for method in methods:
        checks.known(method, available, "method")
    if not methods:
        msg = f"No method was named; there are {checks.listed(available)}."
        raise ValueError(msg)
    return methods
