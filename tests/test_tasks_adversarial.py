"""A generator against a discriminator: whose turn it is, what is minimized, what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dltrain.contracts.data import Batch
from dltrain.contracts.task import Samples
from dltrain.models.generative.dcgan import DCGAN
from dltrain.models.generative.gan import GAN
from dltrain.models.mlp import MLP
from dltrain.tasks.gan import AdversarialGame
from dltrain.tasks.losses.gan import LOSSES, gradient_penalty, r1_penalty
from tests.making import evaluated, image_spec
from tests.specs import images

SHAPE = (1, 8, 8)
SMALL: dict[str, Any] = {"generator_hidden": [8], "discriminator_hidden": [8], "noise_size": 4}


def game(
    model: dict[str, Any] | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    **settings: Any,
) -> AdversarialGame:
    torch.manual_seed(0)
    network = GAN(images(*SHAPE, classes=10), **SMALL, **(model or {}))
    return AdversarialGame(network, image_spec(SHAPE, list("0123456789"), mean, std), **settings)


def drawn(task: AdversarialGame, *arguments: Any, **labels: Any) -> Tensor:
    return task.sample(*arguments, **labels).columns["image"]


def batch(size: int = 6, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "input": torch.rand(size, *SHAPE, generator=generator),
        "target": torch.randint(10, (size,), generator=generator),
    }


class Descent:
    """A stand-in for the trainer's ``optimize``: gradient descent, and a record of the turns."""

    def __init__(self, task: AdversarialGame, lr: float = 0.1) -> None:
        self.groups, self.lr = task.parameter_groups(), lr
        self.turns: list[str] = []
        self.losses: list[Tensor] = []

    def __call__(self, loss: Tensor, name: str = "model") -> None:
        self.turns.append(name)
        self.losses.append(loss.detach())
        parameters = self.groups[name]
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= self.lr * gradient


def weights(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


SCORES = torch.tensor([2.0, -0.5]), torch.tensor([-1.0, 0.3])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(*values: float) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("name", "discriminator", "generator", "right"),
    [
        (
            "bce",
            -mean(math.log(sigmoid(2.0)), math.log(sigmoid(-0.5)))
            - mean(math.log(1 - sigmoid(-1.0)), math.log(1 - sigmoid(0.3))),
            -mean(math.log(sigmoid(-1.0)), math.log(sigmoid(0.3))),
            (0.5, 0.5),
        ),
        (
            "lsgan",
            0.5 * mean(1.0**2, 1.5**2) + 0.5 * mean(1.0**2, 0.3**2),
            0.5 * mean(2.0**2, 0.7**2),
            (0.5, 1.0),
        ),
        ("hinge", mean(0.0, 1.5) + mean(0.0, 1.3), -mean(-1.0, 0.3), (0.5, 0.5)),
        # The border is (0.75 - 0.35) / 2 = 0.2.
        ("wasserstein", mean(-1.0, 0.3) - mean(2.0, -0.5), -mean(-1.0, 0.3), (0.5, 0.5)),
    ],
)
def test_losses_are_what_the_papers_have(
    name: str, discriminator: float, generator: float, right: tuple[float, float]
) -> None:
    loss = LOSSES[name]
    real, made = SCORES

    assert float(loss.discriminator(real, made, 1.0)) == pytest.approx(discriminator, rel=1e-6)
    assert float(loss.generator(made)) == pytest.approx(generator, rel=1e-6)
    border = loss.border(real, made)
    assert (float((real > border).float().mean()), float((made < border).float().mean())) == right


def test_smoothing_lowers_the_target_of_real_images_alone() -> None:
    (real, made), target = SCORES, 0.9
    nothing = torch.tensor([-1e9, -1e9])

    found = LOSSES["bce"].discriminator(real, nothing, target)
    by_hand = -mean(
        *(
            target * math.log(sigmoid(score)) + (1 - target) * math.log(1 - sigmoid(score))
            for score in real.tolist()
        )
    )
    assert float(found) == pytest.approx(by_hand, rel=1e-6)
    for name in ("bce", "lsgan"):
        smooth, plain = (LOSSES[name].discriminator(real, made, t) for t in (target, 1.0))
        of_made = LOSSES[name].discriminator(real, made + 1, target) - smooth
        assert smooth != plain
        assert of_made == pytest.approx(
            float(LOSSES[name].discriminator(real, made + 1, 1.0) - plain), rel=1e-5
        )


