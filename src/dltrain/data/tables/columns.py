"""Anyone's own table: named columns, made into feature vectors and a target."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.data import DataSpec, Field, Labeled, Reader
from dltrain.contracts.transforms import TRANSFORMS
from dltrain.data.streams.division import Division
from dltrain.data.streams.in_memory import InMemory, Prepare, Split
from dltrain.data.tables.deciding import Deciding
from dltrain.data.tables.dividing import RowSplits
from dltrain.data.tables.encoding import is_constant
from dltrain.data.tables.features import Block, Encoding
from dltrain.data.tables.media import Media, MissingImages
from dltrain.data.tables.media_reader import MediaReader
from dltrain.data.tables.missing import Missing, rows_to_use
from dltrain.data.tables.parse import Numbers, Texts
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.reader import TableReader
from dltrain.data.tables.report import Report
from dltrain.data.tables.rows import TableRows
from dltrain.data.tables.source import TableSource, require_values, target_field
from dltrain.data.tables.targets import targets_of
from dltrain.data.tables.values import MISSING, CellFormat
from dltrain.data.text.scripts import Tokens
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

NONE = "(none of them)"
"""What index 0 of an embedded column is called."""


class ColumnsTable(TableSource):
    """Feature columns and a ``target`` column, by name, of a table.

    ``features`` null takes every other column but those in ``exclude``. A column of numbers is one
    feature (also where all are written with one unit, such as $ or %), one of truth values another;
    a date becomes its year, month, weekday, days since 1970, and hour where it has one. A column of
    other texts, or one listed in ``categorical``, becomes a feature of 0 or 1 for each of its
    levels in the training split (a level that only the test split has is 0 in all of them), and may
    have ``max_levels`` of them. One listed in ``embed`` becomes an input of its own instead, the
    number of its level from 1 (0: a level that only the test split has, or none), for a network
    that learns a vector for each. ``kind`` null makes a target of numbers a regression and one of
    texts a classification; ``target_transform`` lets a regression learn the target's logarithm
    (``log1p``: of 1 and it), and give its predictions in the target's unit all the same.

    ``decimal`` and ``thousands`` are the marks in numbers, ``date_format`` is how dates are written
    where that is not plain (as strptime has it). Cells that are empty or one of ``missing_values``
    (in any case) are refused, or by ``missing`` their rows are dropped, or they are filled with the
    training rows' mean (for a category, the levels' frequencies). Levels that differ only in how a
    number is written, in blanks or in Unicode's form are one where ``merge_spellings``; those that
    differ only in ``case`` are refused, merged, or kept. ``test`` is the fraction of the rows to
    set aside, the same rows whatever the run's seed.

    Columns of ``images`` and ``texts`` are inputs of their own, too: see
    :class:`~dltrain.data.tables.media.Media` for these and what follows them.

    ``group``, ``order`` or ``split_column`` is a column by which the rows are split
    (:class:`~dltrain.data.tables.dividing.RowSplits`); it is no feature unless ``features`` has it.

    Raises ``ValueError`` naming file, line and column of what cannot be used.
    """

    def __init__(
        self,
        target: str,
        features: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        kind: Literal["classification", "regression"] | None = None,
        categorical: Sequence[str] = (),
        max_levels: int = 100,
        missing: Missing = "refuse",
        missing_values: Sequence[str] = MISSING,
        decimal: str = ".",
        thousands: str | None = None,
        date_format: str | None = None,
        merge_spellings: bool = True,
        case: Literal["refuse", "merge", "keep"] = "refuse",
        target_transform: Literal["log", "log1p"] | None = None,
        group: str | None = None,
        order: str | None = None,
        split_column: str | None = None,
        embed: Sequence[str] = (),
        images: Sequence[str] = (),
        texts: Sequence[str] = (),
        image_size: int | None = None,
        missing_images: MissingImages = "refuse",
        tokens: Tokens = "word",
        text_length: int = 64,
        vocabulary_size: int = 10_000,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.media = Media(
            *(tuple(images), tuple(texts), image_size, missing_images, tokens, text_length),
            vocabulary_size,
        )
        self.media.require_free(target=[target], exclude=exclude, embed=embed)
        if features is not None and target in features:
            raise ValueError(f"the target {target!r} is among the features")
        if target in exclude:
            raise ValueError(f"exclude: the target {target!r} cannot be left out")
        if target_transform is not None and kind == "classification":
            raise ValueError("target_transform is of numbers, and kind is classification")
        for name in embed:
            if name in (target, *exclude) or name in categorical:
                where = "categorical" if name in categorical else "exclude"
                said = "the target" if name == target else f"in {where}, too"
                raise ValueError(f"embed: {name!r} is {said}")
            if features is not None and name not in features:
                raise ValueError(f"embed: {name!r} is not among the features")
        self.target, self.features, self.exclude = target, features, exclude
        self.missing, self.target_transform = missing, target_transform
        self.categorical, self.embed = set(categorical), tuple(embed)
        self.format = CellFormat(decimal, thousands or "", tuple(missing_values))
        self._deciding = Deciding(
            *(target, kind, self.categorical, max_levels, self.format, date_format),
            *(merge_spellings, case, set(embed)),
        )
        self.kind = kind
        self.row_splits = RowSplits(group, order, split_column)
        if self.row_splits.column == target:
            raise ValueError(f"the target {target!r} cannot split the rows")
        self.feature_names = ()
        self._encoding: Encoding | None = None

    def outline(self) -> DataSpec:
        """Before the table is read: numbers in, and only what ``kind`` says of the target."""
        if self._encoding is not None:
            known = super().outline()
            own = {
                key: Field((), "class", "input", size=1 + len(levels), names=(NONE, *levels))
                for name, key in self._encoding.indices.items()
                for levels in [self._encoding.embedded[name]]
            }
            beside = self.media.fields()
            return DataSpec({"input": known.input, **own, **beside, "target": known.target})
        fields = {"input": Field((None,), "number", "input")}
        fields |= {f"input.{name}": Field((), "class", "input") for name in self.embed}
        fields |= self.media.fields()
        if self.kind == "regression":
            fields["target"] = target_field(())
        elif self.kind == "classification":
            fields["target"] = Field((), "class", "target")
        return DataSpec(fields, complete=False)

    def splits(self) -> dict[str, Split]:
        """Read the table, and decide what is a number, a category, a class."""
        train, test = self.tables()
        self._columns = self._chosen(train)
        for name in self.embed:
            if name in train.columns and name not in self._columns:
                raise ValueError(
                    f"embed: {name!r} splits the rows, and is a feature only if data.features "
                    "has it"
                )
        for table in [train] if isinstance(test, float) else [train, test]:
            needed = (*sorted(self.categorical), *self.embed, *self.media.columns)
            for name in (*self._columns, self.target, *needed):
                table.require(name)
        for name in self.exclude:
            train.require(name)
        self._report = Report(train.name, train.rows)
        self._report.left_out(self._left_out(train))
        decided, by = self._deciding, self.row_splits.column
        if by is not None:
            train.require(by)
            dividing = decided.dividing_column(train, by, self.row_splits.ordered)
        columns: dict[str, Numbers | Texts] = {}
        for name in (*self._columns, self.target):
            is_target = name == self.target
            columns[name] = (
                decided.target_column(train) if is_target else decided.feature(train, name)
            )
            if not columns[name].missing.any() or train.written is not None:
                del train.columns[name]  # texts are as large as the file
        self.class_names = decided.class_names
        if self.class_names and self.target_transform:
            raise ValueError(
                f"target_transform is of numbers, and the target {self.target!r} holds classes"
            )
        self._report.columns(self.target, columns, decided.types)
        kept = rows_to_use(train, columns, self.target, self.missing, self.format, self.embed)
        decided.check_target(train, columns[self.target])
        targets = self._targets(train, columns[self.target])
        fraction = test if isinstance(test, float) else None
        known = targets[torch.from_numpy(kept)]
        parts = self.row_splits.parts(
            *(None if by is None else dividing.only(kept), known, fraction, self.class_names)
        )
        rows = {name: kept if own is None else kept[own.numpy()] for name, own in parts.items()}
        levels = decided.levels(train, columns, rows["train"])
        encoding = self._encoding = decided.encoding(self._columns, levels)
        self.feature_names, self.unscaled = encoding.feature_names, encoding.unscaled
        blocks, indices = self._blocks(train, columns)
        found = {name: TableRows(blocks, targets, own, indices) for name, own in rows.items()}
        if not isinstance(test, float):
            if by is not None and isinstance(dividing, Texts):
                self._tell_shared_groups(dividing, train.name, test)
            found["test"] = self._second(test)
        self._check_splits(train.name, found)
        self._places = {name: (part.rows, part.columns["target"]) for name, part in found.items()}
        return dict(found)

    def learn(self, splits: Mapping[str, Split]) -> Mapping[str, Split]:
        """Mean and standard deviation of each feature over the training rows.

        Raises :class:`UserError` for a feature that has no value in any of them.
        """
        train = splits["train"]
        assert isinstance(train, TableRows)
        self.media.learn(train.columns)
        self.scaling = train.learn_scaling(self.unscaled, self.standardize)
        require_values(self.scaling, self.feature_names)
        return {
            name: InMemory(
                {**self.media.encoded(split.columns), "input": split.inputs(self.scaling)}
            )
            for name, split in splits.items()
            if isinstance(split, TableRows)
        }

    def spec(self, splits: Mapping[str, Split]) -> DataSpec:
        """Of numbers to predict also their mean and standard deviation in training."""
        fields = dict(super().spec(splits).fields)
        if not self.class_names:
            mean, std = self._unit_of(splits["train"].columns["target"])
            transform = self.target_transform
            fields["target"] = replace(
                fields["target"], mean=(mean,), std=(std,), transform=transform
            )
        return DataSpec(fields)

    def reader(self) -> Reader:
        """Rows by the table's columns; missing cells are filled where ``missing`` says so."""
        scaling = self.scaling
        fill = scaling.fill if self.missing == "mean" else ()
        assert self._encoding is not None
        table = self._encoding.node() | {
            "fill": fill,
            "mean": scaling.mean,
            "std": scaling.std,
            "index_missing": self.missing == "mean",
        }
        if not self.media.columns:
            return TableReader(**table)
        return MediaReader(**table, **self.media.reading(), optional=bool(self.augment.drop))

    def prepare(self, device: torch.device) -> Prepare:
        """Noise, and inputs left out, when asked; images are normalized."""
        fields = self.outline().fields
        self.augment.check(fields)
        vary = super().prepare(device)
        if not self.media.columns:
            return vary
        return lambda batch, draw: vary(self.media.prepare(batch), draw)

    def report(self) -> Sequence[Mapping[str, Any]]:
        """A line for each column of the table as it was read."""
        return self._report.lines

    def division(self, train: Split) -> Division:
        """By the column that splits the rows, where there is one."""
        return self.row_splits.division() or super().division(train)

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """Rows as the table has them. Those drawn for validation count as training rows."""
        if split is not None and split not in self._places:
            raise UserError(f"this table has no {split} split, but {', '.join(self._places)}.")
        train, test = self.tables()
        for name in self._places if split is None else [split]:
            rows, targets = self._places[name]
            own = isinstance(test, RawTable) and name == "test"
            table = test if own and isinstance(test, RawTable) else train
            for first in range(0, len(rows), self.evaluation_batch_size):
                part = slice(first, first + self.evaluation_batch_size)
                yield Labeled(self.media.located(table, table.taken(rows[part])), targets[part])

    @abstractmethod
    def tables(self) -> tuple[RawTable, RawTable | float]:
        """The training split's table; and the test split's, or what fraction of the first."""

    def _tell_shared_groups(self, groups: Texts, name: str, test: RawTable) -> None:
        """Warn of groups that a test split of its own shares with the training split."""
        column = self.row_splits.group
        if column is None:
            return
        test.require(column)
        others = self._deciding.dividing_column(test, column, ordered=False)
        assert isinstance(others, Texts)
        if line := self.row_splits.shared(groups, name, others, test.name):
            logger.warning("%s", line)

    def _chosen(self, train: RawTable) -> list[str]:
        """The feature columns."""
        if self.features is not None:
            names = [name for name in self.features if name not in self.exclude]
        else:
            others = {self.target, self.row_splits.column, *self.exclude}
            names = [name for name in train.columns if name not in others]
        names = [name for name in names if name not in self.media.columns]
        if not names and not self.media.columns:
            train.require(self.target)
            raise ValueError(
                f"{train.name} has no column beside the target {self.target!r}"
                + (" that is not excluded" if self.exclude else "")
            )
        return names

    def _left_out(self, train: RawTable) -> dict[str, str]:
        named = dict.fromkeys(self.exclude, "data.exclude")
        if self.row_splits.column is not None and self.row_splits.column not in self._columns:
            named[self.row_splits.column] = "it splits the rows"
        if self.features is not None:
            used = {*self.features, *self.exclude, self.target, *self.media.columns}
            named |= {n: "not in data.features" for n in train.columns if n not in used}
        return {**train.left_out, **named}

    def _targets(self, table: RawTable, column: Numbers | Texts) -> Tensor:
        return targets_of(table, self.target, column, self.class_names, self.target_transform)

    def _blocks(
        self, table: RawTable, columns: Mapping[str, Numbers | Texts]
    ) -> tuple[list[Block], dict[str, NDArray[Any]]]:
        """The features of all rows; by the input's name indices, images, texts."""
        encoding = self._encoding
        assert encoding is not None
        blocks: list[Block] = []
        indices: dict[str, NDArray[Any]] = {}
        for name in self._columns:
            unknown = encoding.unknown(name, columns[name])
            if unknown:
                logger.warning(
                    "%s: %d cells of %r hold a level that no training row has; it counts as none "
                    "of them.",
                    *(table.name, unknown, name),
                )
            place = partial(table.place, column=name)
            if name in encoding.indices:
                indices[encoding.indices[name]] = encoding.index(name, columns[name])
            else:
                blocks.append(encoding.block(name, columns[name], place))
        return blocks, indices | self.media.read(table)

    def _second(self, table: RawTable) -> TableRows:
        """The rows of a table of its own, read as the training rows were."""
        assert self._encoding is not None
        columns = {
            name: self._encoding.read(name, table.columns[name], partial(table.place, column=name))
            for name in self._columns
        }
        columns[self.target] = self._deciding.second_target(table)
        kept = rows_to_use(table, columns, self.target, self.missing, self.format, self.embed)
        targets = self._targets(table, columns[self.target])
        blocks, indices = self._blocks(table, columns)
        return TableRows(blocks, targets, kept, indices)

    def _unit_of(self, targets: Tensor) -> tuple[float, float]:
        """Mean and standard deviation, of the logarithms where these are learned."""
        known = (
            TRANSFORMS[self.target_transform].apply(targets) if self.target_transform else targets
        )
        mean = known.mean()
        variance = known.var(correction=0)
        if is_constant(variance, mean, len(known)):
            return float(mean), 1.0
        return float(mean), float(known.std()) if len(known) > 1 else 1.0

    def _check_splits(self, name: str, splits: Mapping[str, Split]) -> None:
        if not len(splits["test"]):
            raise ValueError(
                f"{name}: no row is left for the test split; raise data.test, a fraction, or give "
                "a second file as data.test"
            )
        logger.info(
            "%s: %s training and %s test rows, %d features%s.",
            name,
            *(f"{len(splits[split]):,}" for split in ("train", "test")),
            len(self.feature_names),
            "".join(f", {name} embedded" for name in self.embed)
            + (f", {len(self.class_names)} classes" if self.class_names else ""),
        )
