"""Texts and their translations, cut into pieces of words and batched by tokens."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dltrain.contracts.data import DataSpec, Field, Labeled, Reader, Role
from dltrain.contracts.paths import FilePath
from dltrain.data.parallel.files import Pairs, files_of, read_columns, read_files
from dltrain.data.parallel.reader import SourceReader
from dltrain.data.parallel.split import PairsSplit, encoded, groups_of, ids_of
from dltrain.data.streams.division import TEST_SEED, Division, Grouped
from dltrain.data.streams.in_memory import Limits, Prepare, Split
from dltrain.data.streams.ragged import RaggedSplit
from dltrain.data.streams.source import ArraySource
from dltrain.data.text.pieces import FEWEST, learn_pieces
from dltrain.data.text.scripts import is_blank
from dltrain.data.text.vocabulary import PAD_INDEX, Vocabulary
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

TEST = 0.1
"""The fraction set aside as test split where neither the data nor the user has one."""


class ParallelText(ArraySource):
    """Texts in the language ``source`` and what they are in ``target``.

    ``path`` is a folder with files such as ``train.de`` and ``train.en``, packed (``.gz``) or not;
    ``test`` and ``validation`` are then what those of a split are called before the dot. Or it is
    one tab-separated file, ``source`` and ``target`` numbers of its columns from 1, or their names
    in its first line. Where a split has no files, a fraction of the pairs is set aside, the same
    for every seed as test split; pairs with one source text stay together.

    Both sides are cut into pieces of words (:func:`~dltrain.data.text.pieces.learn_pieces`), by a
    vocabulary each or, ``shared``, by one. A pair with an empty side is left out, and so is one to
    train on with a side of more than ``max_length`` tokens; of others the source is cut. All of
    that is counted and told. A batch has at most ``tokens_per_batch`` tokens on its longer side,
    padding included.

    Reading raises ``ValueError`` naming file and line of what cannot be used.
    """

    def __init__(
        self,
        path: FilePath,
        source: str | int,
        target: str | int,
        test: float | str | None = None,
        validation: float | str = 0.1,
        shared: bool = False,
        vocabulary_size: int = 8000,
        lower: bool = False,
        max_length: int = 100,
        tokens_per_batch: int | None = 2000,
        evaluation_tokens: int = 8000,
        batch_size: int | Literal["full"] = "full",
        **common: Any,
    ) -> None:
        aside = 0.1 if isinstance(validation, str) else validation
        super().__init__(batch_size=batch_size, validation=aside, **common)
        if str(source) == str(target):
            raise ValueError(f"source and target are both {source!r}")
        if not isinstance(test, str) and test is not None and not 0 < test < 1:
            raise ValueError(f"test is a fraction between 0 and 1, or a name; got {test}")
        if vocabulary_size < FEWEST:
            raise ValueError(f"vocabulary_size is at least {FEWEST}, got {vocabulary_size}")
        counts = {
            "max_length": max_length,
            "tokens_per_batch": tokens_per_batch,
            "evaluation_tokens": evaluation_tokens,
        }
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if tokens_per_batch is None and batch_size == "full":
            raise ValueError("tokens_per_batch: give it, or batch_size; else nothing is batched")
        self.path = Path(path).expanduser()
        self.languages = (str(source), str(target))
        self.test = test
        self.named = {
            "test": test if isinstance(test, str) else None,
            "validation": validation if isinstance(validation, str) else None,
        }
        self.shared, self.vocabulary_size, self.lower = shared, vocabulary_size, lower
        self.max_length = max_length
        self.tokens_per_batch, self.evaluation_tokens = tokens_per_batch, evaluation_tokens
        self._paths: list[Path] = []
        self._vocabularies: tuple[Vocabulary, Vocabulary] | None = None
        self._counts: list[tuple[int, ...]] = [(), ()]
        self._lines: list[dict[str, Any]] = []

    def outline(self) -> DataSpec:
        """Tokens of two languages; once they are read, the pieces and their counts in training."""
        fields: dict[str, Field] = {}
        roles: tuple[Role, Role] = ("input", "target")
        for place, name in enumerate(roles):
            words = self._vocabularies[place].words if self._vocabularies else []
            fields[name] = Field(
                (None,),
                "tokens",
                name,
                size=len(words) or None,
                names=tuple(words),
                counts=self._counts[place],
                fill=PAD_INDEX,
            )
        return DataSpec(fields, complete=self._vocabularies is not None)

    def splits(self) -> dict[str, Split]:
        found = {name: _without_empty(name, pairs) for name, pairs in self._read().items()}
        if "test" not in found:
            found |= self._aside(found["train"])
        return {name: PairsSplit(pairs) for name, pairs in found.items()}

    def division(self, train: Split) -> Division:
        """Pairs with one source text stay together."""
        assert isinstance(train, PairsSplit)
        groups = groups_of(train.pairs)
        return Grouped(groups) if groups.any() else super().division(train)

    def learn(self, splits: Mapping[str, Split]) -> Mapping[str, Split]:
        """Learn the pieces from the pairs trained on, and encode all of them."""
        texts = {name: part.pairs for name, part in splits.items() if isinstance(part, PairsSplit)}
        self._vocabularies = self._learned(texts["train"])
        parts = {name: self._encoded(name, pairs) for name, pairs in texts.items()}
        train = parts["train"].ragged
        self._counts = [
            tuple(np.bincount(train[side].values.numpy(), minlength=len(vocabulary)).tolist())
            for side, vocabulary in zip(("input", "target"), self._vocabularies, strict=True)
        ]
        return parts

    def prepare(self, device: torch.device) -> Prepare:
        """Nothing is done to ids."""
        return lambda batch, draw: batch

    def training_limits(self) -> Limits:
        """So many tokens, and pairs of one length."""
        examples = None if self.batch_size == "full" else self.batch_size
        return Limits(examples, self.tokens_per_batch, bucket=1)

    def evaluation_limits(self) -> Limits:
        """So many tokens, and at most so many pairs."""
        return Limits(self.evaluation_batch_size, self.evaluation_tokens)

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """Raises :class:`UserError`: the tokens of another run's translations are others."""
        raise UserError(
            "data: translations are evaluated as the run's own data has them; translate a file by "
            "dltrain predict RUN FILE --out FILE."
        )

    def reader(self) -> Reader:
        assert self._vocabularies is not None, "read() comes first"
        return SourceReader(self._vocabularies[0].text, self.max_length)

    def paths(self) -> Sequence[Path]:
        """The files that were read."""
        return self._paths

    def report(self) -> Sequence[Mapping[str, Any]]:
        """A line for each split: its pairs, tokens and lengths."""
        return self._lines

    def _read(self) -> dict[str, Pairs]:
        if self.path.is_dir():
            files = files_of(self.path, *self.languages, self.named)
            self._paths = [path for both in files.values() for path in both]
            return {split: read_files(*both) for split, both in files.items()}
        if named := next((split for split, name in self.named.items() if name), None):
            raise ValueError(f"{named}: a name is of files in a folder, and {self.path} is none")
        self._paths = [self.path]
        return {"train": read_columns(self.path, *self.languages)}

    def _aside(self, pairs: Pairs) -> dict[str, Pairs]:
        """A test split of the pairs, the same whatever the seed."""
        fraction = self.test if isinstance(self.test, float) else TEST
        groups, count = groups_of(pairs), len(pairs)
        if not groups.any():
            raise ValueError(f"{pairs.name} has one source text alone: none is left to test on")
        division = Grouped(groups)
        rows = division.aside(division.order(count, TEST_SEED), round(fraction * count))
        left = ~torch.isin(torch.arange(count), rows)
        logger.info(
            "%s: no test split is given: %s of %s pairs are set aside as one, the same for every "
            "seed; pairs with one source text stay together.",
            *(pairs.name, f"{len(rows):,}", f"{count:,}"),
        )
        return {
            "train": pairs.only(left.nonzero()[:, 0].tolist()),
            "test": pairs.only(rows.sort().values.tolist()),
        }

    def _learned(self, train: Pairs) -> tuple[Vocabulary, Vocabulary]:
        size, lower = self.vocabulary_size, self.lower
        if self.shared:
            both = learn_pieces([*train.sources, *train.targets], size, lower)
            return both, both
        return learn_pieces(train.sources, size, lower), learn_pieces(train.targets, size, lower)

    def _encoded(self, split: str, pairs: Pairs) -> RaggedSplit:
        assert self._vocabularies is not None
        texts = (pairs.sources, pairs.targets)
        sides = [ids_of(t, v) for t, v in zip(texts, self._vocabularies, strict=True)]
        most = self.max_length + 1  # and the end
        long = [max(len(a), len(b)) > most for a, b in zip(*sides, strict=True)]
        if split == "train":
            kept = [row for row, too_long in enumerate(long) if not too_long]
            _tell_long(pairs, long, self.max_length)
            sides = [[side[row] for row in kept] for side in sides]
        else:
            cut = sum(len(row) > most for row in sides[0])
            if cut:
                logger.warning(
                    "%s, %s: %s source texts have more than %s tokens: the first are read "
                    "(data.max_length).",
                    *(pairs.name, split, f"{cut:,}", self.max_length),
                )
            sides[0] = [torch.cat([row[:-1][: most - 1], row[-1:]]) for row in sides[0]]
        self._lines.append(_described(split, pairs, sides))
        return encoded(*sides)


