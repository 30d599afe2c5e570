"""The nearest right name to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NEAR_GROUP = 0.75
"""How alike two groups are, of which one is taken for the other's misspelling."""


def nearest(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the candidate a user most likely meant by ``name``, or None.

    Spelling is compared as :mod:`difflib` does; beyond that, an abbreviation made of the
    initials of the typed words counts as near (``learning_rate`` is near ``lr``), and so
    does the reverse; so does a beginning (``lenet`` is near ``lenet5_mnist``). A dotted key is
    near to one of its own group, to one of a group that is spelled much like its own, and to one
    of the same name elsewhere; a bare name to the last part of any (``epochs`` is near
    ``trainer.epochs``).
    """
    scored = [(_score(name, candidate), candidate) for candidate in candidates]
    # Of those that begin alike, the shortest has least that was not typed.
    best = max(scored, default=(0.0, ""), key=lambda pair: (pair[0], -len(pair[1])))
    return best[1] if best[0] >= cutoff else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?``, or an empty string when nothing is near."""
    found = nearest(name, candidates)
    return f"Did you mean {found!r}?" if found else ""


def _score(typed: str, candidate: str) -> float:
    typed_group, _, typed_last = typed.rpartition(".")
    group, _, last = candidate.rpartition(".")
    by_last = _word_score(typed_last, last)
    if typed_group == group:
        return by_last
    if not typed_group:
        return 0.9 * by_last
    same_name = 0.9 if typed_last == last else 0.0
    # Letters that two long groups share say nothing of their keys.
    by_group = difflib.SequenceMatcher(None, typed_group, group).ratio()
    return max(same_name, 0.95 * min(by_last, by_group) if by_group > NEAR_GROUP else 0.0)


def _word_score(typed: str, candidate: str) -> float:
    a, b = typed.lower(), candidate.lower()
    if a == b:
        return 1.0
    if sorted(a) == sorted(b):  # letters in another order
        return 0.9
    if _initials(a) == b or _initials(b) == a:
        return 0.95
    if len(a) > 2 and b.startswith(a):
        return max(0.75, difflib.SequenceMatcher(None, a, b).ratio())
    return difflib.SequenceMatcher(None, a, b).ratio()


def _initials(words: str) -> str:
    parts = words.split("_")
    return "".join(part[:1] for part in parts) if len(parts) > 1 else ""
