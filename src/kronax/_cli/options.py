"""Options of a completion method from words such as ``rank=6``, read as the types of their fields say."""

import textwrap
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kronax._cli.refusals import InputError, refused
from kronax.solvers import checks
from kronax.solvers.tensor.method import Options
from kronax.solvers.tensor.registry import METHODS, options_of

_WORDS = {bool: {"true": True, "false": False}, NoneType: {"none": None}}
_IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name", NoneType: "none"}


def options_from(method: str, words: Iterable[str]) -> Options:
    """Make a method's options; those that are not named keep their defaults."""
    kinds = get_type_hints(METHODS[method].options)
    found: dict[str, Any] = {}
    for word in words:
        name, sign, text = (part.strip() for part in word.partition("="))
        if not kinds:
            msg = f"--option {word}: method {method!r} has no options."
            raise InputError(msg)
        if not sign:
            example = name if name in kinds else next(iter(kinds))
            msg = f"--option {word}: write NAME=VALUE, such as {example}={getattr(METHODS[method].options(), example)}."
            raise InputError(msg)
        if name in found:
            msg = f"--option {word}: {name} is given twice."
            raise InputError(msg)
        with refused():
            checks.known(name, kinds, f"{method} option", most=len(kinds))
        try:
            found[name] = _read(text, kinds[name])
        except ValueError as error:
            msg = f"--option {word}: {name} is {_in_words(kinds[name])}, found {text!r}."
            raise InputError(msg) from error
    with refused():
        return options_of(method, METHODS[method].options(**found))


def names_of_all() -> str:
    """List the options of all methods, grouping methods with the same ones."""
    together: dict[type, list[str]] = {}
    for name, method in METHODS.items():
        together.setdefault(method.options, []).append(name)
    lines = [
        f"{', '.join(names)}: {', '.join(get_type_hints(options))}"
        for options, names in together.items()
        if get_type_hints(options)
    ]
    return "\n".join(textwrap.fill(line, 118, initial_indent="  ", subsequent_indent="      ") for line in lines)


def _read(text: str, kind: Any) -> Any:
    """Read a value of a type; a ValueError says that it is none."""
    parts = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return _first(text, parts)
    if get_origin(kind) is Mapping:
        return _pairs(text, *parts)
    if get_origin(kind) is tuple:  # of one type; how many there must be is checked with the other options
        return tuple(_read(word.strip(), parts[0]) for word in text.split(",") if word.strip())
    if get_origin(kind) is Literal:
        return _word(text, dict(zip(parts, parts, strict=True)))
    if kind in _WORDS:
        return _word(text.lower(), _WORDS[kind])
    return kind(text)


def _pairs(text: str, key: Any, value: Any) -> dict:
    """Read pairs such as ``dose=log,time=rank``."""
    pairs = [word.partition("=") for word in text.split(",") if word.strip()]
    if not pairs or not all(sign for _, sign, _ in pairs):
        raise ValueError(text)
    return {_read(name.strip(), key): _read(word.strip(), value) for name, _, word in pairs}


def _word(text: str, values: dict[str, Any]) -> Any:
    if text not in values:
        raise ValueError(text)
    return values[text]


def _first(text: str, kinds: tuple) -> Any:
    """Read a value of the first type that it has."""
    for kind in kinds:
        try:
            return _read(text, kind)
        except ValueError:
            continue
    raise ValueError(text)


def _in_words(kind: Any) -> str:
    parts = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_in_words, parts))
    if get_origin(kind) is Mapping:
        return f"one or more NAME=VALUE with commas between them, each VALUE {_in_words(parts[1])}"
    if get_origin(kind) is tuple:
        return f"one or more values with commas between them, each {_in_words(parts[0])}"
    if get_origin(kind) is Literal:
        return " or ".join(parts)
    return _IN_WORDS[kind]
