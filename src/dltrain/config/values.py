"""Whether a config's value is right for a constructor's annotation; what is told if not."""

from __future__ import annotations

import collections.abc
import inspect
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from dltrain.errors import Fault

UNSAID = "another kind of value"
LARGEST = 2**63 - 1
"""No tensor holds a larger integer, nor has so many elements."""
LARGEST_FLOAT = 3.4028234e38
"""What is computed with in float32 is infinite beyond."""


def wrong_type(key: str, value: Any, annotation: Any, hint: str = "") -> Fault:
    """The fault of a value that is not right for ``annotation``."""
    problem = f"expected {expected(annotation)}, got {shown(value)}."
    if hint:
        return Fault(key, problem, hint)
    if fits(_as_text(value), annotation):
        return Fault(key, problem, "If it is text, put it in quotes.", takes_text=True)
    return Fault(key, problem)


def _as_text(value: Any) -> Any:
    return [_as_text(item) for item in value] if isinstance(value, list) else str(value)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a config value (a primitive, list or mapping) is right for ``annotation``.

    An annotation that no config value could satisfy is not checked here: the constructor does.
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if annotation in (None, type(None)):
        return value is None
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (bool, str):
        return isinstance(value, annotation)
    if annotation is Path:
        return isinstance(value, str)
    plain = origin or annotation
    if plain is tuple:
        if not isinstance(value, (list, tuple)):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(fits(item, args[0]) for item in value)
        return not args or (len(args) == len(value) and all(map(fits, value, args)))
    if plain in (list, collections.abc.Sequence, collections.abc.Iterable):
        return isinstance(value, (list, tuple)) and all(fits(v, a) for v in value for a in args)
    if plain in (dict, collections.abc.Mapping):
        if not isinstance(value, Mapping):
            return False
        plain_values = len(args) == 2 and _configurable(args[1])
        return not plain_values or all(fits(item, args[1]) for item in value.values())
    # A class such as Tensor: no config value is one, so in a union it must not match.
    return plain is Any or not inspect.isclass(plain)


def expected(annotation: Any) -> str:
    """``annotation`` in words: ``a number``, ``one of 'a', 'b'``, ``a list of integers``."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        words = [expected(arg) for arg in args if typing.get_origin(arg) or _configurable(arg)]
        return " or ".join(dict.fromkeys(words))
    if origin is Literal:
        return ("one of " if len(args) > 1 else "") + ", ".join(map(shown, args))
    words_of = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "null",
        None: "null",
    }
    if annotation in words_of:
        return words_of[annotation]
    if (origin or annotation) in (list, tuple, collections.abc.Sequence):
        kinds = {arg for arg in args if arg is not Ellipsis}
        plain = len(kinds) == 1 and not typing.get_args(next(iter(kinds)))
        return f"a list of {expected(kinds.pop()).split(' ', 1)[-1]}s" if plain else "a list"
    if (origin or annotation) in (dict, collections.abc.Mapping):
        if len(args) == 2 and _configurable(args[1]):
            return f"a mapping to {expected(args[1]).split(' ', 1)[-1]}s"
        return "a mapping"
    return UNSAID


def _configurable(annotation: Any) -> bool:
    return annotation in (int, float, bool, str, list, tuple, dict, Path, type(None), None)


def shown(value: Any) -> str:
    """``value`` as one types it, text in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return repr(value)


def unusable(value: Any) -> str:
    """What a number must be, where ``value``, or one in it, is none to compute with; else empty."""
    if isinstance(value, (list, Mapping)):
        inside = value.values() if isinstance(value, Mapping) else value
        return next(filter(None, map(unusable, inside)), "")
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if isinstance(value, float) and abs(value) > LARGEST_FLOAT:
        return "a number that float32 holds, within 3.4e38"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "below 2**63"
    return ""
