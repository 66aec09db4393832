"""Which methods of tensor completion are compared, and with which settings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from kronax import _validate
from kronax._completion_methods import METHODS, Options, options_of
from kronax.solvers.completion import Completion

TRUTH = "measured"  # beside the methods, in tables
DEFAULT = ("kronecker", "falrtc", "dnpp", "mean_2d", "mean_1d")


@dataclass(frozen=True)
class ComparedMethod:
    """A method and its options, under the label that stands in the results."""

    label: str
    name: str
    options: Options

    @property
    def falls_back(self) -> bool:
        """Whether means stand in for predictions of what was never measured."""
        return METHODS[self.name].falls_back

    @property
    def copies(self) -> float:
        """The most memory that it takes, in tensors of float64."""
        return METHODS[self.name].copies

    def complete(self, values: np.ndarray, width: int) -> Completion:
        """Complete a tensor ``(D, C, G)``; ``width`` as in :func:`kronax.solvers.unfold.compress`."""
        return METHODS[self.name](values, self.options, width=width)


def compared_methods(methods: str | Iterable[str] | Mapping[str, str | Options]) -> list[ComparedMethod]:
    """Read which methods a user named, and check their options."""
    if isinstance(methods, str):
        methods = [methods]
    if not isinstance(methods, Mapping):
        methods = {name: name for name in methods}
    if not methods:
        msg = f"`methods` is empty; name some of {list(METHODS)}."
        raise ValueError(msg)
    if TRUTH in methods:
        msg = f"{TRUTH!r} is what the measured values are called in the results; give that method another label."
        raise ValueError(msg)
    return [_compared(label, chosen) for label, chosen in methods.items()]


def _compared(label: str, chosen: str | Options) -> ComparedMethod:
    if isinstance(chosen, str):
        _validate.one_of(chosen, METHODS, "methods")
        _validate.name(label, "methods")
        return ComparedMethod(label, chosen, options_of(chosen, None))
    _validate.name(label, "methods")
    for name, method in METHODS.items():
        if type(chosen) is method.options:
            return ComparedMethod(label, name, options_of(name, chosen))
    msg = (
        f"`methods[{label!r}]` must be the name of a method, of {list(METHODS)}, or its options such as "
        f"kx.tl.KroneckerOptions(), found {chosen!r}."
    )
    raise TypeError(msg)
