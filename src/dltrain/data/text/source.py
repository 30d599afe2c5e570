"""Sources of texts with a class each: encoded once, and batched by length."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from dltrain.contracts.data import DataSpec, Field, Labeled, Reader
from dltrain.contracts.paths import FilePath
from dltrain.data.cache import CannotKeepError
from dltrain.data.streams.in_memory import Limits, Prepare, Split
from dltrain.data.streams.ragged import Ragged, RaggedSplit
from dltrain.data.streams.source import ArraySource
from dltrain.data.text.augment import WordAugment, prepare_words
from dltrain.data.text.reader import VocabularyReader
from dltrain.data.text.report import described, much_unknown
from dltrain.data.text.scripts import Tokens
from dltrain.data.text.seen import only_seen
from dltrain.data.text.tokenized import (
    Corpus,
    Encoded,
    EncodedSplit,
    Reading,
    encode,
    encoded,
    split_up,
)
from dltrain.data.text.vocabulary import PAD_INDEX
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

HOME = "~/.cache/dltrain"

SMALLEST, LARGEST = 8, 64
"""Texts of a batch."""
BATCHES = 100
"""Steps that an epoch of a small set should have: in fewer, a network hardly moves."""


class TextSource(ArraySource):
    """Texts with a class each, as ids of a vocabulary that is learned from those trained on.

    ``tokens`` are words, characters, characters of some scripts beside words of others (mixed)
    or, by byte-pair encoding, pieces of words; auto: by whether the training split leaves blanks
    between words. Its ``vocabulary_size`` most frequent are known, but none that occurs fewer
    than ``min_frequency`` times in the texts that are trained on.
    ``max_length`` tokens of a longer text are kept (null: all), its ``first`` or ``last``.
    A batch holds ``batch_size`` texts of about one length or, given ``tokens_per_batch``, so many
    tokens, padding included. auto is ``LARGEST`` or, where an epoch would have fewer than
    ``BATCHES`` of them, fewer texts. Evaluation keeps to both of its limits.
    Ids are kept in ``root``'s folder cache for the next run, or in ``HOME``'s where that cannot
    be written to; null: nowhere.
    ``test`` is the fraction set aside as test split where none is given, whatever the seed.

    Reading raises ``ValueError`` naming the row of what cannot be used.
    """

    class_names: Sequence[str] = ()
    """What is known of them before the texts are read."""
    columns: Sequence[str] = ()
    """Those of a table that have the texts; of several a text is joined."""

    def __init__(
        self,
        root: FilePath | None = None,
        tokens: Tokens | Literal["auto"] = "auto",
        vocabulary_size: int = 20000,
        min_frequency: int = 1,
        lower: bool = True,
        clean_markup: bool = True,
        max_length: int | None = 400,
        keep: Literal["first", "last"] = "first",
        test: float = 0.2,
        tokens_per_batch: int | None = None,
        evaluation_tokens: int = 50_000,
        batch_size: int | Literal["full", "auto"] = "auto",
        evaluation_batch_size: int = 1000,
        augment: WordAugment | None = None,
        **common: Any,
    ) -> None:
        super().__init__(
            root=root,
            batch_size=LARGEST if batch_size == "auto" else batch_size,
            evaluation_batch_size=evaluation_batch_size,
            **common,
        )
        positive = {
            "min_frequency": min_frequency,
            "max_length": max_length,
            "tokens_per_batch": tokens_per_batch,
            "evaluation_tokens": evaluation_tokens,
        }
        for name, value in positive.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if vocabulary_size < 3:
            raise ValueError(
                f"vocabulary_size is at least 3, padding and the unknown token among them; got "
                f"{vocabulary_size}"
            )
        if not 0 < test < 1:
            raise ValueError(f"test is a fraction between 0 and 1, got {test}")
        if self.balance and tokens_per_batch is not None:
            raise ValueError(
                "balance=true draws other texts each epoch, which no batch of so many tokens can "
                "hold; set tokens_per_batch=null"
            )
        self.augment = augment or WordAugment()
        self.fits_batches = batch_size == "auto"
        self.tokens_per_batch, self.evaluation_tokens = tokens_per_batch, evaluation_tokens
        self._reading = Reading(
            tokens,
            vocabulary_size,
            min_frequency,
            lower,
            clean_markup,
            max_length,
            keep,
            test,
        )
        self._encoded: Encoded | None = None

    @abstractmethod
    def key(self) -> dict[str, Any]:
        """All that decides what :meth:`corpus` returns, known without reading it."""

    @abstractmethod
    def corpus(self) -> Corpus:
        """Read the texts and their classes."""

    def outline(self) -> DataSpec:
        """Tokens and a class; once they are read, the vocabulary and its counts in training."""
        found = self._encoded
        names = tuple(found.class_names if found else self.class_names)
        return DataSpec(
            {
                "input": Field(
                    (None,),
                    "tokens",
                    "input",
                    size=len(found.words) if found else None,
                    names=tuple(found.words) if found else (),
                    counts=tuple(found.word_counts) if found else (),
                    fill=PAD_INDEX,
                ),
                "target": Field((), "class", "target", size=len(names) or None, names=names),
            },
            complete=found is not None,
        )

    def splits(self) -> dict[str, Split]:
        found = self._encoded = self._encode()
        for note in found.notes:
            logger.info(note)
        for warning in found.warnings:
            logger.warning(warning)
        return {name: _split(part) for name, part in found.splits.items()}

    def learn(self, splits: Mapping[str, Split]) -> Mapping[str, Split]:
        """Know no word but those of the texts trained on, and say what was read."""
        found, parts = only_seen(self._known(), _ragged(splits), self._reading.min_frequency)
        self._encoded = found
        logger.info(
            f"{found.name}: {len(found.words):,} tokens in the vocabulary ({found.tokens}), "
            f"{sum(found.word_counts) / len(found.words):.0f} training tokens to each."
        )
        for note in described(found.name, parts, found.class_names):
            logger.info(note)
        for warning in much_unknown(found.name, parts, found.tokens, self._reading.min_frequency):
            logger.warning(warning)
        return parts

    def prepare(self, device: torch.device) -> Prepare:
        """Unknown words for the training texts, when asked."""
        return prepare_words(self.outline().fields, self.augment)

    def training_limits(self) -> Limits:
        """So many texts, or so many tokens."""
        if self.tokens_per_batch is not None:
            return Limits(tokens=self.tokens_per_batch)
        if self.fits_batches:
            return Limits(min(LARGEST, max(SMALLEST, len(self._splits["train"]) // BATCHES)))
        return super().training_limits()

    def evaluation_limits(self) -> Limits:
        """So many texts, and at most so many tokens."""
        return Limits(self.evaluation_batch_size, self.evaluation_tokens)

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """The texts themselves. Those set aside for validation count as training texts."""
        parts = split_up(self.corpus(), self._reading.test)
        if split is not None and split not in parts:
            raise UserError(f"these texts have no {split} split, but {', '.join(parts)}.")
        for name in parts if split is None else [split]:
            texts, targets = parts[name].texts, torch.tensor(parts[name].targets)
            for first in range(0, len(texts), self.evaluation_batch_size):
                part = slice(first, first + self.evaluation_batch_size)
                yield Labeled(texts[part], targets[part])

    def reader(self) -> Reader:
        return VocabularyReader(self._known().tokenizer, self.columns)

    def _known(self) -> Encoded:
        assert self._encoded is not None, "read() comes first"
        return self._encoded

    def _encode(self) -> Encoded:
        if self.root is None:
            return encode(self.corpus, self._reading)
        key = self.key()
        # The data may lie where nothing can be written.
        for root in (self.root, HOME):
            try:
                folder = Path(root).expanduser() / "cache"
                return encoded(folder, key, self.corpus, self._reading)
            except CannotKeepError as error:
                logger.warning(str(error))
        return encode(self.corpus, self._reading)


def _ragged(splits: Mapping[str, Split]) -> dict[str, RaggedSplit]:
    return {name: part for name, part in splits.items() if isinstance(part, RaggedSplit)}


def _split(part: EncodedSplit) -> Split:
    ids = Ragged.joined(
        torch.from_numpy(part.ids), torch.from_numpy(part.lengths).long(), PAD_INDEX
    )
    return RaggedSplit({"input": ids}, {"target": torch.from_numpy(part.targets)})
