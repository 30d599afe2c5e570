"""The evidence lower bound: its terms by hand, its tightness where all is known, its samples."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from dltrain import training as run
from dltrain.contracts.data import Batch
from dltrain.contracts.task import Samples
from dltrain.models.generative.autoencoder import Autoencoder
from dltrain.models.generative.vae import VAE
from dltrain.models.layers.likelihoods import Bernoulli, Gaussian
from dltrain.reports.canvas import render
from dltrain.runs.finding import latest
from dltrain.runs.load import load
from dltrain.tasks.latent import between
from dltrain.tasks.losses.elbo import divergence, importance_weighted
from dltrain.tasks.vae import Variational
from tests.conftest import Compose, Train
from tests.making import evaluated, image_spec
from tests.test_resume import assert_same

PNG = b"\x89PNG\r\n\x1a\n"
SHAPE = (1, 2, 3)


class LinearGaussian(nn.Module):
    """x = W z + b + noise of standard deviation s, with z from the standard normal: all is known.

    The columns of W are orthogonal, so that the posterior is a diagonal Gaussian; ``off`` moves
    its mean away from the true one, and ``wide`` multiplies its standard deviation.
    """

    def __init__(self, scale: float = 0.5, off: float = 0.0, wide: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        axes, _ = torch.linalg.qr(torch.randn(6, 2, generator=generator))
        self.register_buffer("weight", axes * torch.tensor([1.5, 0.7]))
        self.register_buffer("shift", torch.randn(6, generator=generator))
        self.latent_size = 2
        self.likelihood = Gaussian(scale, learned=False)
        self.scale, self.off, self.wide = scale, off, wide

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        precision = 1 + self.weight.square().sum(0) / self.scale**2
        explained = (images.flatten(1) - self.shift) @ self.weight / self.scale**2
        mean = explained / precision + self.off
        return mean, (self.wide**2 / precision).log().expand_as(mean)

    def decode(self, codes: Tensor) -> Tensor:
        return (codes @ self.weight.T + self.shift).unflatten(1, SHAPE)

    def evidence(self, images: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.T + self.scale**2 * torch.eye(6)
        return MultivariateNormal(self.shift, covariance).log_prob(images.flatten(1))


def images(count: int = 7) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0))


def estimate(model: Any, samples: int, seed: int = 0, **settings: Any) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = images()
    return importance_weighted(model, x, x, samples, generator, **settings)


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("most_numbers", [1, 20, 100, 10_000])
def test_with_the_true_posterior_every_estimate_is_the_evidence(
    samples: int, most_numbers: int
) -> None:
    model = LinearGaussian()

    found = estimate(model, samples, most_numbers=most_numbers)

    torch.testing.assert_close(found, model.evidence(images()), atol=1e-4, rtol=1e-5)


def test_with_another_posterior_more_samples_come_closer_from_below() -> None:
    model = LinearGaussian(off=0.4, wide=1.3)
    evidence = model.evidence(images())

    gaps = [
        torch.stack([evidence - estimate(model, k, seed) for seed in range(40)]).mean().item()
        for k in (1, 10, 1000)
    ]

    assert gaps[0] > 2 * gaps[1] > 0
    assert gaps[1] > 10 * abs(gaps[2])
    assert abs(gaps[2]) < 0.01
    # That of one sample is the divergence of the posterior from the true one.
    precision = 1 + model.weight.square().sum(0) / model.scale**2
    known = 0.5 * (1.3**2 - 1 - math.log(1.3**2) + 0.4**2 * precision).sum().item()
    assert gaps[0] == pytest.approx(known, rel=0.15)


def test_the_estimate_of_a_task_is_that_of_its_test_split_alone() -> None:
    model = LinearGaussian(scale=0.8, off=0.2)
    x = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(2))
    task = Variational(model, image_spec(SHAPE), binarize="none", importance_samples=2000)
    batches = [{"input": x[:4]}, {"input": x[4:]}]

    validation, test = (evaluated(task, *batches, final=end).scalars for end in (False, True))
    without = Variational(model, image_spec(SHAPE), binarize="none", importance_samples=0)
    assert evaluated(without, *batches, final=True).scalars == validation

    evidence = model.evidence(x).mean().item()
    assert {**validation, "nll": test["nll"]} == test
    assert test["nll"] == pytest.approx(-evidence, abs=0.02)


def test_the_divergence_is_that_of_torchs_distributions() -> None:
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    normal = torch.distributions.Normal
    known = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(torch.zeros(()), torch.ones(()))
    )

    torch.testing.assert_close(divergence(mean, log_variance), known)


class Known(nn.Module):
    """A network whose posterior is what it is told, and that notes what it reads."""

    def __init__(
        self,
        mean: list[float],
        log_variance: list[float],
        likelihood: Bernoulli | Gaussian | None = None,
    ) -> None:
        super().__init__()
        self.mean, self.log_variance = (nn.Parameter(torch.tensor(v)) for v in (mean, log_variance))
        self.latent_size = len(mean)
        self.likelihood = likelihood or Gaussian(1.0, learned=False)
        self.read: list[Tensor] = []

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.read.append(images)
        many = torch.ones(len(images), 1)
        return many * self.mean, many * self.log_variance

    def decode(self, codes: Tensor) -> Tensor:
        return 0 * codes.sum(1)[:, None, None, None].expand(-1, *SHAPE)

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.posterior(images)[0])


def step(task: Variational, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss that a training step minimizes, and what the step tells."""
    asked: list[Tensor] = []
    metrics = task.train_step(batch, lambda loss, name="model": asked.append(loss))
    return asked[0], metrics


