"""New texts to translate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dltrain.contracts.data import Batch
from dltrain.contracts.pieces import BYTES
from dltrain.contracts.preprocessing import Preprocessing
from dltrain.data.parallel.split import ids_of
from dltrain.data.text.reader import TOKENIZER, VocabularyReader
from dltrain.data.text.scripts import is_blank
from dltrain.files import read_within

logger = logging.getLogger(__name__)

STRANGE = 0.5
"""A fraction of bytes in a text from which on it is said to be of characters never seen."""


class SourceReader(VocabularyReader):
    """Reads texts by ``tokenizer``, the content of a vocabulary's file, each with its end.

    Of a text that is longer than ``max_length`` tokens the first are kept, and it is told.
    """

    def __init__(self, tokenizer: str, max_length: int) -> None:
        super().__init__(tokenizer)
        self.max_length = max_length

    def read(self, examples: Sequence[Any]) -> Batch:
        """Ids (batch, time) and how many of them are real, (batch,)."""
        texts = self._texts(examples)
        for number, text in enumerate(texts):
            if is_blank(text):
                raise ValueError(f"example {number} is empty: there is nothing to translate")
        rows = ids_of(texts, self.vocabulary)
        self._tell(rows)
        kept = [torch.cat([row[:-1][: self.max_length], row[-1:]]) for row in rows]
        return {
            "input": self.vocabulary.padded(kept),
            "input_length": torch.tensor([len(row) for row in kept]),
        }

    def node(self, folder: Path) -> dict[str, Any]:
        """Write the vocabulary as ``tokenizer.json``."""
        super().node(folder)
        return {"_target_": f"{__name__}.RunReader", "max_length": self.max_length}

    def preprocessing(self) -> Preprocessing | None:
        """A network that is used without dltrain does not translate."""
        return None

    def _tell(self, rows: Sequence[torch.Tensor]) -> None:
        long = sum(len(row) - 1 > self.max_length for row in rows)
        if long:
            logger.warning(
                "%d of %d texts have more than %d tokens: the first are translated.",
                *(long, len(rows), self.max_length),
            )
        names = self.vocabulary.words
        first = names.index(BYTES[0])
        last = first + len(BYTES)
        parts = [((row >= first) & (row < last)).float().mean().item() for row in rows]
        strange = sum(part >= STRANGE for part in parts)
        if strange:
            logger.warning(
                "%d of %d texts are mostly of characters that training did not have.",
                *(strange, len(rows)),
            )


class RunReader(SourceReader):
    """Reads texts by the vocabulary that a run's ``folder`` keeps."""

    def __init__(self, folder: Path, max_length: int) -> None:
        super().__init__(read_within(folder, TOKENIZER).decode(), max_length)
