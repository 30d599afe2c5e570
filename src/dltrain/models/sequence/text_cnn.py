"""Convolutions over words, of several widths, and the maximum of each over time (Kim 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec
from dltrain.models.layers.pooling import Pooling
from dltrain.models.sequence.sequences import SequenceReader


class TextCNN(SequenceReader):
    """One layer of ``filters`` convolutions for each of ``widths`` words, rectified and pooled.

    See :class:`~dltrain.models.sequence.sequences.SequenceReader`. Each step has a window of each
    width around it, beyond the ends of a sequence full of zeros; of an even width the extra step is
    on the right. Padding reads as such zeros too, so that no answer depends on it.

    Raises ValueError for a layer without filters, and for a width below 1 or given twice.
    """

    dropouts = (0.5, 0.5)

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        widths: Sequence[int] = (3, 4, 5),
        filters: int = 100,
        embedding_size: int = 300,
        pooling: Pooling | None = "max",
        **settings: Any,
    ) -> None:
        super().__init__(spec, outputs, embedding_size=embedding_size, pooling=pooling, **settings)
        if filters < 1:
            raise ValueError(f"filters is at least 1, got {filters}")
        if not widths or min(widths) < 1 or len(set(widths)) < len(widths):
            raise ValueError(f"widths are different numbers from 1, got {list(widths)}")
        self.widths = list(widths)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(self.features, filters, width) for width in widths
        )
        self.finish(filters * len(widths))

    def states(self, vectors: Tensor, real: Tensor) -> Tensor:
        """What each filter finds around each step (batch, time, widths * filters)."""
        steps = (vectors * real.unsqueeze(2)).transpose(1, 2)
        found = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            before = (width - 1) // 2
            found.append(convolution(functional.pad(steps, (before, width - 1 - before))))
        return torch.cat(found, 1).relu().transpose(1, 2)
