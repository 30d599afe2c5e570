"""Metrics of models that make images: halves of a split together are the whole of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Metric
from dltrain.contracts.task import Task
from dltrain.core.evaluate import Position
from dltrain.metrics.generative import SHOWN, Moments, Rows
from dltrain.models.generative.autoencoder import Autoencoder
from dltrain.models.generative.gan import GAN
from dltrain.models.generative.vae import VAE
from dltrain.reports.canvas import render
from dltrain.tasks.autoencoder import Reconstruction
from dltrain.tasks.gan import AdversarialGame
from dltrain.tasks.vae import Variational
from tests.making import evaluated, image_spec

SHAPE = (1, 4, 4)
SPEC = image_spec(SHAPE, ["zero", "one", "two"], [0.3], [0.4])
SMALL: dict[str, Any] = {"generator_hidden": [8], "discriminator_hidden": [8], "noise_size": 4}


def autoencoder(**settings: Any) -> Task:
    return Reconstruction(Autoencoder(SHAPE, latent_size=2, hidden=[8]), SPEC, **settings)


def vae(latent_size: int, **settings: Any) -> Task:
    model = VAE(SHAPE, latent_size=latent_size, hidden=[8])
    return Variational(model, SPEC, importance_samples=3, **settings)


def game(**settings: Any) -> Task:
    model = GAN(SPEC, conditional=True, **SMALL)
    return AdversarialGame(model, SPEC, **settings)


TASKS: dict[str, Callable[[], Task]] = {
    "reconstruction": lambda: autoencoder(loss="mse"),
    "denoising": lambda: autoencoder(noise=0.2, masking=0.1),
    "variational, a plane": lambda: vae(2),
    "variational": lambda: vae(3, free_bits=0.1),
    "adversarial": lambda: game(),
    "adversarial, a border between means": lambda: game(loss="wasserstein"),
}
SIZES = (7, 9, 30, 5, 2)


def split() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "input": torch.randn(size, *SHAPE, generator=generator),
            "target": torch.randint(3, (size,), generator=generator),
        }
        for size in SIZES
    ]


def gathered(task: Task, places: Sequence[int]) -> Sequence[Metric]:
    """The metrics of a task, told of some of the batches of a split, at those places."""
    metrics, batches = task.metrics(final=True), split()
    starts = [sum(SIZES[:place]) for place in range(len(SIZES))]
    for place in places:
        rows = starts[place] + torch.arange(SIZES[place])
        outputs = task.eval_step(batches[place], Position(0, 0, True, rows, place))
        for metric in metrics:
            metric.update(outputs, batches[place], rows)
    return metrics


def assert_same(one: Evaluation, other: Evaluation) -> None:
    assert one.scalars == pytest.approx(other.scalars, rel=1e-12, abs=1e-12)
    assert list(one.figures) == list(other.figures)
    for name, draw in one.figures.items():
        assert render(draw) == render(other.figures[name]), name


@pytest.mark.parametrize("name", TASKS)
def test_merged_parts_are_the_whole_in_whatever_order(name: str) -> None:
    torch.manual_seed(0)
    task = TASKS[name]().eval()
    with torch.inference_mode():
        whole = [metric.compute() for metric in gathered(task, range(len(SIZES)))]
        parts = [gathered(task, places) for places in ((3, 1), (0, 4), (2,))]
        for one, *others in zip(*parts, strict=True):
            for other in others:
                one.merge(other)
        merged = [metric.compute() for metric in parts[0]]

    for one, other in zip(merged, whole, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", TASKS)
def test_a_state_is_saved_and_gathers_on(name: str) -> None:
    torch.manual_seed(0)
    task = TASKS[name]().eval()
    with torch.inference_mode():
        whole = [metric.compute() for metric in gathered(task, range(len(SIZES)))]
        later = gathered(task, (3, 4))
        for metric, half in zip(later, gathered(task, (0, 1, 2)), strict=True):
            file = io.BytesIO()
            torch.save(half.state_dict(), file)
            file.seek(0)
            restored = fresh(task, half)
            restored.load_state_dict(torch.load(file, weights_only=True))
            metric.merge(restored)
        found = [metric.compute() for metric in later]

    for one, other in zip(found, whole, strict=True):
        assert_same(one, other)


def fresh(task: Task, like: Metric) -> Metric:
    """A new metric of the kind of ``like``, told of nothing."""
    return next(metric for metric in task.metrics(final=True) if type(metric) is type(like))


@pytest.mark.parametrize("name", TASKS)
def test_the_names_are_those_of_the_scalars(name: str) -> None:
    task = TASKS[name]()
    for final in (False, True):
        names = [name for metric in task.metrics(final) for name in metric.names]

        assert list(evaluated(task, *split(), final=final).scalars) == names
        assert ("nll" in names) == (final and isinstance(task, Variational))


@pytest.mark.parametrize("name", TASKS)
def test_what_is_asked_of_one_batch_does_not_depend_on_the_others(name: str) -> None:
    torch.manual_seed(0)
    task, batch = TASKS[name]().eval(), split()[2]
    rows = torch.arange(len(batch["input"]))
    with torch.inference_mode():
        one, again, elsewhere = (
            task.eval_step(batch, Position(0, 0, True, rows, place)) for place in (4, 4, 0)
        )

    assert all(torch.equal(one[name], again[name]) for name in one)
    noisy = name != "reconstruction"
    assert noisy != all(torch.equal(one[name], elsewhere[name]) for name in one)


@pytest.mark.parametrize("most", [None, 1, 4, 100])
def test_rows_come_in_the_order_of_the_split(most: int | None) -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    rows = Rows(most)
    for some in order.split(7):
        rows.add(some, square=some.square(), pair=torch.stack((some, -some), 1))

    columns = rows.columns()

    expected = torch.arange(30)[:most]
    assert torch.equal(columns["square"], expected.square())
    assert torch.equal(columns["pair"], torch.stack((expected, -expected), 1))


def test_what_is_kept_of_a_split_does_not_hold_all_of_it() -> None:
    rows = Rows(SHOWN)
    rows.add(torch.arange(1_000), image=(images := torch.rand(1_000, 9)))

    kept = rows.columns()["image"]

    assert torch.equal(kept, images[:SHOWN])
    assert kept.untyped_storage().nbytes() == 4 * 9 * SHOWN


def test_moments_are_exact_far_from_zero() -> None:
    values = 1e4 + torch.randn(1_000, 3, generator=torch.Generator().manual_seed(0))
    moments, other = Moments(), Moments()
    for target, part in ((moments, values[:10]), (other, values[10:500]), (other, values[500:])):
        target.add(part)
    empty = Moments()
    for one in (other, empty):
        moments.merge(one)

    wide: Tensor = values.double()
    torch.testing.assert_close(moments.mean, wide.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(moments.variance, wide.var(0, correction=0), rtol=1e-11, atol=0)
    assert moments.count == 1_000
