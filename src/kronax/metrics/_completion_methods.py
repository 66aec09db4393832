"""Which methods of tensor completion are to be compared, and with which settings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kronax.solvers.completion import Completion
from kronax.solvers.means import Mean1dOptions, Mean2dOptions, mean_1d, mean_2d
from kronax.solvers.neighbours import DnppOptions, dnpp
from kronax.solvers.trace_norm import FalrtcOptions, HalrtcOptions, SilrtcOptions, falrtc, halrtc, silrtc
from kronax.solvers.wiener import KroneckerOptions, kronecker

SOLVERS = {
    "kronecker": (kronecker, KroneckerOptions),
    "falrtc": (falrtc, FalrtcOptions),
    "halrtc": (halrtc, HalrtcOptions),
    "silrtc": (silrtc, SilrtcOptions),
    "dnpp": (dnpp, DnppOptions),
    "mean_2d": (mean_2d, Mean2dOptions),
    "mean_1d": (mean_1d, Mean1dOptions),
}
ITERATIVE = ("kronecker", "falrtc", "halrtc", "silrtc")  # compiled: they can share code between folds


@dataclass(frozen=True)
class Method:
    """A solver and its options, under the label that stands in the results."""

    label: str
    name: str
    options: Any

    def solve(self, values: np.ndarray, width: int) -> Completion:
        """Complete a tensor ``(D, C, G)``; ``width`` as in :func:`kronax.solvers.unfold.compress`."""
        solver, _ = SOLVERS[self.name]
        return solver(values, self.options, width=width) if self.name in ITERATIVE else solver(values, self.options)


def methods_of(methods: str | Iterable[str] | Mapping[str, Any]) -> list[Method]:
    """Read what a user named."""
    if isinstance(methods, str):
        methods = [methods]
    if not isinstance(methods, Mapping):
        methods = {name: name for name in methods}
    if not methods:
        msg = f"`methods` is empty. Name at least one of {list(SOLVERS)}."
        raise ValueError(msg)
    return [_method(label, chosen) for label, chosen in methods.items()]


def _method(label: str, chosen: Any) -> Method:
    if not isinstance(label, str) or not label or "/" in label:
        msg = f"A label in `methods` must be a non-empty str without '/', found {label!r}."
        raise ValueError(msg)
    if isinstance(chosen, str):
        if chosen not in SOLVERS:
            msg = f"`methods` must be of {list(SOLVERS)}, found {chosen!r}."
            raise ValueError(msg)
        return Method(label, chosen, SOLVERS[chosen][1]())
    for name, (_, options) in SOLVERS.items():
        if isinstance(chosen, options):
            return Method(label, name, chosen)
    msg = f"The options of {label!r} in `methods` are a {type(chosen).__qualname__}, which belongs to no method."
    raise TypeError(msg)
