"""What a run says of its texts: how many, of which classes, how long, what was cut or unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from dltrain.data.streams.ragged import RaggedSplit
from dltrain.data.text.vocabulary import UNKNOWN_INDEX

Ids = npt.NDArray[np.int32]
SHOWN = 10
"""Classes that are listed with their counts."""
MANY = 0.2
"""A fraction of unknown tokens that is worth a warning."""


def doubts(name: str, ids: Sequence[Ids]) -> Iterator[str]:
    """Texts of which nothing is left, counted."""
    count = len(ids)
    empty = sum(not len(row) for row in ids)
    if empty:
        yield f"{name}: {empty:,} of {count:,} texts are empty: each is one unknown token."
    unknown = sum(bool((row == UNKNOWN_INDEX).all()) for row in ids) - empty
    if unknown:
        yield f"{name}: {unknown:,} of {count:,} texts have no token that the vocabulary knows."


def cuts(name: str, ids: Sequence[Ids], max_length: int | None, keep: str) -> Iterator[str]:
    """Texts that are too long, and what of all tokens is cut off them, counted."""
    if max_length is None:
        return
    lengths = np.array([len(row) for row in ids])
    lost = (lengths - max_length).clip(0)
    if lost.any():
        yield (
            f"{name}: {(lost > 0).sum():,} of {len(ids):,} texts are longer than {max_length} "
            f"tokens: the {keep} are kept, and {lost.sum():,} tokens "
            f"({lost.sum() / lengths.sum():.1%} of all) are cut (data.max_length)."
        )


def described(name: str, splits: Mapping[str, RaggedSplit], classes: Sequence[str]) -> list[str]:
    """A line for each split: texts, classes with their counts, lengths, unknown tokens."""
    return [f"{name}, {split}: {_one(part, classes)}." for split, part in splits.items()]


def much_unknown(
    name: str, splits: Mapping[str, RaggedSplit], tokens: str, min_frequency: int
) -> Iterator[str]:
    """A warning where a large fraction of the tokens is unknown, and what to do about it."""
    rates = {split: unknown_fraction(part) for split, part in splits.items()}
    if max(rates.values()) <= MANY:
        return
    said = ", ".join(f"{rate:.0%} ({split})" for split, rate in rates.items())
    advice = {
        "word": "data.tokens=bpe or data.tokens=character knows words by their parts",
        "mixed": "data.tokens=character knows words by their parts",
    }
    ways = [advice[tokens]] if tokens in advice else []
    ways += ["data.min_frequency=1 keeps rare ones"] if min_frequency > 1 else []
    ways += ["a larger data.vocabulary_size or more texts know more"]
    yield f"{name}: many tokens are unknown, and all read as one: {said}. {'; '.join(ways)}."


def unknown_fraction(split: RaggedSplit) -> float:
    """How many of all tokens are unknown."""
    ids = values_of(split)
    return float((ids == UNKNOWN_INDEX).sum()) / max(1, len(ids))


def values_of(split: RaggedSplit) -> torch.Tensor:
    """The ids (tokens,) of those texts alone, which a split may have from a larger one."""
    ids = split.ragged["input"]
    firsts = ids.starts - (ids.lengths.cumsum(0) - ids.lengths)
    places = torch.arange(int(ids.lengths.sum())) + firsts.repeat_interleave(ids.lengths)
    return ids.values[places]


def _one(split: RaggedSplit, classes: Sequence[str]) -> str:
    lengths = split.ragged["input"].lengths
    counts = split.columns["target"].bincount(minlength=len(classes)).tolist()
    shown = [f"{label} {count:,}" for label, count in zip(classes, counts, strict=True)][:SHOWN]
    if len(classes) > SHOWN:
        shown.append(f"and {len(classes) - SHOWN} classes more")
    median, most = np.quantile(lengths.numpy(), [0.5, 0.95], method="higher").tolist()
    return (
        f"{len(lengths):,} texts ({', '.join(shown)}); {int(lengths.sum()):,} tokens, "
        f"{unknown_fraction(split):.1%} unknown; length: median {median}, 95 % up to {most}, "
        f"longest {int(lengths.max())}"
    )
