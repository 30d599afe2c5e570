"""Values that Hydra's grammar has no place for, as a user types them.

A mark by itself, files that are counted, and letters of other alphabets than the Latin one: each
would be refused as it stands, so that quotes, which make it text, change nobody's meaning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MARK = re.compile(r"([^=\s]+)=([,;#&!^<>~'])")
"""A key, and a mark that by itself means nothing in Hydra's grammar; a bracket that is
alone has more likely lost its other half."""
COUNTED = re.compile(r"[^\s,'\"=]*\{\d+\.\.\d+\}[^\s,'\"=]*")
"""A path in which ``{000..127}`` counts. In a list its last bracket is the list's."""
LEFT = ("'", '"', "${", "\\,")
"""What is quoted or escaped already, or refers to another key, stands as it was typed."""
ELEMENT = re.compile(r"(\s*)(.*?)(\s*)", re.DOTALL)
"""Of a list, or of values to choose from: what stands between two commas, and blanks around it."""
OTHER_LETTERS = re.compile(
    r"[^(){}\[\]]*[^\x00-\x7f(){}\[\]][^(){}\[\]]*(\([^(){}\[\]]*\)[^(){}\[\]]*)*(?<!\\)", re.DOTALL
)
"""Text with a letter that is not ASCII before any bracket, so that it calls no function."""


def with_quotes(arguments: Sequence[str]) -> list[str]:
    """The arguments, in which ``data.separator=;`` is ``data.separator=';'``.

    So are ``data.path=data/{000..127}.tar`` and ``data.target=性别``, and each element of
    ``data.labels=[猫,狗]``.
    """
    return [_with_quotes(argument) for argument in arguments]


def _with_quotes(argument: str) -> str:
    if MARK.fullmatch(argument):
        return MARK.sub(_quoted, argument)
    key, equals, value = argument.partition("=")
    if not equals or any(mark in value for mark in LEFT):
        return argument
    inside = re.fullmatch(r"(\s*\[)(.*)(\]\s*)", value, re.DOTALL)
    opening, inner, closing = inside.groups() if inside is not None else ("", value, "")
    if inner.isascii():
        inner = COUNTED.sub(lambda found: _text(found[0]), inner)
    else:
        inner = ",".join(map(_letters_quoted, inner.split(",")))
    return f"{key}={opening}{inner}{closing}"


def _letters_quoted(element: str) -> str:
    found = ELEMENT.fullmatch(element)
    assert found is not None
    before, text, after = found.groups()
    if COUNTED.fullmatch(text) or OTHER_LETTERS.fullmatch(text):
        text = _text(text)
    return f"{before}{text}{after}"


def _text(word: str) -> str:
    return f'"{word}"'  # of both quotes the one that a shell's go around


def _quoted(found: re.Match[str]) -> str:
    quote = '"' if found[2] == "'" else "'"
    return f"{found[1]}={quote}{found[2]}{quote}"
