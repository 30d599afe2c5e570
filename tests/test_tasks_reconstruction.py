"""Giving images back: the loss by hand, noise in training alone, what is shown of it."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch
from dltrain.models.mlp import MLP
from dltrain.reports.canvas import render
from dltrain.tasks.autoencoder import Reconstruction
from tests.conftest import Train
from tests.making import evaluated, image_spec

PNG = b"\x89PNG\r\n\x1a\n"
MEAN, STD = [0.3], [0.4]


class Known(nn.Module):
    """A network with one number a dimension of its code to learn, that notes what it reads."""

    def __init__(self, latent_size: int = 2) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.weight = nn.Parameter(torch.linspace(0.1, 1.0, latent_size))
        self.read: list[Tensor] = []

    def encode(self, images: Tensor) -> Tensor:
        self.read.append(images)
        return images.flatten(1)[:, : self.latent_size] * self.weight

    def decode(self, codes: Tensor) -> Tensor:
        return codes.sum(1)[:, None, None, None].expand(-1, 1, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))


def batch(count: int = 6) -> Batch:
    """Normalized images of 4x4, and classes."""
    images = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return {"input": (images - MEAN[0]) / STD[0], "target": torch.arange(count) % 3}


def shown(batch: Batch) -> Tensor:
    return batch["input"] * STD[0] + MEAN[0]


def task(latent_size: int = 2, **settings: Any) -> Reconstruction:
    spec = image_spec((1, 4, 4), ["zero", "one", "two"], MEAN, STD)
    return Reconstruction(Known(latent_size), spec, **settings)


def losses(task: Reconstruction, batch: Batch) -> float:
    """Take a training step; return the loss that is to be minimized."""
    asked: list[Tensor] = []
    metrics = task.train_step(batch, lambda loss, name="model": asked.append(loss))
    assert asked[0].requires_grad
    assert torch.equal(asked[0].detach(), metrics["loss"])
    return asked[0].item()


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_the_loss_is_that_of_a_pixel_of_0_to_1(loss: Literal["bce", "mse"]) -> None:
    some, learner = batch(), task(loss=loss)
    images, outputs = shown(some), learner.model(some["input"])
    squared = (outputs.sigmoid() - images).square().mean().item()
    entropy = functional.binary_cross_entropy(outputs.sigmoid(), images).item()
    expected = {"bce": entropy, "mse": squared}[loss]

    assert losses(learner, some) == pytest.approx(expected, rel=1e-5)
    halves = [
        {name: column[part] for name, column in some.items()} for part in ([0], [*range(1, 6)])
    ]
    scalars = evaluated(learner, *halves).scalars
    with torch.inference_mode():
        answers = learner.predict(some)
    assert scalars == pytest.approx({"loss": expected, "mse": squared}, rel=1e-5)
    torch.testing.assert_close(answers.columns["image"], outputs.sigmoid())
    assert answers.fields["image"].shape == (1, 4, 4)
    torch.testing.assert_close(learner(some)["reconstruction"], outputs.sigmoid())


def test_images_that_are_not_normalized_are_taken_as_they_are() -> None:
    images = torch.rand(3, 1, 4, 4)
    learner = Reconstruction(Known(), image_spec((1, 4, 4)), loss="mse")

    loss = losses(learner, {"input": images})

    torch.testing.assert_close(learner.model.read[0], images)
    expected = (learner.model(images).sigmoid() - images).square().mean().item()
    assert loss == pytest.approx(expected)


def test_noise_of_the_given_std_is_read_and_the_clean_image_asked_for() -> None:
    gray = {"input": (torch.full((200, 1, 4, 4), 0.5) - MEAN[0]) / STD[0]}
    learner = task(loss="mse", noise=0.2)

    loss = losses(learner, gray)

    read = learner.model.read[0]
    corrupted = read * STD[0] + MEAN[0]
    assert corrupted.std().item() == pytest.approx(0.2, rel=0.1)
    assert corrupted.mean().item() == pytest.approx(0.5, abs=0.02)
    expected = (learner.model(read).sigmoid() - 0.5).square().mean().item()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_masked_fraction_is_black_and_the_rest_untouched() -> None:
    white = {"input": (torch.ones(200, 1, 4, 4) - MEAN[0]) / STD[0]}
    learner = task(masking=0.3)

    losses(learner, white)

    corrupted = learner.model.read[0] * STD[0] + MEAN[0]
    masked = corrupted.abs() < 1e-6
    assert masked.float().mean().item() == pytest.approx(0.3, abs=0.03)
    torch.testing.assert_close(corrupted[~masked], torch.ones(int((~masked).sum())))


def test_it_is_evaluated_clean_and_besides_on_what_is_corrupted_alike_each_time() -> None:
    some, learner = batch(), task(loss="mse", masking=0.5, noise=0.1)
    state = torch.get_rng_state()
    first, again = (evaluated(learner, some) for _ in range(2))
    clean = evaluated(task(loss="mse"), some)

    assert first.scalars == again.scalars
    assert first.scalars["loss"] == clean.scalars["loss"]
    assert set(first.scalars) - set(clean.scalars) == {"corruption_mse", "denoising_mse"}
    assert torch.equal(state, torch.get_rng_state())
    losses(learner, some)
    assert not torch.equal(state, torch.get_rng_state()), "training draws from the run's own"


def test_the_numbers_of_denoising_are_those_of_the_images() -> None:
    some, learner = batch(count=500), task(loss="mse", noise=0.25)
    scalars = evaluated(learner, some).scalars
    with torch.inference_mode():
        corrupted = learner.model.read[1]
        restored = learner.model(corrupted).sigmoid()

    assert scalars["corruption_mse"] == pytest.approx(0.25**2, rel=0.1)
    expected = (restored - shown(some)).square().mean().item()
    assert scalars["denoising_mse"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "figures"),
    [
        ({"latent_size": 3}, {"reconstructions", "interpolation"}),
        ({"latent_size": 2, "noise": 0.1}, {"reconstructions", "interpolation", "latent_plane"}),
    ],
)
def test_what_is_shown_is_drawn(settings: dict[str, Any], figures: set[str]) -> None:
    evaluation = evaluated(task(**settings), batch(3), batch(2))

    assert set(evaluation.figures) == figures
    for draw in evaluation.figures.values():
        assert render(draw).startswith(PNG)
    rows = [text.get_text() for text in evaluation.figures["reconstructions"]().axes[0].texts]
    corrupted = ["corrupted", "restored"] if "noise" in settings else []
    assert rows == ["original", "reconstruction", *corrupted]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": -0.1}, "noise is a standard deviation"),
        ({"masking": 1.0}, "masking a fraction"),
        ({"model": MLP((1, 4, 4), 2)}, r"MLP has no code.*model=autoencoder"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reconstruction(**{"model": Known(), "spec": image_spec((1, 4, 4)), **settings})


@pytest.mark.parametrize("model", ["autoencoder", "conv_autoencoder"])
def test_a_denoising_run_takes_noise_away(model: str, train: Train) -> None:
    trained = train(
        f"model={model}",
        "data=digits",
        "task.noise=0.4",
        "optimizer.lr=0.003",
        "trainer.epochs=4",
        "trainer.precision=bfloat16",
    )

    test = trained.summary["test"]
    assert test["corruption_mse"] == pytest.approx(0.16, rel=0.05)
    assert test["denoising_mse"] < 0.09
    assert test["mse"] < test["denoising_mse"]
