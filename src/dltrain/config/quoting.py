"""Values and commands as a user has to type them: what a message prints, a shell can be given.

Two readers take a typed override apart, the shell and then Hydra's grammar, so a name with a
blank, a quote, a dollar or a letter of another alphabet is quoted for both.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PLAIN = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII)
"""Text that Hydra reads as it stands, if it is no :data:`WORD`."""
WORDS = frozenset({"true", "false", "null", "nan", "inf"})
"""What Hydra reads as something else than text, in any case of letters."""
ELEMENT = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^,])+""", re.DOTALL)
"""Of a list's inside: what stands between two commas that are not quoted or escaped."""
IN_A_KEY = re.compile(r"[\w/.+$%*@?|\\()\[\]{}:=, \t-]+", re.ASCII)
"""What the key of a mapping may consist of; it cannot be quoted, only escaped."""


def override(key: str, value: Any) -> str:
    """``key=value`` as one word of a shell command that sets exactly ``value``.

    ``value`` is None, a boolean, a number, text, a path, or a sequence or mapping of them.
    Raises ``ValueError`` for a mapping's key that no command line can have.
    """
    return shlex.quote(f"{key}={in_grammar(value)}")


def override_as_text(typed: str, stays: Callable[[str], bool]) -> str:
    """The override ``typed`` with its value as text, in quotes, as one word of a shell command.

    Of a list in brackets, each element by itself; what ``stays`` accepts is left as it is.
    """
    key, _, value = typed.partition("=")
    inside = re.fullmatch(r"\[(.*)\]", value.strip(), re.DOTALL)
    if inside is None:
        found = value if stays(value) else _text(value)
    else:
        elements = [element.strip() for element in ELEMENT.findall(inside[1])]
        found = f"[{', '.join(e if stays(e) else _text(e) for e in elements)}]"
    return shlex.quote(f"{key}={found}")


def in_grammar(value: Any) -> str:
    """``value`` as Hydra's grammar for overrides has it, before a shell is thought of."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)}: {in_grammar(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(in_grammar, value)) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    if PLAIN.fullmatch(text) and text.lower() not in WORDS:
        return text
    # OmegaConf takes "${" for a reference unless a backslash stands before it.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    # In quotes, Hydra takes backslashes for themselves except before a quote.
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)\Z", r"\1\1", text)
    return f'"{text}"'


def _key(name: Any) -> str:
    if not isinstance(name, str):
        return in_grammar(name)
    if not IN_A_KEY.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a mapping's key on a command line")
    return re.sub(r"[\\()\[\]{}:=, \t]", r"\\\g<0>", name)
