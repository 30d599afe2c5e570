"""Sounds with a transcript each: a table, texts beside them, or what the files are called."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dltrain.contracts.data import DataSpec, Field, Labeled
from dltrain.contracts.paths import FilePath
from dltrain.data.audio.alphabet import (
    BLANK_INDEX,
    UNKNOWN_INDEX,
    Alphabet,
    frames_needed,
    plain,
)
from dltrain.data.audio.listing import add_unused
from dltrain.data.audio.rows import Rows, by_folder, of_pattern, of_table, of_texts
from dltrain.data.audio.source import AudioSource
from dltrain.data.images.listing import Unused
from dltrain.data.streams.in_memory import Split
from dltrain.data.streams.ragged import Ragged, RaggedSplit

logger = logging.getLogger(__name__)

SHOWN = 5


class TranscriptSource(AudioSource):
    """Sounds with a text each in a column of what is known of them.

    A text is read letter by letter, after ``replace`` (what stands for what, such as ``{_: " "}``)
    and, with ``lower``, in small letters; Unicode's composed form, and one blank between words.
    With ``tokens="word"`` it is read word by word, where there are few. ``alphabet`` are the
    letters, or the words with blanks between; null: those of the training split. A training
    transcript with others is refused or, by ``unknown``, they are dropped from it and counted; one
    that is evaluated keeps them, and each counts as an error.
    """

    text_column = "text"

    def __init__(
        self,
        path: FilePath,
        tokens: Literal["character", "word"] = "character",
        alphabet: str | None = None,
        unknown: Literal["refuse", "drop"] = "refuse",
        lower: bool = True,
        replace: Mapping[str, str] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(path, **common)
        if self.balance or self.stratify:
            raise ValueError("balance and stratify are for classes, and transcripts are none")
        self.words = tokens == "word"
        self.letters = None if alphabet is None else Alphabet.of(alphabet, self.words)
        self.unknown, self.lower, self.replace = unknown, lower, dict(replace or {})
        if "" in self.replace:
            raise ValueError("replace: an empty text stands nowhere")
        self.known: Alphabet | None = self.letters

    def target(self) -> Field:
        """The letters of the transcript; number 0 is CTC's blank, which pads too."""
        names = self.known.names if self.known else ()
        return Field(
            (None,), "tokens", "target", size=len(names) or None, names=names, fill=BLANK_INDEX
        )

    def texts(self, rows: Rows) -> list[str]:
        """The transcripts as they are learned."""
        column = rows.column(self.text_column, "text")
        return [plain(text, self.lower, self.replace) for text in column]

    def understand(self, parts: Mapping[str, Rows]) -> None:
        """The alphabet. Raises ``ValueError`` naming file and line of letters beyond it."""
        train = parts["train"]
        texts = self.texts(train)
        if not any(texts):
            raise ValueError(f"{train.places[0]}: this transcript is empty, and so are all others")
        self.known = self.letters or Alphabet.learn(texts, self.words)
        beyond = [
            (place, self.known.lacks(text)) for place, text in zip(train.places, texts, strict=True)
        ]
        beyond = [(place, letters) for place, letters in beyond if letters]
        if beyond and self.unknown == "refuse":
            place, letters = beyond[0]
            raise ValueError(
                f"{place}: {letters[0]!r} is not in data.alphabet, and {len(beyond):,} training "
                f"transcripts have such {self._parts}. Add them, map them by "
                "data.replace={old: new}, or set data.unknown=drop."
            )
        if beyond:
            logger.warning(
                "%s that data.alphabet lacks are dropped from %s training transcripts: %s",
                *(self._parts, f"{len(beyond):,}", self._shown(letters for _, letters in beyond)),
            )
        for name, rows in parts.items():
            self._tell(name, rows, self.texts(rows))

    def columns(self, rows: Rows, sounds: Ragged) -> tuple[dict[str, Ragged], dict[str, Tensor]]:
        """The numbers of the letters."""
        assert self.known is not None
        ids = self._encoded(rows)
        self._tell_short(rows, ids, sounds.lengths)
        whole = torch.tensor([one for row in ids for one in row], dtype=torch.int64)
        lengths = torch.tensor([len(row) for row in ids], dtype=torch.int64)
        return {"target": Ragged.joined(whole, lengths, BLANK_INDEX)}, {}

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """The files themselves, and the numbers of their letters, padded (batch, letters)."""
        for name in self.chosen(split):
            rows = self._rows[name]
            ids = [torch.tensor(row, dtype=torch.int64) for row in self._encoded(rows)]
            for first in range(0, len(rows), self.evaluation_batch_size):
                part = slice(first, first + self.evaluation_batch_size)
                yield Labeled(rows.files[part], pad_sequence(ids[part], True, BLANK_INDEX))

    def spec(self, splits: Mapping[str, Split]) -> DataSpec:
        """How often the training split has each letter, too."""
        fields = dict(super().spec(splits).fields)
        train = splits["train"]
        assert isinstance(train, RaggedSplit)
        target = train.ragged["target"]
        counts = torch.zeros(fields["target"].size or 0, dtype=torch.int64)
        for start, length in zip(target.starts.tolist(), target.lengths.tolist(), strict=True):
            counts += target.values[start : start + length].bincount(minlength=len(counts))
        fields["target"] = replace(fields["target"], counts=tuple(counts.tolist()))
        return DataSpec(fields)

    def _encoded(self, rows: Rows) -> list[list[int]]:
        assert self.known is not None
        ids = [self.known.encode(text) for text in self.texts(rows)]
        if rows is self._rows.get("train"):
            ids = [[one for one in row if one != UNKNOWN_INDEX] for row in ids]
        return ids

    def _tell(self, name: str, rows: Rows, texts: list[str]) -> None:
        """What is doubtful in the transcripts of a split."""
        assert self.known is not None
        if empty := [place for place, text in zip(rows.places, texts, strict=True) if not text]:
            logger.warning(
                "%s split: %s transcripts are empty (%s, …).", name, f"{len(empty):,}", empty[0]
            )
        lacking = [self.known.lacks(text) for text in texts]
        if name != "train" and any(lacking):
            logger.warning(
                "%s split: %s transcripts have %s that %s, each an error in any case: %s",
                *(name, f"{sum(map(bool, lacking)):,}", self._parts),
                "data.alphabet lacks" if self.letters else "no training transcript has",
                self._shown(lacking),
            )

    @property
    def _parts(self) -> str:
        return "words" if self.words else "letters"

    def _shown(self, lacking: Iterable[Sequence[str]]) -> str:
        """The first of them, each once."""
        parts = dict.fromkeys(one for own in lacking for one in own)
        return (" " if self.words else "").join(parts)[:40]

    def _tell_short(self, rows: Rows, ids: list[list[int]], lengths: Tensor) -> None:
        """Sounds of fewer frames than their transcript needs: CTC's loss of them is infinite."""
        frames = self.features.lengths(lengths).tolist()
        short = [
            f"{rows.files[row]} ({count} frames, {frames_needed(own)} needed)"
            for row, (own, count) in enumerate(zip(ids, frames, strict=False))
            if frames_needed(own) > count
        ]
        if rows is self._rows.get("train") and len(short) == len(ids):
            raise ValueError(
                f"{short[0]}: this sound is shorter than its transcript, and so are all others to "
                "train on: CTC has no loss of them. Lower data.hop, or see whether the transcripts "
                "belong to the sounds."
            )
        if short:
            listed = "\n  ".join(short[:SHOWN]) + ("\n  …" if len(short) > SHOWN else "")
            logger.warning(
                "%s sounds are shorter than their transcripts, and nothing is learned of them:\n"
                "  %s",
                *(f"{len(short):,}", listed),
            )


