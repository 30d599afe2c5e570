"""``--config-dir DIR``: a folder of the user's own config files."""

from __future__ import annotations

from collections.abc import Sequence

from dltrain.errors import UserError

CONFIG_DIR = ("--config-dir", "-cd")


def take_value(arguments: Sequence[str], names: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """Take the option ``names`` and its value out of ``arguments``."""
    value, rest = None, []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, given = argument.partition("=")
        if name in names:
            value = given if equals else next(remaining, None)
            if not value:
                raise UserError(f"{name} needs a folder.")
        else:
            rest.append(argument)
    return value, rest
