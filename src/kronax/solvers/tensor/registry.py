"""The methods of tensor completion: which solver, which options, and what each of them can do."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np

from kronax.solvers import checks
from kronax.solvers.tensor.completion import Completion
from kronax.solvers.tensor.dnpp import DnppOptions, dnpp
from kronax.solvers.tensor.factors.factorization import attention_cp, bytes_needed, cp, mf
from kronax.solvers.tensor.factors.options import AttentionOptions, FactorizationOptions
from kronax.solvers.tensor.means import Mean1dOptions, Mean2dOptions, mean_1d, mean_2d
from kronax.solvers.tensor.trace_norm.falrtc import FalrtcOptions, falrtc
from kronax.solvers.tensor.trace_norm.halrtc import HalrtcOptions, halrtc
from kronax.solvers.tensor.trace_norm.silrtc import SilrtcOptions, silrtc
from kronax.solvers.tensor.wiener.kronecker import kronecker
from kronax.solvers.tensor.wiener.options import KroneckerOptions

Options = (
    KroneckerOptions
    | Mean1dOptions
    | Mean2dOptions
    | DnppOptions
    | FalrtcOptions
    | HalrtcOptions
    | SilrtcOptions
    | FactorizationOptions
)


@dataclass(frozen=True)
class Method:
    """A method of tensor completion.

    Attributes
    ----------
    solve
        ``solve(values, options, …)``, from a tensor ``(D, C, G)`` with NaN to a :class:`Completion`.
    options
        The class of its options.
    copies, copies_with_gaps
        The most memory that it takes, in tensors of float64; and where gaps are single entries of profiles, if that is more.
    iterates
        Whether ``solve`` takes ``width`` and ``progress``.
    falls_back
        Whether it predicts treatments, contexts and genes of which nothing was measured, by means or biases.
    factorizes
        Whether it is trained, takes `progress` and gives a :class:`~kronax.solvers.tensor.factors.factorization.Factorization`.
    """

    solve: Callable[..., Completion]
    options: type
    copies: float
    copies_with_gaps: float = 0.0
    iterates: bool = True
    falls_back: bool = True
    factorizes: bool = False

    def __call__(
        self, values: np.ndarray, options: Any, *, width: int | None = None, progress: bool = False
    ) -> Completion:
        """Complete a tensor."""
        if self.iterates:
            return self.solve(values, options, width=width, progress=progress)
        if self.factorizes:
            return self.solve(values, options, progress=progress)
        return self.solve(values, options)

    def bytes_needed(self, measured: np.ndarray, options: Any) -> int:
        """Estimate the memory that a tensor takes, of which these entries were measured."""
        whole = bool((measured.all(axis=2) == measured.any(axis=2)).all())
        needed = int(8 * (self.copies if whole else max(self.copies, self.copies_with_gaps)) * measured.size)
        if self.factorizes:
            n_fibers = int(measured.any(axis=2).sum())
            needed += bytes_needed(measured.shape, n_fibers, options, flat=self.solve is mf)
        return needed


METHODS: dict[str, Method] = {
    "kronecker": Method(kronecker, KroneckerOptions, copies=11, copies_with_gaps=22),
    "mean_1d": Method(mean_1d, Mean1dOptions, copies=6, iterates=False),
    "mean_2d": Method(mean_2d, Mean2dOptions, copies=6, iterates=False),
    "dnpp": Method(dnpp, DnppOptions, copies=6, iterates=False),
    "falrtc": Method(falrtc, FalrtcOptions, copies=12, falls_back=False),
    "halrtc": Method(halrtc, HalrtcOptions, copies=24, falls_back=False),
    "silrtc": Method(silrtc, SilrtcOptions, copies=14, falls_back=False),
    "mf": Method(mf, FactorizationOptions, copies=3, iterates=False, factorizes=True),
    "cp": Method(cp, FactorizationOptions, copies=3, iterates=False, factorizes=True),
    "attention_cp": Method(attention_cp, AttentionOptions, copies=3, iterates=False, factorizes=True),
}


def options_of(method: str, options: Any) -> Any:
    """Give a method's options, checked; those by default for None."""
    checks.one_of(method, METHODS, "method")
    expected = METHODS[method].options
    if options is None:
        return expected()
    if type(options) is not expected:
        found, able = checks.type_of(options), methods_of(type(options))
        msg = f"`options` of method {method!r} must be a kx.tl.{expected.__name__}, found {found}."
        if able:
            msg += f" These belong to {' or '.join(f'method={name!r}' for name in able)}."
        elif isinstance(options, type):
            msg += f" Write `kx.tl.{expected.__name__}()`, with what shall differ from the defaults in the brackets."
        raise TypeError(msg)
    for field in fields(options):
        _CHECKS[field.name](getattr(options, field.name), f"options.{field.name}")
    if isinstance(options, KroneckerOptions):
        _require_room(options)
    return options


