"""Whether an object has what a protocol asks for, networks among its attributes included."""

from __future__ import annotations

from typing import TypeGuard, TypeVar

P = TypeVar("P")


def has_members(value: object, protocol: type[P]) -> TypeGuard[P]:
    """Whether ``value`` has every attribute and method that ``protocol`` itself declares.

    ``isinstance`` of a protocol looks, from Python 3.12 on, only where an attribute lies in the
    object or its class, and torch keeps the networks of a module elsewhere.
    """
    declared = {*protocol.__annotations__, *vars(protocol)}
    return all(hasattr(value, name) for name in declared if not name.startswith("_"))
