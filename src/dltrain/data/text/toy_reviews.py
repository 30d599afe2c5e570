"""Synthetic film reviews by a small grammar, in which the order of words decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any

from dltrain.data.text.source import TextSource
from dltrain.data.text.tokenized import Corpus, Texts

CLASS_NAMES = ("negative", "positive")
ADJECTIVES = (
    ("dull", "bad", "awful", "boring", "weak", "poor", "terrible", "flat", "clumsy", "silly"),
    ("good", "great", "wonderful", "brilliant", "moving", "superb", "strong", "funny", "fresh"),
)
"""Of each class."""
ASPECTS = ("acting", "plot", "music", "story", "dialogue", "ending", "camera", "cast", "pace")
DEGREES = ("", "", "really ", "very ", "quite ")
NEGATIONS = ("not", "never", "hardly", "by no means")
OPENINGS = (
    "",
    "i saw this film last {day} .",
    "my {friend} took me to see it .",
    "we watched it at home on {day} with my {friend} .",
)
ENDINGS = ("", "my {friend} fell asleep .", "that is all .", "we talked about it until {day} .")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FRIENDS = ("sister", "brother", "mother", "father", "neighbour", "teacher", "daughter", "uncle")


class ToyReviews(TextSource):
    """Made-up reviews that praise and blame with the same words; the verdict lies in their order.

    Negation turns an adjective round (``not good``), contrast says which of two opinions counts
    (``dull at first but in the end wonderful``). Either class has every word about as often, so
    that a bag of words learns next to nothing. ``examples`` and ``test_examples`` are drawn by
    ``data_seed``, whatever the run's seed; no review is in both.
    """

    class_names = CLASS_NAMES

    def __init__(
        self,
        examples: int = 4000,
        test_examples: int = 1000,
        data_seed: int = 0,
        **common: Any,
    ) -> None:
        if min(examples, test_examples) < 2:
            raise ValueError("examples and test_examples are at least 2: one of each class")
        if max(examples, test_examples) > 10**6:
            raise ValueError("examples and test_examples are at most 1,000,000")
        self.examples, self.test_examples, self.data_seed = examples, test_examples, data_seed
        super().__init__(**common)

    def key(self) -> dict[str, Any]:
        """How many, and drawn by what."""
        return {
            "source": "toy_reviews",
            "examples": [self.examples, self.test_examples],
            "seed": self.data_seed,
        }

    def corpus(self) -> Corpus:
        train = _write(self.examples, random.Random(2 * self.data_seed), ())
        taken = set(train.texts)
        test = _write(self.test_examples, random.Random(2 * self.data_seed + 1), taken)
        note = "the reviews are synthetic, written by a small grammar."
        return Corpus("toy_reviews", CLASS_NAMES, {"train": train, "test": test}, [note])


def _write(count: int, draw: random.Random, taken: Collection[str]) -> Texts:
    """As many of one class as of the other, none of which is ``taken``."""
    texts: list[str] = []
    while len(texts) < count:
        text = _review(len(texts) % 2, draw)
        if text not in taken:
            texts.append(text)
    return Texts(texts, [number % 2 for number in range(count)])


def _review(verdict: int, draw: random.Random) -> str:
    sentences = (draw.choice(OPENINGS), draw.choice(VERDICTS)(verdict, draw), draw.choice(ENDINGS))
    text = " ".join(sentence for sentence in sentences if sentence)
    return text.format(day=draw.choice(DAYS), friend=draw.choice(FRIENDS))


def _opinion(verdict: int, draw: random.Random) -> str:
    """``very good``, or ``not very dull``."""
    degree = draw.choice(DEGREES)
    if draw.random() < 0.5:
        return degree + draw.choice(ADJECTIVES[verdict])
    return f"{draw.choice(NEGATIONS)} {degree}{draw.choice(ADJECTIVES[1 - verdict])}"


def _clauses(first: int, second: int, draw: random.Random) -> list[str]:
    """Two aspects and an opinion of each, such as ``the plot was quite good``."""
    aspects = draw.sample(ASPECTS, 2)
    verdicts = (first, second)
    return [f"the {a} was {_opinion(v, draw)}" for a, v in zip(aspects, verdicts, strict=True)]


def _one(verdict: int, draw: random.Random) -> str:
    return f"the {draw.choice(ASPECTS)} was {_opinion(verdict, draw)} ."


def _both(verdict: int, draw: random.Random) -> str:
    return "{} and {} .".format(*_clauses(verdict, verdict, draw))


def _at_last(verdict: int, draw: random.Random) -> str:
    first, last = _opinion(1 - verdict, draw), _opinion(verdict, draw)
    return f"the {draw.choice(ASPECTS)} was {first} at first but in the end {last} ."


def _but(verdict: int, draw: random.Random) -> str:
    return "{} , but {} .".format(*_clauses(1 - verdict, verdict, draw))


def _although(verdict: int, draw: random.Random) -> str:
    lesser, greater = _clauses(1 - verdict, verdict, draw)
    return draw.choice((f"although {lesser} , {greater} .", f"{greater} , although {lesser} ."))


VERDICTS: tuple[Callable[[int, random.Random], str], ...] = (_one, _both, _at_last, _but, _although)
