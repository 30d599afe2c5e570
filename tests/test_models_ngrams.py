"""Bags of n-grams: what is in them, and how they share texts with a reader."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.models.sequence.ngrams import GAIN, NgramBag, NgramMixture, Ngrams
from dltrain.models.sequence.recurrent import GRU
from tests.conftest import Train
from tests.specs import words

PAD, UNKNOWN = 0, 1


def bag(kind: type[NgramBag] = NgramBag, **settings: Any) -> NgramBag:
    """One whose weights are drawn, so that each n-gram counts for something of its own."""
    torch.manual_seed(0)
    made = kind(3, 50, PAD, **settings)
    for weight in made.parameters():
        nn.init.normal_(weight)
    return made


def ids(*texts: list[int]) -> Tensor:
    longest = max(map(len, texts))
    return torch.tensor([[*text, *[PAD] * (longest - len(text))] for text in texts])


def test_a_text_is_the_sum_of_its_words_over_the_root_of_their_number() -> None:
    one = bag(length=1)

    words = one.words.weight[[7, 9, 7, 4]].sum(0)

    torch.testing.assert_close(one(ids([7, 9, 7, 4]))[0], GAIN * words / 2)


def test_order_counts_for_neighbors_and_not_for_words() -> None:
    a, b = ids([7, 9, 4], [4, 9, 7])

    torch.testing.assert_close(*bag(length=1)(torch.stack([a, b])))
    assert not torch.allclose(*bag(length=2)(torch.stack([a, b])))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_what_is_said_of_a_text_depends_on_it_alone(length: int) -> None:
    one = bag(length=length, buckets=1000)
    texts = [[5, 6, 7, 8, 9], [5], [6, 7], [9, 8, 7, 5]]

    together = one(ids(*texts, list(range(2, 40))))

    for row, text in enumerate(texts):
        torch.testing.assert_close(together[row], one(ids(text))[0])
        torch.testing.assert_close(together[row], one(ids(text).int())[0])


def test_what_holds_an_unknown_word_says_nothing() -> None:
    one = bag(length=2)

    said = one(ids([5, UNKNOWN, 6], [UNKNOWN, UNKNOWN, UNKNOWN]))

    torch.testing.assert_close(said[0], GAIN * one.words.weight[[5, 6]].sum(0) / 3**0.5)
    assert torch.equal(said[1], torch.zeros(3))


def test_longer_n_grams_add_to_shorter_ones() -> None:
    three, two = bag(length=3, buckets=999), bag(length=2, buckets=999)
    text = ids([5, 6, 7])

    added = (three(text) - two(text)) * 3**0.5 / GAIN

    assert (added - three.others.weight).abs().sum(1).min() < 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "at least 1 word"),
        ({"buckets": 0}, "buckets is at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ngrams(2, 9, PAD, **settings)


def test_buckets_are_fewer_for_more_classes() -> None:
    few, many = NgramBag(2, 9, PAD), NgramBag(1000, 9, PAD)

    assert few.others.weight.numel() == pytest.approx(2**21, rel=0.01)
    assert many.others.weight.numel() == pytest.approx(2**21, rel=0.01)


def test_in_training_each_text_is_answered_by_one_of_two_and_else_by_both() -> None:
    mixture = bag(NgramMixture)
    assert isinstance(mixture, NgramMixture)
    texts = torch.randint(2, 50, (9, 6))
    answers = torch.randn(9, 3)

    drawn = mixture.mixed(texts, lambda rows: answers[rows])
    from_reader = (drawn == answers).all(1)
    again = mixture.mixed(texts, lambda rows: answers[rows])

    assert from_reader.sum() == 5
    torch.testing.assert_close(drawn[~from_reader], mixture(texts)[~from_reader])
    assert not torch.equal(from_reader, (again == answers).all(1))
    mixture.eval()
    torch.testing.assert_close(
        mixture.mixed(texts, lambda rows: answers[rows]), (answers + mixture(texts)) / 2
    )


def test_a_reader_with_a_bag_trains_both_however_it_is_read() -> None:
    torch.manual_seed(0)
    model = GRU(words(50), 2, hidden_size=4, ngrams=2)
    texts = torch.randint(2, 50, (8, 6))

    for logits in (model(texts), model.read(model.embed(texts), texts)):
        model.zero_grad()
        logits[:, 0].sum().backward()
        for weight in (model.output.weight, model.bag.words.weight, model.embedding.weight):
            assert weight.grad.abs().sum() > 0
    model.eval()
    torch.testing.assert_close(model(texts), model.read(model.embed(texts), texts))


@pytest.mark.parametrize("extra", [["model=ngrams"], ["model=gru", "model.ngrams=2"]], ids=str)
def test_the_command_trains_them(extra: list[str], train: Train) -> None:
    trained = train(*extra, "data=toy_reviews", "data.examples=400", "trainer.epochs=2")

    assert trained.summary["status"] == "finished"


def test_adversarial_training_asks_for_embeddings(train: Train) -> None:
    with pytest.raises(Exception, match="embeds words, which Ngrams does not"):
        train("model=ngrams", "data=toy_reviews", "task.adversarial=1")
