"""The word vectors of a trained network, and a file of them that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from dltrain.contracts.data import Field
from dltrain.contracts.pieces import BLANK, SPECIAL
from dltrain.contracts.task import Task
from dltrain.errors import UserError


@runtime_checkable
class Embedded(Protocol):
    """A network whose words have vectors."""

    def embedding_weight(self) -> Tensor | None:
        """The vectors (words, width); None where there are none."""


@dataclass(frozen=True)
class Written:
    """How many words were written, of what width; tokens that were left out, by the reason."""

    words: int
    width: int
    left_out: dict[str, int]


def vectors_of(task: Task) -> Tensor | None:
    """Those of the first network in the task that has some (words, width), on the CPU."""
    for module in task.modules():
        if isinstance(module, Embedded):
            table = module.embedding_weight()
            return None if table is None else table.detach().float().cpu()
    return None


def write_vectors(task: Task, field: Field, file: Path) -> Written:
    """Write the vectors of the tokens of ``field``, the most frequent ones first.

    The file has the text format of word2vec: a line of how many words there are and how wide, then
    a word and its numbers a line, parted by blanks. The mark of the blank in front of a language
    model's words is left off. Tokens that are no words of that format are left out: padding and the
    like, what holds a blank or ends a line, and of tokens that differ in that mark the rarer one.

    Raises :class:`UserError` where the network has no word vectors, or no token is a word.
    """
    table = vectors_of(task)
    if field.kind != "tokens" or table is None or len(table) != len(field.names):
        raise UserError("export: --vectors: this run's network has no word vectors.")
    left_out: dict[str, int] = {}
    places: dict[str, int] = {}
    for place in sorted(range(len(field.names)), key=_rarity(field)):
        word, fault = _word(field.names[place])
        fault = fault or (
            "rarer than the same word with or without a blank in front" if word in places else ""
        )
        if fault:
            left_out[fault] = left_out.get(fault, 0) + 1
        else:
            places[word] = place
    if not places:
        raise UserError("export: --vectors: none of this run's tokens is a word.")
    file.write_text("".join(_lines(table, places)), encoding="utf-8")
    return Written(len(places), table.shape[1], left_out)


def _rarity(field: Field) -> Callable[[int], int]:
    return (lambda place: -field.counts[place]) if field.counts else (lambda place: place)


def _word(name: str) -> tuple[str, str]:
    """A token as a word, and why it is none."""
    if name in SPECIAL:
        return name, "padding and the like"
    word = name.removeprefix(BLANK) or name
    return word, "" if word and word.split() == [word] else "blanks and line ends"


def _lines(table: Tensor, places: dict[str, int]) -> Iterator[str]:
    yield f"{len(places)} {table.shape[1]}\n"
    for word, place in places.items():
        yield f"{word} {' '.join(f'{value:.6g}' for value in table[place].tolist())}\n"