class Quadratic(nn.Module):
    """Half the sum of ``a x^2``: its slope is ``a x``."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(a)
        self.asked: list[Tensor] = []

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        self.asked.append(images.detach())
        return 0.5 * (self.a * images.flatten(1).square()).sum(1)


def test_the_penalty_and_its_gradient_are_those_of_a_pencil() -> None:
    a = torch.tensor([1.0, -2.0, 0.5, 3.0])
    images = torch.tensor([[0.5, 0.2, -1.0, 0.1], [1.0, 0.0, 0.3, -0.7]])
    critic = Quadratic(a)

    # Between an image and itself there is but one place.
    penalty = gradient_penalty(critic, images.view(2, 1, 2, 2), images.view(2, 1, 2, 2), None)
    penalty.backward()

    lengths = (a * images).norm(dim=1)
    assert float(penalty.detach()) == pytest.approx(float((lengths - 1).square().mean()), rel=1e-6)
    by_hand = (2 * (lengths - 1) / lengths)[:, None] * a * images.square()
    torch.testing.assert_close(critic.a.grad, by_hand.mean(0))


def test_the_penalty_is_taken_between_made_and_real_at_a_place_of_each_images_own() -> None:
    critic = Quadratic(torch.ones(64))
    real, made = torch.ones(50, *SHAPE), torch.zeros(50, *SHAPE)

    gradient_penalty(critic, real, made, None)

    places = critic.asked[0].flatten(1)
    assert torch.equal(places, places[:, :1].expand_as(places))
    assert len(places[:, 0].unique()) == 50
    assert 0 <= float(places.min()) < 0.1
    assert 0.9 < float(places.max()) <= 1


def test_r1_and_its_gradient_are_those_of_a_pencil() -> None:
    a = torch.tensor([1.0, -2.0, 0.5, 3.0])
    images = torch.tensor([[0.5, 0.2, -1.0, 0.1], [1.0, 0.0, 0.3, -0.7]])
    critic = Quadratic(a)

    penalty = r1_penalty(critic, images.view(2, 1, 2, 2), None)
    penalty.backward()

    by_hand = 0.5 * (a * images).square().sum(1).mean()
    assert float(penalty.detach()) == pytest.approx(float(by_hand), rel=1e-6)
    torch.testing.assert_close(critic.a.grad, (a * images.square()).mean(0))


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1"])
def test_a_penalty_has_its_weight_in_what_is_minimized_and_not_in_what_is_told(
    penalty: str,
) -> None:
    weight = {"gradient_penalty": 10.0, "r1": 1e6}[penalty]  # slopes begin near 0
    without, with_it = Descent(one := game()), Descent(other := game(**{penalty: weight}))
    told = []
    for task, descent in ((one, without), (other, with_it)):
        torch.manual_seed(3)
        told.append(task.train_step(batch(), descent))

    assert with_it.losses[0] > without.losses[0] + 1
    assert told[0]["loss_discriminator"] == told[1]["loss_discriminator"] == without.losses[0]


@pytest.mark.parametrize("n_critic", [1, 3])
def test_every_nth_batch_the_generator_has_a_turn_after_the_discriminator(n_critic: int) -> None:
    task = game(n_critic=n_critic)
    descent = Descent(task)
    names = set()

    for number in range(1, 8):
        before = weights(task.model.generator)
        told = task.train_step(batch(seed=number), descent)
        moved = not torch.equal(before, weights(task.model.generator))
        assert moved == (number % n_critic == 0)
        names.add(tuple(told))
        for value in told.values():
            assert value.ndim == 0
            assert not value.requires_grad

    turns = ["discriminator"] * n_critic + ["generator"]
    assert descent.turns == (turns * 7)[: 7 + 7 // n_critic]
    assert len(names) == 1


def test_a_generator_without_a_turn_is_told_the_loss_that_it_has() -> None:
    """In both orders of things the loss is a mean over made images; at rate 0, the same one."""
    told = []
    for n_critic in (1, 2):
        task = game(n_critic=n_critic)
        torch.manual_seed(5)
        told.append(task.train_step(batch(), Descent(task, lr=0.0)))

    assert told[0] == told[1]


def test_both_see_the_classes_of_the_batch() -> None:
    task = game({"conditional": True}, gradient_penalty=1.0)
    seen: list[tuple[str, Tensor]] = []
    for name in ("generator", "discriminator"):
        getattr(task.model, name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen.append((name, inputs[1]))
        )

    task.train_step(data := batch(), Descent(task))

    assert [name for name, _ in seen] == ["generator", *["discriminator"] * 4]
    assert all(torch.equal(labels, data["target"]) for _, labels in seen)


def test_a_mixed_image_is_of_its_likeliest_class() -> None:
    task, data = game({"conditional": True}), batch()
    mixed = 0.7 * nn.functional.one_hot(data["target"], 10) + 0.03

    torch.manual_seed(2)
    hard = task.train_step(data, Descent(task, lr=0.0))
    torch.manual_seed(2)
    soft = task.train_step({**data, "target": mixed}, Descent(task, lr=0.0))

    assert hard["loss_discriminator"] == soft["loss_discriminator"]


def test_networks_read_minus_one_to_one_whatever_the_normalization() -> None:
    images = batch()["input"]
    seen = []
    for mean, std in (((), ()), ([0.3], [0.4])):
        task = game(mean=mean, std=std)
        task.model.discriminator.register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0])
        )
        inputs = images if not mean else (images - 0.3) / 0.4
        scores = task.predict({"input": inputs}).columns["score"]
        assert scores.shape == (len(images),)

    torch.testing.assert_close(seen[0], 2 * images - 1)
    torch.testing.assert_close(seen[1], seen[0])


@pytest.mark.parametrize("conditional", [False, True])
def test_a_seed_has_its_images_and_leaves_no_trace(conditional: bool) -> None:
    task = game({"conditional": conditional})
    assert isinstance(task, Samples)
    state = torch.get_rng_state()

    one, again, other = (drawn(task, 1003, seed) for seed in (1, 1, 2))
    ways = task.interpolate(3, 5, seed=1).columns["image"]

    assert torch.equal(torch.get_rng_state(), state)
    assert task.training
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.shape == (1003, *SHAPE)
    assert ways.shape == (15, *SHAPE)
    assert 0 <= float(torch.cat([one, ways]).min()) < float(torch.cat([one, ways]).max()) <= 1


def test_a_class_can_be_asked_for_and_else_they_come_in_turn() -> None:
    task = game({"conditional": True})

    in_turn = drawn(task, 20, seed=0)
    asked = drawn(task, 20, seed=0, labels=torch.arange(20) % 10)
    sevens = drawn(task, 20, seed=0, labels=torch.full((20,), 7))

    assert torch.equal(in_turn, asked)
    same = (sevens == asked).flatten(1).all(1)
    assert same.nonzero().flatten().tolist() == [7, 17]


@pytest.mark.parametrize(
    ("conditional", "labels", "message"),
    [
        (False, torch.tensor([1, 1]), "no class"),
        (True, torch.tensor([1]), "2 images"),
        (True, torch.tensor([1, 10]), "0 to 9"),
        (True, torch.tensor([-1, 1]), "0 to 9"),
    ],
)
def test_labels_that_cannot_be_asked_for_are_refused(
    conditional: bool, labels: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        game({"conditional": conditional}).sample(2, 0, labels)


def test_an_evaluation_is_of_the_whole_split_and_of_nothing_else() -> None:
    task = game({"conditional": True})
    batches = [batch(5, seed=1), batch(3, seed=2)]
    state = torch.get_rng_state()
    one, again = (evaluated(task, *batches).scalars for _ in range(2))
    first = evaluated(task, *batches[:1]).scalars
    with torch.inference_mode():
        scores = [task._scores(*task._real(b)) for b in batches]

    assert torch.equal(torch.get_rng_state(), state)
    assert one == again
    assert one != first
    assert one["accuracy_real"] == pytest.approx(float((torch.cat(scores) > 0).float().mean()))
    assert set(one) == {
        *("loss_discriminator", "loss_generator", "accuracy_real", "accuracy_fake"),
        "sliced_wasserstein",
    }


def test_the_monitor_tells_good_samples_from_bad_ones() -> None:
    task = game()
    images = {"input": 1 - batch(400)["input"].pow(8)}
    bright = nn.init.constant_(task.model.generator.layers[-2].bias.data, 1.2)

    found = []
    for level in (1.2, -1.2):
        bright.fill_(level)
        found.append(evaluated(task, images).scalars[task.monitor.name])

    assert task.monitor.better(*found)
    assert found[0] < 0.5 * found[1]


class Watch(TorchDispatchMode):
    """Notes operations for whose result a device has to be waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero"):
            self.waited.append(name)
        return func(*args, **(kwargs or {}))


