"""Letters that matplotlib's own font lacks: which font of the system has them."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator

from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font

logger = logging.getLogger(__name__)

STANDARD = "DejaVu Sans"
"""The font that comes with matplotlib."""
PREFERRED = (
    *("noto sans cjk", "noto sans", "source han sans", "wenquanyi", "pingfang", "hiragino"),
    *("microsoft yahei", "yu gothic", "malgun gothic", "arial unicode", "noto"),
)
"""Families to try first, by how their names begin."""
USELESS = ("color emoji", "lastresort", "last resort", "adobe blank")
"""Parts of names of fonts whose glyphs are bitmaps or boxes."""
PACKAGES = {
    "CJK": "Noto Sans CJK (Debian, Ubuntu: apt install fonts-noto-cjk)",
    "HANGUL": "Noto Sans CJK (Debian, Ubuntu: apt install fonts-noto-cjk)",
    "HIRAGANA": "Noto Sans CJK (Debian, Ubuntu: apt install fonts-noto-cjk)",
    "KATAKANA": "Noto Sans CJK (Debian, Ubuntu: apt install fonts-noto-cjk)",
}
"""What to install, by the first word of a letter's name in Unicode."""
ANY_PACKAGE = "Noto Sans or Symbola (Debian, Ubuntu: apt install fonts-noto-core fonts-symbola)"
MOST_SHOWN = 8


_family_of: dict[str, str | None] = {}
"""By letter, of those that were looked for; None: no font of this system has it."""


def fallback(text: str) -> list[str]:
    """Families that have the letters of ``text`` which :data:`STANDARD` lacks.

    Letters that no font of the system has are noted, once, and will be boxes.
    """
    letters = missing(text, STANDARD)
    new = letters - _family_of.keys()
    if new:
        _look_for(new)
    found = (_family_of[letter] for letter in sorted(letters))
    return list(dict.fromkeys(family for family in found if family is not None))


def missing(text: str, *families: str) -> frozenset[str]:
    """The letters of ``text`` that none of ``families`` has; not what is invisible."""
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in families]
    return frozenset(
        letter
        for letter in set(text)
        if _is_visible(letter) and not any(font.get_char_index(ord(letter)) for font in fonts)
    )


def _is_visible(letter: str) -> bool:
    """Whether a letter needs a glyph: control characters and selectors of variants do not."""
    invisible = unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp")
    return not (invisible or unicodedata.name(letter, "").startswith("VARIATION SELECTOR"))


def _look_for(letters: frozenset[str]) -> None:
    """Find a font of the system for each of ``letters``."""
    left = letters
    for family, file in _candidates():
        try:
            font = get_font(file)
            has = {letter for letter in left if font.get_char_index(ord(letter))}
        except (OSError, RuntimeError):  # removed since, or of a format that cannot be drawn
            continue
        if has and font.scalable:
            _family_of.update(dict.fromkeys(has, family))
            left -= has
        if not left:
            return
    _family_of.update(dict.fromkeys(left))
    shown = " ".join(sorted(left)[:MOST_SHOWN])
    more = f" and {len(left) - MOST_SHOWN:,} more" if len(left) > MOST_SHOWN else ""
    logger.info(
        "figures show boxes for %s%s: no font of this system has them. Install %s.",
        *(shown, more, _package(min(left))),
    )


def _candidates() -> Iterator[tuple[str, str]]:
    """Upright fonts of regular weight, family and file: those that are preferred come first."""
    known = {entry.fname for entry in fontManager.ttflist}
    for file in findSystemFonts():
        if file not in known:  # installed since matplotlib made its list
            try:
                fontManager.addfont(file)
            except (OSError, RuntimeError, ValueError):
                continue
    found: dict[str, str] = {}
    for entry in fontManager.ttflist:
        name = entry.name.lower()
        upright = entry.style == "normal" and str(entry.weight) in ("400", "normal", "regular")
        if upright and not any(part in name for part in USELESS):
            found.setdefault(entry.name, entry.fname)

    def rank(family: str) -> tuple[int, str]:
        beginnings = (i for i, start in enumerate(PREFERRED) if family.lower().startswith(start))
        return next(beginnings, len(PREFERRED)), family

    for family in sorted(found, key=rank):
        yield family, found[family]


def _package(letter: str) -> str:
    return PACKAGES.get(unicodedata.name(letter, "").partition(" ")[0], ANY_PACKAGE)
