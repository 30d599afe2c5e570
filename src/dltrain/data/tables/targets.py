"""The column of a table that is to be predicted, as a network learns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.transforms import TRANSFORMS
from dltrain.data.tables.parse import Numbers, Texts
from dltrain.data.tables.raw import RawTable


def targets_of(
    table: RawTable,
    name: str,
    column: Numbers | Texts,
    class_names: Sequence[str],
    transform: Literal["log", "log1p"] | None,
) -> Tensor:
    """Classes (rows,), or numbers (rows, 1) float64; of a missing cell, anything.

    Raises ``ValueError`` naming the place of a class that training lacks, or of a number that has
    no such logarithm.
    """
    if isinstance(column, Texts):
        index = {level: position for position, level in enumerate(class_names)}
        wrong = {level for level in column.levels if level not in index}
        if wrong:
            row = column.first(wrong)
            raise ValueError(
                f"{table.place(row, name)}: the training split has no class "
                f"{column.levels[column.codes[row]]!r}"
            )
        codes = np.array([*(index[level] for level in column.levels), 0], np.int64)
        return torch.from_numpy(codes[column.codes])
    known = TRANSFORMS[transform] if transform else None
    if known is not None and (column.values <= known.lowest).any():
        row = int((column.values <= known.lowest).argmax())
        raise ValueError(
            f"target_transform={transform} needs numbers above {known.lowest:g}; "
            f"{table.place(row, name)} is {column.values[row]:g}"
            + (". log1p takes 0, too" if transform == "log" else "")
        )
    return torch.tensor(column.values)[:, None]  # a copy: arrow's memory is not to be written
