"""The methods of tensor completion, one row each."""

from functools import partial
from typing import Any

from kronax.solvers import checks
from kronax.solvers.tensor.dnpp import DnppOptions, dnpp
from kronax.solvers.tensor.factors import factorization as factors
from kronax.solvers.tensor.factors.options import AttentionOptions, FactorizationOptions
from kronax.solvers.tensor.means import Mean1dOptions, Mean2dOptions, mean_1d, mean_2d
from kronax.solvers.tensor.method import Method, more_iterations, tensors
from kronax.solvers.tensor.method_name import MethodName
from kronax.solvers.tensor.trace_norm.falrtc import FalrtcOptions, falrtc
from kronax.solvers.tensor.trace_norm.halrtc import HalrtcOptions, halrtc
from kronax.solvers.tensor.trace_norm.problem import nothing_stands_in
from kronax.solvers.tensor.trace_norm.silrtc import SilrtcOptions, silrtc
from kronax.solvers.tensor.wiener import kronecker as wiener
from kronax.solvers.tensor.wiener.options import KroneckerOptions
from kronax.solvers.tensor.wiener.shared import share

trace_norm = partial(Method, instead=nothing_stands_in, advice=more_iterations)
factor_model = partial(Method, instead=factors.only_if_refused, advice=factors.more_epochs)

METHODS: dict[MethodName, Method] = {
    "kronecker": Method(wiener.kronecker, KroneckerOptions, wiener.needs, advice=more_iterations, share=share),
    "mean_1d": Method(mean_1d, Mean1dOptions, tensors(6)),
    "mean_2d": Method(mean_2d, Mean2dOptions, tensors(6)),
    "dnpp": Method(dnpp, DnppOptions, tensors(7)),
    "falrtc": trace_norm(falrtc, FalrtcOptions, tensors(12)),
    "halrtc": trace_norm(halrtc, HalrtcOptions, tensors(24)),
    "silrtc": trace_norm(silrtc, SilrtcOptions, tensors(14)),
    "mf": factor_model(factors.mf, FactorizationOptions, factors.needs(factors.as_matrix)),
    "cp": factor_model(factors.cp, FactorizationOptions, factors.needs(factors.as_products)),
    "attention_cp": factor_model(factors.attention_cp, AttentionOptions, factors.needs(factors.with_attention)),
}


def options_of(method: str, options: Any) -> Any:
    """Return a method's options, its defaults for None; require that they are of its class."""
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
    return options


def methods_of(options: type) -> list[str]:
    """Name the methods that have a class of options."""
    return [name for name, method in METHODS.items() if method.options is options]