class AudioTranscripts(TranscriptSource):
    """Sounds in ``path`` and their transcripts.

    ``transcripts`` is a table with a column of files and one called ``text``; or ``pattern`` is
    what the files are called, such as ``{text}``. Neither: the text of NAME.wav is in NAME.txt, or
    a line of a *.trans.txt in its folder. Files below folders called train, val and test are of
    these splits.

    The other arguments are those of :class:`TranscriptSource` and
    :class:`~dltrain.data.audio.source.AudioSource`.
    """

    def __init__(
        self,
        path: FilePath,
        transcripts: FilePath | None = None,
        pattern: str | None = None,
        text: str = "text",
        **common: Any,
    ) -> None:
        super().__init__(path, **common)
        if transcripts is not None and pattern is not None:
            raise ValueError("transcripts and pattern both say what is spoken: give one of them")
        self.table = None if transcripts is None else Path(transcripts).expanduser()
        self.pattern, self.text_column = pattern, text

    def paths(self) -> list[Path]:
        """The folder, and the table of transcripts."""
        return [self.path, *([] if self.table is None else [self.table])]

    def listed(self) -> dict[str, Rows]:
        """By table, pattern or texts beside the sounds."""
        files = self.files()
        if self.table is not None:
            rows = of_table(self.table, self.path, files, self.unused)
        elif self.pattern is not None:
            rows = of_pattern(self.pattern, files)
        else:
            self.unused = Unused()
            rows, used = of_texts(files, self.text_column, self.unused)
            add_unused(self.path, self.unused, used)
        rows.column(self.text_column, "text")
        divides = self.test_where is not None or self.row_splits.given
        found = {"train": rows} if divides else by_folder(rows, self.path)
        return self.divided(found, torch.zeros(len(found["train"]), dtype=torch.int64))
