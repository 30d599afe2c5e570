"""Sounds of single words, joined to strings of words: digits spoken one after the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.data import Labeled
from dltrain.contracts.paths import FilePath
from dltrain.data.audio.rows import Rows, of_pattern
from dltrain.data.audio.transcripts import TranscriptSource
from dltrain.data.streams.ragged import Ragged
from dltrain.errors import UserError

logger = logging.getLogger(__name__)


class AudioStrings(TranscriptSource):
    """Sounds of single words joined to strings, of one speaker each, and their transcripts.

    Of the sounds in ``path``, whose names are of ``pattern``, ``strings`` training strings and
    ``test_strings`` of the test split's sounds are made: each of ``least`` to ``most`` sounds drawn
    with replacement from those of one cell of ``by``, with up to ``pause`` seconds of silence
    before, between and after them. The transcript is the cells of ``word`` with blanks between
    them. The strings are the same for every seed of a run; no sound is in strings of both splits.
    """

    def __init__(
        self,
        path: FilePath,
        pattern: str = "{label}_{speaker}_{index}",
        word: str = "label",
        by: str = "speaker",
        strings: int = 3000,
        test_strings: int = 300,
        least: int = 1,
        most: int = 7,
        pause: float = 0.2,
        **common: Any,
    ) -> None:
        super().__init__(path, **common)
        if self.row_splits.column not in (None, by):
            raise ValueError(f"group is {by!r} or null: sounds of one cell of it are joined")
        if not 1 <= least <= most:
            raise ValueError(f"least and most are rising numbers from 1 on, got {least} and {most}")
        if strings < 1 or test_strings < 1 or pause < 0:
            raise ValueError("strings, test_strings are at least 1, and pause is not negative")
        self.pattern, self.word, self.by = pattern, word, by
        self.counts = {"train": strings, "test": test_strings}
        self.least, self.most, self.pause = least, most, pause

    def listed(self) -> dict[str, Rows]:
        """By pattern; strings are made of what comes of it."""
        rows = of_pattern(self.pattern, self.files())
        for key, name in (("word", self.word), ("by", self.by)):
            rows.column(name, key)
        return self.divided({"train": rows}, torch.zeros(len(rows), dtype=torch.int64))

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """Raise :class:`UserError`: no file has such a string."""
        raise UserError(
            "data=audio_strings makes strings that are in no file: evaluate a run on its own of "
            "them, or on data=audio_transcripts."
        )

    def joined(self, split: str, rows: Rows, sounds: Ragged) -> tuple[Rows, Ragged]:
        """Strings of the split's sounds."""
        assert self.rate is not None
        generator = torch.Generator().manual_seed({"train": 1, "test": 2}[split])
        speakers: dict[str, list[int]] = {}
        for row, cell in enumerate(rows.cells[self.by]):
            speakers.setdefault(cell, []).append(row)
        names = sorted(speakers)
        silence = int(self.pause * self.rate)
        parts: list[Tensor] = []
        lengths, texts, cells, files = [], [], [], []
        for number in range(self.counts[split]):
            own = speakers[names[number % len(names)]]
            count = int(torch.randint(self.least, self.most + 1, (1,), generator=generator))
            chosen = [own[one] for one in torch.randint(len(own), (count,), generator=generator)]
            pauses = torch.randint(silence + 1, (count + 1,), generator=generator).tolist()
            whole = [sounds.values.new_zeros(pauses[0])]
            for row, pause in zip(chosen, pauses[1:], strict=True):
                start, length = int(sounds.starts[row]), int(sounds.lengths[row])
                whole += [sounds.values[start : start + length], sounds.values.new_zeros(pause)]
            parts += whole
            lengths.append(sum(map(len, whole)))
            texts.append(" ".join(rows.cells[self.word][row] for row in chosen))
            cells.append(names[number % len(names)])
            files.append(rows.files[chosen[0]])
        logger.info(
            "%s split: %s strings of %d to %d of %s sounds.",
            *(split, f"{len(texts):,}", self.least, self.most, f"{len(rows):,}"),
        )
        places = [f"string {number} of the {split} split" for number in range(len(texts))]
        joined = Rows(files, {self.text_column: texts, self.by: cells}, places)
        return joined, Ragged.joined(torch.cat(parts), torch.tensor(lengths))
