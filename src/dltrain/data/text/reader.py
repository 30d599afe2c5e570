"""New texts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import Batch, Reader
from dltrain.contracts.preprocessing import Cast, Preprocessing
from dltrain.data.streams.reader import several
from dltrain.data.tables.one_by_one import ENDINGS, is_frame, rows_of
from dltrain.data.text.vocabulary import PAD_INDEX, UNKNOWN_INDEX, Vocabulary
from dltrain.files import lines_of, open_within, read_within

logger = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"


class VocabularyReader(Reader):
    """Reads texts by ``tokenizer``, the content of a :class:`Vocabulary`'s file.

    Of texts that stood in the ``columns`` of a table, an example may be a row instead: a mapping
    with a text for each column.
    """

    example = "text"

    def __init__(self, tokenizer: str, columns: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self.columns = list(columns)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Made when the first text is read."""
        return Vocabulary.parse(self._tokenizer)

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """A ``Path`` is a file: of rows where its ending says so (.csv, .jsonl, …), else of lines.

        An open text file has a text a line. A ``str`` is a text;
        one that ends as a file does is said to be read so.
        """
        for one in inputs:
            if (isinstance(one, Path) and one.suffix.lower() in ENDINGS) or is_frame(one):
                if not self.columns:
                    raise ValueError(
                        f"{one if isinstance(one, Path) else 'a table'}: the run does not know "
                        "which column has the texts; give a file of lines, or a list of texts"
                    )
                yield from rows_of(one)
            elif isinstance(one, Path):
                yield from lines_of(one)
            elif hasattr(one, "readline"):
                yield from _typed(one)
            else:
                if isinstance(one, str) and Path(one).suffix.lower() in (".txt", *ENDINGS):
                    logger.warning("%r is read as a text: there is no such file.", one)
                yield one

    def read(self, examples: Sequence[Any]) -> Batch:
        """Ids (batch, time) and how many of them are real, (batch,).

        Raises ``ValueError`` naming the example that is no text of Unicode.
        """
        texts = self._texts(examples)
        ids = self.vocabulary.rows(texts)
        return {
            "input": self.vocabulary.padded(ids),
            "input_length": torch.tensor([len(row) for row in ids]),
        }

    def node(self, folder: Path) -> dict[str, Any]:
        """Write the vocabulary as ``tokenizer.json``."""
        with open_within(folder, TOKENIZER, "w") as file:
            file.write(self._tokenizer)
        columns = {"columns": self.columns} if self.columns else {}
        return {"_target_": f"{__name__}.TextReader"} | columns

    def preprocessing(self) -> Preprocessing | None:
        """``ids``, int64 (batch, time), padded on the right; the tokenizer's file makes them."""
        outside = {
            "kind": "text",
            "tokenizer": TOKENIZER,
            "pad": PAD_INDEX,
            "empty": UNKNOWN_INDEX,
            "columns": self.columns,
        }
        files = {TOKENIZER: self._tokenizer}
        return Preprocessing("ids", Cast(torch.int64, torch.int64), outside, files)

    def _texts(self, examples: Sequence[Any]) -> list[str]:
        texts = [self._text(number, example) for number, example in enumerate(several(examples))]
        for number, text in enumerate(texts):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"example {number} is {_no_text(error)}") from error
        return texts

    def _text(self, number: int, example: Any) -> str:
        if isinstance(example, str):
            return example
        if not self.columns or not isinstance(example, Mapping):
            rows = f", and no row of {', '.join(self.columns)}" if self.columns else ""
            raise ValueError(f"example {number} is no text{rows}; got {example!r}")
        for name in self.columns:
            if name not in example:
                hint = did_you_mean(name, list(map(str, example)))
                raise ValueError(
                    f"example {number} has no column {name!r}. {hint} It needs "
                    f"{', '.join(self.columns)}.".replace("  ", " ")
                )
            if not isinstance(example[name], str):
                raise ValueError(f"example {number} has no text {name!r}; got {example[name]!r}")
        return joined([example[name] for name in self.columns])


class TextReader(VocabularyReader):
    """Reads texts by the vocabulary that a run's ``folder`` keeps."""

    def __init__(self, folder: Path, columns: Sequence[str] = ()) -> None:
        super().__init__(read_within(folder, TOKENIZER).decode(), columns)


def _typed(file: Iterable[str]) -> Iterator[str]:
    """The lines of an open file, empty ones too. Raises ValueError where it is no UTF-8 text."""
    try:
        yield from (line.rstrip("\r\n") for line in file)
    except UnicodeDecodeError as error:
        found = error.object[error.start]
        raise ValueError(
            f"standard input is no UTF-8 text: it has the byte {found:#04x}"
        ) from error


def _no_text(error: UnicodeEncodeError) -> str:
    """Of a character that is none: a byte of a command line's (PEP 383), or half of a pair."""
    letter = ord(error.object[error.start])
    if 0xDC80 <= letter <= 0xDCFF:
        return f"no UTF-8 text: it has the byte {letter - 0xDC00:#04x}"
    return "no text: it has half of a surrogate pair, which is no character"


def joined(cells: Sequence[str]) -> str:
    """One text of a row's: those that hold anything, with a blank between them."""
    return " ".join(filter(None, (cell.strip() for cell in cells)))