@pytest.mark.parametrize(("beta", "free_bits"), [(1.0, 0.0), (4.0, 0.0), (0.0, 0.0), (2.0, 0.3)])
def test_the_loss_is_the_two_terms_with_beta_and_free_bits(beta: float, free_bits: float) -> None:
    # Of dimensions: 0.5 * 1**2 nats, 0.5 * 0.2**2, and nothing.
    model = Known([1.0, 0.2, 0.0], [0.0, 0.0, 0.0])
    x = torch.rand(4, *SHAPE)
    task = Variational(model, image_spec(SHAPE), beta, free_bits, binarize="none")

    loss, metrics = step(task, {"input": x})
    loss.backward()
    scalars = evaluated(task, {"input": x[:1]}, {"input": x[1:]}).scalars

    reconstruction = (x.square() / 2 + math.log(2 * math.pi) / 2).sum((1, 2, 3)).mean().item()
    costs = max(0.5, free_bits) + max(0.02, free_bits) + max(0.0, free_bits)
    expected = {"loss": reconstruction + beta * costs, "reconstruction": reconstruction, "kl": 0.52}
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(expected)
    assert loss.item() == pytest.approx(expected["loss"])
    assert scalars.pop("active_units") == 0
    assert scalars == pytest.approx({**expected, "elbo": -reconstruction - 0.52})
    # What is free is not pressed any lower.
    second = 0.0 if free_bits else 0.2
    assert model.mean.grad is not None
    torch.testing.assert_close(model.mean.grad, beta * torch.tensor([1.0, second, 0.0]))


def test_pixels_are_drawn_anew_in_training_and_alike_where_they_are_evaluated() -> None:
    model = Known([0.0], [0.0], Bernoulli())
    x = torch.full((500, *SHAPE), 0.3)
    task = Variational(model, image_spec(SHAPE, (), [0.5], [0.25]), importance_samples=3)
    batch = {"input": (x - 0.5) / 0.25}

    def shown(read: Tensor) -> Tensor:
        return read * 0.25 + 0.5

    torch.manual_seed(5)
    step(task, batch), step(task, batch)
    torch.manual_seed(5)
    step(task, batch)
    first, second, again = map(shown, model.read)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert first.mean().item() == pytest.approx(0.3, abs=0.03)

    model.read.clear()
    state = torch.get_rng_state()
    halves = [{"input": batch["input"][part]} for part in (slice(77), slice(77, None))]
    evaluated(task, *halves)
    evaluated(task, *halves, final=True)
    first, second, *again = map(shown, model.read)
    assert torch.equal(first, again[0])
    assert torch.equal(first, again[1]), "the estimate is of the same images"
    assert torch.equal(second, again[2])
    assert torch.equal(second, again[3])
    assert not torch.equal(first, second[:77])
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(state, torch.get_rng_state())


def test_gray_images_stay_gray_where_that_is_asked() -> None:
    model = Known([0.0], [0.0])
    x = torch.rand(3, *SHAPE)
    task = Variational(model, image_spec(SHAPE), binarize="none")

    step(task, {"input": x})
    evaluated(task, {"input": x})

    assert len(model.read) == 2
    for read in model.read:
        torch.testing.assert_close(read, x)


def vae(latent_size: int = 2, **settings: Any) -> Variational:
    torch.manual_seed(0)
    model = VAE((1, 8, 8), latent_size=latent_size, hidden=[16])
    spec = image_spec((1, 8, 8), ["zero", "one"], [0.3], [0.4])
    return Variational(model, spec, **settings)


def drawn(task: Any, *arguments: Any, **labels: Any) -> Tensor:
    return task.sample(*arguments, **labels).columns["image"]


def test_samples_are_the_seeds_and_leave_the_run_alone() -> None:
    task: Any = vae().train()
    state = torch.get_rng_state()

    some, again, others = drawn(task, 5, 7), drawn(task, 5, 7), drawn(task, 5, 8)

    assert isinstance(task, Samples)
    assert task.training
    assert torch.equal(state, torch.get_rng_state())
    assert some.shape == (5, 1, 8, 8)
    assert not some.requires_grad
    assert bool(((some >= 0) & (some <= 1)).all())
    assert torch.equal(some, again)
    assert not torch.equal(some, others)
    assert drawn(task, 1203, 0).shape == (1203, 1, 8, 8)
    with pytest.raises(ValueError, match="no labels"):
        task.sample(2, 0, labels=torch.tensor([0, 1]))


