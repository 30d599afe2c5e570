"""New texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dltrain.contracts.data import Batch, Reader
from dltrain.data.streams.reader import several
from dltrain.data.text.vocabulary import Vocabulary

TOKENIZER = "tokenizer.json"


class VocabularyReader(Reader):
    """Reads texts by ``tokenizer``, the content of a :class:`Vocabulary`'s file."""

    def __init__(self, tokenizer: str) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Made when the first text is read."""
        return Vocabulary.parse(self._tokenizer)

    def read(self, examples: Sequence[Any]) -> Batch:
        """Ids (batch, time) and how many of them are real, (batch,)."""
        texts = several(examples)
        wrong = next((n for n, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise ValueError(f"example {wrong} is no text; got {examples[wrong]!r}")
        ids = self.vocabulary.rows(examples)
        return {
            "input": self.vocabulary.padded(ids),
            "input_length": torch.tensor([len(row) for row in ids]),
        }

    def node(self, folder: Path) -> dict[str, Any]:
        """Write the vocabulary as ``tokenizer.json``."""
        (folder / TOKENIZER).write_text(self._tokenizer, encoding="utf-8")
        return {"_target_": f"{__name__}.TextReader"}


class TextReader(VocabularyReader):
    """Reads texts by the vocabulary that a run's ``folder`` keeps."""

    def __init__(self, folder: Path) -> None:
        super().__init__((folder / TOKENIZER).read_text(encoding="utf-8"))
