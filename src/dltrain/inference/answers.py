"""Predictions as people and programs read them: rows of names, probabilities and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import Field
from dltrain.contracts.pieces import sentence_of
from dltrain.contracts.task import Predictions
from dltrain.data.series.steps import Unit, written
from dltrain.inference.writers import FORECAST

if TYPE_CHECKING:
    import pandas as pd

SEPARATOR = "|"
"""Between the labels of one example, as a table of labels has it."""
OBJECTS = "objects"
"""The column of what was found in an example."""
TIME = "time"
"""The prediction that says when these steps are."""
DECIMALS = 10_000
SHOWN = 10
"""Rows that are printed of many."""


class Answers(Sequence[Mapping[str, Any]]):
    """A row for each example: a mapping from column to a name, a number or a text.

    ``answers[0]`` is the first row, ``answers["class"]`` a column, ``len(answers)`` the number of
    examples. Of classes with a number each, such as probabilities, the row has that of its own
    class and, as ``class_2``, ``probability_2`` and so on, those of the next ``top - 1``; ``top``
    None: every class's, as ``probability[NAME]``. Where an example has any number of boxes, these
    are its :class:`Objects`, in the column ``objects``; the :class:`Steps` of a forecast are in
    ``forecast``. Tokens are a text. Images and masks are in
    ``tensors`` alone, where all columns are as the task predicted them, (examples, …), described by
    ``fields``; of masks the row has ``height`` and ``width``, and those of several sizes are padded
    on the right and below, with their field's ``fill``. :attr:`images` has each image of its own
    size.
    """

    def __init__(self, predictions: Predictions, top: int | None = 3) -> None:
        self.tensors: Mapping[str, Tensor] = {
            name: column.detach().cpu() for name, column in predictions.columns.items()
        }
        self.fields: Mapping[str, Field] = predictions.fields
        self.top = top
        self._columns = columns(self.tensors, self.fields, top)
        self._image = next((n for n, f in self.fields.items() if f.kind == "image"), None)
        shape = () if self._image is None else tuple(self.tensors[self._image].shape[2:])
        self._sizes = [shape] * len(self)

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """The rows of all ``parts``, of one run and one ``top``, which are one or more."""
        first = parts[0]
        names = first.tensors
        columns = {
            name: _stacked([part.tensors[name] for part in parts], first.fields[name].fill)
            for name in names
        }
        found = cls(Predictions(columns, first.fields), first.top)
        # Each part knows the sizes of its own images.
        found._columns = {
            name: [cell for part in parts for cell in part.column(name)] for name in first.columns
        }
        found._sizes = [size for part in parts for size in part._sizes]
        return found

    @property
    def images(self) -> list[Tensor]:
        """The answers that are images (channels, height, width) of 0..1, without padding.

        Raises ValueError where answers are something else.
        """
        if self._image is None:
            raise ValueError(f"these answers are no images, but {', '.join(self.tensors)}")
        padded = self.tensors[self._image]
        return [one[:, :h, :w] for one, (h, w) in zip(padded, self._sizes, strict=True)]

    @property
    def columns(self) -> list[str]:
        """The columns' names."""
        return list(self._columns)

    def column(self, name: str) -> list[Any]:
        """One column, a name or number an example. Raises KeyError where there is none."""
        return self._columns[name]

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a data frame."""
        import pandas as pd

        return pd.DataFrame(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> list[dict[str, Any]]: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._columns[key]
        if isinstance(key, slice):
            return [self._row(index) for index in range(*key.indices(len(self)))]
        return self._row(range(len(self))[key])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._row(index) for index in range(len(self)))

    def __repr__(self) -> str:
        rows = [list(row.values()) for row in self[:SHOWN]]
        cells = [self.columns, *([shown(cell) for cell in row] for row in rows)]
        wide = (
            [max(map(len, column)) for column in zip(*cells, strict=True)] if self.columns else []
        )
        lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, wide, strict=True)) for row in cells]
        more = [f"… {len(self):,} rows in all"] if len(self) > SHOWN else []
        return "\n".join([*(line.rstrip() for line in lines), *more])

    def _row(self, index: int) -> dict[str, Any]:
        return {name: column[index] for name, column in self._columns.items()}


def columns(
    tensors: Mapping[str, Tensor], fields: Mapping[str, Field], top: int | None
) -> dict[str, list[Any]]:
    """Every prediction as columns of names, numbers and texts, a value an example."""
    found: dict[str, list[Any]] = {}
    ranked: dict[str, list[Any]] = {}
    classes = {field.names: name for name, field in fields.items() if field.kind == "class"}
    boxes = [n for n, field in fields.items() if field.kind == "boxes" and field.shape[0] is None]
    if boxes:
        return {OBJECTS: objects(tensors, fields, tensors[f"{boxes[0]}_length"])}
    for name, field in fields.items():
        if field.kind == "number" and len(field.shape) == 2:
            return {FORECAST: _forecasts(field, tensors[name], fields.get(TIME), tensors)}
    for name, field in fields.items():
        values = tensors[name].numpy()
        if field.kind == "class":
            found[name] = _named(values, field.names)
        elif field.kind == "labels":
            found[name] = [
                SEPARATOR.join(field.names[place] for place in np.flatnonzero(row))
                for row in values
            ]
        elif field.kind == "tokens" and field.names:
            rows = values.tolist()
            if (lengths := tensors.get(f"{name}_length")) is not None:
                rows = [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]
            found[name] = [sentence_of(field.names, row) for row in rows]
        elif field.kind == "mask":
            height, width = values.shape[1:]
            found |= {"height": [height] * len(values), "width": [width] * len(values)}
        elif field.kind == "number" and values.ndim == 1:
            found[name] = values.tolist()
        elif field.kind == "number" and values.ndim == 2:
            if top is not None and field.names in classes:
                ranked |= _ranked(classes[field.names], name, field.names, values, top)
            else:
                found |= _each(name, field.names, values)
    return found | {name: column for name, column in ranked.items() if name not in found}


def _stacked(parts: Sequence[Tensor], fill: float | None) -> Tensor:
    """The parts (n, …) one below the other, padded at their ends to the largest."""
    sizes = [max(sides) for sides in zip(*(part.shape[1:] for part in parts), strict=True)]
    if all(list(part.shape[1:]) == sizes for part in parts):
        return torch.cat(list(parts))
    padded = []
    for part in parts:
        whole = part.new_full((len(part), *sizes), fill or 0)
        whole[(slice(None), *map(slice, part.shape[1:]))] = part
        padded.append(whole)
    return torch.cat(padded)


class Objects(list[dict[str, Any]]):
    """What was found in an example, the surest first: ``class``, ``score`` and ``box`` of each.

    A box is left, top, right, bottom. As a text it is how many there are of each class.
    """

    def __str__(self) -> str:
        counts = Counter(str(one["class"]) for one in self)
        return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "nothing"


def objects(
    tensors: Mapping[str, Tensor], fields: Mapping[str, Field], lengths: Tensor
) -> list[Objects]:
    """Of each example the rows of its ragged columns, as many as ``lengths`` (examples,) says."""
    columns: dict[str, list[Any]] = {}
    for name, field in fields.items():
        if field.shape[:1] != (None,):
            continue
        values = tensors[name]
        if field.kind == "class":
            columns["class"] = [_named(row, field.names) for row in values.numpy()]
        else:
            columns["box" if field.kind == "boxes" else name] = _rounded(values)
    return [
        Objects(
            {name: column[row][place] for name, column in columns.items()} for place in range(count)
        )
        for row, count in enumerate(lengths.tolist())
    ]


class Steps(list[dict[str, Any]]):
    """What was forecast of an example: of each step its time, if it is known, and its numbers.

    As a text it is how many steps there are.
    """

    def __str__(self) -> str:
        return f"{len(self)} steps"


def _forecasts(
    field: Field, values: Tensor, times: Field | None, tensors: Mapping[str, Tensor]
) -> list[Steps]:
    """Steps of each of ``values`` (examples, horizon, series)."""
    names = field.names or [str(number) for number in range(values.shape[2])]
    found = [Steps(dict(zip(names, row, strict=True)) for row in one) for one in values.tolist()]
    if times is None:
        return found
    (head,) = times.names
    unit: Unit = "microsecond" if times.kind == "time" else "number"
    for steps, moments in zip(found, tensors[TIME].tolist(), strict=True):
        shown = written(moments, unit)
        steps[:] = [{head: when, **step} for when, step in zip(shown, steps, strict=True)]
    return found


def _rounded(values: Tensor) -> list[Any]:
    """To four decimals: a hundredth of a pixel, and of a per cent."""
    return values.double().mul(DECIMALS).round().div(DECIMALS).tolist()


def _named(numbers: np.ndarray[Any, Any], names: Sequence[str]) -> list[Any]:
    return [names[number] for number in numbers] if names else numbers.tolist()


def _ranked(
    chosen: str, name: str, names: Sequence[str], values: np.ndarray[Any, Any], top: int
) -> dict[str, list[Any]]:
    """The largest values (rows, classes) of each row, and whose they are."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :top]
    largest = np.take_along_axis(values, order, 1)
    found: dict[str, list[Any]] = {}
    for place in range(order.shape[1]):
        rank = f"_{place + 1}" if place else ""
        found[f"{chosen}{rank}"] = _named(order[:, place], names)
        found[f"{name}{rank}"] = largest[:, place].tolist()
    return found


def _each(name: str, names: Sequence[str], values: np.ndarray[Any, Any]) -> dict[str, list[Any]]:
    """A column for each of the second axis; of one alone under the name of all."""
    if values.shape[1] == 1:
        return {name: values[:, 0].tolist()}
    named = names if len(names) == values.shape[1] else range(values.shape[1])
    return {f"{name}[{one}]": values[:, place].tolist() for place, one in enumerate(named)}


def shown(value: Any) -> str:
    """A cell as a person reads it: numbers to six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
