"""Any data set of images or a table that ``datasets.load_dataset`` reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec, Labeled, Placement, Reader, Stream
from dltrain.contracts.paths import PathOrName
from dltrain.data.cache import EncodedImages
from dltrain.data.images.decoded import DecodedImages
from dltrain.data.shards.hub import HubStreamed
from dltrain.data.shards.labels import LABELS
from dltrain.data.tables.columns import ColumnsTable
from dltrain.data.tables.raw import RawTable, usable
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

DATA_FILES = {".parquet", ".arrow", ".csv", ".tsv", ".json", ".jsonl"}
SHOWN = 3


class HubImages(DecodedImages):
    """A column of images and a column of labels, from the hub by name or from a local path.

    ``image`` and ``label`` name the columns; null: the only one of images, and the only one of
    classes. ``config`` is the name of one of several versions of a data set. Labels are named where
    the data set names them; else each different one in the training split is a class.
    ``validation_split`` is used where there is one of that name.

    With ``streaming`` nothing is downloaded or decoded beforehand: batches are read while they are
    trained on (:class:`~dltrain.data.shards.hub.HubStreamed`), shuffled in a ``buffer`` of examples
    that have ``buffer_memory`` MiB at most, by ``workers`` threads.

    Reading raises ``ValueError`` listing what there is, where a split or a column is missing, or
    several columns might be meant.
    """

    def __init__(
        self,
        path: PathOrName,
        image: str | None = None,
        label: str | None = None,
        config: str | None = None,
        train_split: str = "train",
        validation_split: str = "validation",
        test_split: str = "test",
        streaming: bool = False,
        buffer: int = 10_000,
        buffer_memory: int = 48,
        **decoding: Any,
    ) -> None:
        self.path, self.image, self.label, self.config = path, image, label, config
        self._names = {"train": train_split, "validation": validation_split, "test": test_split}
        self._streamed: HubStreamed | None = None
        super().__init__(**decoding)
        if streaming:
            self._streamed = self._as_streamed(buffer, buffer_memory)

    def _as_streamed(self, buffer: int, buffer_memory: int) -> HubStreamed:
        """The same data set read while it is trained on. Raises ValueError for what needs all."""
        needs = {
            "balance": self.balance,
            "folds": self.folds is not None,
            "batch_size=full": self.batch_size == "full",
            "validation, a number of examples,": self.validation >= 1,
        }
        for key, wanted in needs.items():
            if wanted:
                raise ValueError(f"{key} needs all examples at once: not with streaming=true")
        asked = self._asked
        assert self.root is not None and self.batch_size != "full", "checked above"
        return HubStreamed(
            self.path,
            self.config,
            self._names,
            self._columns,
            size=asked.size,
            fit=asked.fit,
            channels=asked.channels,
            window=asked.window,
            mean=self.mean,
            std=self.std,
            augment=self.augment,
            skip_unreadable=self.skip_unreadable,
            root=self.root,
            limit=self.limit,
            validation=self.validation,
            test=self.test,
            batch_size=self.batch_size,
            evaluation_batch_size=self.evaluation_batch_size,
            workers=max(1, self.workers),
            buffer=buffer,
            buffer_memory=buffer_memory,
        )

    def _columns(self, place: str, features: Mapping[str, Any]) -> tuple[str, str]:
        """The columns of images and of labels of a split."""
        image = self.image or _only_image(features, self.path)
        label = self.label or _only_label(features, image, self.path)
        _check_columns(features, image, label, f"{place},")
        return image, label

    def outline(self) -> DataSpec:
        return super().outline() if self._streamed is None else self._streamed.outline()

    def read(self, seed: int) -> DataSpec:
        if self._streamed is None:
            return super().read(seed)
        self._streamed.target_needed = self.target_needed
        return self._streamed.read(seed)

    def open(self, placement: Placement) -> dict[str, Stream]:
        if self._streamed is None:
            return super().open(placement)
        return self._streamed.open(placement)

    def reader(self) -> Reader:
        return super().reader() if self._streamed is None else self._streamed.reader()

    def identity(self) -> Mapping[str, Any]:
        return super().identity() if self._streamed is None else self._streamed.identity()

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        if self._streamed is None:
            return super().labeled(split)
        return self._streamed.labeled(split)

    @property
    def place(self) -> str:
        """Name or path."""
        return self.path

    def paths(self) -> list[Path]:
        """A local copy, where ``path`` is one."""
        return [Path(self.path).expanduser()]

    def files(self) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        """The fingerprints that the data set's own cache goes by, and rows in order."""
        data = load(self.path, self.config)
        require_split(self._names["train"], data, self.path)
        splits = {split: data[name] for split, name in self._names.items() if name in data}
        features = splits["train"].features
        image = self.image or _only_image(features, self.path)
        label = self.label or _only_label(features, image, self.path)
        for split, rows in splits.items():
            place = f"{self.path}, split {self._names[split]!r},"
            _check_columns(rows.features, image, label, place)
        targets, self.class_names = read_labels(splits, label, self.path)
        _say(self.path, image, label, {self._names[split]: r for split, r in splits.items()}, data)
        left = _left_out(self.path, self.config)
        if left:
            more = ", …" if len(left) > SHOWN else ""
            named = ", ".join(left[:SHOWN]) + more
            logger.warning("%s: %d files are in no split: %s.", self.path, len(left), named)
        key: dict[str, Any] = {"source": "hub", "image": image, "label": label}
        key |= {split: rows._fingerprint for split, rows in splits.items()}
        return key, {
            split: self._encoded(rows, image, split, targets[split])
            for split, rows in splits.items()
        }

    def _encoded(self, rows: Any, image: str, split: str, targets: list[int]) -> EncodedImages:
        from datasets import Image

        data = rows.cast_column(image, Image(decode=False))
        names = [f"{self.path}, {split}, row {row + 1}" for row in range(len(data))]

        def get(row: int) -> Path | bytes:
            found = data[row][image]
            if found is None:
                return b""
            return found["bytes"] if found["bytes"] is not None else Path(found["path"])

        return EncodedImages(names, np.array(targets, np.int64), get)


