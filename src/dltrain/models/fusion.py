"""A network for several kinds of input at once: images, texts, numbers, categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec, Field
from dltrain.errors import require_at_least, require_fraction
from dltrain.models.mlp import MLP
from dltrain.models.sequence.text_cnn import TextCNN
from dltrain.models.vision.cnn import CNN

TextEncoder = Literal["cnn", "bag"]
Pooling = Literal["concat", "attention"]


class Fusion(nn.Module):
    """An encoder for each input by its kind, to ``width`` numbers; then a head for all of them.

    Images go through a small :class:`~dltrain.models.vision.cnn.CNN` with blocks of
    ``image_channels``. Texts (batch, time) have word vectors of ``embedding_size`` numbers, then
    ``text=cnn``: convolutions of ``text_widths`` words with ``text_filters`` each and the maximum
    over time (:class:`~dltrain.models.sequence.text_cnn.TextCNN`), or ``bag``: their mean. Numbers
    (batch, features) go through a dense layer; a category has a vector for each of its values.

    ``pooling=concat`` joins what the encoders say; ``attention`` is their mean, weighted by what is
    learned to matter, in which what is left out has no part. Then come dense layers of ``hidden``
    units, and outputs (batch, outputs). ``dropout`` acts on what the encoders say and on the hidden
    layers.

    An input may be left out of a row: numbers and images that are NaN, texts without a token. A
    vector that is learned where the data leaves inputs out in training stands in its place.

    Raises ValueError for inputs of other kinds, and sizes that are none.
    """

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        width: int = 128,
        pooling: Pooling = "concat",
        hidden: Sequence[int] = (128,),
        dropout: float = 0.1,
        image_channels: Sequence[int] = (16, 32),
        text: TextEncoder = "cnn",
        text_widths: Sequence[int] = (2, 3, 4),
        text_filters: int = 64,
        embedding_size: int = 64,
    ) -> None:
        super().__init__()
        require_at_least(1, width=width, text_filters=text_filters, embedding_size=embedding_size)
        require_fraction(dropout=dropout)
        encoders: list[_Encoder] = []
        for name, field in spec.fields.items():
            if field.role != "input":
                continue
            if field.kind == "image" and None in field.shape:
                raise ValueError(
                    f"fusion reads images of one size, and those of {name!r} have many"
                )
            if field.kind == "image":
                encoders.append(_Image(field, width, image_channels))
            elif field.kind == "tokens" and text == "cnn":
                encoders.append(_Words(field, width, embedding_size, text_widths, text_filters))
            elif field.kind == "tokens":
                encoders.append(_Bag(field, width, embedding_size))
            elif field.kind in ("class", "category"):
                encoders.append(_Category(field, width))
            elif field.kind == "number" and len(field.shape) == 1:
                encoders.append(_Numbers(field, width))
            else:
                raise ValueError(f"fusion has no encoder for {name!r}, of kind {field.kind}")
        self.encoders = nn.ModuleList(encoders)
        used = [encoder for encoder in encoders if encoder.used]
        if not used:
            raise ValueError("fusion needs an input: the data has none")
        self.dropout = nn.Dropout(dropout)
        self.attention: nn.Module | None = None
        joined = width * len(used)
        if pooling == "attention":
            self.attention = nn.Sequential(
                nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False)
            )
            joined = width
        self.head = MLP((joined,), outputs, hidden, dropout=dropout)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Columns of the inputs in the order of the spec."""
        codes, absences = [], []
        for encoder, values in zip(self.encoders, inputs, strict=True):
            assert isinstance(encoder, _Encoder)
            if encoder.used:
                absent = encoder.absent(values)
                code = encoder(encoder.cleaned(values, absent))
                codes.append(torch.where(absent[:, None], encoder.instead, code))
                absences.append(absent)
        if self.attention is None:
            joined = torch.cat(codes, 1)
        else:
            stacked = torch.stack(codes, 1)
            scores = self.attention(stacked).squeeze(2)
            scores = scores.masked_fill(torch.stack(absences, 1), FAR)
            joined = (scores.softmax(1)[:, :, None] * stacked).sum(1)
        outputs: Tensor = self.head(self.dropout(joined))
        return outputs


FAR = -1e4
"""A score that counts for nothing beside others, in any precision."""


class _Encoder(nn.Module):
    """Values of one input to (batch, width)."""

    used = True
    """Whether there is anything in it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.instead = nn.Parameter(torch.zeros(width))

    def absent(self, values: Tensor) -> Tensor:
        """Which rows lack the input (batch,)."""
        return values.flatten(1)[:, 0].isnan()

    def cleaned(self, values: Tensor, absent: Tensor) -> Tensor:
        """The values, with something that can be computed where they lack."""
        return values.masked_fill(absent.view(-1, *[1] * (values.dim() - 1)), 0)


class _Image(_Encoder):
    def __init__(self, field: Field, width: int, channels: Sequence[int]) -> None:
        super().__init__(width)
        shape = [side or 0 for side in field.shape]
        self.network = CNN(shape, width, channels=channels, dense=())

    def forward(self, values: Tensor) -> Tensor:
        code: Tensor = self.network(values)
        return code.relu()


class _Numbers(_Encoder):
    def __init__(self, field: Field, width: int) -> None:
        super().__init__(width)
        self.used = bool(field.shape[0])
        self.layer = nn.Linear(field.shape[0] or 0, width) if self.used else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        code: Tensor = self.layer(values)
        return code.relu()


class _Category(_Encoder):
    def __init__(self, field: Field, width: int) -> None:
        super().__init__(width)
        self.vectors = nn.Embedding(field.size or 0, width)

    def absent(self, values: Tensor) -> Tensor:
        """Index 0 is none of the values."""
        return values == 0

    def cleaned(self, values: Tensor, absent: Tensor) -> Tensor:
        """Index 0 has a vector, too."""
        return values

    def forward(self, values: Tensor) -> Tensor:
        code: Tensor = self.vectors(values)
        return code


class _Tokens(_Encoder):
    """``fill``, which pads, is the least of all tokens."""

    def __init__(self, field: Field, width: int) -> None:
        super().__init__(width)
        self.fill = int(field.fill or 0)

    def absent(self, values: Tensor) -> Tensor:
        """A text without a token; one that says nothing has the unknown one."""
        return values[:, 0] == self.fill

    def cleaned(self, values: Tensor, absent: Tensor) -> Tensor:
        """One token is needed."""
        return torch.cat([values[:, :1].clamp_min(self.fill + 1), values[:, 1:]], 1)


class _Words(_Tokens):
    def __init__(
        self, field: Field, width: int, size: int, widths: Sequence[int], filters: int
    ) -> None:
        super().__init__(field, width)
        alone = DataSpec({"input": field})
        self.network = TextCNN(
            alone, width, widths=widths, filters=filters, embedding_size=size, dropout=0.0
        )

    def forward(self, values: Tensor) -> Tensor:
        code: Tensor = self.network(values)
        return code.relu()


class _Bag(_Tokens):
    def __init__(self, field: Field, width: int, size: int) -> None:
        super().__init__(field, width)
        self.vectors = nn.Embedding(field.size or 0, size, padding_idx=self.fill)
        self.layer = nn.Linear(size, width)

    def forward(self, values: Tensor) -> Tensor:
        real = (values != self.fill).sum(1, keepdim=True)
        code: Tensor = self.layer(self.vectors(values).sum(1) / real)
        return code.relu()
