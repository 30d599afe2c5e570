"""Points and tables: what the sources give, and that only training rows set the scale."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.contracts.data import Stream, Streams
from dltrain.data.streams.division import hold_out_test
from dltrain.data.streams.in_memory import InMemory
from dltrain.data.tables.points import Circles, Gates, Moons
from dltrain.data.tables.source import BreastCancer, Diabetes, Iris, VectorSource
from tests.conftest import Train
from tests.streams import opened, whole

TABLES = [Iris, BreastCancer, Diabetes]


def rows(loader: Stream) -> list[tuple[float, ...]]:
    return sorted(tuple(row.tolist()) for row in whole(loader)["input"])


@pytest.mark.parametrize(
    ("gate", "answers"),
    [("AND", [0, 0, 0, 1]), ("OR", [0, 1, 1, 1]), ("NAND", [1, 1, 1, 0]), ("xor", [0, 1, 1, 0])],
)
def test_a_gate_is_its_truth_table_in_both_splits(gate: str, answers: list[int]) -> None:
    loaders = opened(Gates(gate=gate, batch_size="full", validation=0), 0)

    for loader in (loaders["train"], loaders["test"]):
        points = whole(loader)
        order = (2 * points["input"][:, 0] + points["input"][:, 1]).argsort()
        assert points["input"][order].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
        assert points["target"][order].tolist() == answers


def test_an_unknown_gate_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"AND, OR, NAND, XOR; got 'XNOR'.*'XOR'"):
        Gates(gate="XNOR")


@pytest.mark.parametrize("kind", [Moons, Circles])
def test_points_are_drawn_by_the_data_seed_alone(kind: type[VectorSource]) -> None:
    def drawn(seed: int = 0, **settings: Any) -> Streams:
        settings = {"examples": 50, "test_examples": 20, "validation": 0} | settings
        return opened(kind(**settings), seed)

    first = drawn()
    assert first["train"].examples == 50 and first["test"].examples == 20
    assert rows(first["train"]) == rows(drawn(seed=7)["train"])
    assert rows(first["train"]) != rows(drawn(data_seed=1)["train"])
    # Two neighboring data seeds share no split either.
    assert not {*rows(first["test"])} & {*rows(first["train"]), *rows(drawn(data_seed=1)["train"])}
    assert whole(first["train"])["target"].bincount().tolist() == [25, 25]


def test_circles_without_noise_have_their_radii() -> None:
    points = whole(opened(Circles(noise=0.0, factor=0.3, validation=0), 0)["train"])
    radii = points["input"].norm(dim=1)
    expected = torch.tensor([1.0, 0.3])[points["target"]]
    torch.testing.assert_close(radii, expected)


@pytest.mark.parametrize(
    "settings",
    [{"noise": -1.0}, {"examples": 1}, {"test_examples": 0}, {"data_seed": -1}, {"factor": 1.0}],
)
def test_impossible_points_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Circles(**settings)


@pytest.mark.parametrize(
    ("kind", "train", "test"), [(Iris, 120, 30), (BreastCancer, 456, 113), (Diabetes, 354, 88)]
)
def test_a_table_has_a_fixed_test_split(kind: type[VectorSource], train: int, test: int) -> None:
    loaders = [opened(kind(validation=0, standardize=False), seed) for seed in (0, 1)]

    assert (loaders[0]["train"].examples, loaders[0]["test"].examples) == (train, test)
    assert rows(loaders[0]["test"]) == rows(loaders[1]["test"])
    batch = whole(loaders[0]["train"])
    assert batch["input"].dtype == torch.float32
    assert batch["input"].shape == (train, len(kind(validation=0).outline().input.names))


def test_iris_is_stratified_and_diabetes_has_its_known_mean() -> None:
    iris = whole(opened(Iris(), 0)["test"])
    assert iris["target"].bincount().tolist() == [10, 10, 10]
    loaders = opened(Diabetes(validation=0), 0)
    targets = torch.cat([whole(loaders["train"])["target"], whole(loaders["test"])["target"]])
    # The mean of the 442 responses as published: 152.13.
    assert float(targets.mean()) == pytest.approx(152.133, abs=0.001)
    assert targets.shape == (442, 1)


@pytest.mark.parametrize("kind", TABLES)
def test_the_training_rows_alone_set_mean_and_std(kind: type[VectorSource]) -> None:
    settings: dict[str, Any] = {"validation": 0.3, "limit": 100}
    raw = opened(kind(standardize=False, **settings), 3)
    done = opened(kind(**settings), 3)

    inputs = whole(done["train"])["input"]
    torch.testing.assert_close(inputs.mean(0), torch.zeros(inputs.shape[1]), atol=1e-5, rtol=0)
    known = whole(raw["train"])["input"].double()
    mean, std = known.mean(0), known.std(0, correction=0)
    for name in ("validation", "test"):
        expected = (whole(raw[name])["input"].double() - mean) / std
        found = whole(done[name])["input"]
        torch.testing.assert_close(found, expected.float(), atol=1e-4, rtol=1e-4)


def test_a_feature_that_never_changes_becomes_zero() -> None:
    source = Iris()
    splits = {
        "train": InMemory({"input": torch.tensor([[1.0, 5.0], [3.0, 5.0]])}),
        "test": InMemory({"input": torch.tensor([[9.0, 7.0]])}),
    }
    done = source.learn(splits)
    assert done["train"].columns["input"].tolist() == [[-1, 0], [1, 0]]
    assert done["test"].columns["input"].tolist() == [[7, 2]]


def targets(*counts: int) -> Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def test_a_split_keeps_fractions_and_never_takes_a_class_away() -> None:
    classes = targets(50, 10, 1)
    train, test = hold_out_test(classes, 0.2)
    assert classes[test].bincount(minlength=3).tolist() == [10, 2, 0]
    assert classes[train].bincount(minlength=3).tolist() == [40, 8, 1]


def test_noise_reaches_the_training_rows_of_every_table(train: Train) -> None:
    plain = train("data=iris", "model=mlp", "trainer.epochs=1").summary
    noisy = train("data=iris", "model=mlp", "trainer.epochs=1", "data.augment.noise=3").summary
    assert plain["test"]["loss"] != noisy["test"]["loss"]


def test_xor_and_numbers_are_learned(train: Train) -> None:
    xor = train("data=gates", "model=mlp", "trainer.epochs=100", "trainer.evaluate_every=100")
    assert xor.summary["test"]["accuracy"] == 1
    diabetes = train("data=diabetes", "model=linreg", "trainer.epochs=20", "optimizer.lr=0.01")
    assert diabetes.summary["test"]["r2"] > 0.3
