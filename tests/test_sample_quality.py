"""Sample quality by a classifier: its measures in closed form, and what it adds to a run."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from dltrain import training as run
from dltrain.callbacks.sample_quality import SampleQuality
from dltrain.config import compose as composition
from dltrain.data.images.digits import Digits
from dltrain.errors import ConfigError
from dltrain.runs.evaluation_classifier import (
    EvaluationClassifier,
    Moments,
    Nearest,
    Within,
    class_fractions,
    classifier_score,
    confident_fraction,
    frechet_distance,
    normalized_entropy,
)
from dltrain.runs.finding import latest
from dltrain.runs.folder import RunFolder
from dltrain.runs.load import load, spec_of_run
from tests.conftest import Train
from tests.interrupting import interrupted
from tests.making import PACKAGE, edit, image_spec, trained

FEW = (
    "callbacks=[sample_quality]",
    "callbacks.sample_quality.samples=600",
    "callbacks.sample_quality.training_samples=200",
)
PLAIN = ("data.augment.shift=0", "data.augment.rotate=0", "data.augment.scale=0")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose network is one linear layer on the digits: its features are the pixels."""
    output_dir = tmp_path_factory.mktemp("classifier")
    config = composition.compose(
        [
            *("model=logreg", "data=digits", "trainer.epochs=10", "optimizer.lr=0.05"),
            *("callbacks=none", "device=cpu", *PLAIN),
        ]
    )
    run.train({**config, "output_dir": str(output_dir)})
    return latest(output_dir)


@pytest.fixture(scope="module")
def name(classifier: Path) -> str:
    return hashlib.sha256((classifier / "checkpoints" / "last.pt").read_bytes()).hexdigest()[:8]


def moments(*parts: Tensor) -> Moments:
    gathered = Moments()
    for part in parts:
        gathered.add(part)
    return gathered


def ellipse(mean: Sequence[float], stds: Sequence[float]) -> Moments:
    """Four points with that mean, those standard deviations along the axes, and no covariance."""
    corners = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * math.sqrt(3 / 4)
    return moments(corners * torch.tensor(stds) + torch.tensor(mean))


def test_diversity_is_what_is_left_without_the_means_of_the_classes() -> None:
    """Around 1 and 7 by 1 each way, and a class of one; a part at a time."""
    within = Within(4)
    within.add(torch.tensor([[0.0], [6.0], [2.0]]), torch.tensor([0, 2, 0]))
    within.add(torch.tensor([[8.0], [100.0]]), torch.tensor([2, 3]))

    assert within.variance == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("mean", "stds", "expected"),
    [
        ((0.0, 0.0), (1.0, 1.0), 0.0),
        ((3.0, 4.0), (1.0, 1.0), 25.0),
        ((0.0, 0.0), (3.0, 1.0), 4.0),
        ((1.0, 0.0), (2.0, 4.0), 1 + 1 + 9),
        ((0.0, 0.0), (0.0, 0.0), 2.0),
    ],
)
def test_the_distance_of_gaussians_along_the_axes(
    mean: Sequence[float], stds: Sequence[float], expected: float
) -> None:
    """The squares of the differences of means and of standard deviations, summed."""
    one, other = ellipse((0, 0), (1, 1)), ellipse(mean, stds)

    assert frechet_distance(one, other) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(other, one) == pytest.approx(expected, abs=1e-6)


def test_the_distance_of_any_gaussians_is_that_of_the_matrix_square_root() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (
        torch.randn(50, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + shift
        for shift in (0.0, 0.5)
    )
    s, t = (np.cov(x.double().numpy(), rowvar=False) for x in (one, other))
    m = (one - other).double().mean(0).numpy()
    expected = m @ m + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))

    # In parts or at once.
    assert frechet_distance(moments(one[:20], one[20:]), moments(other)) == pytest.approx(expected)


def test_the_score_is_one_where_nothing_is_told_and_the_classes_where_all_is() -> None:
    assert classifier_score(torch.eye(5).repeat(3, 1)) == pytest.approx(5)
    assert classifier_score(torch.eye(5)[:1].repeat(9, 1)) == pytest.approx(1)
    assert classifier_score(torch.full((7, 5), 0.2)) == pytest.approx(1, abs=1e-6)


def test_classes_are_counted_and_their_entropy_is_of_one() -> None:
    probabilities = torch.tensor([[0.95, 0.05], [0.2, 0.8], [0.9, 0.1], [0.6, 0.4]])

    assert class_fractions(probabilities).tolist() == [0.75, 0.25]
    assert confident_fraction(probabilities) == 0.5
    assert normalized_entropy(torch.tensor([0.25] * 4)) == pytest.approx(1)
    assert normalized_entropy(torch.tensor([1.0, 0.0])) == 0
    # The entropy of a fair coin among four.
    assert normalized_entropy(torch.tensor([0.5, 0.5, 0.0, 0.0])) == pytest.approx(0.5)


