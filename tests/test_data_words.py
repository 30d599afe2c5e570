"""What is done to words in training: at random, exactly again, and never to padding."""

from __future__ import annotations

import pytest
import torch

from dltrain.contracts.data import Streams
from dltrain.data.text.augment import WordAugment
from dltrain.data.text.toy_reviews import ToyReviews
from dltrain.data.text.vocabulary import PAD_INDEX, UNKNOWN_INDEX
from tests.specs import words
from tests.streams import opened


def loaders(fraction: float) -> Streams:
    augment = WordAugment(word_dropout=fraction)
    return opened(ToyReviews(examples=400, test_examples=100, augment=augment), 0)


def test_words_are_dropped_in_training_only_and_padding_never() -> None:
    plain, dropping = loaders(0.0), loaders(0.4)
    seen = dropped = 0
    for whole, part in zip(plain["train"].plain(), dropping["train"].batches(0), strict=True):
        changed = whole["input"] != part["input"]
        assert (part["input"][changed] == UNKNOWN_INDEX).all()
        assert not changed[whole["input"] == PAD_INDEX].any()
        seen += int((whole["input"] != PAD_INDEX).sum())
        dropped += int(changed.sum())
    assert 0.37 < dropped / seen < 0.43
    for whole, part in zip(plain["test"].plain(), dropping["test"].batches(0), strict=True):
        assert torch.equal(whole["input"], part["input"])


def test_each_epoch_drops_others_and_a_resumed_one_the_same() -> None:
    train = loaders(0.4)["train"]
    first = [batch["input"] for batch in train.batches(0)]
    again = [batch["input"] for batch in train.batches(0, 2)]
    assert all(torch.equal(a, b) for a, b in zip(first[2:], again, strict=True))
    fractions = {float((batch == UNKNOWN_INDEX).float().mean()) for batch in first}
    others = {float((b["input"] == UNKNOWN_INDEX).float().mean()) for b in train.batches(1)}
    assert fractions != others


@pytest.mark.parametrize(("count", "expected"), [(99, 0.3), (100, 0.0), (None, 0.0)])
def test_words_are_dropped_by_themselves_where_they_are_rare(
    count: int | None, expected: float
) -> None:
    field = words(40, [count] * 40 if count else []).input
    assert WordAugment(word_dropout=None).fraction(field) == expected
    assert WordAugment(word_dropout=0.2).fraction(field) == 0.2


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_what_is_no_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="word_dropout is a fraction from 0 to below 1"):
        WordAugment(word_dropout=fraction)
