"""Word vectors from a file, in the text format of GloVe and word2vec."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dltrain.files import open_file

logger = logging.getLogger(__name__)

LONGEST = 1 << 20
"""Characters of a line; one with more holds no word vector."""
FEW = 0.5
"""A fraction of the training tokens with a vector below which there is a warning."""


@torch.no_grad()
def take_vectors(
    weight: Tensor, source: str, words: Sequence[str], counts: Sequence[int] = ()
) -> None:
    """Copy the vectors of ``words`` from a file into ``weight`` (words, width), where it has them.

    A line is a word and its numbers, parted by blanks; a first line of two numbers, as word2vec
    writes it, is how many there are and how wide. Where a word stands in another case alone, that
    one is taken. The others keep their values, and a message says what fraction of the words and,
    by ``counts``, of the training tokens was found. There is a warning where the file does not have
    as many vectors as its first line says: it may be cut off.

    Raises ValueError, naming the line, where the file is no such file or its vectors are of another
    width.
    """
    wanted = {word: place for place, word in enumerate(words)}
    exact: dict[int, Tensor] = {}
    near: dict[int, Tensor] = {}
    path = Path(source).expanduser()
    for number, word, cells in _lines(path):
        if word not in wanted and word.lower() not in wanted:
            continue
        if len(cells) != weight.shape[1]:
            raise ValueError(
                f"vectors: {path}, line {number}: {word!r} has {len(cells)} numbers, and "
                f"embedding_size is {weight.shape[1]}"
            )
        try:
            vector = torch.tensor([float(cell) for cell in cells])
        except ValueError:
            vector = torch.tensor([torch.nan])
        if not vector.isfinite().all():
            raise ValueError(f"vectors: {path}, line {number}: {word!r} has what is no number")
        if word in wanted:
            exact.setdefault(wanted[word], vector)
        else:
            near.setdefault(wanted[word.lower()], vector)
    found = near | exact
    if not found:
        raise ValueError(f"vectors: {path} has a vector of none of the {len(words):,} words")
    places = torch.tensor(list(found))
    weight[places] = torch.stack(list(found.values())).to(weight)
    _tell(path, found, len(words), counts)


def _lines(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """The number, the word and the numbers of each line."""
    try:
        with open_file(path, "rb") as file:
            number = read = 0
            promised: int | None = None
            while line := file.readline(LONGEST):
                number += 1
                if len(line) == LONGEST:
                    raise ValueError(f"vectors: {path}, line {number} is no word and its numbers")
                word, *cells = _decoded(line, path, number).rstrip().split(" ")
                if number == 1 and len(cells) == 1 and word.isdecimal():
                    promised = int(word)
                elif cells:
                    read += 1
                    yield number, word, cells
    except OSError as error:
        raise ValueError(f"vectors: {path} cannot be read: {error.strerror}") from error
    if promised is not None and read != promised:
        logger.warning(
            "vectors: %s says %s vectors in its first line, and has %s: it may be cut off.",
            *(path, f"{promised:,}", f"{read:,}"),
        )


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"vectors: {path}, line {number} is no UTF-8 text; word2vec's binary format is not "
            "read, its text format is"
        ) from error


def _tell(path: Path, found: Mapping[int, Tensor], words: int, counts: Sequence[int]) -> None:
    told = f"{len(found):,} of {words:,} words ({len(found) / words:.1%})"
    covered = None
    if total := sum(counts):
        covered = sum(counts[place] for place in found) / total
        told += f", {covered:.1%} of the training tokens,"
    level = logging.WARNING if covered is not None and covered < FEW else logging.INFO
    logger.log(level, "vectors: %s begin with a vector of %s.", told, path)