def test_the_nearest_image_is_found_wherever_it_passes_by() -> None:
    generator = torch.Generator().manual_seed(0)
    many = torch.rand(40, 1, 3, 3, generator=generator)
    asked = torch.cat((many[[31, 7]], torch.full((1, 1, 3, 3), 9.0)))
    nearest = Nearest(asked)
    for part in many.split(16):
        nearest.add(part)

    assert nearest.distances[:2].tolist() == [0, 0]
    torch.testing.assert_close(nearest.found[:2], many[[31, 7]])
    expected = (many - 9).flatten(1).norm(dim=1).min()
    torch.testing.assert_close(nearest.distances[2], expected)


def test_a_classifier_says_what_its_network_says_and_is_named_by_its_checkpoint(
    classifier: Path, name: str
) -> None:
    field = spec_of_run(RunFolder(classifier)).input
    images = Digits().splits()["test"].columns["input"][:20] / 255
    inputs = (images - field.mean[0]) / field.std[0]
    with torch.no_grad():
        expected = load(classifier).forward({"input": inputs})["logits"].softmax(1)
    before = torch.get_rng_state()

    other = EvaluationClassifier(str(classifier))
    output = other(images)

    assert torch.equal(before, torch.get_rng_state())
    assert other.name == name
    torch.testing.assert_close(output.probabilities, expected)
    torch.testing.assert_close(output.features, inputs.flatten(1))


def test_images_like_the_real_ones_are_as_good_as_they(classifier: Path, name: str) -> None:
    """The stand-in draws from the training split: a perfect imitation, and memorized."""
    folder = evaluated_by(classifier, conditional=True)

    test = summary(folder)
    assert test[f"frechet_{name}"] < 2 * test[f"frechet_floor_{name}"]
    assert 0.9 < test[f"confidence_ratio_{name}"] < 1.2
    assert 0.8 < test[f"diversity_{name}"] < 1.2
    assert test[f"smallest_class_{name}"] > 0.05
    assert test[f"class_entropy_{name}"] > 0.95
    assert test[f"label_agreement_{name}"] > 0.9
    assert 5 < test[f"classifier_score_{name}"] < 10
    assert test["nearest_training_image"] < 1e-5 < test["nearest_to_test_image"]
    assert "mode collapse" not in (folder / "train.log").read_text()
    rows = table(folder, f"test_sample_quality_{name}_classes.csv")
    assert [row["class"] for row in rows] == list("0123456789")
    assert sum(float(row["fraction_of_samples"]) for row in rows) == pytest.approx(1)
    (distance, *_) = table(folder, f"test_sample_quality_{name}.csv")
    assert float(distance["samples"]) == test[f"frechet_{name}"]
    assert float(distance["training_images"]) == test[f"frechet_floor_{name}"]


def test_the_floor_is_the_distance_of_the_splits(classifier: Path, name: str) -> None:
    """A linear layer's features are the pixels, normalized, so numpy can tell."""
    field = spec_of_run(RunFolder(classifier)).input
    splits = [
        (split["input"].flatten(1).double().numpy() / 255 - field.mean[0]) / field.std[0]
        for split in (examples.columns for examples in Digits().splits().values())
    ]
    s, t = (np.cov(split, rowvar=False) for split in splits)
    m = splits[0].mean(0) - splits[1].mean(0)
    expected = m @ m + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))

    # Training images are taken as they are, whatever the network sees of them.
    folder = evaluated_by(classifier, "data.validation=0", "data.augment.rotate=30")

    assert summary(folder)[f"frechet_floor_{name}"] == pytest.approx(expected, rel=1e-3)


def test_a_collapse_is_named_once_and_again_at_the_end(classifier: Path, name: str) -> None:
    folder = evaluated_by(classifier, "trainer.epochs=3", "trainer.evaluate_every=1", only=[3, 5])

    log = (folder / "train.log").read_text()
    told = [line for line in log.splitlines() if "warning: mode collapse" in line]
    assert len(told) == 2
    for line in told:
        assert "below 1.0% of the samples are of class 0, 1, " in line
        assert "of the entropy of even ones" in line
    assert summary(folder)[f"smallest_class_{name}"] == 0
    validation = json.loads((folder / "summary.json").read_text())["validation"]
    assert set(validation) - {"loss"} == {
        f"{what}_{name}"
        for what in ("confidence_ratio", "smallest_class", "class_entropy", "diversity")
    }
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["name"] == f"class_entropy_{name}"]
    assert [row["split"] for row in rows] == ["validation"] * 3 + ["test"]


