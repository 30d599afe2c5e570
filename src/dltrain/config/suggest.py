"""The nearest right name to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the candidate a user most likely meant by ``name``, or None.

    Spelling is compared as :mod:`difflib` does; beyond that, an abbreviation made of the
    initials of the typed words counts as near (``learning_rate`` is near ``lr``), and so
    does the reverse; so does a beginning (``lenet`` is near ``lenet5_mnist``). Dotted keys
    are compared whole and by their last part, so that ``epochs`` finds ``trainer.epochs``.
    """
    scored = [(_score(name, candidate), candidate) for candidate in candidates]
    best = max(scored, default=(0.0, ""), key=lambda pair: pair[0])
    return best[1] if best[0] >= cutoff else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?``, or an empty string when nothing is near."""
    found = nearest(name, candidates)
    return f"Did you mean {found!r}?" if found else ""


def _score(typed: str, candidate: str) -> float:
    whole = _word_score(typed, candidate)
    typed_head, _, typed_last = typed.rpartition(".")
    head, _, last = candidate.rpartition(".")
    by_last = _word_score(typed_last, last)
    # A key of the same group is nearer than a key of the same name elsewhere.
    return max(whole, by_last if typed_head == head else 0.9 * by_last)


def _word_score(typed: str, candidate: str) -> float:
    a, b = typed.lower(), candidate.lower()
    if a == b:
        return 1.0
    if _initials(a) == b or _initials(b) == a:
        return 0.95
    if len(a) > 2 and b.startswith(a):
        return max(0.75, difflib.SequenceMatcher(None, a, b).ratio())
    return difflib.SequenceMatcher(None, a, b).ratio()


def _initials(words: str) -> str:
    parts = words.split("_")
    return "".join(part[:1] for part in parts) if len(parts) > 1 else ""