def _check_columns(features: Mapping[str, Any], image: str, label: str, place: str) -> None:
    from datasets import Image

    for key, name in (("image", image), ("label", label)):
        require_column(key, name, features, place)
    if not isinstance(features[image], Image):
        images = _images(features)
        raise ValueError(
            f"{place} column {image!r} holds no images; "
            + (f"{', '.join(images)} does" if images else "use data=hub_table")
        )


def _images(features: Mapping[str, Any]) -> list[str]:
    from datasets import Image

    return [name for name, kind in features.items() if isinstance(kind, Image)]


def _only_image(features: Mapping[str, Any], path: str) -> str:
    found = _images(features)
    if len(found) != 1:
        has = f"several columns of images: {', '.join(found)}" if found else "no column of images"
        raise ValueError(
            f"{path} has {has}. "
            + ("Choose one by data.image=COLUMN." if found else f"It has {_kinds(features)}.")
        )
    return found[0]


def _only_label(features: Mapping[str, Any], image: str, path: str) -> str:
    """The only column of named classes; else that called label; else the only one of values."""
    from datasets import ClassLabel, Value

    named = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    values = [name for name, kind in features.items() if isinstance(kind, Value)]
    called = [name for name in values if name.lower() in LABELS]
    found = named or called or values
    if len(found) != 1:
        several = f"several columns that may be the labels: {', '.join(found)}"
        raise ValueError(
            f"{path} has {several if found else 'no column of labels'}. "
            + ("Choose one by data.label=COLUMN." if found else f"It has {_kinds(features)}.")
        )
    return found[0]


