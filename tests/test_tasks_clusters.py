"""Clusters of images that nobody has named: found, told to both networks, drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.models.generative.dcgan import DCGAN
from dltrain.models.generative.gan import GAN
from dltrain.models.layers.online_kmeans import OnlineKMeans
from dltrain.tasks.gan import AdversarialGame
from tests.conftest import Train
from tests.making import evaluated, image_spec
from tests.specs import images

SHAPE = (1, 4, 4)
FRACTIONS = torch.tensor([0.5, 0.25, 0.25])


def heaps(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three heaps of them (count, 1, 4, 4), the first twice as high, and whose each is (count,)."""
    generator = torch.Generator().manual_seed(seed)
    whose = torch.multinomial(FRACTIONS, count, replacement=True, generator=generator)
    middles = torch.zeros(3, 16)
    middles[0, :4], middles[1, 6:10], middles[2, 12:] = 1.0, 1.0, 1.0
    noise = 0.1 * torch.randn(count, 16, generator=generator)
    return (middles[whose] + noise).view(-1, *SHAPE), whose


def settled(clusters: int, batches: int = 300) -> OnlineKMeans:
    found = OnlineKMeans(clusters, SHAPE)
    for number in range(batches):
        found.learn(heaps(40, number)[0])
    return found


def test_heaps_are_found_without_a_word_about_them() -> None:
    seen, whose = heaps(500, 1_000)

    labels = settled(12).of(seen)

    of_one_heap = [len(whose[labels == label].unique()) for label in labels.unique().tolist()]
    assert set(of_one_heap) == {1}


def test_centers_are_means_of_what_is_nearest() -> None:
    """Exactly so: two images, far apart, that every batch has alike."""
    clusters = OnlineKMeans(2, (1, 1, 2))
    batch = torch.tensor([[0.0, 0.0], [10.0, 10.0], [1.0, 0.0], [10.0, 12.0]]).view(4, 1, 1, 2)

    assert clusters.learn(batch).tolist() == [0, 1, 0, 1]
    torch.testing.assert_close(clusters.centers, torch.tensor([[0.5, 0.0], [10.0, 11.0]]))
    clusters.learn(torch.tensor([[2.0, 0.0]]).view(1, 1, 1, 2))
    torch.testing.assert_close(clusters.centers[0], torch.tensor([1.0, 0.0]))


def test_more_clusters_than_a_batch_has_images_are_begun_by_the_next() -> None:
    clusters = OnlineKMeans(10, SHAPE)

    assert int(clusters.learn(heaps(6, 0)[0]).max()) < 6
    clusters.learn(heaps(6, 1)[0])

    assert bool((clusters.counts > 0).all())


def test_clusters_are_drawn_as_often_as_images_have_them() -> None:
    clusters, seen = settled(3, 3_000), heaps(2_000, 5_000)[0]
    labels = clusters.of(seen)

    drawn = clusters.drawn(20_000, torch.Generator().manual_seed(0))

    fractions = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(
        fractions, torch.bincount(labels, minlength=3) / len(labels), atol=0.06, rtol=0
    )
    assert torch.equal(drawn, clusters.drawn(20_000, torch.Generator().manual_seed(0)))


def game(**settings: Any) -> AdversarialGame:
    torch.manual_seed(0)
    small: dict[str, Any] = {"generator_hidden": [8], "discriminator_hidden": [8]}
    return AdversarialGame(
        GAN(images(*SHAPE), **small, noise_size=4, **settings), image_spec(SHAPE)
    )


def test_both_networks_are_told_the_clusters_of_real_images() -> None:
    task = game(clusters=5)
    told: list[Tensor] = []
    for network in (task.model.generator, task.model.discriminator):
        network.register_forward_pre_hook(lambda module, inputs: told.append(inputs[1]))
    batch = {"input": heaps(40, 0)[0].sigmoid()}

    task.train_step(batch, lambda loss, name="model": None)

    assert len(told) == 4
    assert all(torch.equal(labels, told[0]) for labels in told)
    assert len(told[0].unique()) > 1


def test_evaluating_teaches_nothing_about_clusters() -> None:
    task = game(clusters=5)
    batch = {"input": heaps(40, 0)[0].sigmoid()}
    task.train_step(batch, lambda loss, name="model": None)
    before = task.state_dict()["_clusters.centers"].clone()

    evaluated(task, {"input": heaps(40, 1)[0].sigmoid()})

    assert torch.equal(task.state_dict()["_clusters.centers"], before)


def test_samples_are_of_clusters_and_of_no_class() -> None:
    task = game(clusters=5)
    assert not task.conditional
    with torch.no_grad():
        for parameter in task.model.generator.parameters():
            parameter.normal_()

    one, again = (task.sample(50, seed=1).columns["image"] for _ in range(2))
    assert torch.equal(one, again)
    assert task.interpolate(3, 4, seed=1).columns["image"].shape == (12, *SHAPE)
    with pytest.raises(ValueError, match="no class"):
        task.sample(2, 0, torch.tensor([1, 1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"clusters": -1}, "not negative"), ({"clusters": 3, "conditional": True}, "clusters=0")],
)
@pytest.mark.parametrize("kind", [GAN, DCGAN])
def test_what_cannot_be_is_one_message(
    kind: type[nn.Module], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(images(1, 8, 8, classes=2), **settings)


def test_a_run_keeps_its_clusters(train: Train) -> None:
    trained = train(
        *("model=gan", "model.clusters=7", "model.generator_hidden=[16]", "data=digits"),
        *("model.discriminator_hidden=[16]", "trainer.epochs=1"),
    )

    state = torch.load(trained.folder / "checkpoints" / "last.pt", weights_only=True)["task"]
    assert state["_clusters.centers"].shape == (7, 64)
    assert float(state["_clusters.counts"].sum()) == 1_293
