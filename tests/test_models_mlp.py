"""The multi-layer perceptron in training: what its initial weights make possible, or impossible."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dltrain.models.layers.activations import Activation
from dltrain.models.layers.init import Init
from dltrain.models.mlp import MLP

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR, AND = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 0, 1])


def trained(init: Init, activation: Activation, hidden: list[int], targets: Tensor) -> MLP:
    """Trained on the four corners for long enough, were it possible."""
    torch.manual_seed(0)
    model = MLP((2,), 2, hidden=hidden, activation=activation, init=init)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy(model(CORNERS), targets).backward()
        optimizer.step()
    return model


def hidden_weights(model: MLP) -> list[Tensor]:
    """Of each hidden layer, (units, inputs)."""
    return [p.detach() for p in model.parameters() if p.ndim > 1][:-1]


def spread(weight: Tensor) -> float:
    """How far the units of a layer are from being one and the same."""
    return float((weight - weight[0]).abs().max())


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("hidden", [[8], [6, 4]])
def test_from_zeros_all_units_of_a_layer_stay_one_and_the_same(
    hidden: list[int], activation: Activation
) -> None:
    model = trained("zeros", activation, hidden, AND)

    for weight in hidden_weights(model):
        assert spread(weight) < 1e-6
    # Alike as they are they can move: a sigmoid of 0 is 0.5, which the next layer learns from.
    moved = any(bool(weight.any()) for weight in hidden_weights(model))
    assert moved == (activation == "sigmoid")


def test_from_zeros_xor_is_never_learned() -> None:
    model = trained("zeros", "sigmoid", [8], XOR)

    assert not torch.equal(model(CORNERS).argmax(1), XOR)


@pytest.mark.parametrize("init", ["xavier", "kaiming", "orthogonal", "normal", "default"])
def test_from_any_other_beginning_units_go_apart_and_learn_xor(init: Init) -> None:
    model = trained(init, "tanh", [8], XOR)

    assert spread(hidden_weights(model)[0]) > 0.1
    assert torch.equal(model(CORNERS).argmax(1), XOR)
