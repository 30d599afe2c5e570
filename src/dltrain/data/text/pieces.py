"""Pieces of words that lose nothing of a text: byte-pair encoding for what is to be written."""

from __future__ import annotations

from collections.abc import Iterable

from dltrain.contracts.pieces import BEGIN, BLANK, BYTES, END, PAD, UNKNOWN
from dltrain.data.text.vocabulary import ALPHABET, Vocabulary, blind_to_specials

BEGIN_INDEX, END_INDEX = 2, 3
"""After those of padding and of the unknown token, which no text has."""
FEWEST = 4 + len(BYTES)
"""Tokens of the smallest vocabulary: the special ones and all bytes."""
PATTERN = (
    rf"{BLANK}?[\p{{L}}\p{{M}}]+|{BLANK}?\p{{N}}|{BLANK}?[^\p{{L}}\p{{M}}\p{{N}}{BLANK}]+|{BLANK}"
)
"""What pieces do not go beyond: a word, one digit, some punctuation, each with the blank before."""


def learn_pieces(texts: Iterable[str], size: int, lower: bool = False) -> Vocabulary:
    """Byte-pair encoding (Sennrich, Haddow and Birch 2016) of at most ``size`` tokens.

    A character that is not among them is the bytes of its UTF-8, so nothing is ever unknown, and
    :func:`~dltrain.contracts.pieces.text_of` gives back each text: in Unicode's form NFC, with one
    blank for several, without any at its ends and, with ``lower``, in lower case.

    Raises ValueError for a size below ``FEWEST``.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    if size < FEWEST:
        raise ValueError(
            f"vocabulary_size is at least {FEWEST}, 256 bytes and 4 special tokens among them; "
            f"got {size}"
        )
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True))
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    steps += [normalizers.Lowercase()] if lower else []
    steps += [normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[PAD, UNKNOWN, BEGIN, END, *BYTES],
        limit_alphabet=min(ALPHABET, (size - FEWEST) // 2 + 1),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Vocabulary(blind_to_specials(tokenizer))
