"""Which methods of tensor completion are compared, and with which settings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mudata import MuData

from kronax._data import side_information
from kronax._data.tensor import Tensor
from kronax.solvers import checks
from kronax.solvers.tensor.completion import Completion
from kronax.solvers.tensor.means import Mean2dOptions
from kronax.solvers.tensor.method import Options
from kronax.solvers.tensor.registry import METHODS, methods_of, options_of
from kronax.solvers.tensor.side import Side

TRUTH = "measured"  # beside the methods, in tables
PERMUTED, TREATMENT_FREE = "permuted", "treatment_free"  # controls
DEFAULT = ("kronecker", "falrtc", "dnpp", "mean_2d", "mean_1d")

Chosen = str | Options | tuple[str, Options]  # a method; its settings; or both, where methods share a class of settings


@dataclass(frozen=True)
class ComparedMethod:
    """A method and its options, with its label in the results."""

    label: str
    name: str
    options: Options
    side: Side | None = None

    def n_bytes(self, measured: np.ndarray) -> int:
        """Estimate the memory that it takes."""
        return METHODS[self.name].needs(measured, self.options).n_bytes

    def unable(self, unseen: np.ndarray) -> np.ndarray:
        """Mark the fibers, among those ``unseen`` in training, that it cannot predict: none if it has a fallback."""
        return unseen & bool(METHODS[self.name].instead(self.options))

    def known(self, values: np.ndarray, fold: np.ndarray, n_folds: int, n_at_once: float) -> list[Any]:
        """Return what the completions without each fold of fibers ``(D, C)`` share."""
        return METHODS[self.name].known(values, fold, n_folds, self.options, n_at_once=n_at_once, side=self.side)

    def complete(self, values: np.ndarray, known: Any = None) -> Completion:
        """Complete a tensor ``(D, C, G)``, of which something may be known."""
        return METHODS[self.name](values, self.options, side=self.side, known=known)

    def informed(self, mdata: MuData, tensor: Tensor) -> "ComparedMethod":
        """Return the method with the side information that its options name."""
        return replace(self, side=side_information.read(mdata, tensor, self.options.sought))


def controls(methods: list[ComparedMethod], random_state: int) -> list[ComparedMethod]:
    """Return what methods with side information are to be compared with.

    That is a mean that does not know the treatment, and those with similarities of treatments, with these dealt out anew.
    """
    informed = [method for method in methods if method.side is not None]
    found = [
        replace(method, label=f"{method.label}, {PERMUTED}", side=method.side.permuted(random_state))
        for method in informed
        if method.side.treatments
    ]
    if informed:
        found.append(ComparedMethod(TREATMENT_FREE, "mean_2d", Mean2dOptions(context_weight=1.0)))
    return [control for control in found if control.label not in {method.label for method in methods}]


def compared_methods(methods: str | Iterable[str] | Mapping[str, Chosen]) -> list[ComparedMethod]:
    """Read which methods a user named, and check their options."""
    if isinstance(methods, str | Options):
        methods = [methods]
    if not isinstance(methods, Mapping):
        methods = _unlabelled(methods)
    if not methods:
        msg = f"`methods` is empty; name some of {list(METHODS)}."
        raise ValueError(msg)
    if TRUTH in methods:
        msg = f"{TRUTH!r} is what the measured values are called in the results; give that method another label."
        raise ValueError(msg)
    return [_compared(label, chosen) for label, chosen in methods.items()]


def _unlabelled(methods: Iterable[str]) -> dict[str, str]:
    """Label methods by their names; options have none."""
    methods = checks.items(methods, "methods", "names of methods")
    for chosen in methods:
        if not isinstance(chosen, str):
            kind = checks.type_of(chosen)
            msg = f"`methods` lists names of methods, found {kind}. For settings of your own use a mapping, such as "
            msg += f"{{'my label': kx.tl.{kind}(…)}}." if isinstance(chosen, Options) else "{'my label': 'dnpp'}."
            raise TypeError(msg)
    return {name: name for name in methods}


def _compared(label: str, chosen: Chosen) -> ComparedMethod:
    checks.name(label, "methods")
    name, options = _named(label, chosen)
    checks.one_of(name, METHODS, "methods")
    return ComparedMethod(label, name, options_of(name, options))


def _named(label: str, chosen: Chosen) -> tuple[str, Options | None]:
    """Return the method's name, and its options if there are any."""
    if isinstance(chosen, str):
        return chosen, None
    if isinstance(chosen, tuple) and len(chosen) == 2:
        return chosen
    able = methods_of(type(chosen))
    if len(able) > 1:
        pairs = " or ".join(f"({name!r}, kx.tl.{type(chosen).__name__}(…))" for name in able)
        msg = f"`methods[{label!r}]` are options of more than one method; say which: {pairs}."
        raise ValueError(msg)
    if able:
        return able[0], chosen
    msg = (
        f"`methods[{label!r}]` must be the name of a method, of {list(METHODS)}, or its options such as "
        f"kx.tl.KroneckerOptions(), or a tuple of both, found {chosen!r}."
    )
    raise TypeError(msg)
