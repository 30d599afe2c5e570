"""A vocabulary of the texts that are trained on: no word from those set aside or beyond a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dltrain.data.streams.ragged import RaggedSplit
from dltrain.data.text.report import values_of
from dltrain.data.text.tokenized import Encoded
from dltrain.data.text.vocabulary import PAD_INDEX, UNKNOWN_INDEX, kept_of


def only_seen(
    encoded: Encoded, splits: Mapping[str, RaggedSplit], min_frequency: int
) -> tuple[Encoded, Mapping[str, RaggedSplit]]:
    """Leave out the words that fewer than ``min_frequency`` tokens of the training texts are.

    Elsewhere they become unknown, as a word is that no text has. Of byte pairs only the counts
    are those of the training texts: a piece is made of others, and none can be left out.
    """
    counts = values_of(splits["train"]).bincount(minlength=len(encoded.words))
    kept = counts >= min_frequency
    kept[[PAD_INDEX, UNKNOWN_INDEX]] = True
    shorter = None if bool(kept.all()) else kept_of(encoded.tokenizer, kept.tolist())
    if shorter is None:
        return replace(encoded, word_counts=counts.tolist()), splits
    ids = torch.where(kept, kept.cumsum(0) - 1, UNKNOWN_INDEX).int()
    counts[UNKNOWN_INDEX] += counts[~kept].sum()
    words = [word for word, known in zip(encoded.words, kept.tolist(), strict=True) if known]
    pruned = replace(encoded, tokenizer=shorter, words=words, word_counts=counts[kept].tolist())
    return pruned, _renumbered(splits, ids)


def _renumbered(splits: Mapping[str, RaggedSplit], ids: Tensor) -> dict[str, RaggedSplit]:
    """The splits with the id ``ids[i]`` for each id i; values that were shared are still."""
    new: dict[int, Tensor] = {}
    found = {}
    for name, split in splits.items():
        ragged = split.ragged["input"]
        values = new.setdefault(id(ragged.values), ids[ragged.values])
        found[name] = RaggedSplit({"input": replace(ragged, values=values)}, split.columns)
    return found