def test_samples_are_clamped_to_what_an_image_may_be() -> None:
    model = VAE((1, 8, 8), latent_size=2, hidden=[16], decoder="gaussian", init="normal")
    nn.init.constant_(model.decoder[-2].bias, 7.0)

    task = Variational(model, image_spec((1, 8, 8)), binarize="none")

    assert torch.equal(drawn(task, 3, 0), torch.ones(3, 1, 8, 8))


@pytest.mark.parametrize("latent_size", [1, 2, 30])
def test_a_way_leads_from_one_sample_to_another(latent_size: int) -> None:
    task = vae(latent_size).eval()

    ways = task.interpolate(rows=3, steps=5, seed=4).columns["image"].unflatten(0, (3, 5))
    samples = drawn(task, 6, 4)

    torch.testing.assert_close(ways[:, 0], samples[:3])
    torch.testing.assert_close(ways[:, -1], samples[3:])
    assert bool(ways.isfinite().all())
    assert not torch.equal(ways[:, 1], ways[:, 2])


def test_a_way_keeps_the_length_of_what_it_joins() -> None:
    starts, ends = torch.randn(4, 100), torch.randn(4, 100)
    starts, ends = (10 * x / x.norm(dim=1, keepdim=True) for x in (starts, ends))

    ways = between(starts, ends, 9)

    torch.testing.assert_close(ways.norm(dim=2), torch.full((4, 9), 10.0))
    opposite = between(torch.ones(1, 3), -torch.ones(1, 3), 3)
    torch.testing.assert_close(opposite[0, 1], torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("latent_size", [2, 3])
def test_what_is_shown_is_drawn(latent_size: int) -> None:
    batches = [
        {"input": torch.randn(count, 1, 8, 8), "target": torch.arange(count) % 2}
        for count in (5, 2)
    ]
    evaluation = evaluated(vae(latent_size), *batches)

    plane = {"latent_plane"} if latent_size == 2 else set()
    always = {"reconstructions", "interpolation", "latent_use"}
    assert set(evaluation.figures) == always | plane
    for draw in evaluation.figures.values():
        assert render(draw).startswith(PNG)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": -1.0}, "beta, free_bits and importance_samples are not negative"),
        ({"free_bits": -0.1}, "not negative"),
        ({"importance_samples": -1}, "not negative"),
        ({}, r"explains gray values.*task.binarize=none"),
        ({"model": Autoencoder(SHAPE)}, r"Autoencoder has no distribution.*model=vae"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Variational(**{"model": Known([0.0], [0.0]), "spec": image_spec(SHAPE), **settings})


SHORT = ("data=digits", "data.limit=300", "trainer.epochs=3", "trainer.evaluate_every=1")


@pytest.mark.parametrize(
    "settings",
    [
        ["model=vae", "trainer.precision=bfloat16"],
        ["model=conv_vae", "model.decoder=gaussian", "task.binarize=none", "trainer.accumulate=2"],
    ],
    ids=["dense, in bfloat16", "convolutional, gray, accumulating"],
)
def test_a_run_raises_the_bound_and_tells_its_estimate_at_the_end(
    settings: list[str], train: Train
) -> None:
    trained = train(*settings, *SHORT, "task.importance_samples=20")

    validation, test = trained.summary["validation"], trained.summary["test"]
    assert "nll" not in validation
    assert test["elbo"] < -test["nll"]
    assert test["elbo"] == pytest.approx(-test["reconstruction"] - test["kl"])
    rows = [line.split(",") for line in (trained.folder / "metrics.csv").read_text().splitlines()]
    elbos = [float(row[4]) for row in rows if row[2:4] == ["validation", "elbo"]]
    assert elbos[0] < elbos[-1]
    if "gaussian" in "".join(settings):
        learned: Any = load(trained.folder)
        assert learned.model.likelihood.log_scale.exp().item() != pytest.approx(0.25)


def test_an_interrupted_run_ends_with_the_same_bytes(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("model=vae", "model.hidden=[16]", "callbacks=none", "device=cpu", *SHORT)
    run.train(compose(*settings, f"output_dir={tmp_path / 'whole'}"))
    whole_step, done = Variational.train_step, 0

    def train_step(self: Variational, *arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == 11:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole_step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Variational, "train_step", train_step)
        cut = run.train(compose(*settings, f"output_dir={tmp_path / 'cut'}"))
    run.resume("latest", tmp_path / "cut")

    assert (cut["status"], cut["steps"]) == ("interrupted", 11)
    ends = [latest(tmp_path / name) for name in ("whole", "cut")]
    assert (
        ends[0].joinpath("metrics.csv").read_bytes() == ends[1].joinpath("metrics.csv").read_bytes()
    )
    states = [torch.load(end / "checkpoints" / "last.pt", weights_only=True) for end in ends]
    for state in states:
        del state["loop"]["seconds"]
    for part in ("task", "optimize", "random", "history", "loop"):
        assert_same(states[0][part], states[1][part], part)
