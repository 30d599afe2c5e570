"""Language models: networks that read on, what they lose, and what they write."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.commands.sample_text import _prompt
from dltrain.contracts.data import DataSpec, Field
from dltrain.contracts.pieces import ids_by_name, silent, text_of
from dltrain.contracts.task import SamplesText
from dltrain.data.text.lossless import learn_lossless
from dltrain.data.text.reader import VocabularyReader
from dltrain.errors import UserError
from dltrain.metrics.language import TextLikelihood
from dltrain.models.sequence.decoder import Decoder
from dltrain.models.sequence.recurrent import GRU, LSTM, RNN
from dltrain.runs.folder import RunFolder
from dltrain.tasks.generating import Choice
from dltrain.tasks.language import LanguageModel
from language_figures import KneserNey

NAMES = ("<pad>", "<unk>", "\n", *"abcdefghi")
SIZE, WINDOW, ROWS = len(NAMES), 8, 3


def spec_of(window: int = WINDOW) -> DataSpec:
    counts = (0, 0) + (500,) * (SIZE - 2)  # none is rare: no dropout by itself
    return DataSpec(
        {
            "input": Field((window,), "tokens", "input", SIZE, NAMES, counts, fill=0),
            "target": Field((window,), "tokens", "target", SIZE, fill=0),
        }
    )


NETWORKS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "lstm": (LSTM, {"hidden_size": 6}),
    "gru": (GRU, {"hidden_size": 6, "layers": 2}),
    "rnn one-hot": (RNN, {"hidden_size": 6, "embedding": "onehot"}),
    "awd-lstm": (
        LSTM,
        {
            "hidden_size": 6,
            "layers": 2,
            "embedding_size": 4,
            "tied": True,
            "dropout": 0.3,
            "output_dropout": 0.2,
            "embedding_dropout": 0.2,
            "word_dropout": 0.2,
            "recurrent_dropout": 0.5,
        },
    ),
    "transformer": (Decoder, {"embedding_size": 8, "layers": 2, "heads": 2, "dropout": 0.1}),
}


def network(name: str, window: int = WINDOW) -> Any:
    torch.manual_seed(0)
    kind, settings = NETWORKS[name]
    return kind(spec_of(window), SIZE, **settings)


def text(length: int, rows: int = ROWS) -> Tensor:
    return torch.randint(2, SIZE, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_read_in_parts_a_text_gives_what_it_gives_as_a_whole(name: str) -> None:
    model, ids = network(name).eval(), text(20)
    with torch.no_grad():
        whole = model(ids)
        state, found = model.initial_state(ROWS), []
        for part in (ids[:, :7], ids[:, 7:15], *ids[:, 15:].split(1, 1)):
            logits, state = model.read_on(part, state)
            found.append(logits)

    assert whole.shape == (ROWS, 20, SIZE)
    torch.testing.assert_close(torch.cat(found, 1), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_token_is_predicted_from_itself_or_a_later_one(name: str) -> None:
    model, ids = network(name).eval(), text(WINDOW)
    other = ids.clone()
    other[:, 5:] = (ids[:, 5:] - 1) % (SIZE - 2) + 2
    with torch.no_grad():
        same = (model(ids) - model(other)).abs().amax((0, 2))

    assert bool((same[:5] < 1e-6).all())
    assert bool((same[5:] > 1e-6).all())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_of_a_network_learns(name: str) -> None:
    task = LanguageModel(network(name), spec_of()).train()
    step(task, text(WINDOW + 1), [True] * ROWS)
    step(task, text(WINDOW + 1), [False] * ROWS)

    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in task.parameters())


def step(task: LanguageModel, ids: Tensor, begins: list[bool]) -> float:
    losses: list[tuple[float, Any]] = []

    def optimize(loss: Any, name: str = "model", weight: Any = None) -> None:
        loss.backward()
        losses.append((float(loss.detach()), weight))

    batch = {"input": ids[:, :-1], "target": ids[:, 1:], "begins": torch.tensor(begins)}
    metrics = task.train_step(batch, optimize)
    ((loss, weight),) = losses
    mean, tokens = metrics["loss"]
    assert float(mean) == loss and float(tokens) == weight == batch["target"].numel()
    return loss


def test_training_reads_each_lane_on_from_where_it_was() -> None:
    model, ids = network("lstm"), text(2 * WINDOW + 1)
    task = LanguageModel(model, spec_of())
    step(task, ids[:, : WINDOW + 1], [True] * ROWS)
    second = step(task, ids[:, WINDOW:], [False, False, True])

    with torch.no_grad():
        whole = model(ids[:, :-1])[:, WINDOW:]
        anew = model(ids[:, WINDOW:-1])
    logits = torch.cat([whole[:2], anew[2:]])
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, WINDOW + 1 :].flatten()
    )
    assert second == pytest.approx(float(expected), abs=1e-5)


def test_a_resumed_task_reads_on_from_the_same_state() -> None:
    ids = text(2 * WINDOW + 1)
    one, other = (LanguageModel(network("gru"), spec_of()) for _ in range(2))
    step(one, ids[:, : WINDOW + 1], [True] * ROWS)
    other.load_training_state(one.training_state())

    losses = [step(task, ids[:, WINDOW:], [False] * ROWS) for task in (one, other)]
    assert losses[0] == losses[1]


def test_each_weight_has_one_name_in_a_checkpoint() -> None:
    names = list(LanguageModel(network("lstm"), spec_of()).state_dict())
    assert names and all(name.startswith("model.") for name in names)


def test_an_evaluation_leaves_the_carried_state_alone() -> None:
    task = LanguageModel(network("lstm"), spec_of())
    step(task, text(WINDOW + 1), [True] * ROWS)
    before = [part.clone() for part in task.training_state()["state"]]
    ids = text(WINDOW + 1)
    task.eval_step({"input": ids[:, :-1], "target": ids[:, 1:]}, None)  # type: ignore[arg-type]
    task.sample_text(1, 0, 4)

    assert all(map(torch.equal, before, task.training_state()["state"]))


def test_dropout_of_a_window_drops_the_same_at_every_step() -> None:
    model = network("awd-lstm").train()
    states = model.output_dropout(torch.ones(2, 5, 50))

    assert bool((states == states[:, :1]).all())
    assert 0 < int((states == 0).sum()) < states.numel()
    weights = model.layers[0][0].weight_hh_l0.clone()
    first, second = (model(text(WINDOW)) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(weights, model.layers[0][0].weight_hh_l0)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_what_is_written_is_what_reading_all_of_it_again_would_write(name: str) -> None:
    """The cache of a transformer begins anew with half a window; each token sees that much."""
    model = network(name)
    task = LanguageModel(model, spec_of())
    assert isinstance(task, SamplesText)
    (ids,) = task.sample_text(1, 0, 3 * WINDOW, [3, 4, 5], temperature=0).columns["text"].tolist()

    model.eval()
    read = 3
    for place in range(3, len(ids)):
        seen = torch.tensor([ids[place - read : place]])
        with torch.no_grad():
            logits = model(seen)[0, -1]
        logits[:2] = -torch.inf
        assert int(logits.argmax()) == ids[place]
        full = name == "transformer" and read == WINDOW
        read = WINDOW // 2 if full else read + 1


def test_the_same_seed_writes_the_same_and_training_goes_on_in_its_mode() -> None:
    task = LanguageModel(network("awd-lstm"), spec_of()).train()
    state = torch.get_rng_state()
    first, again, other = (task.sample_text(2, seed, 30).columns["text"] for seed in (0, 0, 1))

    assert first.shape == (2, 30)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert int(first.min()) >= 2
    assert task.training and torch.equal(state, torch.get_rng_state())


LOGITS = torch.tensor([[0.5, 0.2, 0.2, 0.1]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.5, 0.2, 0.2, 0.1]),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 1e-9}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [25 / 34, 4 / 34, 4 / 34, 1 / 34]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [5 / 7, 2 / 7, 0, 0]),
        ({"top_k": 99}, [0.5, 0.2, 0.2, 0.1]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_p": 0.6}, [5 / 7, 2 / 7, 0, 0]),
        ({"top_p": 1.0}, [0.5, 0.2, 0.2, 0.1]),
        ({"top_k": 3, "top_p": 0.6}, [5 / 7, 2 / 7, 0, 0]),
    ],
)
def test_a_token_is_drawn_of_those_that_are_asked_for(
    settings: dict[str, Any], expected: list[float]
) -> None:
    found = Choice(**settings).probabilities(LOGITS)[0]

    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": -1.0}, "temperature must be a number >= 0"),
        ({"temperature": math.nan}, "temperature must be a number >= 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.5}, "top_p must be above 0"),
    ],
)
def test_what_is_out_of_bounds_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Choice(**settings)


def test_bits_are_of_what_the_tokens_stand_for() -> None:
    parts = [
        {"tokens": torch.tensor([4, 4]), "characters": torch.tensor([8.0, 8.0])},
        {"tokens": torch.tensor([2]), "characters": torch.tensor([4.0])},
    ]
    nll = [torch.tensor([4.0, 2.0]), torch.tensor([4.0])]
    metrics = [TextLikelihood(), TextLikelihood()]
    for metric, part, values in zip(metrics, parts, nll, strict=True):
        batch = part | {"bytes": 3 * part["characters"]}
        metric.update({"nll": values}, batch, torch.arange(len(values)))
    metrics[0].merge(metrics[1])
    found = metrics[0].compute().scalars

    assert found["loss"] == pytest.approx(1.0)
    assert found["perplexity"] == pytest.approx(math.e)
    assert found["bits_per_character"] == pytest.approx(0.5 / math.log(2))
    assert found["bits_per_byte"] == pytest.approx(0.5 / math.log(2) / 3)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_texts_probability_depends_neither_on_padding_nor_on_its_batch(name: str) -> None:
    task = LanguageModel(network(name), spec_of()).eval()
    ids = text(20, rows=2)
    short = ids[:1, :5]
    padded = torch.nn.functional.pad(short, (0, 15))
    together = task.predict({"input": torch.cat([padded, ids[1:]])}).columns
    alone = task.predict({"input": short}).columns

    assert float(together["tokens"][0]) == 5
    torch.testing.assert_close(together["loss"][:1], alone["loss"])
    assert float(alone["perplexity"]) == pytest.approx(math.exp(float(alone["loss"])))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bidirectional": True}, "bidirectional is no setting of a language model"),
        ({"pooling": "max"}, "pooling is no setting"),
        ({"ngrams": 2}, "ngrams is no setting"),
        ({"tied": True, "embedding": "onehot"}, "tied: one-hot words have no vectors"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout must be a fraction"),
    ],
)
def test_a_setting_that_means_nothing_here_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LSTM(spec_of(), SIZE, **settings)


def test_what_is_for_language_alone_is_refused_elsewhere() -> None:
    classes = DataSpec(
        {
            "input": Field((None,), "tokens", "input", SIZE, NAMES, fill=0),
            "target": Field((), "class", "target", 2),
        }
    )
    with pytest.raises(ValueError, match="tied is no setting but of a language model"):
        LSTM(classes, 2, tied=True)
    with pytest.raises(ValueError, match="data=text_file"):
        Decoder(classes, 2)
    with pytest.raises(ValueError, match="data=text_file"):
        LanguageModel(network("lstm"), classes)
    with pytest.raises(ValueError, match="Linear does not"):
        LanguageModel(torch.nn.Linear(1, 1), spec_of())


def test_tokens_lie_end_to_end_as_text() -> None:
    names = ("<pad>", "<unk>", "<0xE7>", "<0x8C>", "<0xAB>", "▁the", "▁", "e", "<", ">", "th")

    assert silent(names) == [0, 1]
    assert text_of(names, [5, 7, 6, 8, 7, 9, 0, 1]) == " thee <e>"
    assert text_of(names, [2, 3, 4]) == "猫"
    assert text_of(names, [2, 3]) == "\ufffd"
    assert ids_by_name(names, "the the") == [10, 7, 5]
    with pytest.raises(ValueError, match="'x' is no token"):
        ids_by_name(names, "ex")


@pytest.mark.parametrize("context", [(), (2,), (2, 3), (7, 7), (7, 3)])
def test_what_a_network_is_compared_with_gives_probabilities(context: tuple[int, ...]) -> None:
    counted = KneserNey([2, 3, 4, 2, 3, 5, 2, 2, 3, 4] * 5, 8, order=3)
    found = [counted.probability(context, token) for token in range(8)]

    assert sum(found) == pytest.approx(1.0)
    assert min(found) > 0


def test_a_prompt_names_the_words_that_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = learn_lossless("to be or not to be", "word", 100, 1)
    reader, names = VocabularyReader(found.text), tuple(found.words)
    monkeypatch.setattr("dltrain.runs.load.reader_of_run", lambda folder: reader)
    field = Field((4,), "tokens", "input", len(names), names, (0,) * len(names))
    asked = Namespace(prompt="to be xyz", skip_unknown=False)
    with pytest.raises(UserError, match="1 of 3 tokens, such as 'xyz', are not in"):
        _prompt(RunFolder(Path()), field, asked)


def test_unknown_words_are_left_out_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = learn_lossless("to be or not to be", "word", 100, 1)
    reader, names = VocabularyReader(found.text), tuple(found.words)
    monkeypatch.setattr("dltrain.runs.load.reader_of_run", lambda folder: reader)
    met = Field((4,), "tokens", "input", len(names), names, (1,) * len(names))
    read = [_prompt(RunFolder(Path()), met, Namespace(prompt="to xyz", skip_unknown=skip))
            for skip in (None, True)]  # fmt: skip

    assert [len(ids) for ids in read] == [2, 1]
    assert read[1] == read[0][:1]
    said = capsys.readouterr().err
    assert "each is read as the unknown token" in said and "they are left out" in said
