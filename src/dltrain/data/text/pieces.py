"""Pieces of words that lose nothing of a text: byte-pair encoding for what is to be written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dltrain.contracts.pieces import BEGIN, BYTES, END, PAD, UNKNOWN
from dltrain.data.text.untrained import alphabet_of, blind_to_specials, of_pieces
from dltrain.data.text.vocabulary import ALPHABET, Vocabulary

BEGIN_INDEX, END_INDEX = 2, 3
"""After those of padding and of the unknown token, which no text has."""
FEWEST = 4 + len(BYTES)
"""Tokens of the smallest vocabulary: the special ones and all bytes."""


def learn_pieces(texts: Iterable[str], size: int, lower: bool = False) -> Vocabulary:
    """Byte-pair encoding (Sennrich, Haddow and Birch 2016) of at most ``size`` tokens.

    A character that is not among them is the bytes of its UTF-8, so nothing is ever unknown, and
    :func:`~dltrain.contracts.pieces.sentence_of` gives back each text: in Unicode's form NFC, with
    one blank for several, without any at its ends and, with ``lower``, in lower case.

    Raises ValueError for a size below ``FEWEST``.
    """
    from tokenizers import trainers

    if size < FEWEST:
        raise ValueError(
            f"vocabulary_size is at least {FEWEST}, 256 bytes and 4 special tokens among them; "
            f"got {size}"
        )
    tokenizer, texts = of_pieces(lower), list(texts)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.normalizer.normalize_str(text))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[PAD, UNKNOWN, BEGIN, END, *BYTES],
        **alphabet_of(counts, min(ALPHABET, (size - FEWEST) // 2 + 1)),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Vocabulary(blind_to_specials(tokenizer))
