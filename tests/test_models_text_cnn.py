"""Kim's convolutions over words, and word vectors to begin with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.data import DataSpec, Field
from dltrain.inference.predictor import load
from dltrain.models.layers.pooling import Pooling
from dltrain.models.sequence.recurrent import GRU
from dltrain.models.sequence.text_cnn import TextCNN
from tests.conftest import Train
from tests.specs import numbers, words
from tests.test_models import count
from tests.test_models_recurrent import LENGTHS, reviews

WORDS: dict[str, Any] = {"spec": words(40), "outputs": 3, "embedding_size": 7, "filters": 5}
NAMES = ("<pad>", "<unk>", "the", "dog", "Rome")


def made(**settings: Any) -> TextCNN:
    torch.manual_seed(0)
    return TextCNN(**{**WORDS, **settings})


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("normalize", [False, True])
def test_what_is_said_of_a_text_does_not_depend_on_its_batch(
    pooling: Pooling, normalize: bool
) -> None:
    spec = words(40, [1] * 40)
    model = made(spec=spec, pooling=pooling, normalize_embedding=normalize).eval()
    ids = reviews()
    logits = model(ids)

    padded = model(functional.pad(ids, (0, 11)))
    alone = torch.cat([model(ids[i : i + 1, :n]) for i, n in enumerate(LENGTHS)])

    for other in (padded, alone):
        torch.testing.assert_close(other, logits, atol=1e-5, rtol=0)


def test_a_feature_is_the_largest_of_a_filter_over_all_windows() -> None:
    model, ids = made(widths=[3]).eval(), torch.tensor([[5, 9, 2, 30]])
    vectors = functional.pad(model.embed(ids)[0], (0, 0, 1, 1))
    weight, bias = model.convolutions[0].weight, model.convolutions[0].bias
    windows = [(weight * vectors[t : t + 3].T).sum((1, 2)) + bias for t in range(4)]

    features = torch.stack(windows).relu().amax(0)

    torch.testing.assert_close(model(ids)[0], model.output(features))


def test_it_has_the_size_of_the_paper() -> None:
    model = made(spec=words(1000), outputs=6, embedding_size=300, filters=100)

    assert count(model) == 1000 * 300 + (3 + 4 + 5) * 300 * 100 + 300 + 300 * 6 + 6


def test_numbers_are_read_too() -> None:
    assert made(spec=numbers(9, 2))(torch.randn(4, 9, 2)).shape == (4, 3)


@pytest.mark.parametrize("wrong", [{"filters": 0}, {"widths": []}, {"widths": [3, 3]}])
def test_impossible_sizes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        made(**wrong)


def named(counts: tuple[int, ...] = (0, 5, 70, 20, 5)) -> DataSpec:
    field = Field((None,), "tokens", "input", 5, names=NAMES, counts=counts, fill=0)
    return DataSpec({"input": field})


def begun(path: Path, **settings: Any) -> Tensor:
    model = made(spec=named(), embedding_size=2, vectors=str(path), **settings)
    assert model.embedding is not None
    return model.embedding.weight.detach()


def test_words_begin_with_the_vectors_of_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("4 2\nThe 9 9\nthe 1 2.5\nrome 7 7\nRome 3 -4\n", encoding="utf-8")
    without = made(spec=named(), embedding_size=2).embedding
    assert without is not None

    with caplog.at_level(logging.INFO, "dltrain"):
        weight = begun(path)

    assert weight[2].tolist() == [1, 2.5]
    assert weight[4].tolist() == [3, -4]
    assert not weight[0].any()
    torch.testing.assert_close(weight[3], without.weight[3])
    assert "2 of 5 words (40.0%), 75.0% of the training tokens, begin with" in caplog.text
    assert "cut off" not in caplog.text


def test_a_file_of_fewer_vectors_than_it_says_may_be_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("4000 2\nthe 1 2\nrome 7 7\n", encoding="utf-8")

    begun(path)

    assert "says 4,000 vectors in its first line, and has 2: it may be cut off" in caplog.text


def test_a_byte_order_mark_is_of_no_word(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("the 1 2\n", encoding="utf-8-sig")

    assert begun(path)[2].tolist() == [1, 2]


def test_a_word_in_another_case_is_better_than_none(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("Dog 1 2\n", encoding="utf-8")

    assert begun(path)[3].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"the 1 2 3\n", "line 1: 'the' has 3 numbers, and embedding_size is 2"),
        (b"cat 1 2\nthe 1 x\n", "line 2: 'the' has what is no number"),
        (b"cat 1 2\nthe nan 1\n", "line 2: 'the' has what is no number"),
        (b"cat 1 2\n\xff\xfe 1 2\n", "line 2 is no UTF-8 text"),
        (b"cat 1 2\n", "a vector of none of the 5 words"),
        (b"", "a vector of none of the 5 words"),
        (b"x" * (1 << 21), "line 1 is no word and its numbers"),
    ],
    ids=["wide", "no number", "nan", "no text", "other words", "empty", "one line"],
)
def test_what_is_no_file_of_vectors_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=said):
        begun(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.txt cannot be read: No such file"):
        begun(tmp_path / "no.txt")


def test_one_hot_words_have_no_vectors() -> None:
    with pytest.raises(ValueError, match="vectors: one-hot"):
        GRU(named(), 2, embedding="onehot", vectors="any.txt")


def test_a_run_begins_with_vectors_of_words_that_its_data_tells(
    tmp_path: Path, train: Train
) -> None:
    """Before it is read, nobody knows its words."""
    table = tmp_path / "a.csv"
    table.write_text("text,label\n" + "good film,1\nbad film,0\n" * 9, encoding="utf-8")
    (tmp_path / "vectors.txt").write_text("film 1 2\n", encoding="utf-8")
    run = train(
        *("model=text_cnn", "model.embedding_size=2", f"model.vectors={tmp_path / 'vectors.txt'}"),
        *("data=text_csv", f"data.path={table}", "data.text=text", "data.label=label"),
        *("trainer.steps=1", "optimizer.lr=1e-30", "callbacks=none"),
    )
    predictor = load(run.folder)
    (word,) = (n for n, name in enumerate(predictor.spec.input.names) if name == "film")
    model = predictor.model
    assert isinstance(model, TextCNN) and model.embedding is not None
    assert model.embedding.weight[word].tolist() == pytest.approx([1, 2])
