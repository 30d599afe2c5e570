"""Preparing texts: what is done to words in training."""

from __future__ import annotations

import torch

from dltrain.data.loaders import Draw, Prepare
from dltrain.data.vocabulary import PAD_INDEX, UNKNOWN_INDEX
from dltrain.types import Augment, Batch


class WordAugment(Augment):
    """Random changes of texts: the share ``word_dropout`` of the words is read as unknown.

    Of Iyyer et al. 2015 (section 3.2, there the words are left out) and Dai and Le 2015: the
    network cannot lean on any single word. Raises ValueError for what is no share.
    """

    def __init__(self, word_dropout: float = 0.0) -> None:
        if not 0 <= word_dropout < 1:
            raise ValueError(f"word_dropout is a share from 0 to below 1, got {word_dropout}")
        self.word_dropout = word_dropout

    def __call__(self, ids: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Change ids (batch, time), never padding, drawing from ``generator`` alone."""
        if not self.word_dropout:
            return ids
        drawn = torch.rand(ids.shape, generator=generator, device=ids.device)
        return ids.masked_fill((drawn < self.word_dropout) & (ids != PAD_INDEX), UNKNOWN_INDEX)


def prepare_words(augment: WordAugment) -> Prepare:
    """Augment the training batches' column ``input``; evaluation sees it as it is."""

    def prepare(batch: Batch, draw: Draw | None) -> Batch:
        if draw is not None:
            batch["input"] = augment(batch["input"], draw.generator)
        return batch

    return prepare
