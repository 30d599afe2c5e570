"""The vocabulary: what a word is, which are known, and what its file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.data.text.lossless import learn_lossless
from dltrain.data.text.pieces import learn_pieces
from dltrain.data.text.untrained import STREAM_PATTERNS
from dltrain.data.text.vocabulary import Vocabulary

TEXTS = ["a good film", "a bad film", "good , good film !", "don't ask"]


def spelt(vocabulary: Vocabulary, text: str) -> list[str]:
    """A text as the vocabulary has it."""
    return [vocabulary.words[i] for i in vocabulary.encode([text])[0]]


def test_words_come_by_frequency_after_the_padding_and_the_unknown() -> None:
    vocabulary = Vocabulary.learn(TEXTS, 100)
    assert vocabulary.words[:5] == ["<pad>", "<unk>", "film", "good", "a"]
    assert len(vocabulary) == 10
    assert spelt(vocabulary, "good strange film") == ["good", "<unk>", "film"]


def test_size_and_frequency_cut_what_is_rare() -> None:
    assert Vocabulary.learn(TEXTS, 4).words == ["<pad>", "<unk>", "film", "good"]
    frequent = Vocabulary.learn(TEXTS, 100, min_frequency=2).words
    assert frequent == ["<pad>", "<unk>", "film", "good", "a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't ASK!", ["don't", "ask", "!"]),
        ("good<br /><br />film", ["good", "film"]),
        ("<i class='x'>good</i> <!-- a film --> film", ["good", "film"]),
        ("good &amp; bad", ["good", "&", "bad"]),
        ("3 < 4 > 2", ["3", "<", "4", ">", "2"]),
        ("film...", ["film", ".", ".", "."]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("go\u200bod\ufeff film\u00ad", ["good", "film"]),
        ("good\u2764\ufe0ffilm", ["good", "\u2764", "film"]),
        ("", []),
        (" \t\n", []),
        ("<br />", []),
    ],
)
def test_a_text_is_cleaned_and_split_into_words_and_marks(text: str, words: list[str]) -> None:
    known = Vocabulary.learn(["don't ask ! good film & bad < > 2 3 4 . caf\u00e9 \u2764"], 100)
    assert spelt(known, text) == words


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        (
            "word",
            "\U0001f44d\U0001f3fd\U0001f1e9\U0001f1ea",
            "\U0001f44d \U0001f3fd \U0001f1e9\U0001f1ea",
        ),
        ("character", " Ab\u3000\n c", "a b \u2581 c"),
        ("character", "\u0e19\u0e35\u0e49\u0e01", "\u0e19\u0e35\u0e49 \u0e01"),
        ("mixed", "\u5f88\u597dCPU don't\uff0c", "\u5f88 \u597d cpu don't \uff0c"),
        ("mixed", "\u0e19\u0e35\u0e49ok", "\u0e19\u0e35\u0e49 ok"),
    ],
)
def test_what_a_token_is_depends_on_the_kind(tokens: Any, text: str, expected: str) -> None:
    vocabulary = Vocabulary.learn([text], 100, tokens)
    assert " ".join(spelt(vocabulary, text)) == expected
    assert spelt(Vocabulary.parse(vocabulary.text), text) == expected.split()


@pytest.mark.parametrize(
    "learned",
    [
        *(learn_lossless("a good film\n" * 9, kind, 400, 1) for kind in STREAM_PATTERNS),
        *(learn_pieces(TEXTS, 400, lower) for lower in (True, False)),
    ],
)
def test_every_kind_that_is_learned_here_is_read_again_and_no_other(learned: Vocabulary) -> None:
    text = "A  strange film"
    read = Vocabulary.parse(learned.text)
    assert read.encode([text])[0].tolist() == learned.encode([text])[0].tolist()

    content = json.loads(learned.text)
    words = content["model"]["vocab"]
    words["film "], words["<unk>"] = words["<unk>"], len(words)
    with pytest.raises(ValueError, match="the tokenizer is not one"):
        Vocabulary.parse(json.dumps(content))
    content = json.loads(learned.text)
    content["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    with pytest.raises(ValueError, match="the tokenizer is not one"):
        Vocabulary.parse(json.dumps(content))


@pytest.mark.parametrize(
    "learn",
    [
        lambda texts: learn_lossless("\n".join(texts), "bpe", 320, 1),
        lambda texts: learn_pieces(texts, 320),
        lambda texts: Vocabulary.learn(texts, 320, "bpe"),
    ],
    ids=["lossless", "pieces", "classes"],
)
def test_byte_pairs_of_the_same_texts_are_the_same(learn: Any) -> None:
    """The library takes any of equally frequent characters, and numbers them in any order."""
    letters = [chr(0x4E00 + n) for n in range(400)]
    texts = ["".join(letters[n : n + 5]) for n in range(0, 400, 5)] * 2
    first = learn(texts).text
    assert all(learn(texts).text == first for _ in range(4))


def test_byte_pairs_do_not_learn_whole_texts_by_heart() -> None:
    texts = ["\u5f88\u597d\u770b\u7684\u7535\u5f71", "\u7535\u5f71\u4e0d\u597d\u770b"]
    words = Vocabulary.learn(texts, 100, "bpe").words[2:]
    assert {len(word.removeprefix("##")) for word in words} == {1, 2}


def test_cleaning_and_lower_case_can_be_left_out() -> None:
    vocabulary = Vocabulary.learn(["Good<br>"], 100, lower=False, clean_markup=False)
    assert sorted(vocabulary.words[2:]) == ["<", ">", "Good", "br"]


@pytest.mark.parametrize("tokens", ["word", "bpe"])
def test_a_text_cannot_spell_the_padding(tokens: Any) -> None:
    texts = ["<pad> <unk> film"] * 5
    vocabulary = Vocabulary.learn(texts, 100, tokens, clean_markup=False)
    ids = vocabulary.encode(["<pad> <unk> film"])[0].tolist()
    assert min(ids) > 1


def test_pieces_spell_words_that_were_never_seen() -> None:
    texts = ["walk walks walked talk talks talking look looking"] * 20
    vocabulary = Vocabulary.learn(texts, 60, "bpe")
    assert spelt(vocabulary, "walk") == ["walk"]
    pieces = spelt(vocabulary, "looked")
    assert "<unk>" not in pieces and len(pieces) > 1
    assert pieces[0] + "".join(piece.removeprefix("##") for piece in pieces[1:]) == "looked"
    assert all(piece.startswith("##") for piece in pieces[1:])


@pytest.mark.parametrize("tokens", ["word", "bpe"])
def test_a_batch_is_padded_on_the_right_and_an_empty_text_is_unknown(tokens: Any) -> None:
    vocabulary = Vocabulary.learn(TEXTS * 9, 200, tokens)
    batch = vocabulary.batch(["a good film", "", "film"])
    film = vocabulary.words.index("film")
    assert batch.dtype == torch.int32 and batch.shape == (3, 3)
    assert batch[1].tolist() == [1, 0, 0]
    assert batch[2].tolist() == [film, 0, 0]


@pytest.mark.parametrize("tokens", ["word", "bpe"])
@pytest.mark.parametrize(("keep", "expected"), [("first", "a good"), ("last", "good film")])
def test_its_file_is_all_that_another_text_needs(
    tokens: Any, keep: Any, expected: str, tmp_path: Path
) -> None:
    learned = Vocabulary.learn(TEXTS * 9, 200, tokens)
    whole = learned.batch([expected])
    learned.cut(2, keep)
    learned.save(tmp_path / "tokenizer.json")

    found = Vocabulary.load(tmp_path / "tokenizer.json")
    assert found.words == learned.words
    assert torch.equal(found.batch(["A<br />GOOD film"]), whole)
    found.cut(None)
    assert found.batch(["a good film"]).shape == (1, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"padding": {"strategy": {"Fixed": 3_000_000_000}, "direction": "Right"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"truncation": {"max_length": 1, "stride": 5, "strategy": "LongestFirst"}},
        {"truncation": {"max_length": 1, "stride": 0, "strategy": "OnlySecond"}},
        {"model": {"type": "Unigram", "unk_id": None, "vocab": [], "byte_fallback": False}},
        {"model": {"type": "WordLevel", "vocab": {"<pad>": 0, "<unk>": 1}, "unk_token": "nope"}},
        {"model": {"type": "WordLevel", "vocab": {"<unk>": 1 << 30}, "unk_token": "<unk>"}},
        {"model": None},
    ],
)
def test_steps_that_are_not_ours_are_not_given_to_the_library(change: dict[str, Any]) -> None:
    """They end in no time, take any memory, or end the process."""
    vocabulary = Vocabulary.learn(["a good film", "a bad film"], 10)
    vocabulary.cut(3)
    text = vocabulary.text
    assert len(Vocabulary.parse(text)) == len(vocabulary)
    with pytest.raises(ValueError, match="the tokenizer"):
        Vocabulary.parse(json.dumps(json.loads(text) | change))
