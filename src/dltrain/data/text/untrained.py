"""Tokenizers before they have learned anything: how texts are cleaned and split, and the model.

They are all that this version makes, and all whose files it reads: see :func:`require_ours`.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from dltrain.contracts.pieces import BEGIN, BLANK, BYTES, END, PAD, UNKNOWN
from dltrain.data.text.scripts import IGNORABLE, PATTERNS, Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MARKUP = r"</?[A-Za-z][^<>]*>|<!--.*?-->"
"""HTML's tags and comments: ``<br />``, but not ``a < b``."""
INSIDE = "##"
"""What a piece begins with that goes on with a word."""
LEARNED = ("vocab", "merges")
CUT = {"stride": 0, "strategy": "LongestFirst"}
StreamTokens = Literal["character", "word", "bpe"]
STREAM_PATTERNS: dict[StreamTokens, str] = {
    "character": r"[\s\S]",
    # A blank belongs to the word behind it; characters of scripts without blanks stand alone.
    "word": rf"{BLANK}?(?:{PATTERNS['mixed']})|[\s\S]",
    "bpe": rf"{BLANK}?\w+|{BLANK}?[^\w\s{BLANK}]+|{BLANK}+|[\s\S]",
}
"""What is a token, or for ``bpe`` what is cut into tokens; together they are the whole text."""
PIECES_PATTERN = (
    rf"{BLANK}?[\p{{L}}\p{{M}}]+|{BLANK}?\p{{N}}|{BLANK}?[^\p{{L}}\p{{M}}\p{{N}}{BLANK}]+|{BLANK}"
)
"""What pieces do not go beyond: a word, one digit, some punctuation, each with the blank before."""


def for_classes(tokens: Tokens, lower: bool, clean_markup: bool) -> Tokenizer:
    """Of texts that are to be classified: what is no word is dropped."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    model = (
        models.BPE(unk_token=UNKNOWN, continuing_subword_prefix=INSIDE)
        if tokens == "bpe"
        else models.WordLevel(unk_token=UNKNOWN)
    )
    steps: list[Any] = [normalizers.Replace(Regex(IGNORABLE), ""), normalizers.NFC()]
    if clean_markup:
        steps.append(normalizers.Replace(Regex(MARKUP), " "))
        entities = {"&quot;": '"', "&#39;": "'", "&nbsp;": " ", "&lt;": "<", "&gt;": ">"}
        steps += [normalizers.Replace(*pair) for pair in {**entities, "&amp;": "&"}.items()]
    if lower:
        steps.append(normalizers.Lowercase())
    if tokens == "character":
        blanks = normalizers.Replace(Regex(r"\s+"), " ")
        steps += [blanks, normalizers.Strip(), normalizers.Replace(" ", BLANK)]
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(steps)
    pattern = Regex(PATTERNS[tokens])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "removed", invert=True)
    return tokenizer


def of_whole_texts(tokens: StreamTokens, words: dict[str, int] | None = None) -> Tokenizer:
    """Of language models: nothing is dropped. ``words`` may be known already, with their ids."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE(unk_token=UNKNOWN, byte_fallback=True)
        if tokens == "bpe"
        else models.WordLevel(words, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Replace(" ", BLANK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(STREAM_PATTERNS[tokens]), "isolated")
    return tokenizer


def of_pieces(lower: bool) -> Tokenizer:
    """Of translations: one blank for several, and one before the first word."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True))
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    steps += [normalizers.Lowercase()] if lower else []
    steps += [normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES_PATTERN), "removed", invert=True)
    return tokenizer


def alphabet_of(counts: Mapping[str, int], most: int) -> dict[str, Any]:
    """What a trainer of byte pairs is told: the ``most`` frequent characters of ``counts``.

    Of equally frequent ones the library takes any, others in each process.
    """
    known = sorted(counts, key=lambda name: (-counts[name], name))[:most]
    return {"initial_alphabet": known, "limit_alphabet": len(known)}


def blind_to_specials(tokenizer: Tokenizer) -> Tokenizer:
    """The same, but a text that spells ``<pad>`` gets the ids of its words, as any other."""
    from tokenizers import Tokenizer

    content = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps(content | {"added_tokens": []}))


def require_ours(text: str) -> None:
    """Raise ValueError unless ``text`` has the steps of a tokenizer that was learned here."""
    try:
        content = json.loads(text)
        vocabulary, cut = content["model"]["vocab"], content["truncation"]
        numbered = sorted(vocabulary.values()) == list(range(len(vocabulary)))
        first = sorted(vocabulary, key=vocabulary.__getitem__)
        steps = _steps_of(content)
        length = 1 if cut is None else cut.pop("max_length")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"the tokenizer cannot be read: {type(error).__name__}: {error}"
        ) from error
    specials = _known().get(steps)
    cuts = [None, *(CUT | {"direction": side} for side in ("Left", "Right"))]
    if (
        specials is None
        or not numbered
        or first[: len(specials)] != specials
        or not (cut in cuts and type(length) is int and 0 < length < 2**31)
    ):
        raise ValueError(
            "the tokenizer is not one that this version of dltrain learns: it has other steps, or "
            "another numbering"
        )


@functools.cache
def _known() -> dict[str, list[str]]:
    """Of every tokenizer that is made here its steps, and the tokens that come first."""
    both = (True, False)
    kinds = itertools.product(PATTERNS, both, both)
    made = [(for_classes(*kind), [PAD, UNKNOWN]) for kind in kinds]
    for tokens in STREAM_PATTERNS:
        known = [PAD, UNKNOWN, *(BYTES if tokens == "bpe" else ())]
        made.append((of_whole_texts(tokens), known))
    made += [(of_pieces(lower), [PAD, UNKNOWN, BEGIN, END, *BYTES]) for lower in both]
    return {_steps_of(json.loads(one.to_str())): specials for one, specials in made}


def _steps_of(content: dict[str, Any]) -> str:
    """All of a tokenizer's file but what it has learned, and where it cuts."""
    model = {name: value for name, value in content["model"].items() if name not in LEARNED}
    steps = {name: value for name, value in content.items() if name != "truncation"}
    return json.dumps(steps | {"model": model}, sort_keys=True)
