"""Word vectors of a run as a text file: what other runs, and other programs, begin with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dltrain
from dltrain.cli import dispatch
from dltrain.errors import UserError
from dltrain.runs.word_vectors import vectors_of
from tests.conftest import Train

SMALL = ("model=rnn", "model.hidden_size=4", "model.embedding_size=3", "trainer.steps=2")
REVIEWS = ("data=toy_reviews", "data.examples=60", "data.test_examples=20", "callbacks=none")


def read(file: Path) -> dict[str, list[float]]:
    """Words and their numbers, by the format's own rules."""
    head, *lines = file.read_text().split("\n")[:-1]
    found = {word: [float(c) for c in cells] for word, *cells in (x.split(" ") for x in lines)}
    assert head == f"{len(found)} {len(next(iter(found.values())))}"
    return found


def test_another_run_begins_with_what_was_exported(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(*SMALL, *REVIEWS).folder
    assert dispatch(["export", str(first), "--vectors"]) == 0
    told = capsys.readouterr().out
    file = first / "export" / "vectors" / "vectors.txt"
    predictor = dltrain.load(first)
    names, table = predictor.spec.input.names, vectors_of(predictor.task)
    found = read(file)
    assert f"left out: 2 tokens, padding and the like\n{len(found)} words of 3 numbers" in told
    assert set(found) == set(names) - {"<pad>", "<unk>"}
    np.testing.assert_allclose(
        list(found.values()), table[[names.index(word) for word in found]], rtol=1e-5
    )
    counts = [predictor.spec.input.counts[names.index(word)] for word in found]
    assert counts == sorted(counts, reverse=True)

    begun = train(*SMALL, *REVIEWS, f"model.vectors={file}", "optimizer.lr=1e-9").folder
    second = dltrain.load(begun)
    mine = vectors_of(second.task)[[second.spec.input.names.index(word) for word in found]]
    np.testing.assert_allclose(list(found.values()), mine, atol=1e-5)


def test_words_of_a_language_model_are_written_without_their_blank(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.txt").write_text("now the cat sat\nthe dog sat now now\n" * 40)
    text = [f"data.path={tmp_path}/t.txt", "data.tokens=word", "data.window=8", "data.batch_size=2"]
    whole = ["data.test=0", "data.validation=0", "trainer.test_weights=last", "callbacks=none"]
    run = train(*SMALL, "data=text_file", *text, *whole).folder
    assert dispatch(["export", str(run), "--vectors", "--json", "--out", str(tmp_path / "v")]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = read(tmp_path / "v" / "vectors.txt")
    assert set(found) == {"now", "the", "cat", "sat", "dog"}
    assert told["words"] == 5
    assert told["left_out"] == {
        "padding and the like": 2,
        "blanks and line ends": 1,
        "rarer than the same word with or without a blank in front": 2,
    }
    predictor = dltrain.load(run)
    names = predictor.spec.input.names
    mine = vectors_of(predictor.task)[names.index("▁now")]  # twice as frequent as "now"
    np.testing.assert_allclose(found["now"], mine, rtol=1e-5)


def test_a_run_without_word_vectors_is_refused(train: Train, tmp_path: Path) -> None:
    run = train("model=logreg", "data=iris", "trainer.steps=1", "callbacks=none").folder
    with pytest.raises(UserError, match="no word vectors"):
        dispatch(["export", str(run), "--vectors", "--out", str(tmp_path / "v")])
    for other in ("--int8", "--format=torch", "a text"):
        with pytest.raises(UserError, match="leave out"):
            dispatch(["export", str(run), "--vectors", other])
