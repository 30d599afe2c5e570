"""A split of translations, before and after it is encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import Stream
from dltrain.data.parallel.files import Pairs
from dltrain.data.streams.hashes import Hashes
from dltrain.data.streams.in_memory import Batching, Split
from dltrain.data.streams.ragged import Ragged, RaggedSplit
from dltrain.data.text.pieces import END_INDEX
from dltrain.data.text.vocabulary import PAD_INDEX, Vocabulary


class PairsSplit(Split):
    """Translations as texts; the vocabulary is learned once it is known which are trained on."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.columns = pairs, {}

    def __len__(self) -> int:
        return len(self.pairs)

    def only(self, rows: Tensor) -> PairsSplit:
        return PairsSplit(self.pairs.only(rows.tolist()))

    def stream(self, batching: Batching) -> Stream:
        raise AssertionError("texts are encoded before they are batched")

    def hashes(self) -> dict[str, Hashes]:
        """Of each text."""
        return {"input": _hashes(self.pairs.sources), "target": _hashes(self.pairs.targets)}


def ids_of(texts: Sequence[str], vocabulary: Vocabulary) -> list[Tensor]:
    """The int32 ids of each text, with that of the end behind them."""
    end = np.array([END_INDEX], np.int32)
    return [torch.from_numpy(np.concatenate([ids, end])) for ids in vocabulary.encode(texts)]


def joined(rows: Sequence[Tensor]) -> Ragged:
    """Sequences of ids as a column."""
    lengths = torch.tensor([len(row) for row in rows])
    return Ragged.joined(torch.cat(list(rows)), lengths, PAD_INDEX)


def encoded(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> RaggedSplit:
    """Both sides of a split."""
    return RaggedSplit({"input": joined(sources), "target": joined(targets)}, {})


def groups_of(pairs: Pairs) -> Tensor:
    """The number (pairs,) of each source text, of which there may be several translations."""
    numbers: dict[str, int] = {}
    keys = [" ".join(text.split()).casefold() for text in pairs.sources]
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])


def _hashes(texts: Sequence[str]) -> Hashes:
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
