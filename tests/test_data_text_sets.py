"""The data sets of text and of sequences: the hub's, IMDB, toy_reviews and adding."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from dltrain.contracts.data import Stream
from dltrain.data.tables.adding import Adding
from dltrain.data.text.hub_text import HubText
from dltrain.data.text.imdb import Imdb
from dltrain.data.text.source import TextSource
from dltrain.data.text.toy_reviews import ToyReviews
from dltrain.errors import UserError
from tests.conftest import REPOSITORY, Train
from tests.streams import opened

NAMED = datasets.ClassLabel(names=["sad", "glad"])


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``datasets`` converts goes with the test."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")


def write(
    place: Path,
    split: str,
    texts: Sequence[Any],
    labels: Sequence[Any],
    label: Any = NAMED,
    text: Any = None,
) -> Path:
    """A split as a parquet file, as data sets lie on the hub."""
    place.mkdir(exist_ok=True)
    features = datasets.Features({"text": text or datasets.Value("string"), "label": label})
    rows = datasets.Dataset.from_dict({"text": list(texts), "label": list(labels)}, features)
    rows.to_parquet(place / f"{split}-00000-of-00001.parquet")
    return place


def source(path: Path, **settings: Any) -> HubText:
    given: dict[str, Any] = {"root": str(path.parent / "own"), "validation": 0}
    return HubText(str(path), **given | settings)


def spelt(source: TextSource, stream: Stream) -> list[tuple[str, str]]:
    """Every text and class of a split, in words and in its order."""
    spec = source.outline()
    words, classes = spec.input.names, spec.class_names
    found: dict[int, tuple[str, str]] = {}
    for number, batch in enumerate(stream.plain()):
        for row, index in enumerate(stream.rows(0, number).tolist()):
            text = " ".join(words[i] for i in batch["input"][row].tolist() if i)
            found[index] = text, classes[batch["target"][row]]
    return [found[index] for index in range(len(found))]


def test_a_hubs_texts_classes_and_splits_come_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "moods", "train", ["Fine day", "foul day"], [1, 0])
    write(path, "validation", ["foul fine"], [0])
    write(path, "test", ["fine fine", None], [1, 0])
    moods = source(path, validation_split="validation")
    loaders = opened(moods, 0)
    assert moods.outline().class_names == ("sad", "glad")
    assert spelt(moods, loaders["train"]) == [("fine day", "glad"), ("foul day", "sad")]
    assert spelt(moods, loaders["validation"]) == [("foul fine", "sad")]
    assert spelt(moods, loaders["test"]) == [("fine fine", "glad"), ("<unk>", "sad")]


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "moods", "train", ["fine", "foul"] * 5, [1, 0] * 5)
    assert "fine" in source(path).read(0).input.names
    write(path, "train", ["nice", "foul"] * 5, [1, 0] * 5)
    assert "nice" in source(path).read(0).input.names


def test_missing_columns_splits_and_labels_are_said(tmp_path: Path) -> None:
    path = write(tmp_path / "moods", "train", ["fine", "foul"], [1, 0])
    with pytest.raises(ValueError, match=r"no column 'review'.*data\.text names.*It has text \("):
        source(path, text="review").read(0)
    with pytest.raises(ValueError, match=r"no column 'lable'.*Did you mean 'label'\?"):
        source(path, label="lable").read(0)
    with pytest.raises(ValueError, match=r"no split 'training'.*It has train\."):
        source(path, train_split="training").read(0)
    with pytest.raises(UserError, match=r"data\.path: .*none cannot be read: "):
        source(tmp_path / "none").read(0)
    write(path, "test", ["fine", "foul"], [1, -1])
    with pytest.raises(ValueError, match=r"test, row 2: the label -1 is none of the 2 classes"):
        source(path).read(0)


def test_other_things_than_texts_are_refused_and_so_is_one_class(tmp_path: Path) -> None:
    numbers = datasets.Value("int64")
    path = write(tmp_path / "numbers", "train", [1, 2] * 5, [1, 0] * 5, text=numbers)
    with pytest.raises(ValueError, match=r"train, row 1: column 'text' holds '1', which is no tex"):
        source(path).read(0)
    path = write(tmp_path / "glad", "train", ["fine", "nice"] * 5, [1, 1] * 5)
    with pytest.raises(ValueError, match=r"column 'label' has one value in all of training"):
        source(path).read(0)


def test_imdb_lies_beside_other_data_or_where_it_is_said_and_has_its_names(tmp_path: Path) -> None:
    unnamed = datasets.Value("int64")
    texts, labels = ["a good film", "a bad film"] * 4, [1, 0] * 4
    path = write(tmp_path / "imdb", "train", texts, labels, unnamed)
    write(path, "test", ["a bad <br />one"], [0], unnamed)
    for reviews in (
        Imdb(copies=str(tmp_path), root=None, validation=2),
        Imdb(copies=str(tmp_path / "other"), path=str(path), root=None, validation=2),
    ):
        loaders = opened(reviews, 0)
        assert reviews.outline().class_names == ("negative", "positive")
        assert (loaders["train"].examples, loaders["test"].examples) == (6, 1)
        assert spelt(reviews, loaders["test"]) == [("a bad <unk>", "negative")]


def test_without_the_hub_imdb_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(UserError, match=r"no network\n.*data\.path=DIR;\n?.*data=toy_reviews"):
        Imdb(copies=str(tmp_path), root=str(tmp_path)).read(0)


@pytest.fixture(scope="session")
def imdb_path() -> Path:
    """The real reviews; without them, the test is skipped."""
    root = os.environ.get("DLTRAIN_DATA") or REPOSITORY.parent / "shared" / "data"
    path = Path(root) / "imdb"
    if not path.is_dir():
        pytest.skip(
            f"no reviews: DLTRAIN_DATA names no folder with one imdb, and there is no {path}"
        )
    return path


def test_real_reviews_keep_their_split_and_lose_their_markup(
    imdb_path: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet

    (tmp_path / "some").mkdir()
    for split in ("train", "test"):
        name = f"{split}-00000-of-00001.parquet"
        table = parquet.read_table(imdb_path / name)
        parquet.write_table(table.take(list(range(0, 25_000, 50))), tmp_path / "some" / name)
    reviews = Imdb(copies="", root=str(tmp_path), path=str(tmp_path / "some"), validation=50)
    loaders = opened(reviews, 0)
    assert (loaders["train"].examples, loaders["test"].examples) == (450, 500)
    for batch in (loaders["test"], loaders["train"]):
        texts = spelt(reviews, batch)
        classes = [label for _, label in texts]
        assert 0.4 < classes.count("positive") / len(texts) < 0.6
        assert not any("<br" in text or " br " in text for text, _ in texts)
        assert all(1 < len(text.split()) <= 400 for text, _ in texts)
    assert {"the", "film", "don't", "."} <= set(reviews.outline().input.names[:200])


def toy_reviews(**settings: Any) -> ToyReviews:
    return ToyReviews(**{"examples": 600, "test_examples": 300} | settings)


def test_toy_reviews_are_even_and_no_test_review_is_learned_from() -> None:
    corpus = toy_reviews().corpus()
    train, test = corpus.splits["train"], corpus.splits["test"]
    assert (len(train.texts), len(test.texts)) == (600, 300)
    assert sum(train.targets) == 300 and sum(test.targets) == 150
    assert not set(train.texts) & set(test.texts)
    assert any("synthetic" in note for note in corpus.notes)
    again = toy_reviews().corpus()
    assert again.splits["train"] == train
    other = toy_reviews(data_seed=1).corpus()
    assert other.splits["train"] != train


def test_a_bag_of_words_learns_little_of_toy_reviews() -> None:
    corpus = ToyReviews().corpus()
    train, test = corpus.splits["train"], corpus.splits["test"]
    words = CountVectorizer(token_pattern=r"\S+")
    bag = LogisticRegression(max_iter=1000).fit(words.fit_transform(train.texts), train.targets)
    assert bag.score(words.transform(test.texts), test.targets) < 0.75


def test_negation_turns_a_toy_review_round() -> None:
    train = toy_reviews(examples=3000).corpus().splits["train"]
    contrast = ("although", "but", "at first")
    # Reviews that say one thing only.
    plain = [
        (text, target)
        for text, target in zip(train.texts, train.targets, strict=True)
        if not any(word in text for word in contrast)
    ]
    for words, verdict in (("was dull", 0), ("not dull", 1), ("not good", 0), ("never bad", 1)):
        assert {target for text, target in plain if words in text} == {verdict}


def test_an_lstm_learns_toy_reviews(train: Train) -> None:
    done = train(
        *("model=lstm", "data=toy_reviews", "data.examples=3000", "data.test_examples=300"),
        *("model.hidden_size=64", "model.embedding_size=64", "optimizer.lr=0.005"),
        *("trainer.epochs=4", "trainer.evaluate_every=4"),
    )
    assert done.summary["test"]["accuracy"] > 0.95


@pytest.mark.parametrize("length", [2, 3, 50])
def test_adding_is_the_sum_of_two_marked_numbers_one_in_each_half(length: int) -> None:
    data = Adding(length=length, examples=300, test_examples=50, validation=0, batch_size="full")
    loaders = opened(data, 0)
    assert data.outline().facts() == {"input_shape": (length, 2), "outputs": 1}
    for loader, count in ((loaders["train"], 300), (loaders["test"], 50)):
        batch = next(loader.batches(0))
        numbers, marked = batch["input"].unbind(-1)
        assert numbers.shape == (count, length) and batch["target"].shape == (count, 1)
        assert set(marked.unique().tolist()) <= {0, 1}
        for half in (marked[:, : length // 2], marked[:, length // 2 :]):
            assert (half.sum(1) == 1).all()
        torch.testing.assert_close((numbers * marked).sum(1, keepdim=True), batch["target"])


def test_to_say_one_of_every_sum_has_an_error_of_a_sixth() -> None:
    data = Adding(validation=0, batch_size="full")
    target = next(opened(data, 0)["train"].batches(0))["target"]
    assert float((target - 1).square().mean()) == pytest.approx(1 / 6, rel=0.03)


def test_the_data_seed_alone_draws_the_sequences() -> None:
    def drawn(seed: int = 0, **settings: Any) -> list[torch.Tensor]:
        data = Adding(length=9, examples=50, test_examples=50, **settings)
        loaders = opened(data, seed)
        return [
            torch.cat([b["target"] for b in split.batches(0)])
            for split in (loaders["train"], loaders["test"])
        ]

    assert torch.equal(drawn()[1], drawn(5)[1])
    assert not torch.equal(drawn()[1], drawn(data_seed=1)[1])
    assert not set(drawn()[0].flatten().tolist()) & set(drawn()[1].flatten().tolist())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 1}, "length is at least 2"),
        ({"examples": 0}, "at least 1"),
        ({"data_seed": -1}, "from 0"),
    ],
)
def test_impossible_sequences_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adding(**settings)
