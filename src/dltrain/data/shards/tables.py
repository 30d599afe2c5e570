"""Tables in shards: Parquet files of numbers and categories that stay there."""

from __future__ import annotations

import json
import logging
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from dltrain.contracts.data import DataSpec, Field, Labeled, Reader
from dltrain.contracts.transforms import TRANSFORMS
from dltrain.data.cache import made_once, state
from dltrain.data.shards.columns import TableColumns, Wanted
from dltrain.data.shards.lanes import Contents, Encoded, Place
from dltrain.data.shards.parquet import ParquetShards
from dltrain.data.shards.passes import Moments, over, values_of
from dltrain.data.shards.pieces import Shards
from dltrain.data.shards.source import Patterns, ShardSource
from dltrain.data.streams.in_memory import Prepare
from dltrain.data.tables.augment import VectorAugment, prepare_vectors
from dltrain.data.tables.columns import NONE
from dltrain.data.tables.deciding import Deciding
from dltrain.data.tables.encoding import Scaling
from dltrain.data.tables.files import PARQUET
from dltrain.data.tables.reader import TableReader
from dltrain.data.tables.source import require_values, target_field
from dltrain.data.tables.values import MISSING, CellFormat
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of what is kept of a pass."""


@dataclass(frozen=True)
class Learned:
    """What the pass over the training rows told."""

    scaling: Scaling
    counts: Sequence[int]
    """Of each class."""
    mean: float = 0.0
    std: float = 1.0
    """Of a target of numbers, or of its logarithm."""


class TableShards(ShardSource):
    """Feature columns and a ``target`` column, by name, of Parquet files.

    The arguments are those of :class:`~dltrain.data.tables.columns.ColumnsTable`, as far as a table
    that is never held as a whole can have them. What columns of texts hold is learned in one pass
    over these, means, stds and classes in another one over all: of the training rows alone,
    and once, for both are kept in ``root``.
    """

    def __init__(
        self,
        path: Patterns,
        target: str,
        features: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        kind: Literal["classification", "regression"] | None = None,
        categorical: Sequence[str] = (),
        max_levels: int = 100,
        embed: Sequence[str] = (),
        missing: Literal["refuse", "mean"] = "refuse",
        missing_values: Sequence[str] = MISSING,
        merge_spellings: bool = True,
        case: Literal["refuse", "merge", "keep"] = "refuse",
        target_transform: Literal["log", "log1p"] | None = None,
        standardize: bool = True,
        augment: VectorAugment | None = None,
        **streaming: Any,
    ) -> None:
        super().__init__(path, **streaming)
        wanted = Wanted(
            *(target, features, tuple(exclude), kind, tuple(categorical), tuple(embed)),
            *(missing, target_transform),
        )
        self.standardize, self.augment = standardize, augment or VectorAugment()
        format = CellFormat(missing=tuple(missing_values))
        deciding = Deciding(
            *(target, kind, set(categorical), max_levels, format, None),
            *(merge_spellings, case, set(embed)),
        )
        self.columns = TableColumns(wanted, deciding)
        self._settings = [max_levels, list(missing_values), merge_spellings, case, asdict(wanted)]
        self._learned: Learned | None = None

    def shards(self, key: str, files: Sequence[Path]) -> Shards:
        for file in files:
            if file.suffix.lower() not in PARQUET:
                raise UserError(f"data.{key}: {file} is no .parquet file; data=csv reads others.")
        found = ParquetShards(key, files, None)
        if key == "path":
            self.columns.choose(found)
        for name in self.columns.needed:
            found.require(key, name)
        return found

    def read(self, seed: int) -> DataSpec:
        self.divide(seed)
        self.learn()
        return self.outline()

    def learn(self) -> None:
        """What each column is, by its values; then means, stds and classes."""
        train, columns = self.parts["train"], self.columns
        shards = train.shards
        assert isinstance(shards, ParquetShards)
        counted = columns.of_levels(shards.schema)
        some, _ = next(
            train.read(
                int(np.flatnonzero(train.counts)[0]),
                [name for name in columns.needed if name not in counted],
            )
        )
        files = f"{shards.names[0]} and {len(shards.names) - 1:,} more"
        columns.decide(files, self._values(counted), some)
        encoding = columns.encoding
        assert encoding is not None
        settings = [encoding.node(), self.standardize]
        found = self._once("what training rows taught", settings, lambda: asdict(self._pass()))
        self._learned = Learned(**found | {"scaling": Scaling(**found["scaling"])})
        require_values(self._learned.scaling, encoding.feature_names)
        self._say()

    def outline(self) -> DataSpec:
        encoding, learned, wanted = self.columns.encoding, self._learned, self.columns.wanted
        if encoding is None or learned is None:
            fields = {"input": Field((None,), "number", "input")}
            fields |= {f"input.{name}": Field((), "class", "input") for name in wanted.embed}
            if wanted.kind == "regression":
                fields["target"] = target_field(())
            elif wanted.kind == "classification":
                fields["target"] = Field((), "class", "target")
            return DataSpec(fields, complete=False)
        names = tuple(encoding.feature_names)
        mean, std = tuple(learned.scaling.mean), tuple(learned.scaling.std)
        number = Field((len(names),), "number", "input", names=names, mean=mean, std=std)
        fields = {"input": number}
        for name, key in encoding.indices.items():
            levels = (NONE, *encoding.embedded[name])
            fields[key] = Field((), "class", "input", size=len(levels), names=levels)
        target = replace(target_field(self.columns.class_names), counts=tuple(learned.counts))
        if target.kind == "number":
            unit, transform = (learned.mean, learned.std), wanted.target_transform
            target = replace(target, mean=unit[:1], std=unit[1:], transform=transform)
        return DataSpec(fields | {"target": target})

    def contents(self) -> Contents:
        assert self._learned is not None, "read() comes first"
        return _Rows(self.columns, self._learned.scaling)

    def prepare(self, device: torch.device) -> Prepare:
        self.augment.check(self.outline().fields)
        return prepare_vectors(self.outline().fields, self.augment)

    def reader(self) -> Reader:
        encoding, learned = self.columns.encoding, self._learned
        assert encoding is not None and learned is not None, "read() comes first"
        filled = self.columns.wanted.missing == "mean"
        return TableReader(
            **encoding.node(),
            fill=learned.scaling.fill if filled else (),
            mean=learned.scaling.mean,
            std=learned.scaling.std,
            index_missing=filled,
        )

    def report(self) -> Sequence[Mapping[str, Any]]:
        """A line for each column."""
        types, target = self.columns.deciding.types, self.columns.wanted.target
        used = [
            {"column": name, "use": "target" if name == target else "feature", "type": types[name]}
            for name in self.columns.needed
        ]
        gone = self.columns.left_out.items()
        return [*used, *({"column": n, "use": "left out", "type": why} for n, why in gone)]

    def labeled_rows(self, rows: pa.RecordBatch) -> Labeled:
        features = rows.select(self.columns.features)
        return Labeled(features.to_pylist(), self.columns.targets(rows))

    def _values(self, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """The different values of columns in the training rows, as texts."""

        def make() -> Mapping[str, Sequence[str]]:
            if names:
                logger.info("the values of %s are read first.", ", ".join(map(repr, names)))
            found = values_of(self.parts["train"], names)
            return {name: [v for v in counts if v is not None] for name, counts in found.items()}

        kept: Mapping[str, Sequence[str]] = self._once("values of columns", list(names), make)
        return kept

    def _once(self, content: str, settings: Sequence[Any], make: Callable[[], Any]) -> Any:
        """What ``make`` returns, as JSON; of an earlier run, where there was one alike."""
        part = self.parts["train"]
        shards = part.shards
        assert isinstance(shards, ParquetShards)
        key = [FORMAT, content, *self._settings, list(settings), shards.digest()]
        key += [[asdict(between) for between in part.within], part.limit, part.limit and part.seed]
        key += map(state, shards.files)

        def write(place: Path) -> None:
            (place / "found.json").write_text(json.dumps(make()), encoding="utf-8")

        place = made_once(Path(self.root).expanduser() / "cache", key, write, content)
        return json.loads((place / "found.json").read_text(encoding="utf-8"))

    def _pass(self) -> Learned:
        """One over all training rows."""
        part, columns = self.parts["train"], self.columns
        encoding, wanted = columns.encoding, columns.wanted
        assert encoding is not None
        logger.info("means, stds and classes are read first, of all training rows.")
        classes = columns.class_names
        transform = TRANSFORMS[wanted.target_transform].apply if wanted.target_transform else None

        def work(number: int) -> tuple[Moments, Any]:
            inputs: list[Moments] = []
            targets: list[Any] = []
            shard = part.shards.pieces[number].shard
            for batch, rows in part.read(number, columns.needed):
                found, others = columns.read(batch, _placed(part.shards, shard, rows))
                inputs.append(Moments.of(found))
                target = torch.from_numpy(others["target"])
                known = target.double() if transform is None else transform(target.double())
                targets.append(Counter(target.tolist()) if classes else Moments.of(known))
            return reduce(operator.add, inputs), reduce(operator.add, targets)

        found = None
        for inputs, targets in over(part, work):
            found = (inputs, targets) if found is None else (found[0] + inputs, found[1] + targets)
        assert found is not None
        scaling = found[0].scaling(encoding.unscaled, self.standardize)
        if classes:
            return Learned(scaling, [found[1][place] for place in range(len(classes))])
        if not found[1].squares.any():
            raise UserError(
                f"data.target: {wanted.target!r} is {found[1].mean[0]:g} in all training rows: "
                "there is nothing to learn."
            )
        return Learned(scaling, (), *found[1].unit())

    def _say(self) -> None:
        learned, columns = self._learned, self.columns
        assert learned is not None and columns.encoding is not None
        numbers = f"numbers, mean {learned.mean:g}, std {learned.std:g}"
        logger.info(
            "%d columns are %d features%s; target %r: %s.",
            *(len(columns.features), len(columns.encoding.feature_names)),
            "".join(f", {name} embedded" for name in columns.wanted.embed),
            columns.wanted.target,
            f"{len(columns.class_names)} classes" if columns.class_names else numbers,
        )
        unasked = [f"{n!r}: {w}" for n, w in columns.left_out.items() if w != "data.exclude"]
        if unasked:
            logger.warning("left out: %s.", "; ".join(unasked))


class _Rows(Contents):
    """Feature vectors, encoded and scaled as they are read."""

    def __init__(self, columns: TableColumns, scaling: Scaling) -> None:
        self._columns, self._scaling = columns, scaling
        self.columns = columns.needed
        self.size = 4 * len(scaling.mean) + 16

    def encoded(self, rows: pa.RecordBatch, place: Place) -> Encoded:
        inputs, others = self._columns.read(rows, place)
        return {"input": self._scaling(inputs).numpy(), **others}


def _placed(shards: Shards, shard: int, rows: Any) -> Place:
    return lambda row: shards.place(shard, int(rows[row]))