def methods_of(options: type) -> list[str]:
    """Name the methods that have a class of options."""
    return [name for name, method in METHODS.items() if method.options is options]


def _require_room(options: KroneckerOptions) -> None:
    """Require that some of the treatments' kernel is left to what similar treatments share."""
    own, common = (
        max(candidates) if share == "cv" else share
        for share, candidates in (
            (options.own_share, options.own_shares),
            (options.common_share, options.common_shares),
        )
    )
    if not own + common < 1:
        msg = f"`own_share` and `common_share` must add up to less than 1, found {own:g} and {common:g}."
        raise ValueError(msg)


def _alpha(value: Any, name: str) -> None:
    ok = (
        isinstance(value, tuple | list | np.ndarray)
        and len(value) == 3
        and all(_is_real(weight) and 0 <= weight < np.inf for weight in value)
        and any(weight > 0 for weight in value)
    )
    if not ok:
        msg = (
            f"`{name}` must be three weights, of treatments, contexts and genes, positive or 0 to leave one out, "
            f"not all 0; found {value!r}."
        )
        raise ValueError(msg)


def _below_one(value: Any, name: str) -> None:
    checks.share(value, name)
    if value == 1:
        msg = f"`{name}` must be less than 1, found {value!r}."
        raise ValueError(msg)


def _at_least(low: int) -> Callable[[Any, str], None]:
    return lambda value, name: checks.integer(value, name, low=low)


def _or_cv(check: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    def checked(value: Any, name: str) -> None:
        if isinstance(value, str) and value != "cv":
            msg = f"`{name}` must be a number or 'cv', found {value!r}."
            raise ValueError(msg)
        if not isinstance(value, str):
            check(value, name)

    return checked


def _ascending(check: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    def checked(value: Any, name: str) -> None:
        if not isinstance(value, tuple | list | np.ndarray) or not len(value) or list(value) != sorted(set(value)):
            msg = f"`{name}` must be one or more numbers, ascending, found {value!r}."
            raise ValueError(msg)
        for candidate in value:
            check(candidate, name)

    return checked


def _one_of(*allowed: str | None) -> Callable[[Any, str], None]:
    return lambda value, name: checks.one_of(value, allowed, name)


def _or_none(check: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    return lambda value, name: None if value is None else check(value, name)


def _cutoffs(value: Any, name: str) -> None:
    ok = value is None or (
        isinstance(value, tuple | list | np.ndarray)
        and len(value) == 4
        and all(_is_real(cutoff) and np.isfinite(cutoff) for cutoff in value)
        and all(low < high for low, high in zip(value, value[1:], strict=False))
    )
    if not ok:
        msg = f"`{name}` must be four ascending numbers, between the categories −2, −1, 0, 1 and 2, or None; found {value!r}."
        raise ValueError(msg)


def _modes(value: Any, name: str) -> None:
    allowed = ("treatment", "context", "gene")
    if not isinstance(value, tuple | list) or any(mode not in allowed for mode in value):
        msg = f"`{name}` must be a tuple of some of {list(allowed)}, found {value!r}."
        raise ValueError(msg)


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


_CHECKS: dict[str, Callable[[Any, str], None]] = {
    "absolute": checks.boolean,
    "alpha": _alpha,
    "attention": _one_of("additive", "product", None),
    "attention_decay": checks.not_negative,
    "batch_size": _at_least(1),
    "biases": checks.boolean,
    "common_share": _or_cv(_below_one),
    "common_shares": _ascending(_below_one),
    "context_weight": checks.share,
    "cutoffs": _cutoffs,
    "gene_power": checks.not_negative,
    "held_out": _below_one,
    "learning_rate": checks.positive,
    "lipschitz": checks.positive,
    "max_epochs": _at_least(1),
    "max_iter": _at_least(1),
    "n_continuation": _at_least(1),
    "n_folds": _at_least(2),
    "n_neighbors": _at_least(1),
    "non_negative": _modes,
    "n_starts": _at_least(1),
    "noise": _or_cv(checks.positive),
    "noises": _ascending(checks.positive),
    "own_share": _or_cv(_below_one),
    "own_shares": _ascending(_below_one),
    "or_cp": checks.boolean,
    "outlier_z": _or_none(checks.positive),
    "patience": _at_least(1),
    "rank": _at_least(1),
    "refit": checks.boolean,
    "refuse_unmeasured": checks.boolean,
    "scale": _one_of("standard", "minmax", None),
    "scale_per_context": checks.boolean,
    "random_state": _at_least(0),
    "restart": checks.boolean,
    "single_precision": checks.boolean,
    "start": _one_of("alike", "random"),
    "smoothing": checks.positive,
    "threshold": checks.positive,
    "tol": checks.positive,
    "variance": checks.boolean,
    "variance_weight": _below_one,
    "weight_decay": checks.not_negative,
    "weight_power": checks.not_negative,
}