def _say(
    path: str, image: str, label: str, used: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
    """Which columns and splits are used, which are not, and of when a copy from the hub is."""
    rows = ", ".join(f"{name} {len(split):,}" for name, split in used.items())
    said = f"{path}: images of column {image!r}, labels of column {label!r}; splits {rows}"
    columns = [name for name in next(iter(used.values())).features if name not in (image, label)]
    splits = [f"{name} {len(split):,}" for name, split in data.items() if name not in used]
    for kind, left in (("columns", columns), ("splits", splits)):
        if left:
            said += f"; not used: {kind} {', '.join(left)}"
    dates = [
        date.fromtimestamp(Path(file["filename"]).stat().st_mtime)
        for split in used.values()
        for file in split.cache_files
    ]
    if dates and not Path(path).expanduser().exists():
        said += f"; copy of {min(dates)}"
    logger.log(logging.WARNING if splits else logging.INFO, "%s.", said)


class HubTable(ColumnsTable):
    """A data set of columns, as :class:`~dltrain.data.tables.csv_file.CsvTable` reads a file's.

    ``test`` is the fraction to set aside where the data set has no ``test_split``.
    """

    def __init__(
        self,
        path: PathOrName,
        target: str,
        config: str | None = None,
        train_split: str = "train",
        test_split: str = "test",
        test: float = 0.2,
        **columns: Any,
    ) -> None:
        if not 0 < test < 1:
            raise ValueError(f"test is a fraction between 0 and 1, got {test}")
        self.path, self.config, self.test = path, config, test
        self.train_split, self.test_split = train_split, test_split
        super().__init__(target=target, **columns)

    def paths(self) -> list[Path]:
        """A local copy, where ``path`` is one."""
        return [Path(self.path).expanduser()]

    def tables(self) -> tuple[RawTable, RawTable | float]:
        """The columns of plain values; those of images, lists and the like are left out."""
        data = load(self.path, self.config)
        require_split(self.train_split, data, self.path)
        train = self._table(data, self.train_split)
        if self.test_split in data:
            return train, self._table(data, self.test_split)
        logger.info("%s has no split %r: one is set aside.", self.path, self.test_split)
        return train, self.test

    def _table(self, data: Any, split: str) -> RawTable:
        import pyarrow as pa
        from datasets import ClassLabel

        found = data[split].with_format("arrow")[:]
        if not len(found):
            raise ValueError(f"{self.path} has no row in its split {split!r}")
        columns = []
        for name in found.column_names:
            column, feature = found[name], data[split].features[name]
            if isinstance(feature, ClassLabel):
                texts = [None if v is None else feature.int2str(v) for v in column.to_pylist()]
                column = pa.chunked_array([pa.array(texts, pa.string())])
            columns.append(column)
        kept, left_out = usable(found.column_names, columns)
        name = f"{self.path} ({split})"
        return RawTable(name, len(found), kept, lambda row: f"line {row + 1}", left_out)


def read_labels(
    splits: Mapping[str, Any], label: str, path: str
) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Each split's classes by the column ``label``, and what they are called.

    They have the data set's names; else each different label of the split ``train`` is one.
    Raises ``ValueError`` naming the row whose label is none of them.
    """
    from datasets import ClassLabel

    labels = {split: list(data[label]) for split, data in splits.items()}
    feature = splits["train"].features[label]
    named = isinstance(feature, ClassLabel)
    known = range(feature.num_classes) if named else sorted(set(labels["train"]) - {None})
    positions = {label: position for position, label in enumerate(known)}
    for split, column in labels.items():
        row = next((row for row, label in enumerate(column) if label not in positions), None)
        if row is not None:
            raise ValueError(
                f"{path}, {split}, row {row + 1}: the label {column[row]!r} is none of the "
                f"{len(known)} classes"
            )
    if len(set(labels["train"])) < 2:
        raise ValueError(f"{path}: column {label!r} has one value in all of training")
    names = tuple(feature.names if named else map(str, known))
    return {s: [positions[label] for label in column] for s, column in labels.items()}, names


def _left_out(path: str, config: str | None) -> list[str]:
    """Files of a local folder that ``datasets`` takes for no split's, by their names."""
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        return []
    from datasets import load_dataset_builder

    given = load_dataset_builder(str(folder), config).config.data_files or {}
    used = {Path(file) for files in given.values() for file in files}
    found = (file for file in sorted(folder.rglob("*")) if file.suffix.lower() in DATA_FILES)
    names = [str(file.relative_to(folder)) for file in found if file not in used]
    return [name for name in names if not name.startswith((".", "dataset_info"))]


def load(path: str, config: str | None) -> Any:
    """The data set as a mapping from split to columns."""
    from datasets import load_dataset

    local = Path(path).expanduser()
    if path == "pandas" and not local.exists():
        # By that name, older versions of datasets unpickle what lies in the working folder.
        raise UserError("data.path: pandas means pickles, which may run code; give parquet files.")
    try:
        data = load_dataset(str(local.absolute()) if local.exists() else path, config)
    except Exception as error:
        # Whatever a data set's files or its server do wrong comes out here, as any exception.
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"data.path: {path} cannot be read: {first}") from error
    return data


def require_split(name: str, data: Any, path: str) -> None:
    """Raise ``ValueError`` listing the splits there are, unless ``name`` is one."""
    if name not in data:
        raise ValueError(
            f"{path} has no split {name!r}. {did_you_mean(name, data)} "
            f"It has {', '.join(data)}.".replace("  ", " ")
        )


def require_column(key: str, name: str, features: Mapping[str, Any], place: str) -> None:
    """Raise ``ValueError`` listing the columns there are, unless ``name`` is one."""
    if name not in features:
        raise ValueError(
            f"{place} has no column {name!r}, which data.{key} names. "
            f"{did_you_mean(name, features)} It has {_kinds(features)}.".replace("  ", " ")
        )


def _kinds(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
