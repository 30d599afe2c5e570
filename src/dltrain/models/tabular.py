"""A network for tables with columns of many levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec, Field
from dltrain.errors import require_fraction
from dltrain.models.layers.activations import Activation
from dltrain.models.layers.init import Init
from dltrain.models.mlp import MLP

LARGEST = 600
STD = 0.01
"""Of the initial vectors: a level that is never trained on is about as good as none."""


class Tabular(nn.Module):
    """A multi-layer perceptron on numbers (batch, features) and on a vector of each level.

    Of each input of kind ``class`` (batch,) it learns a vector of so many numbers a level (entity
    embeddings: Guo and Berkhahn 2016, arXiv:1604.06737); all are joined to the numbers. Index 0,
    for none of the levels, begins at 0 and stays there unless training has it.
    ``embedding`` is how many numbers (null: :func:`width_of`), ``embedding_dropout`` acts on the
    vectors; the rest is :class:`~dltrain.models.mlp.MLP`'s. Outputs (batch, outputs).

    Raises ValueError for inputs that are no numbers (features,) and then classes.
    """

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        embedding: int | None = None,
        embedding_dropout: float = 0.0,
        hidden: Sequence[int] = (256, 128),
        activation: Activation = "relu",
        init: Init = "default",
        batch_norm: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_fraction(embedding_dropout=embedding_dropout, dropout=dropout)
        if embedding is not None and embedding < 1:
            raise ValueError(f"embedding is at least 1, got {embedding}")
        numbers, *levels = spec.of("input")
        if not _is_vector(numbers) or any(field.kind != "class" for field in levels):
            kinds = ", ".join(f"{field.kind} {field.shape}" for field in (numbers, *levels))
            raise ValueError(f"Tabular reads numbers (features,) and then classes; got {kinds}")
        sizes = [field.size or 0 for field in levels]
        widths = [embedding or width_of(size) for size in sizes]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, width) for size, width in zip(sizes, widths, strict=True)
        )
        self.dropout = nn.Dropout(embedding_dropout)
        features = (numbers.shape[0] or 0) + sum(widths)
        self.layers = MLP(
            *((features,), outputs, hidden, activation, init, batch_norm, dropout, input_dropout)
        )
        with torch.no_grad():
            for table in self.embeddings:
                assert isinstance(table, nn.Embedding)
                table.weight.normal_(0, STD)[0] = 0

    def forward(self, numbers: Tensor, *levels: Tensor) -> Tensor:
        """``levels`` are indices (batch,), one for each input of classes."""
        if not levels:
            return self.layers(numbers)
        vectors = [table(index) for table, index in zip(self.embeddings, levels, strict=True)]
        return self.layers(torch.cat([numbers, self.dropout(torch.cat(vectors, 1))], 1))


def width_of(levels: int) -> int:
    """How many numbers a vector has by fastai's rule of thumb: 1.6 * levels ** 0.56, at most 600.

    (Howard and Gugger 2020, ``fastai.tabular.model.emb_sz_rule``.)
    """
    return min(LARGEST, round(1.6 * levels**0.56))


def _is_vector(field: Field) -> bool:
    return field.kind == "number" and len(field.shape) == 1
