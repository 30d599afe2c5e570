"""Values that Hydra's grammar has no place for, as a user types them: one mark, counted files."""

from __future__ import annotations

import re
from collections.abc import Sequence

MARK = re.compile(r"([^=\s]+)=([,;#&!^<>~'])")
"""A key, and a mark that by itself means nothing in Hydra's grammar; a bracket that is
alone has more likely lost its other half."""
COUNTED = re.compile(r"[^\s,'\"=]*\{\d+\.\.\d+\}[^\s,'\"=]*")
"""A path in which ``{000..127}`` counts. In a list its last bracket is the list's."""


def with_quotes(arguments: Sequence[str]) -> list[str]:
    """The arguments, in which ``data.separator=;`` is ``data.separator=';'``.

    So is ``data.path=data/{000..127}.tar``.
    """
    return [_with_quotes(argument) for argument in arguments]


def _with_quotes(argument: str) -> str:
    if MARK.fullmatch(argument):
        return MARK.sub(_quoted, argument)
    key, equals, value = argument.partition("=")
    if not equals or "'" in value or '"' in value or "${" in value:
        return argument
    inside = re.fullmatch(r"(\s*\[)(.*)(\]\s*)", value, re.DOTALL)
    opening, inner, closing = inside.groups() if inside is not None else ("", value, "")
    return f"{key}={opening}{COUNTED.sub(lambda found: _text(found[0]), inner)}{closing}"


def _text(word: str) -> str:
    return f"'{word}'"


def _quoted(found: re.Match[str]) -> str:
    quote = '"' if found[2] == "'" else "'"
    return f"{found[1]}={quote}{found[2]}{quote}"
