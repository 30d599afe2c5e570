"""Ratings: pairs of a user and an item, and mostly a value of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import DataSpec, Field, Labeled, Reader
from dltrain.contracts.paths import FilePath, PathInRoot
from dltrain.contracts.pieces import UNKNOWN
from dltrain.data.ratings.cleaning import (
    Duplicates,
    only_liked,
    require_within,
    without_duplicates,
    without_tested,
)
from dltrain.data.ratings.dividing import By, aside, in_time, last_of_each
from dltrain.data.ratings.files import Columns, read_ratings
from dltrain.data.ratings.interactions import Interactions, together
from dltrain.data.ratings.reader import RatingReader
from dltrain.data.ratings.titles import read_titles
from dltrain.data.streams.division import Division, Ordered
from dltrain.data.streams.in_memory import InMemory, Prepare, Split
from dltrain.data.streams.source import ArraySource
from dltrain.data.tables.values import sorted_levels
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

FEWEST = 2
"""Users, and items."""
SIDES = ("user", "item")


class Ratings(ArraySource):
    """Rows of a user, an item, a value and a time, in ``path``: csv, tsv, Parquet, JSON lines.

    ``user``, ``item``, ``value`` and ``time`` are the columns, None: those that are called as
    usual. A file without names, such as MovieLens' ``u.data``, has them in this order; ``header``
    names them otherwise. Users and items are texts, whatever they look like.

    ``test`` is a fraction of the rows, or a second file, whose pairs are not trained on if they are
    in ``path``, too. ``split`` says which rows are set aside: any, the last by time, or the last of
    each user (``leave_one_out``), and before that as validation split the last but one. What
    training does not have of users and items is number 0, and told.

    ``duplicates`` is what happens to a pair that stands there twice, ``missing`` to a row without
    user, item, value or time: refuse or drop. ``range`` are the least and greatest value, None:
    those of the training split. Rows of a value of at least ``positive`` alone are used, if that is
    given: what users like, for ``task=ranking``. ``titles`` is a file of what items are called.

    Reading raises ``ValueError`` naming file and row of what cannot be used.
    """

    def __init__(
        self,
        path: PathInRoot,
        user: str | None = None,
        item: str | None = None,
        value: str | None = None,
        time: str | None = None,
        header: Sequence[str] | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        test: float | PathInRoot = 0.2,
        split: By = "random",
        duplicates: Duplicates = "refuse",
        missing: Literal["refuse", "drop"] = "refuse",
        range: Sequence[float] | None = None,
        positive: float | None = None,
        titles: PathInRoot | None = None,
        root: FilePath | None = None,
        **common: Any,
    ) -> None:
        super().__init__(root=root, **common)
        folder = Path(root or ".").expanduser()
        self.files = {"train": folder / Path(path).expanduser()}
        if isinstance(test, str):
            self.files["test"] = folder / Path(test).expanduser()
        elif not 0 < test < 1:
            raise ValueError(f"test is a fraction between 0 and 1, or a second file; got {test}")
        self.test = test
        if split == "leave_one_out" and self.folds is not None:
            raise ValueError("folds: with split=leave_one_out a rating of each user is set aside")
        if range is not None and (len(range) != 2 or not range[0] < range[1]):
            raise ValueError(f"range is the least and the greatest value, got {list(range)}")
        names = {"user": user, "item": item, "value": value, "time": time}
        given = [name for name in names.values() if name is not None]
        if len(set(given)) < len(given):
            raise ValueError(f"user, item, value and time are columns of their own, got {given}")
        if header is not None and (not header or len(set(header)) < len(header)):
            raise ValueError(f"header is a different name for each column, got {list(header)}")
        self._columns = Columns(names, header, separator, encoding, missing)
        self.split, self.duplicates = split, duplicates
        self.range, self.positive = range, positive
        self.titles = None if titles is None else folder / Path(titles).expanduser()
        self._fields: dict[str, Field] = {}
        self._read: dict[str, Interactions] = {}
        self._known: np.ndarray[Any, Any] | None = None
        self._titles: list[str] = []
        self._lines: list[dict[str, Any]] = []

    def outline(self) -> DataSpec:
        """Two categories and a number; once they are read, their names and counts."""
        sides = {name: Field((), "category", "input") for name in SIDES}
        target = {"target": Field((1,), "number", "target")}
        found = self._fields or {**sides, **target}
        return DataSpec(found, complete=bool(self._fields))

    def splits(self) -> dict[str, Split]:
        """Read the files, and set a test split aside where there is none."""
        columns = replace(self._columns, valued=self.target_needed)
        parts = {}
        for name, path in self.files.items():
            with _about("path" if name == "train" else name):
                parts[name] = self._cleaned(read_ratings(path, columns))
        parts = dict(zip(parts, together(list(parts.values())), strict=True))
        with _about("path"):
            self._read = self._divided(parts)
            self._require_some(self._read["train"])
        parts = self._read
        return {name: InMemory(_columns_of(part)) for name, part in parts.items()}

    def division(self, train: Split) -> Division:
        """By time, where that is asked for; else at random."""
        return Ordered() if self.split == "time" else Division()

    def learn(self, splits: Mapping[str, Split]) -> Mapping[str, Split]:
        """Number the users and items that are trained on; all others are 0."""
        train = splits["train"]
        names = {"user": self._read["train"].user_names, "item": self._read["train"].item_names}
        found: dict[str, dict[str, Tensor]] = {name: {} for name in splits}
        for side in SIDES:
            codes = train.columns[side].unique().tolist()
            known = sorted_levels([names[side][code] for code in codes])
            index = {name: number for number, name in enumerate(known, 1)}
            table = torch.tensor([index.get(name, 0) for name in names[side]])
            for name, split in splits.items():
                found[name][side] = table[split.columns[side]]
            counts = found["train"][side].bincount(minlength=len(known) + 1)
            self._fields[side] = Field(
                *((), "category", "input", len(known) + 1, (UNKNOWN, *known)),
                counts=tuple(counts.tolist()),
            )
        for name, split in splits.items():
            found[name]["target"] = split.columns["target"]
        self._fields |= self._target(train.columns["target"])
        rated = [torch.stack([found[n][s] for s in SIDES], 1) for n in found if n != "test"]
        pairs = torch.cat(rated)
        self._known = pairs[(pairs > 0).all(1)].numpy()
        if self.titles is not None:
            with _about("titles"):
                self._titles = read_titles(self.titles, self._fields["item"].names[1:])
        self._lines = [_described(name, columns) for name, columns in found.items()]
        return {name: InMemory(columns) for name, columns in found.items()}

    def prepare(self, device: torch.device) -> Prepare:
        """Nothing is done to numbers."""
        return lambda batch, draw: batch

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """Pairs by their names, and their values."""
        parts = {name: self._read[name] for name in self.names(split) if name in self._read}
        for part in parts.values():
            columns = _columns_of(part)
            pairs = zip(part.users.tolist(), part.items.tolist(), strict=True)
            named = [(part.user_names[user], part.item_names[item]) for user, item in pairs]
            yield Labeled(named, columns["target"])

    def reader(self) -> Reader:
        users, items = (self._fields[side].names[1:] for side in SIDES)
        user, item = (self._columns.names[side] or side for side in SIDES)
        return RatingReader(user, item, users, items, self._titles, self._known)

    def paths(self) -> Sequence[Path]:
        """The files that were read."""
        return [*self.files.values(), *([self.titles] if self.titles else [])]

    def report(self) -> Sequence[Mapping[str, Any]]:
        """A line for each split: its ratings, users and items, and how many are new."""
        return self._lines

    def _cleaned(self, found: Interactions) -> Interactions:
        if self.range is not None:
            require_within(found, self.range)
        # Of what a user said twice it is the one that counts which is liked or not.
        found = without_duplicates(found, self.duplicates)
        return found if self.positive is None else only_liked(found, self.positive)

    def _divided(self, parts: Mapping[str, Interactions]) -> dict[str, Interactions]:
        """What is trained on, and what of it is set aside where there is no file of it."""
        found = dict(parts)
        train = found["train"]
        if self.split == "time":
            train = in_time(train)
        if "test" in found:
            train = without_tested(train, found["test"])
        else:
            assert isinstance(self.test, float)
            train, found["test"] = aside(train, self.split, self.test)
        if self.split == "leave_one_out" and self.validation:
            train, found["validation"] = last_of_each(train, "validation")
        return found | {"train": train}

    def _require_some(self, train: Interactions) -> None:
        """Refuse what no recommender can learn from."""
        for side, codes in zip(SIDES, (train.users, train.items), strict=True):
            if len(np.unique(codes)) < FEWEST:
                raise ValueError(
                    f"{train.name}: all ratings are of one {side}; it takes several to learn which "
                    "are alike"
                )
        if self.target_needed and train.values is not None and np.ptp(train.values) == 0:
            raise ValueError(
                f"{train.name}: every value is {train.values[0]:g}: there is nothing to predict; "
                "task=ranking learns which pairs there are"
            )

    def _target(self, values: Tensor) -> dict[str, Field]:
        """The field of the values, of those that are trained on; none where the file has none."""
        if self._read["train"].values is None:
            return {}
        exact = values.double()
        low, high = self.range or (float(exact.min()), float(exact.max()))
        std = float(exact.std(unbiased=False))
        target = Field((1,), "number", "target", low=(low,), high=(high,))
        if std > 0:
            target = replace(target, mean=(float(exact.mean()),), std=(std,))
        return {"target": target}


@contextmanager
def _about(argument: str) -> Iterator[None]:
    """What is refused in here is told of that argument."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from error