def _without_empty(split: str, pairs: Pairs) -> Pairs:
    sides = zip(pairs.sources, pairs.targets, strict=True)
    kept = [row for row, both in enumerate(sides) if not any(map(is_blank, both))]
    if not kept:
        raise ValueError(f"{pairs.name}: every pair of the split {split!r} has an empty side")
    if len(kept) == len(pairs):
        return pairs
    first = min(set(range(len(pairs))) - set(kept))
    logger.warning(
        "%s, %s: %s pairs with an empty side are left out, the first of them on line %d.",
        *(pairs.name, split, f"{len(pairs) - len(kept):,}", pairs.lines[first]),
    )
    return pairs.only(kept)


def _tell_long(pairs: Pairs, long: Sequence[bool], most: int) -> None:
    count = sum(long)
    if count == len(long):
        raise ValueError(
            f"{pairs.name}: every pair has a side of more than {most} tokens; raise max_length"
        )
    if count:
        logger.warning(
            "%s, train: %s of %s pairs with a side of more than %s tokens are left out, the first "
            "of them on line %d (data.max_length).",
            *(pairs.name, f"{count:,}", f"{len(long):,}", most, pairs.lines[long.index(True)]),
        )


def _described(split: str, pairs: Pairs, sides: Sequence[Sequence[torch.Tensor]]) -> dict[str, Any]:
    lengths = [np.array([len(row) for row in side]) for side in sides]
    found: dict[str, Any] = {"split": split, "pairs": len(sides[0])}
    for name, own in zip(("source", "target"), lengths, strict=True):
        found |= {f"{name} tokens": int(own.sum()), f"longest {name}": int(own.max())}
    logger.info(
        "%s, %s: %s pairs, %s tokens to %s; %.1f to %.1f a pair.",
        *(pairs.name, split, f"{len(sides[0]):,}"),
        *(f"{int(own.sum()):,}" for own in lengths),
        *(float(own.mean()) for own in lengths),
    )
    return found
