"""Sources of sounds: decoded once, batched by length, turned into frames on the device."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, DataSpec, Draw, Field, Reader
from dltrain.contracts.paths import FilePath
from dltrain.data.audio.augment import AudioAugment
from dltrain.data.audio.decode import HIGHEST_RATE, LOWEST_RATE, require_soundfile
from dltrain.data.audio.features import FeatureKind, Features, FeatureSettings, Normalized, real
from dltrain.data.audio.listing import sound_files
from dltrain.data.audio.reader import AudioReader
from dltrain.data.audio.rows import Rows, codes, divided, matching
from dltrain.data.audio.stored import Asked, stored, told
from dltrain.data.images.listing import Unused
from dltrain.data.streams.division import Division, Grouped
from dltrain.data.streams.in_memory import BUCKET, Batching, Limits, Prepare, Split
from dltrain.data.streams.ragged import Ragged, RaggedSplit
from dltrain.data.streams.source import ArraySource
from dltrain.data.tables.dividing import RowSplits
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

EVALUATED_SECONDS = 600
"""Of sound that a batch of evaluation has at most, padding included."""
LEAST_STD = 1e-3
"""Decibels below which a feature does not vary: it is not divided by its std."""


class AudioSource(ArraySource):
    """Sounds in files below ``path``, as frames of features, and a target of each.

    Files of any format that libsndfile reads, any rate and number of channels become samples of
    16 bits of one channel at ``rate`` a second (None: what most files have, at most 16,000), which
    are kept in ``root``'s folder cache for the next run. ``features`` (``logmel`` or ``mfcc``),
    ``mels``, ``coefficients``, ``window``, ``hop``, ``low`` and ``high`` are of
    :class:`~dltrain.data.audio.features.FeatureSettings`: they are computed from batches of samples
    on the device, after ``augment`` has changed these, and normalized by the training split's
    means and stds.

    A sound of more than ``max_seconds`` is refused as one that cannot be read is, or left out and
    counted with ``skip_unreadable``. More than ``memory_limit`` GiB of samples are refused.

    ``test`` is the fraction set aside as test split where none is given, whatever the seed.
    ``test_where`` says which it is instead: columns and patterns that their cells fit
    (:func:`~dltrain.data.audio.rows.matching`); of one column as a text, ``index=[0-4]``, which
    another value on the command line takes the place of. ``group`` is a column whose sounds of one
    cell, such as a speaker's, stay in one split; ``split_column`` one that says train, validation,
    test.

    Reading raises ``ValueError`` naming file and line of what cannot be used.
    """

    def __init__(
        self,
        path: FilePath,
        root: FilePath = "~/.cache/dltrain",
        rate: int | None = None,
        features: FeatureKind = "logmel",
        mels: int = 40,
        coefficients: int = 20,
        window: float = 0.025,
        hop: float = 0.01,
        low: float = 0.0,
        high: float | None = None,
        max_seconds: float | None = 30.0,
        skip_unreadable: bool = False,
        memory_limit: float = 4.0,
        test: float = 0.2,
        test_where: Mapping[str, str | int] | str | None = None,
        group: str | None = None,
        split_column: str | None = None,
        batch_size: int | Literal["full"] = 32,
        evaluation_batch_size: int = 200,
        augment: AudioAugment | None = None,
        **common: Any,
    ) -> None:
        super().__init__(
            root=root, batch_size=batch_size, evaluation_batch_size=evaluation_batch_size, **common
        )
        if rate is not None and not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"rate must be from {LOWEST_RATE:,} to {HIGHEST_RATE:,}, got {rate:,}")
        if max_seconds is not None and max_seconds <= 0:
            raise ValueError(f"max_seconds must be above 0, got {max_seconds}")
        if memory_limit <= 0:
            raise ValueError(f"memory_limit must be above 0, got {memory_limit}")
        if not 0 < test < 1:
            raise ValueError(f"test is a fraction between 0 and 1, got {test}")
        if isinstance(test_where, str):
            column, found, cells = test_where.partition("=")
            if not (column and found and cells):
                raise ValueError(f"test_where is COLUMN=PATTERN as one text, got {test_where!r}")
            test_where = {column: cells}
        if test_where is not None and (not test_where or split_column is not None):
            raise ValueError("test_where names columns and their cells, without split_column")
        self.settings = FeatureSettings(features, mels, coefficients, window, hop, low, high)
        if rate is not None:
            Features(self.settings, rate, torch.device("cpu"))
        self.path = Path(path).expanduser()
        self.test, self.test_where = test, test_where
        self.row_splits = RowSplits(group, None, split_column)
        self.augment = augment or AudioAugment()
        self.asked = Asked(rate, max_seconds, skip_unreadable, memory_limit)
        self.unused = Unused()
        self.rate: int | None = rate
        self._features: Features | None = None
        self._mean: list[float] = []
        self._std: list[float] = []
        self._groups: Tensor | None = None
        self._rows: dict[str, Rows] = {}

    @abstractmethod
    def listed(self) -> dict[str, Rows]:
        """The sounds of each split, ``train`` and ``test`` at least, and what is known of them."""

    @abstractmethod
    def understand(self, parts: Mapping[str, Rows]) -> None:
        """Learn from the training rows what the targets are: names of classes, an alphabet."""

    @abstractmethod
    def columns(self, rows: Rows, sounds: Ragged) -> tuple[dict[str, Ragged], dict[str, Tensor]]:
        """The columns of the targets: those of different lengths, and those of one shape."""

    @abstractmethod
    def target(self) -> Field:
        """The field ``target``, as far as it is known."""

    def joined(self, split: str, rows: Rows, sounds: Ragged) -> tuple[Rows, Ragged]:
        """The examples that are made of the sounds of a split: each is one."""
        return rows, sounds

    def paths(self) -> list[Path]:
        """The folder."""
        return [self.path]

    def outline(self) -> DataSpec:
        """Frames of a known size; once they are read, their means and stds, and the target."""
        rate = self._features.frames_per_second if self._features else None
        return DataSpec(
            {
                "input": Field(
                    (None, self.settings.size),
                    "audio",
                    "input",
                    fill=0.0,
                    mean=tuple(self._mean),
                    std=tuple(self._std),
                    rate=rate,
                ),
                "target": self.target(),
                "sound": Field((None,), "audio", "other", fill=0, rate=self.rate),
            },
            complete=self._features is not None,
        )

    def files(self) -> list[Path]:
        """All sounds below the folder. Raises ``ValueError`` where there is none."""
        self.require_folder()
        try:
            found = list(sound_files(self.path, self.unused))
        except OSError as error:
            raise UserError(f"data.path: {error.filename}: {error.strerror}") from error
        if not found:
            rest = f": {self.unused}" if self.unused.counts else ""
            raise ValueError(f"{self.path} has no sound{rest}")
        return found

    def require_folder(self) -> None:
        """Raise ``ValueError`` unless the path is one."""
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is no folder")

    def divided(self, found: dict[str, Rows], classes: Tensor) -> dict[str, Rows]:
        """``found``, with a test split taken from its training rows where there is none.

        ``classes`` are those of the training rows (rows,), of which each gives its fraction.
        """
        train, others = found["train"], {n: rows for n, rows in found.items() if n != "train"}
        if self.test_where is not None:
            if "test" in found:
                raise ValueError(f"test_where: {self.path} has a test split of its own")
            kept, aside = matching(train, self.test_where)
            return {"train": train.only(kept), **others, "test": train.only(aside)}
        given = "test" in found
        parts = divided(train, self.row_splits, classes, None if given else self.test)
        if twice := parts.keys() & others.keys():
            raise ValueError(f"{self.path} and a column both name the split {min(twice)!r}")
        if not given and self.row_splits.column is None:
            logger.info(
                "no test split is given: %s of %s sounds are set aside as one, the same for every "
                "seed.",
                *(f"{len(parts['test']):,}", f"{len(train):,}"),
            )
        return parts | others

    def splits(self) -> dict[str, Split]:
        require_soundfile()
        self.unused = Unused()
        listed = self.listed()
        assert self.root is not None
        folder = Path(self.root).expanduser() / "cache"
        files = {name: rows.files for name, rows in listed.items()}
        self.rate, found = stored(folder, files, self.asked)
        self._features = Features(self.settings, self.rate, torch.device("cpu"))
        if self.unused.counts:
            level = logging.WARNING if self.unused.images else logging.INFO
            logger.log(level, "not used: %s", self.unused)
        for level, line in told(str(self.path), self.rate, found):
            logger.log(level, "%s", line)
        sounds: dict[str, Ragged] = {}
        for name, part in found.items():
            if not part.rows:
                raise UserError(f"data: no sound is left for the split {name!r}.")
            kept = listed[name].only(part.rows)
            self._rows[name], sounds[name] = self.joined(name, kept, part.sounds)
        train = self._rows["train"]
        if self.row_splits.group is not None:
            self._groups = codes(train.column(self.row_splits.group, "group"))
        self.understand(self._rows)
        splits: dict[str, Split] = {}
        for name, own in sounds.items():
            ragged, columns = self.columns(self._rows[name], own)
            splits[name] = RaggedSplit({"sound": own, **ragged}, columns)
        return splits

    def division(self, train: Split) -> Division:
        """By the groups of the sounds, where there are some."""
        return super().division(train) if self._groups is None else Grouped(self._groups)

    def learn(self, splits: Mapping[str, Split]) -> Mapping[str, Split]:
        """The mean and std of each feature over the frames trained on."""
        features = self.features
        as_it_is = Batching(
            self.evaluation_limits(), torch.device("cpu"), lambda batch, draw: batch
        )
        total = torch.zeros(self.settings.size, dtype=torch.float64)
        squares, count = torch.zeros_like(total), 0
        for batch in splits["train"].stream(as_it_is).plain():
            frames = features(batch["sound"])
            own = frames[real(features.lengths(batch["sound_length"]), frames.shape[1])].double()
            total += own.sum(0)
            squares += own.square().sum(0)
            count += len(own)
        mean = total / count
        std = (squares / count - mean.square()).clamp_min(0).sqrt()
        self._mean = mean.tolist()
        self._std = std.where(std > LEAST_STD, 1.0).tolist()
        return splits

    @property
    def features(self) -> Features:
        """What makes frames of samples, on the CPU; after :meth:`splits`."""
        assert self._features is not None, "read() comes first"
        return self._features

    def prepare(self, device: torch.device) -> Prepare:
        """Change the samples of training sounds, make frames of all, change those trained on."""
        assert self.rate is not None
        fields = self.outline().fields
        sound, frame = {"sound": fields["sound"]}, {"input": fields["input"]}
        self.augment.check(fields)
        features = Features(self.settings, self.rate, device)
        normalized = Normalized(features, self._mean, self._std, device)

        def prepare(batch: Batch, draw: Draw | None) -> Batch:
            if draw is not None:
                batch = self.augment(batch, draw, sound)
            frames, lengths = normalized(batch["sound"], batch["sound_length"])
            batch = {"input": frames, "input_length": lengths} | batch
            if draw is None:
                return batch
            changed = self.augment(batch, draw, frame)
            return {n: c for n, c in changed.items() if n not in ("sound", "sound_length")}

        return prepare

    def training_limits(self) -> Limits:
        return replace(super().training_limits(), bucket=BUCKET * self.features.hop)

    def evaluation_limits(self) -> Limits:
        """So many sounds, and at most so many samples."""
        assert self.rate is not None
        return Limits(self.evaluation_batch_size, EVALUATED_SECONDS * self.rate)

    def chosen(self, split: str | None) -> list[str]:
        """The splits that are meant. Raises :class:`UserError` where there is no such one."""
        if split is not None and split not in self._rows:
            raise UserError(f"these sounds have no {split} split, but {', '.join(self._rows)}.")
        return list(self._rows) if split is None else [split]

    def reader(self) -> Reader:
        assert self.rate is not None
        return AudioReader(
            self.rate,
            self._mean,
            self._std,
            max_seconds=self.asked.max_seconds,
            **{("features" if n == "kind" else n): v for n, v in vars(self.settings).items()},
        )