def _columns_of(part: Interactions) -> dict[str, Tensor]:
    values = np.ones(len(part)) if part.values is None else part.values
    return {
        "user": torch.from_numpy(part.users).long(),
        "item": torch.from_numpy(part.items).long(),
        "target": torch.from_numpy(values).float()[:, None],
    }


def _described(split: str, columns: Mapping[str, Tensor]) -> dict[str, Any]:
    count = len(columns["target"])
    found: dict[str, Any] = {"split": split, "ratings": count}
    for side in SIDES:
        found[f"{side}s"] = len(columns[side].unique())
    if split == "train":
        density = count / (found["users"] * found["items"])
        logger.info(
            "train: %s ratings of %s users and %s items, %.3g %% of all pairs.",
            *(f"{count:,}", f"{found['users']:,}", f"{found['items']:,}", 100 * density),
        )
        return found
    for side in SIDES:
        found[f"of new {side}s"] = int((columns[side] == 0).sum())
    cold = int(((columns["user"] == 0) | (columns["item"] == 0)).sum())
    if cold:
        logger.info(
            "%s: %s of %s ratings (%.2g %%) are of a user or an item that training does not have: "
            "what is known of the other decides.",
            *(split, f"{cold:,}", f"{count:,}", 100 * cold / count),
        )
    return found
