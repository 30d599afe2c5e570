"""The classes of labels in shards: learned in one pass over them, a code for each example."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dltrain.contracts.data import Field
from dltrain.data.shards.pieces import Part
from dltrain.data.tables.deciding import FEW
from dltrain.data.tables.values import CellFormat, sorted_levels
from dltrain.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

THREADS = 4
LABELS = ("label", "labels", "class", "target", "category")
"""What a column of classes is called that does not name them."""
SORTED, FEWEST = 0.1, 4
"""Of the changes from class to class that random order has, below which it is none; and pieces a
class that mix such an order."""
MOST = 100_000
"""Different labels, from which on they are no classes."""


@dataclass(frozen=True)
class Labels:
    """The column of labels, what each value's class is, and how often training has it."""

    column: str
    known: Mapping[Any, int]
    names: Sequence[str]
    counts: Sequence[int]

    @property
    def field(self) -> Field:
        """As the spec has it."""
        names, counts = tuple(self.names), tuple(self.counts)
        return Field((), "class", "target", size=len(names), names=names, counts=counts)

    def codes(self, column: Any) -> NDArray[np.int64]:
        """The class of each label; all of them are known."""
        coded = column.dictionary_encode()
        table = [self.known[value] for value in coded.dictionary.to_pylist()]
        return np.asarray(table, np.int64)[coded.indices.to_numpy(zero_copy_only=False)]


def learn_labels(parts: Mapping[str, Part]) -> Labels:
    """Read the labels of all splits, and nothing else of them.

    Raises :class:`UserError` for a label that is missing, for one that training lacks, and where
    there is nothing to tell apart.
    """
    train = parts["train"].shards
    assert train.label is not None
    counts: dict[str, Counter[Any]] = {}
    changes: Counter[str] = Counter()
    for split, part in parts.items():
        counts[split] = Counter()
        with ThreadPoolExecutor(THREADS) as pool:
            for found, turns in pool.map(part_counts(part), np.flatnonzero(part.counts).tolist()):
                counts[split].update(found)
                changes[split] += turns
                if len(counts[split]) > MOST:
                    raise UserError(
                        f"data.label: the column {train.label!r} has more than {MOST:,} different "
                        "values: these are no classes."
                    )
    named = train.class_names
    own = counts["train"]
    rows = own.total()
    if not named and len(own) > max(FEW, rows / 2):
        raise UserError(
            f"data.label: the column {train.label!r} has {len(own):,} different values in "
            f"{rows:,} rows: these are no classes."
        )
    if len(own) < 2:
        raise UserError(f"data.label: the column {train.label!r} has one value in all of training.")
    if named:
        known = dict(enumerate(named))
        values: list[Any] = list(known)
        names = list(named)
    else:
        by_text = {str(value): value for value in own}
        names = sorted_levels(list(by_text), CellFormat())
        values = [by_text[name] for name in names]
    classes = set(values)
    for split, found in counts.items():
        other = [value for value in found if value not in classes]
        if other:
            raise UserError(
                f"data.label: the {split} split has the label {other[0]!r}, which "
                f"{'is none of the named classes' if named else 'no training example has'}."
            )
    logger.info(
        "the labels were read first: %d classes of %s to %s training examples (%r).",
        *(len(values), f"{min(own[v] for v in values):,}", f"{max(own[v] for v in values):,}"),
        train.label,
    )
    expected = (1 - max(own.values()) / rows) * rows
    pieces = int((parts["train"].counts > 0).sum())
    if changes["train"] < SORTED * expected and pieces < FEWEST * len(values):
        logger.warning(
            "the examples lie in the order of their classes, and %d pieces of %d shards mix them "
            "little: write them in random order, or in smaller row groups or shards.",
            *(pieces, len(train.names)),
        )
    places = {value: place for place, value in enumerate(values)}
    return Labels(train.label, places, names, [own[value] for value in values])


def part_counts(part: Part) -> Callable[[int], tuple[Counter[Any], int]]:
    """What tells how often a piece has each label, and how often one follows another, of a part."""
    label = part.shards.label
    assert label is not None

    def count(number: int) -> tuple[Counter[Any], int]:
        found: Counter[Any] = Counter()
        turns = 0
        for batch, rows in part.read(number, [label]):
            column: pa.Array = batch.column(0)
            if column.null_count:
                row = int(rows[np.flatnonzero(column.is_null())[0]])
                place = part.shards.place(part.shards.pieces[number].shard, row)
                raise UserError(f"data.label: {place} has no label.")
            for entry in column.value_counts().to_pylist():
                found[entry["values"]] += entry["counts"]
            codes = column.dictionary_encode().indices.to_numpy(zero_copy_only=False)
            turns += int(np.count_nonzero(np.diff(codes)))
        return found, turns

    return count
