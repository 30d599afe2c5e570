"""Texts to numbers and back: a vocabulary, by the ``tokenizers`` library."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from unicodedata import category

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dltrain.contracts.pieces import PAD, UNKNOWN
from dltrain.data.text.scripts import Tokens
from dltrain.data.text.untrained import (
    INSIDE,
    alphabet_of,
    blind_to_specials,
    for_classes,
    require_ours,
)
from dltrain.files import read_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Texts = Iterable[str] | Iterable[Sequence[str]]
PAD_INDEX, UNKNOWN_INDEX = 0, 1
ALPHABET = 6000
"""Different characters that BPE begins with at most; Chinese has thousands."""


class Vocabulary:
    """Words, or pieces of words, and their ids: 0 pads, 1 is all that is unknown.

    How texts are cleaned, lower-cased, split and cut is part of it, so that its file is all that
    another text needs to become a model's input.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def learn(
        cls,
        texts: Texts,
        size: int,
        tokens: Tokens = "word",
        min_frequency: int = 1,
        lower: bool = True,
        clean_markup: bool = True,
    ) -> Vocabulary:
        """Keep the ``size`` most frequent words of ``texts``, the two special ids among them.

        ``texts`` may come in lists. Left out is what occurs fewer than ``min_frequency`` times.
        ``tokens`` are as in :data:`~dltrain.data.text.scripts.PATTERNS`. ``bpe`` is byte-pair
        encoding within words (Sennrich, Haddow and Birch 2016), of which pieces that go on with a
        word begin with ``##``.
        """
        learn = _pieces if tokens == "bpe" else _words
        return cls(learn(texts, size, min_frequency, for_classes(tokens, lower, clean_markup)))

    @classmethod
    def load(cls, path: Path | str) -> Vocabulary:
        """Read what :meth:`save` wrote: a run's ``tokenizer.json``; see :meth:`parse`."""
        return cls.parse(read_text(Path(path)))

    @classmethod
    def parse(cls, text: str) -> Vocabulary:
        """Of what :attr:`text` was. Raises ValueError for what is no tokenizer, or another's.

        A file of the library's format may hold steps that never end or take any memory: what
        :meth:`learn` does not write is not given to the library.
        """
        from tokenizers import Tokenizer

        require_ours(text)
        try:
            return cls(Tokenizer.from_str(text))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"the tokenizer cannot be read: {error}") from error

    def save(self, path: Path) -> None:
        """Write the tokenizers library's own format."""
        path.write_text(self.text, encoding="utf-8")

    @property
    def text(self) -> str:
        """What :meth:`save` writes."""
        return str(self._tokenizer.to_str())

    def cut(self, length: int | None, keep: Literal["first", "last"] = "first") -> None:
        """From now on, of a longer text give the first or the last ``length`` tokens alone."""
        if length is None:
            self._tokenizer.no_truncation()
        else:
            side = {"first": "right", "last": "left"}[keep]
            self._tokenizer.enable_truncation(length, direction=side)

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def words(self) -> list[str]:
        """The token of each id."""
        found: dict[str, int] = self._tokenizer.get_vocab()
        return sorted(found, key=found.__getitem__)

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """The ids of each text; none for one that holds nothing."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def batch(self, texts: Sequence[str]) -> Tensor:
        """A model's input: int32 ids (texts, time), padded on the right to the longest.

        A text that holds nothing becomes one unknown token.
        """
        return self.padded(self.rows(texts))

    def rows(self, texts: Sequence[str]) -> list[Tensor]:
        """The int32 ids of each text; of one that holds nothing, one unknown token."""
        return [torch.from_numpy(or_unknown(ids)) for ids in self.encode(texts)]

    @staticmethod
    def padded(rows: Sequence[Tensor]) -> Tensor:
        """Ids (texts, time), padded on the right to the longest."""
        return torch.nn.utils.rnn.pad_sequence(
            list(rows), batch_first=True, padding_value=PAD_INDEX
        )


def or_unknown(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The ids, or that of the unknown token where there is none."""
    return ids if len(ids) else np.array([UNKNOWN_INDEX], np.int32)


def kept_of(text: str, kept: Sequence[bool]) -> str | None:
    """A vocabulary's file without the words that are not ``kept``, the others numbered anew.

    None of byte pairs, whose pieces are made of each other. The library is not needed.
    """
    content = json.loads(text)
    if content["model"]["type"] != "WordLevel":
        return None
    known = {word: index for word, index in content["model"]["vocab"].items() if kept[index]}
    content["model"]["vocab"] = {
        word: index for index, word in enumerate(sorted(known, key=known.__getitem__))
    }
    return json.dumps(content, ensure_ascii=False)


def _words(texts: Texts, size: int, min_frequency: int, untrained: Tokenizer) -> Tokenizer:
    from tokenizers import trainers

    trainer = trainers.WordLevelTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=[PAD, UNKNOWN],
        show_progress=False,
    )
    untrained.train_from_iterator(texts, trainer)
    return blind_to_specials(untrained)


def _pieces(texts: Texts, size: int, min_frequency: int, untrained: Tokenizer) -> Tokenizer:
    from tokenizers import trainers

    parts: list[str | Sequence[str]] = []
    counts: Counter[str] = Counter()
    for part in texts:
        parts.append(part)
        for text in [part] if isinstance(part, str) else part:
            counts.update(untrained.normalizer.normalize_str(text))
    seen = {letter: count for letter, count in counts.items() if not letter.isspace()}
    alphabet = alphabet_of(seen, min(ALPHABET, size // 4))
    # The library would number them in any order, another in each process.
    inside = [INSIDE + one for one in sorted(alphabet["initial_alphabet"]) if _goes_on(one)]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        # Joined by what one text alone has, whole texts become tokens.
        min_frequency=max(2, min_frequency),
        special_tokens=[PAD, UNKNOWN, *inside],
        continuing_subword_prefix=INSIDE,
        show_progress=False,
        **alphabet,
    )
    untrained.train_from_iterator(parts, trainer)
    return blind_to_specials(untrained)


def _goes_on(letter: str) -> bool:
    """Whether a word may go on with it: a letter, mark, digit, apostrophe, part of a flag, or _."""
    flag = "\U0001f1e6" <= letter <= "\U0001f1ff"
    return (
        letter.isalnum()
        or flag
        or category(letter)[0] == "M"
        or category(letter) == "Pc"
        or letter in "'’"
    )
