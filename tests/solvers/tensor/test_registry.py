"""The register of methods: what their options may be."""

import re
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest

import kronax as kx
from kronax.solvers.tensor.registry import METHODS, MethodName, options_of


@pytest.mark.parametrize("method", METHODS)
def test_defaults_pass_their_own_checks(method):
    expected = METHODS[method].options()
    assert options_of(method, None) == expected
    assert options_of(method, expected) is expected


def test_every_method_can_be_named():
    assert get_args(MethodName) == tuple(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_options_are_plain_records(method):
    """They compare by value, are written as the code that makes them, can be changed by a copy alone, and check every field."""
    kind = METHODS[method].options
    options = kind()
    assert options == kind() == replace(options) == eval(repr(options), {kind.__name__: kind})
    for field in fields(options):
        with pytest.raises(AttributeError):
            setattr(options, field.name, field.default)
        with pytest.raises(ValueError, match=f"`options.{field.name}` must be"):
            kind(**{field.name: object()})


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_needs_and_advises(method):
    """Memory grows with the tensor; advice names options that there are, and what to do instead ends a sentence."""
    row = METHODS[method]
    small, large = (row.needs(np.ones((n, 4, 5), bool), row.options()).n_bytes for n in (10, 100))
    assert 8 * 200 < small < large
    assert not row.instead(row.options()).endswith(".")
    if row.advice is not None:
        replace(row.options(), **row.advice(row.options()).options)


def test_settings_of_2018_pass():
    assert options_of("falrtc", kx.tl.HODOS_2018) is kx.tl.HODOS_2018


def test_unknown_method():
    with pytest.raises(ValueError, match=r"`method` must be one of \['kronecker', .*found 'parafac'"):
        options_of("parafac", None)
    with pytest.raises(ValueError, match="found 'Kroneker'. Did you mean 'kronecker'?"):
        options_of("Kroneker", None)


@pytest.mark.parametrize(
    ("method", "options"),
    [("falrtc", kx.tl.HalrtcOptions()), ("kronecker", kx.tl.DnppOptions()), ("mean_1d", {"alpha": 1})],
)
def test_options_of_another_method(method, options):
    expected = METHODS[method].options.__name__
    with pytest.raises(TypeError, match=f"of method '{method}' must be a kx.tl.{expected}, found"):
        options_of(method, options)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (kx.tl.HODOS_2018, "found FalrtcOptions. These belong to method='falrtc'."),
        (kx.tl.FactorizationOptions(), "found FactorizationOptions. These belong to method='mf' or method='cp'."),
        (kx.tl.KroneckerOptions, "found the class KroneckerOptions. Write `kx.tl.KroneckerOptions()`, with"),
        ("fast", "found str."),
    ],
)
def test_where_options_belong(options, hint):
    with pytest.raises(TypeError, match=re.escape(hint)):
        options_of("kronecker", options)


@pytest.mark.parametrize("method", ["falrtc", "halrtc", "silrtc"])
@pytest.mark.parametrize(
    "alpha", [(1, -1, 1), (0, 0, 0), (1, 1), (1, np.nan, 1), (1, np.inf, 0), 1.0, "111", (True, True, True)]
)
def test_alpha(method, alpha):
    with pytest.raises(ValueError, match=re.escape("`options.alpha` must be three weights, of treatments, contexts")):
        options_of(method, METHODS[method].options(alpha=alpha))


@pytest.mark.parametrize("alpha", [(1, 1, 1), [1.0, 0.0, 0.5], np.array([0.0, 2.0, 0.0])])
def test_alpha_that_pass(alpha):
    options_of("falrtc", kx.tl.FalrtcOptions(alpha=alpha))


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("kronecker", "noise", 0.0),
        ("kronecker", "noise", "loo"),
        ("kronecker", "own_share", 1.0),
        ("kronecker", "common_share", -0.1),
        ("kronecker", "gene_power", -1),
        ("kronecker", "max_iter", 0),
        ("kronecker", "tol", 0.0),
        ("kronecker", "variance", 1),
        ("kronecker", "single_precision", None),
        ("kronecker", "n_folds", 1),
        ("kronecker", "noises", ()),
        ("kronecker", "noises", (2.0, 1.0)),
        ("kronecker", "own_shares", (0.0, 1.0)),
        ("kronecker", "common_shares", 0.1),
        ("kronecker", "random_state", -1),
        ("mean_2d", "context_weight", 1.1),
        ("dnpp", "n_neighbors", 0),
        ("falrtc", "smoothing", -1.0),
        ("falrtc", "n_continuation", 0),
        ("falrtc", "lipschitz", 0.0),
        ("falrtc", "restart", "yes"),
        ("falrtc", "absolute", 2),
        ("halrtc", "threshold", np.inf),
        ("halrtc", "tol", np.nan),
        ("silrtc", "max_iter", 2.5),
    ],
)
def test_options_out_of_range(method, field, value):
    with pytest.raises(ValueError, match=f"`options.{field}` must be"):
        options_of(method, METHODS[method].options(**{field: value}))


def test_shares_that_leave_nothing():
    with pytest.raises(ValueError, match=r"less than 1, found 0\.8 and 0\.3"):
        options_of("kronecker", kx.tl.KroneckerOptions(own_share=0.8))
    options_of("kronecker", kx.tl.KroneckerOptions(own_share=0.8, common_share=0.1))
