"""How far transcripts are from what was spoken: word and character error rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Metric, Outputs, Table
from dltrain.contracts.pieces import BLANK

if TYPE_CHECKING:
    from typing_extensions import Self

LISTED = 1000
"""Transcripts of a split that a table lists; the first of it."""
SHOWN = 10
LACKING = "\N{REPLACEMENT CHARACTER}"
"""In the place of a reference's letter that the alphabet lacks: no hypothesis has it."""


class Transcripts(Metric):
    """Edits between hypotheses and references, whole transcripts that are right, and examples.

    Of outputs it reads ``hypothesis`` (batch, letters) and ``hypothesis_length``, of the batch
    ``target`` and ``target_length``, all numbers of ``names``: letters, of which ``space`` parts
    words, or words that begin with ``space``. ``unknown`` is what the alphabet lacks. Rates are
    sums over the split: ``cer`` the edits of letters by the letters of the references, ``wer``
    those of words. ``exact`` is the fraction of transcripts without an edit.
    """

    names = ("wer", "cer", "exact")
    better = {"wer": "min", "cer": "min", "exact": "max"}  # noqa: RUF012 - as its contract has it

    def __init__(self, names: Sequence[str], unknown: int, space: str = BLANK) -> None:
        words = any(name.startswith(space) and name != space for name in names)
        self._said = [tuple(name.replace(space, " ")) for name in names]
        self._said[unknown] = (names[unknown],)
        self._true = list(self._said)
        self._true[unknown] = (" ", LACKING) if words else (LACKING,)
        # The blank before the first word is none of the text.
        self._first = 1 if words else 0
        self._parts: list[list[Tensor]] = []

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the numbers of the letters: to compare them, the host has to know them."""
        found = outputs["hypothesis"], outputs["hypothesis_length"]
        self._parts.append([rows, *found, batch["target"], batch["target_length"]])

    def merge(self, other: Self) -> None:
        self._parts += other._parts

    def state_dict(self) -> dict[str, Any]:
        """What was kept, batch by batch."""
        return {"parts": [list(part) for part in self._parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._parts = [list(part) for part in state["parts"]]

    def compute(self) -> Evaluation:
        """The rates, a table of transcripts, and some to read."""
        pairs = sorted(pair for part in self._parts for pair in self._pairs(part))
        letters = words = letter_edits = word_edits = right = 0
        lines: list[list[str | int | float]] = []
        for _, said, true in pairs:
            edits = edit_distance(said, true)
            letter_edits, letters = letter_edits + edits, letters + len(true)
            right += not edits
            own = [[word for word in "".join(one).split(" ") if word] for one in (said, true)]
            word_edits, words = word_edits + edit_distance(*own), words + len(own[1])
            if len(lines) < LISTED:
                lines.append(["".join(true), "".join(said), edits])
        scalars = {
            "wer": word_edits / max(1, words),
            "cer": letter_edits / max(1, letters),
            "exact": right / len(pairs),
        }
        header = "| reference | transcript |\n| --- | --- |\n"
        some = "\n".join(f"| {_cell(str(a))} | {_cell(str(b))} |" for a, b, _ in lines[:SHOWN])
        return Evaluation(
            scalars,
            tables={"transcripts": Table(["reference", "transcript", "edits"], lines)},
            texts={"transcripts": header + some},
            weights={"exact": len(pairs)},
        )

    def _pairs(self, part: Sequence[Tensor]) -> list[tuple[int, list[str], list[str]]]:
        rows, said, said_lengths, true, true_lengths = (one.cpu() for one in part)
        columns = (rows, said, said_lengths, true, true_lengths)
        return [
            (row, self._letters(self._said, a[:m]), self._letters(self._true, b[:n]))
            for row, a, m, b, n in zip(*(one.tolist() for one in columns), strict=True)
        ]

    def _letters(self, spelled: Sequence[Sequence[str]], ids: Sequence[int]) -> list[str]:
        return [letter for one in ids for letter in spelled[one]][self._first :]


def edit_distance(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Insertions, deletions and substitutions that make ``one`` of ``other`` (Levenshtein 1965)."""
    numbers: dict[Any, int] = {}
    a, b = ([numbers.setdefault(item, len(numbers)) for item in part] for part in (one, other))
    places = np.arange(len(b) + 1)
    theirs, row = np.array(b, np.int64), places.copy()
    for count, item in enumerate(a, 1):
        changed = np.minimum(row[:-1] + (theirs != item), row[1:] + 1)
        row = np.concatenate([[count], changed])
        # An insertion after an insertion: the least of all that come before, a step each.
        row = np.minimum.accumulate(row - places) + places
    return int(row[-1])


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or "(nothing)"
