"""Sources whose examples stay in shards: which files, which splits, and how they are streamed."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dltrain.contracts.data import Labeled, Placement, Source, Stream
from dltrain.contracts.paths import FilePath
from dltrain.data.shards.lanes import Contents
from dltrain.data.shards.order import Deal
from dltrain.data.shards.patterns import files_of, require_apart
from dltrain.data.shards.pieces import Between, Part, Shards
from dltrain.data.shards.stream import ShardStream, Streaming
from dltrain.data.streams.in_memory import Prepare
from dltrain.errors import UserError, require_at_least

logger = logging.getLogger(__name__)

MIB = 1 << 20
Patterns = FilePath | Sequence[FilePath]
"""Of files: a path, or several, in which ``{000..127}``, ``*`` and ``?`` stand for others."""


class ShardSource(Source):
    """Examples in the files that ``path`` means, read while they are trained on.

    ``validation`` and ``test`` are files of the same columns, or fractions of the training files'
    examples: by a hash of the file's name and the row in it, with the run's seed for validation
    alone; 0 sets none aside. ``limit`` is how many examples are trained on at most.

    ``batch_size`` examples are trained on at a time, of all processes together. They are shuffled
    in a buffer of ``buffer`` examples, or as many as have ``buffer_memory`` MiB, from
    ``side_by_side`` places of the shards, or as many as have no more in memory; while one buffer is
    handed out the next one fills.
    ``workers`` threads decode. ``root`` keeps what was learned of the files, so that a later run
    need not read them first.
    """

    def __init__(
        self,
        path: Patterns,
        root: FilePath,
        validation: float | Patterns = 0.1,
        test: float | Patterns = 0.2,
        limit: int | None = None,
        batch_size: int = 64,
        evaluation_batch_size: int = 250,
        buffer: int = 10_000,
        buffer_memory: int = 48,
        side_by_side: int = 8,
        workers: int = 2,
    ) -> None:
        require_at_least(1, limit=1 if limit is None else limit)
        require_at_least(1, batch_size=batch_size, evaluation_batch_size=evaluation_batch_size)
        require_at_least(1, buffer=buffer, buffer_memory=buffer_memory, workers=workers)
        require_at_least(1, side_by_side=side_by_side)
        self.given: dict[str, str | Sequence[str]] = {"train": path}
        self.fractions: dict[str, float] = {}
        for split, value in (("validation", validation), ("test", test)):
            if not isinstance(value, (int, float)):
                self.given[split] = value
            elif 0 <= value < 1:
                self.fractions[split] = float(value)
            else:
                raise ValueError(f"{split} must be a fraction from 0 to below 1, got {value}")
        if sum(self.fractions.values()) >= 1:
            raise ValueError(f"validation and test leave nothing to train on: {self.fractions}")
        self.root, self.limit, self.batch_size = root, limit, batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.buffer, self.buffer_memory = buffer, buffer_memory
        self.side_by_side, self.workers = side_by_side, workers
        self.parts: dict[str, Part] = {}

    @abstractmethod
    def shards(self, key: str, files: Sequence[Path]) -> Shards:
        """What the files of a split hold."""

    @abstractmethod
    def learn(self) -> None:
        """Learn what is to be known, of ``parts``."""

    @abstractmethod
    def contents(self) -> Contents:
        """What rows become, after :meth:`learn`."""

    @abstractmethod
    def prepare(self, device: torch.device) -> Prepare:
        """What turns a decoded batch into the network's input."""

    def opened(self) -> Mapping[str, Shards]:
        """The shards of each split that has files of its own; ``train`` always."""
        files = {
            split: files_of("path" if split == "train" else split, patterns)
            for split, patterns in self.given.items()
        }
        require_apart(files)
        return {
            split: self.shards("path" if split == "train" else split, own)
            for split, own in files.items()
        }

    def divide(self, seed: int) -> None:
        """Open the shards, and tell which examples are of which split."""
        opened = self.opened()
        train = opened["train"]
        fractions = {name: value for name, value in self.fractions.items() if name not in opened}
        test, validation = (fractions.get(split, 0.0) for split in ("test", "validation"))
        rest = Between(test, 1.0)
        fraction = validation / (1 - test)  # of those that are no test examples
        self.parts = {
            "train": Part(train, (rest, Between(fraction, 1.0, seed + 1)), self.limit, seed)
        }
        if fraction:
            self.parts["validation"] = Part(train, (rest, Between(0.0, fraction, seed + 1)))
        if test:
            self.parts["test"] = Part(train, (Between(0.0, test),))
        self.parts |= {s: Part(own) for s, own in opened.items() if s != "train"}
        counts = {split: int(part.counts.sum()) for split, part in self.parts.items()}
        for split, count in counts.items():
            if not count:
                raise UserError(
                    f"data.{'path' if split == 'train' else split}: no example of "
                    f"{train.rows:,} is left for the {split} split; a fraction is drawn by lot."
                )
        logger.info(
            "%d shards of %s examples: %s.",
            len(train.names),
            f"{train.rows:,}",
            ", ".join(f"{split} {count:,}" for split, count in counts.items()),
        )

    def open(self, placement: Placement) -> dict[str, Stream]:
        """One stream a split, of this process's part of it."""
        assert self.parts, "read() comes first"
        deal = Deal(placement.rank, placement.world_size)
        if self.batch_size < deal.world:
            raise UserError(
                f"data.batch_size={self.batch_size} leaves {deal.world} processes without an "
                "example each."
            )
        contents, prepare = self.contents(), self.prepare(placement.device)
        found: dict[str, Stream] = {}
        for split, part in self.parts.items():
            count = int(part.counts.sum())
            training = split == "train"
            if training and count < deal.world:
                raise UserError(f"data: there are {count} examples for {deal.world} processes.")
            size = self.batch_size if training else self.evaluation_batch_size
            how = Streaming(
                min(count, size),
                placement.device,
                prepare,
                placement.seed if training else None,
                self._buffer(part.shards, contents),
                self.side_by_side,
                self.buffer_memory * MIB,
                self.workers,
                deal,
            )
            found[split] = ShardStream(part, contents, how)
        return found

    def _buffer(self, shards: Shards, contents: Contents) -> int:
        """How many examples are shuffled at a time."""
        size = max(shards.row_size, contents.size)
        most = max(self.batch_size, self.buffer_memory * MIB // size)
        if most < min(self.buffer, shards.rows):
            logger.info(
                "%d examples are shuffled at a time, of data.buffer=%d: they have %s bytes each "
                "(data.buffer_memory=%d MiB).",
                *(most, self.buffer, f"{size:,}", self.buffer_memory),
            )
        return min(self.buffer, most)

    def identity(self) -> Mapping[str, Any]:
        """How many examples each split has, and a digest of what was read of its shards."""
        return {
            "splits": {
                split: {
                    "examples": int(part.counts.sum()),
                    "digest": f"{part.shards.digest()} {[(b.low, b.high) for b in part.within]}",
                }
                for split, part in self.parts.items()
            }
        }

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """The rows as they lie, some at a time."""
        if split is not None and split not in self.parts:
            raise UserError(f"this data has no {split} split, but {', '.join(self.parts)}.")
        contents = self.contents()
        for name in self.parts if split is None else [split]:
            part = self.parts[name]
            for number in np.flatnonzero(part.counts).tolist():
                for batch, _ in part.read(number, contents.columns):
                    yield self.labeled_rows(batch)

    @abstractmethod
    def labeled_rows(self, rows: Any) -> Labeled:
        """Some rows as the reader takes them, and their targets."""
