"""Anyone's own text as one stream of tokens, for language models."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch

from dltrain.contracts.data import (
    DataSpec,
    Field,
    Labeled,
    Placement,
    Reader,
    Source,
    Stream,
)
from dltrain.contracts.paths import FilePath
from dltrain.contracts.pieces import BLANK
from dltrain.data.identity import describe
from dltrain.data.streams.lanes import Lanes, LaneStream, Scored, ScoredStream
from dltrain.data.text.lossless import (
    SIZES,
    encode_lossless,
    learn_lossless,
    least_size,
)
from dltrain.data.text.plain_text import read_plain_text
from dltrain.data.text.reader import VocabularyReader
from dltrain.data.text.untrained import StreamTokens
from dltrain.data.text.vocabulary import PAD_INDEX, UNKNOWN_INDEX, Vocabulary
from dltrain.errors import UserError, require_at_least

logger = logging.getLogger(__name__)

MANY = 0.02
"""A fraction of unknown tokens that is worth a warning."""
FEWEST = 2
"""Tokens of a split: one is read, and one predicted."""


@dataclass(frozen=True)
class Stretch:
    """A split: its ``text`` and the ``ids`` (tokens,) int32 of it."""

    text: str
    ids: npt.NDArray[np.int32]

    @property
    def unknown(self) -> int:
        """Tokens that the vocabulary lacks."""
        return int((self.ids == UNKNOWN_INDEX).sum())

    def scored(self, scored: int, context: int, rows: int) -> Scored:
        """How it is evaluated."""
        count, size = len(self.ids), len(self.text.encode("utf-8"))
        return Scored(scored, context, rows, len(self.text) / count, size / count)


class TextFile(Source):
    """The text of a UTF-8 file, to be predicted token by token; its end is held out.

    ``test`` and ``validation`` are fractions of the text, its end and what stands before that, a
    number of characters, or other files; 0 holds nothing out. ``tokens`` are characters, words
    (blanks and punctuation among them, so that nothing is lost) or, by byte-pair encoding, pieces
    of words. The ``vocabulary_size`` most frequent of the training text are known (None: all
    characters, 20,000 words, 4,000 pieces), but none that occurs fewer than ``min_frequency``
    times there.

    A batch has ``batch_size`` lanes, each of which reads on where it was a step ago, a ``window``
    of tokens at a time (truncated backpropagation through time). In an evaluation every token is
    scored once, in rows of at most ``evaluation_window`` tokens (None: as in training), of which
    the first ``evaluation_context`` (None: half) are read only: ``evaluation_batch_size`` rows at
    a time.

    Reading raises ``ValueError`` for what is no text, and where it is too short to be divided.
    """

    def __init__(
        self,
        path: FilePath,
        test: float | FilePath = 0.1,
        validation: float | FilePath = 0.1,
        tokens: StreamTokens = "character",
        vocabulary_size: int | None = None,
        min_frequency: int = 1,
        window: int = 128,
        batch_size: int = 64,
        evaluation_window: int | None = None,
        evaluation_context: int | None = None,
        evaluation_batch_size: int = 64,
    ) -> None:
        require_at_least(
            1,
            window=window,
            batch_size=batch_size,
            min_frequency=min_frequency,
            evaluation_batch_size=evaluation_batch_size,
        )
        least = least_size(tokens)
        if vocabulary_size is not None and vocabulary_size < least:
            raise ValueError(
                f"vocabulary_size must be at least {least} with tokens={tokens}, got "
                f"{vocabulary_size}"
            )
        self.files = {"train": Path(path).expanduser()}
        self.held_out: dict[str, float] = {}
        for split, value in (("test", test), ("validation", validation)):
            if isinstance(value, str):
                self.files[split] = Path(value).expanduser()
            elif value < 0:
                raise ValueError(f"{split} must be >= 0, got {value}")
            elif value >= 1 and isinstance(value, float):
                raise ValueError(f"{split} is a fraction below 1 or a whole number, got {value}")
            else:
                self.held_out[split] = value
        row = window if evaluation_window is None else evaluation_window
        context = row // 2 if evaluation_context is None else evaluation_context
        require_at_least(1, evaluation_window=row)
        if not 0 <= context < row:
            raise ValueError(
                f"evaluation_context must be from 0 to below evaluation_window, {row}; got "
                f"{context}"
            )
        self.tokens: StreamTokens = tokens
        self.vocabulary_size = vocabulary_size or SIZES[tokens]
        self.min_frequency = min_frequency
        self.window, self.batch_size = window, batch_size
        self._evaluation = (row - context, context, evaluation_batch_size)
        self._vocabulary: Vocabulary | None = None
        self._splits: dict[str, Stretch] = {}
        self._lanes: Lanes | None = None

    def outline(self) -> DataSpec:
        """Tokens, and the same one on; once they are read, the vocabulary and its counts."""
        words: Sequence[str] = () if self._vocabulary is None else self._vocabulary.words
        counts: Sequence[int] = ()
        if words:
            counts = np.bincount(self._splits["train"].ids, minlength=len(words)).tolist()
        window = (self._lanes.window if self._lanes else self.window,)
        names, size = tuple(words), len(words) or None
        return DataSpec(
            {
                "input": Field(
                    window, "tokens", "input", size, names, tuple(counts), fill=PAD_INDEX
                ),
                "target": Field(window, "tokens", "target", size, fill=PAD_INDEX),
            },
            complete=bool(words),
        )

    def read(self, seed: int) -> DataSpec:
        """Divide the text, learn the vocabulary of its training part, and encode all of it."""
        texts = {split: self._text(path) for split, path in self.files.items()}
        texts = self._divided(texts.pop("train")) | texts
        train = texts["train"]
        if not train:
            self._too_short("train", len(train))
        if len(set(train)) == 1:
            logger.warning(
                "%s: the training text is one character, repeated: there is nothing to learn.",
                self.files["train"],
            )
        found = learn_lossless(train, self.tokens, self.vocabulary_size, self.min_frequency)
        self._vocabulary = found
        self._splits = {
            split: Stretch(text, encode_lossless(found, text, self.tokens))
            for split, text in texts.items()
        }
        for split, stretch in self._splits.items():
            if len(stretch.ids) < FEWEST:
                self._too_short(split, len(stretch.text))
        self._lanes = Lanes.of(len(self._splits["train"].ids), self.batch_size, self.window)
        self._tell()
        return self.outline()

    def open(self, placement: Placement) -> dict[str, Stream]:
        """Lanes of the training text; of the others rows that stand for themselves."""
        assert self._lanes is not None, "read() comes first"
        streams: dict[str, Stream] = {}
        for split, stretch in self._splits.items():
            ids = torch.from_numpy(stretch.ids)
            if split == "train":
                streams[split] = LaneStream(ids, self._lanes, placement.device, placement.seed)
            else:
                how = stretch.scored(*self._evaluation)
                streams[split] = ScoredStream(ids, how, PAD_INDEX, placement.device)
        return streams

    def ids(self, split: str) -> npt.NDArray[np.int32]:
        """The tokens of a split (tokens,), after :meth:`read`."""
        return self._splits[split].ids

    def reader(self) -> Reader:
        """Of prompts, and of texts whose probability is asked for."""
        assert self._vocabulary is not None, "read() comes first"
        return VocabularyReader(self._vocabulary.text)

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """None: a text has no examples, and its tokens are numbered as its own run's are."""
        raise UserError(
            "data: another text is tokenized by its own vocabulary. dltrain predict RUN FILE "
            "says how probable its lines are to a run."
        )

    def identity(self) -> Mapping[str, Any]:
        """How many characters each split has, a digest of them, and the files they are from."""
        splits = {
            split: {
                "examples": len(stretch.text),
                "digest": hashlib.blake2b(stretch.text.encode(), digest_size=16).hexdigest(),
            }
            for split, stretch in self._splits.items()
        }
        return {"splits": splits, "files": describe(self.files.values())}

    def report(self) -> Sequence[Mapping[str, Any]]:
        """A line for each split."""
        return [
            {
                "split": split,
                "characters": len(stretch.text),
                "bytes": len(stretch.text.encode()),
                "tokens": len(stretch.ids),
                "unknown": stretch.unknown,
            }
            for split, stretch in self._splits.items()
        ]

    def _text(self, path: Path) -> str:
        text = read_plain_text(path)
        marks = text.count(BLANK)
        if marks:
            logger.warning(
                "%s: %s times the character %s (U+2581), which is read as a blank.",
                *(path, f"{marks:,}", BLANK),
            )
        return text.replace(BLANK, " ")

    def _divided(self, text: str) -> dict[str, str]:
        """The held-out parts of ``text`` are at its end: the test split last."""
        found: dict[str, str] = {}
        for split, wanted in self.held_out.items():
            if wanted:
                end = int(len(text) * (1 - wanted)) if wanted < 1 else len(text) - int(wanted)
                if not 0 < end < len(text):
                    self._too_short(split, len(text) - max(0, end))
                text, found[split] = text[:end], text[end:]
        return {"train": text} | dict(reversed(found.items()))

    def _too_short(self, split: str, characters: int) -> NoReturn:
        path = self.files.get(split, self.files["train"])
        count = f"{characters:,} character{'' if characters == 1 else 's'}"
        raise ValueError(
            f"{path}: the text is too short: {split} would have {count}, and a split needs "
            f"{FEWEST} tokens. Set data.test=0 or data.validation=0 to hold nothing out, or give "
            "files of their own."
        )

    def _tell(self) -> None:
        """Log what was read, and what of it is unknown or left over."""
        assert self._vocabulary is not None
        assert self._lanes is not None
        lanes = self._lanes
        parts = [f"{split} {len(stretch.ids):,}" for split, stretch in self._splits.items()]
        logger.info(
            "%s: %s tokens of a vocabulary of %s (%s).",
            *(self.files["train"].name, " + ".join(parts), f"{len(self._vocabulary):,}"),
            self.tokens,
        )
        if (lanes.lanes, lanes.window) != (self.batch_size, self.window):
            logger.warning(
                "the training text is short: a batch has %d x %d tokens, and not %d x %d.",
                *(lanes.lanes, lanes.window, self.batch_size, self.window),
            )
        if lanes.slack:
            logger.info(
                "an epoch leaves out %s training tokens (%.1f %%), others each time.",
                *(f"{lanes.slack:,}", 100 * lanes.slack / len(self._splits["train"].ids)),
            )
        for split, stretch in self._splits.items():
            if stretch.unknown:
                fraction = stretch.unknown / len(stretch.ids)
                logger.log(
                    logging.WARNING if fraction >= MANY else logging.INFO,
                    "%s: %s of %s tokens (%.2f %%) are unknown: their letters cost nothing in "
                    "bits_per_character and bits_per_byte.",
                    *(split, f"{stretch.unknown:,}", f"{len(stretch.ids):,}", 100 * fraction),
                )