def test_a_step_waits_for_nothing() -> None:
    task = game(
        {"conditional": True, "spectral_norm": True},
        gradient_penalty=10.0,
        r1=1.0,
        loss="wasserstein",
    )
    descent = Descent(task)

    with Watch() as watch:
        told = task.train_step(batch(), descent)
    assert watch.waited == []
    with watch:
        float(told["loss_generator"])
    assert watch.waited == ["_local_scalar_dense"]


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (MLP(SHAPE, 10), {}, "MLP has no generator and discriminator"),
        (GAN(images(*SHAPE), **SMALL), {"n_critic": 0}, "n_critic"),
        (GAN(images(*SHAPE), **SMALL), {"gradient_penalty": -1.0}, "not negative"),
        (GAN(images(*SHAPE), **SMALL), {"r1": -1.0}, "r1 is not negative"),
        (DCGAN(images(1, 16, 16)), {"gradient_penalty": 1.0}, "model.batch_norm=false"),
        (DCGAN(images(1, 16, 16)), {"r1": 1.0}, "r1 is of each image alone"),
        (GAN(images(*SHAPE), **SMALL), {"label_smoothing": 1.0}, "label_smoothing"),
        (GAN(images(*SHAPE), **SMALL), {"label_smoothing": 0.1, "loss": "hinge"}, "no target"),
    ],
)
def test_settings_that_contradict_each_other_are_one_message(
    model: nn.Module, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialGame(model, image_spec(SHAPE), **settings)
