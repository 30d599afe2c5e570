"""What a run on text shows besides: tokens per second, and the words in TensorBoard's projector."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin

from dltrain import training as run
from dltrain.callbacks.projector import Projector
from dltrain.callbacks.throughput import Throughput
from dltrain.errors import UserError
from dltrain.models.sequence.recurrent import RNN
from dltrain.runs.finding import find_run, latest
from dltrain.runs.load import load, spec_of_run
from dltrain.tasks.text import TextClassification
from tests.asking import texts
from tests.conftest import Compose, Train
from tests.interrupting import interrupt_callback_at
from tests.watching import FakeView

REVIEWS = (
    "data=toy_reviews",
    "data.examples=120",
    "data.test_examples=20",
    "model=rnn",
    "model.hidden_size=4",
    "model.embedding_size=3",
    "trainer.epochs=2",
    "trainer.log_every=2",
    "trainer.evaluate_every=1",
)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"scalars": 0, "tensors": 0, "images": 0}).Reload()


def metric(folder: Path, split: str, name: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["split"], row["name"]) == (split, name)]
    return [float(row["value"]) for row in rows]


def rates(line: str) -> dict[str, float]:
    return {
        unit: float(number.replace(",", ""))
        for number, unit in re.findall(r"([\d,]+) (\w+)/s", line)
    }


def test_tokens_per_second_are_samples_per_second_times_tokens(train: Train) -> None:
    trained = train(*REVIEWS, "callbacks=[tensorboard,throughput]")
    folder = trained.folder
    events = read(folder)
    tokens = metric(folder, "steps", "tokens")
    assert len(tokens) > 2
    samples = [event.value for event in events.Scalars("training/samples_per_second")]
    found = [event.value for event in events.Scalars("training/tokens_per_second")]
    assert found == pytest.approx([a * b for a, b in zip(samples, tokens, strict=True)], rel=1e-5)

    (line,) = (x for x in (folder / "train.log").read_text().splitlines() if "Trained" in x)
    whole = rates(line)
    assert list(whole) == ["samples", "tokens"]
    mean = np.mean(metric(folder, "train", "tokens"))
    assert whole["tokens"] / whole["samples"] == pytest.approx(mean, rel=0.01)
    assert whole["samples"] == pytest.approx(trained.summary["samples_per_second"], rel=0.01)


def test_the_console_says_the_rate_in_place_of_the_mean(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*REVIEWS, "callbacks=[throughput]")
    with_it = capsys.readouterr().out
    train(*REVIEWS)
    without = capsys.readouterr().out
    assert re.search(r"^epoch 1  loss \S+  accuracy \S+  validation", with_it, re.M)
    assert re.search(r"^epoch 1  loss \S+  accuracy \S+  validation", without, re.M)
    assert "tokens/s" not in without


def test_data_without_tokens_have_no_such_rate(train: Train) -> None:
    folder = train(
        "model=linreg", "data=line", "callbacks=[tensorboard,throughput]", "trainer.epochs=60"
    ).folder
    assert "training/tokens_per_second" not in read(folder).Tags()["scalars"]
    assert "tokens/s" not in (folder / "train.log").read_text()


def test_a_resumed_run_counts_on(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("device=cpu", *REVIEWS, "callbacks=[throughput]")
    with monkeypatch.context() as patch:
        interrupt_callback_at(4, Throughput, patch)
        run.train({**config, "output_dir": str(tmp_path)})
    run.resume("latest", tmp_path)
    folder = latest(tmp_path)
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    (counted,) = (state for state in state["callbacks"] if "totals" in state)
    tokens = metric(folder, "train", "tokens")
    assert len(tokens) == 2
    assert counted["samples"] == 2 * 108
    assert counted["totals"]["tokens"] == pytest.approx(108 * sum(tokens))


def test_the_projector_has_the_most_frequent_words_and_their_vectors(
    train: Train, tmp_path: Path
) -> None:
    folder = train(*REVIEWS, "callbacks=[projector]", "callbacks.projector.most_words=7").folder
    text = spec_of_run(find_run("latest", tmp_path / "outputs")).input
    fractions = dict(zip(text.names, text.frequencies, strict=True))
    head, *lines = (folder / "projector" / "metadata.tsv").read_text().splitlines()
    labels = [line.split("\t") for line in lines]

    assert head == ("word\tfraction of the text\tlog10 fraction\tpolarity: -1 negative, 1 positive")
    words = [word for word, *_ in labels]
    assert words == sorted(fractions, key=fractions.__getitem__, reverse=True)[:7]
    assert [float(fraction) for _, fraction, *_ in labels] == pytest.approx(
        [fractions[word] for word in words], rel=0.01
    )
    vectors = np.loadtxt(folder / "projector" / "tensors.tsv", delimiter="\t")
    task = load("latest", output_dir=str(tmp_path / "outputs"))
    table = task.state_dict()["model.embedding.weight"].numpy()
    ids = [text.names.index(word) for word in words]
    np.testing.assert_allclose(vectors, table[ids], rtol=1e-4)
    polarity = [float(label[3]) for label in labels]
    chances = task.forward({"input": torch.tensor(ids)[:, None]})["logits"].softmax(1)
    assert polarity == pytest.approx((chances[:, 1] - chances[:, 0]).tolist(), abs=1e-3)


class Context:
    """What TensorBoard tells a plugin: where the runs lie."""

    def __init__(self, logdir: Path) -> None:
        self.logdir, self.data_provider = str(logdir), self

    def list_runs(self, ctx: Any, experiment_id: str) -> list[Any]:
        return []


def test_tensorboard_finds_what_the_projector_needs(train: Train) -> None:
    folder = train(*REVIEWS, "callbacks=[projector]").folder
    plugin = ProjectorPlugin(Context(folder))
    plugin._determine_is_active()
    assert plugin.is_active()
    (config,) = plugin._configs.values()
    (embedding,) = config.embeddings
    lines = (folder / embedding.metadata_path).read_text().splitlines()
    assert list(embedding.tensor_shape) == [len(lines) - 1, 3]
    (tensor,) = (plugin.tensor_cache.get((name, "words")) for name in plugin._configs)
    assert tensor.shape == tuple(embedding.tensor_shape)


def test_words_of_any_letters_are_one_line_each() -> None:
    words = ["<pad>", "a\tb", "c\r\nd", " ", "\x85", "naïve", ""]
    spec = texts(words, "ab")
    counted = replace(spec.input, counts=(0, *[1] * 6))
    spec = replace(spec, fields={**spec.fields, "input": counted})
    task = TextClassification(RNN(spec, 2, hidden_size=2, embedding_size=3), spec)
    view = FakeView()
    Projector(spec).finish(task, {}, view)
    lines = str(view.written["projector/metadata.tsv"]).split("\n")
    assert [line.split("\t")[0] for line in lines[1:-1]] == [
        "a b", "c d", "' '", "'\\x85'", "naïve", "''",
    ]  # fmt: skip
    assert all(line.count("\t") == 3 for line in lines[:-1])


def test_a_network_without_word_vectors_costs_the_projector_alone(
    train: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RNN, "embedding_weight", lambda self: None)
    trained = train(*REVIEWS, "callbacks=[projector]")
    assert trained.summary["status"] == "finished"
    assert not (trained.folder / "projector").exists()
    assert "no word vectors" in capsys.readouterr().out


def test_data_without_words_are_refused_before_there_is_a_folder(
    train: Train, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"callbacks\.projector"):
        train("model=mlp", "data=iris", "callbacks=[projector]")
    assert not (tmp_path / "outputs").exists()
    with pytest.raises(ValueError, match="at least 1"):
        Projector(texts(["<pad>"], "ab"), most_words=0)
