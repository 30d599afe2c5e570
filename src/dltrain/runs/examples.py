"""A few real examples that a run keeps, to try it on where its data is not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, DataSpec, Streams
from dltrain.errors import UserError
from dltrain.files import own
from dltrain.runs.folder import RunFolder
from dltrain.tensor_files import read_tensors, reason

EXAMPLES = "examples.pt"
FORMAT = 1
COUNT = 8
NUMBERS = 1 << 23
"""That all examples have at most, where one has not more by itself."""
SPLITS = ("test", "validation", "train")
"""Where they are from: the first of these that there is."""


@dataclass(frozen=True)
class Examples:
    """Some rows of a split's first batch, as networks read them."""

    split: str
    columns: Batch


def keep_examples(folder: RunFolder, streams: Streams) -> None:
    """Write ``examples.pt``: at most ``COUNT`` examples, spread over the first batch of a split.

    Plain tensors: ``torch.load(path, weights_only=True)`` reads it.
    """
    split = next((name for name in SPLITS if name in streams), next(iter(streams)))
    batch = streams[split].first()
    size = len(next(iter(batch.values())))
    numbers = sum(column[0].numel() for column in batch.values())
    count = min(COUNT, size, max(1, NUMBERS // max(1, numbers)))
    rows = torch.linspace(0, size - 1, count).round().long()
    columns = {
        name: column[rows.to(column.device)].cpu()
        for name, column in batch.items()
        if len(column) == size
    }
    content = {"format": FORMAT, "split": split, "columns": columns}
    folder.write(EXAMPLES, lambda file: torch.save(content, file))


def examples_of_run(folder: RunFolder) -> Examples:
    """What :func:`keep_examples` wrote. Raises :class:`UserError` where it did not."""
    path = own(folder.path, EXAMPLES)
    if not path.is_file():
        raise UserError(
            f"{folder.path} has no {EXAMPLES}: an earlier version of dltrain wrote this run. "
            "Give examples to compare on: dltrain export RUN INPUT …"
        )
    try:
        content = read_tensors(path)
        split, columns = content["split"], content["columns"]
        known = content["format"] == FORMAT and isinstance(split, str)
        if not known or not all(isinstance(column, Tensor) for column in columns.values()):
            raise ValueError("it is of another format")
    except MemoryError:
        raise
    except Exception as error:  # as in checkpoint.load: whatever a damaged file makes of it
        raise UserError(f"{path} cannot be read: {reason(error)}") from error
    return Examples(split, dict(columns))


def inputs_of(columns: Batch, spec: DataSpec) -> Batch:
    """Those columns that are inputs, and how long they are."""
    names = [name for name, field in spec.fields.items() if field.role == "input"]
    wanted = [*names, *(f"{name}_length" for name in names)]
    return {name: column for name, column in columns.items() if name in wanted}
