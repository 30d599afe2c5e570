"""What both kinds of encoder-decoders share: two vocabularies, and vectors of their tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.models.layers.embedding import WordEmbedding


class Vectors(nn.Module):
    """Vectors of the tokens that are read and of those that are written, and logits of the latter.

    Where both fields of ``spec`` have the same tokens, they have one table. ``tied`` logits are
    products with the vectors of the tokens themselves (Press and Wolf 2017), which begin with
    ``std``. Logits begin as the logarithms of the tokens' frequencies, where ``counts`` tell them.

    Raises ValueError for data that has no two sequences of tokens.
    """

    def __init__(self, spec: DataSpec, width: int, tied: bool, std: float) -> None:
        super().__init__()
        source, target = spec.input, spec.target
        kinds = (source.kind, target.kind)
        if kinds != ("tokens", "tokens"):
            raise ValueError(
                f"this network turns tokens into tokens; the data has {kinds[0]} and {kinds[1]}"
            )
        if None in (source.size, target.size, source.fill, target.fill):
            raise ValueError("the data do not tell the sizes of their vocabularies and the padding")
        assert source.size is not None and target.size is not None
        assert source.fill is not None and target.fill is not None
        self.pad_index = int(source.fill)
        self.source = WordEmbedding(source.size, width, self.pad_index, std=std)
        one = bool(source.names) and source.names == target.names
        self.target = (
            self.source if one else WordEmbedding(target.size, width, int(target.fill), std=std)
        )
        self.output = nn.Linear(width, target.size)
        if tied:
            self.output.weight = self.target.weight
        if target.counts:
            # Else a network learns first of all that most tokens are rare, which may leave the
            # units before the output at their bounds, where nothing else is learned.
            counts = torch.tensor(target.counts, dtype=torch.float32) + 1
            self.output.bias.data.copy_((counts / counts.sum()).log())

    def real(self, source: Tensor) -> Tensor:
        """Which ids (rows, time) are no padding."""
        return source != self.pad_index


def require_sizes(dropout: float, **sizes: int) -> None:
    """Raise ValueError for a size below 1, and for a dropout that is no fraction."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is at least 1, got {size}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is a fraction from 0 to below 1, got {dropout}")
