"""Vocabularies of whole texts: from their tokens the text can be told again, blanks and all.

What a :class:`~dltrain.data.text.vocabulary.Vocabulary` is made of for classification lower-cases,
and drops blanks; a language model has to predict them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from dltrain.contracts.pieces import BLANK, BYTES, PAD, UNKNOWN
from dltrain.data.text.untrained import (
    StreamTokens,
    alphabet_of,
    blind_to_specials,
    of_whole_texts,
)
from dltrain.data.text.vocabulary import UNKNOWN_INDEX, Vocabulary

Ids = npt.NDArray[np.int32]
SIZES: dict[StreamTokens, int] = {"character": 1 << 20, "word": 20_000, "bpe": 4000}
"""Tokens of a vocabulary whose size is not given; there are not as many characters."""
PART, CHUNK = 10_000, 1000
"""Characters of a line that are encoded at a time, and lines: an encoding takes much memory."""


def least_size(tokens: StreamTokens) -> int:
    """The fewest tokens that a vocabulary of this kind can have."""
    return 3 if tokens != "bpe" else 2 + len(BYTES) + 1


def learn_lossless(text: str, tokens: StreamTokens, size: int, min_frequency: int) -> Vocabulary:
    """A vocabulary of ``text``: its ``size`` most frequent tokens, those of no text among them.

    Left out is what occurs fewer than ``min_frequency`` times; the id of the unknown token stands
    for it. ``bpe`` is byte-pair encoding (Sennrich, Haddow and Birch 2016): a character
    that it has not met is written as the bytes of its UTF-8, so that nothing is unknown.
    """
    from tokenizers import trainers

    specials = [PAD, UNKNOWN]
    trainer: trainers.Trainer
    if tokens == "bpe":
        specials += BYTES
        learning = of_whole_texts(tokens)
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=max(2, min_frequency),  # what one place alone has teaches nothing
            special_tokens=specials,
            **alphabet_of(_by_frequency(text), max(1, (size - len(specials)) // 2)),
            show_progress=False,
        )
    else:
        words = _characters(text, size, min_frequency) if tokens == "character" else None
        learning = of_whole_texts(tokens, words)
        trainer = trainers.WordLevelTrainer(
            vocab_size=size,
            min_frequency=min_frequency,
            special_tokens=specials,
            show_progress=False,
        )
    if tokens != "character":
        learning.train_from_iterator(parts_of(text), trainer)
    return Vocabulary(blind_to_specials(learning))


def encode_lossless(vocabulary: Vocabulary, text: str, tokens: StreamTokens) -> Ids:
    """The ids (tokens,) int32 of a long text."""
    if tokens == "character":
        return _character_ids(vocabulary, text)
    parts = parts_of(text)
    found: list[Ids] = []
    while chunk := list(islice(parts, CHUNK)):
        found += vocabulary.encode(chunk)
    return np.concatenate(found) if found else np.empty(0, np.int32)


def _characters(text: str, size: int, min_frequency: int) -> dict[str, int]:
    """The most frequent characters and their ids; what the library learns, in no time."""
    found = _by_frequency(text).items()
    names = [name for name, count in found if count >= min_frequency][: size - 2]
    return {name: index for index, name in enumerate([PAD, UNKNOWN, *names])}


def _by_frequency(text: str) -> dict[str, int]:
    """The characters, the most frequent first, and how often each occurs."""
    codes, counts = np.unique(_codes(text), return_counts=True)
    return {chr(codes[row]): int(counts[row]) for row in np.lexsort((codes, -counts))}


def _character_ids(vocabulary: Vocabulary, text: str) -> Ids:
    """By a table of all code points, which is hundreds of times as fast as the library."""
    table = np.full(sys.maxunicode + 1, UNKNOWN_INDEX, np.int32)
    for index, name in enumerate(vocabulary.words):
        if len(name) == 1:
            table[ord(name)] = index
    return table[_codes(text)]


def _codes(text: str) -> npt.NDArray[np.uint32]:
    """The code point of each character (characters,)."""
    named = text.replace(" ", BLANK)
    return np.frombuffer(named.encode("utf-32-le", "surrogatepass"), np.uint32)


def parts_of(text: str) -> Iterator[str]:
    """The lines of ``text``, each with its end; of a long one at most ``PART`` characters.

    No token goes over the end of a part. Long lines are cut at a blank where they have one.
    """
    for line in text.splitlines(keepends=True):
        start = 0
        while len(line) - start > PART:
            end = line.rfind(" ", start + 1, start + PART)
            end = end if end > start else start + PART
            yield line[start:end]
            start = end
        yield line[start:]
