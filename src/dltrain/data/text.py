"""Sources of texts with a class each: encoded once, and batched by length."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dltrain.data.arrays import ArraySource
from dltrain.data.cache import CannotKeepError
from dltrain.data.encoded import Corpus, Encoded, Reading, encode, encoded
from dltrain.data.loaders import Prepare
from dltrain.data.ragged import Limits, RaggedLoader
from dltrain.data.vocabulary import PAD_INDEX, UNKNOWN_INDEX
from dltrain.data.words import WordAugment, prepare_words
from dltrain.types import Batch, Loader

HOME = "~/.cache/dltrain"


class _Columns(dict[str, Tensor]):
    """A split's examples by number, and the ids of all of them."""

    def __init__(self, ids: Tensor, columns: Mapping[str, Tensor]) -> None:
        super().__init__(columns)
        self.ids = ids


class TextSource(ArraySource):
    """Texts with a class each, as ids of a vocabulary that is learnt from the training split.

    ``tokens`` are words or, by byte-pair encoding, pieces of words; the ``vocabulary_size`` most
    frequent are known, but none that occurs fewer than ``min_frequency`` times. The training
    split is what the data calls so, what is then set aside for validation included.
    ``max_length`` tokens of a longer text are kept (null: all), its ``first`` or ``last``.
    A batch holds ``batch_size`` texts of about one length or, given ``tokens_per_batch``, so many
    tokens, padding included. Evaluation keeps to both of its limits.
    Ids are kept in ``root``'s folder cache for the next run, or in ``HOME``'s where that cannot
    be written to; null: nowhere.
    ``test`` is the share set aside as test split where none is given, whatever the seed.

    Raises ``ValueError`` naming the row of what cannot be used.
    """

    def __init__(
        self,
        root: str | None = None,
        tokens: Literal["word", "bpe"] = "word",
        vocabulary_size: int = 20000,
        min_frequency: int = 1,
        lower: bool = True,
        clean_markup: bool = True,
        max_length: int | None = 400,
        keep: Literal["first", "last"] = "first",
        test: float = 0.2,
        tokens_per_batch: int | None = None,
        evaluation_tokens: int = 50_000,
        batch_size: int | Literal["full"] = 64,
        evaluation_batch_size: int = 1000,
        augment: WordAugment | None = None,
        **common: Any,
    ) -> None:
        super().__init__(
            root=root,
            batch_size=batch_size,
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
            raise ValueError(f"test is a share between 0 and 1, got {test}")
        self.augment = augment or WordAugment()
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
        self._notes: list[str] = []
        self._encoded = self._open()

    @abstractmethod
    def key(self) -> dict[str, Any]:
        """All that decides what :meth:`corpus` returns, known without reading it."""

    @abstractmethod
    def corpus(self) -> Corpus:
        """Read the texts and their classes."""

    @property
    def facts(self) -> dict[str, Any]:
        """The vocabulary, and how often the training split has each of its words."""
        found = self._encoded
        return {
            "outputs": len(found.class_names),
            "class_names": list(found.class_names),
            "vocabulary_size": len(found.words),
            "pad_index": PAD_INDEX,
            "unknown_index": UNKNOWN_INDEX,
            "words": list(found.words),
            "word_frequencies": list(found.word_frequencies),
        }

    def keep(self, folder: Path) -> None:
        """Write the vocabulary as ``tokenizer.json``."""
        (folder / "tokenizer.json").write_text(self._encoded.tokenizer, encoding="utf-8")

    def read(self) -> tuple[Batch, Batch]:
        """The ids; and, on standard error, what is worth knowing of them."""
        for note in [*self._notes, *self._encoded.notes]:
            print(f"data: {note}", file=sys.stderr)
        return self._columns("train"), self._columns("test")

    def read_validation(self) -> Batch | None:
        """Where the data brings one."""
        return self._columns("validation") if "validation" in self._encoded.splits else None

    def prepare(self, device: torch.device) -> Prepare:
        """Unknown words for the training texts, when asked."""
        return prepare_words(self.augment)

    def loader(
        self,
        columns: Batch,
        rows: Tensor | None,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        shuffle: bool = False,
    ) -> Loader:
        """Batches of texts of about one length."""
        assert isinstance(columns, _Columns)
        chosen = {n: c if rows is None else c[rows] for n, c in columns.items()}
        limits = Limits(batch_size, self.evaluation_tokens)
        if shuffle:
            by_tokens = self.tokens_per_batch is not None
            limits = Limits(None if by_tokens else batch_size, self.tokens_per_batch)
        return RaggedLoader(
            columns.ids,
            chosen.pop("start"),
            chosen.pop("length"),
            chosen,
            limits,
            device,
            self.prepare(device),
            seed,
            shuffle,
        )

    def _open(self) -> Encoded:
        if self.root is None:
            return encode(self.corpus, self._reading)
        key = self.key()
        # The data may lie where nothing can be written.
        for root in (self.root, HOME):
            try:
                folder = Path(root).expanduser() / "cache"
                return encoded(folder, key, self.corpus, self._reading)
            except CannotKeepError as error:
                self._notes.append(str(error))
        return encode(self.corpus, self._reading)

    def _columns(self, split: str) -> _Columns:
        found = self._encoded.splits[split]
        lengths = torch.from_numpy(found.lengths).long()
        starts = lengths.cumsum(0) - lengths
        targets = torch.from_numpy(found.targets)
        columns = {"start": starts, "length": lengths, "target": targets}
        return _Columns(torch.from_numpy(found.ids), columns)