def test_without_a_validation_split_a_collapse_is_named_all_the_same(classifier: Path) -> None:
    settings = ("trainer.epochs=2", "trainer.evaluate_every=1", "data.validation=0")
    folder = evaluated_by(classifier, *settings, only=[7])

    told = [line for line in (folder / "train.log").read_text().splitlines() if "collapse" in line]
    assert len(told) == 2
    assert (folder / "train.log").read_text().index("collapse") < (
        folder / "train.log"
    ).read_text().index("epoch 1")


@pytest.mark.parametrize("validation", [0, 200])
def test_one_image_of_each_class_is_a_collapse_too(
    classifier: Path, name: str, validation: int
) -> None:
    settings = ("trainer.epochs=2", "trainer.evaluate_every=1", f"data.validation={validation}")
    folder = evaluated_by(classifier, *settings, conditional=True, each=1)

    log = (folder / "train.log").read_text()
    assert log.count("collapse: those of a class have 0% of the diversity of real images") == 2
    assert summary(folder)[f"diversity_{name}"] == pytest.approx(0, abs=1e-9)
    assert summary(folder)[f"label_agreement_{name}"] > 0.8


def test_a_resumed_run_does_not_name_a_collapse_twice(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*FEW, f"callbacks.sample_quality.run={classifier}", "trainer.epochs=4")
    with interrupted(monkeypatch, SampleQuality, 22):
        folder = trained(tmp_path, *settings, "trainer.evaluate_every=1", only=[7])
    monkeypatch.setenv("DLTRAIN_PACKAGES", PACKAGE)
    run.resume(str(folder), tmp_path)

    log = (folder / "train.log").read_text()
    assert "Interrupted after step 22" in log
    assert log.count("collapse") == 2  # at the first evaluation, and of the test split


def test_without_a_run_only_what_was_memorized_is_measured(tmp_path: Path) -> None:
    folder = trained(
        tmp_path, "callbacks=[sample_quality]", "trainer.steps=1", *PLAIN, brightness=0.5
    )

    test = summary(folder)
    assert set(test) == {"loss", "nearest_training_image", "nearest_to_test_image"}
    assert test["nearest_training_image"] > 0


def test_the_nearest_images_are_drawn(tmp_path: Path) -> None:
    settings = (
        "callbacks=[sample_quality,figures]",
        "callbacks.sample_quality.nearest=20",
        "trainer.steps=1",
    )
    folder = trained(tmp_path, *settings, *PLAIN)

    assert (folder / "figures" / "test_nearest_training_images.png").stat().st_size > 1000


def test_a_run_learns_the_same_with_and_without_it(
    classifier: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("model=mlp", "model.dropout=0.5", "data=digits", "trainer.steps=30")
    plain = train(*settings).folder
    watched = train(*settings, *FEW, f"callbacks.sample_quality.run={classifier}").folder

    assert "evaluates nothing" in capsys.readouterr().out
    assert (plain / "metrics.csv").read_bytes() == (watched / "metrics.csv").read_bytes()


def test_a_classifier_of_other_data_is_refused_before_there_is_a_folder(
    classifier: Path, train: Train, tmp_path: Path
) -> None:
    other = train("model=linreg", "data=line", "trainer.steps=1").folder
    spec, listed = classifier / "data.json", classifier / "checksums.sha256"
    before, sums = spec.read_text(), listed.read_text()

    def refused(other: Path | str) -> str:
        with pytest.raises(ConfigError) as caught:
            trained(tmp_path / "none", *FEW, f"callbacks.sample_quality.run={other}")
        assert not (tmp_path / "none").exists()
        message = str(caught.value)
        assert message.startswith(("callbacks.sample_quality: ", "callbacks.sample_quality.run"))
        return message

    assert "no classifier of images" in refused(other)
    assert "does not exist" in refused(tmp_path / "nowhere")
    assert "latest moves on" in refused("latest")
    try:
        edit(classifier, "data.json", before.replace('"3"', '"three"'))
        assert "knows the classes 0, 1, 2, …" in refused(classifier)
    finally:
        spec.write_text(before)
        listed.write_text(sums)


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"samples": 1}, {"nearest": -1}, {"training_samples": -1}, {"seed": -1}):
        with pytest.raises(ValueError, match="samples is at least 2"):
            SampleQuality(image_spec((1, 8, 8), "ab"), **wrong)


def evaluated_by(classifier: Path, *overrides: str, **maker: Any) -> Path:
    """The folder of a run of the stand-in, beside that of its classifier."""
    settings = ("trainer.steps=1", *FEW, *PLAIN, f"callbacks.sample_quality.run={classifier}")
    if any(line.startswith("trainer.epochs") for line in overrides):
        settings = settings[1:]
    return trained(
        classifier.parent / f"evaluated_{len(overrides)}", *settings, *overrides, **maker
    )


def summary(folder: Path) -> dict[str, float]:
    test = json.loads((folder / "summary.json").read_text())["test"]
    assert isinstance(test, dict)
    return test


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / name).open(newline="") as file:
        return list(csv.DictReader(file))
