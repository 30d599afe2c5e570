"""Values of one mark, such as the separator of a file, as a user types them."""

from __future__ import annotations

import re
from collections.abc import Sequence

MARK = re.compile(r"([^=\s]+)=([,;#&!^<>~'])")
"""A key, and a mark that by itself means nothing in Hydra's grammar; a bracket that is
alone has more likely lost its other half."""


def with_quotes(arguments: Sequence[str]) -> list[str]:
    """The arguments, in which ``data.separator=;`` is ``data.separator=';'``."""
    return [MARK.sub(_quoted, a) if MARK.fullmatch(a) else a for a in arguments]


def _quoted(found: re.Match[str]) -> str:
    quote = '"' if found[2] == "'" else "'"
    return f"{found[1]}={quote}{found[2]}{quote}"
