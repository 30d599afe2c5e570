"""What saves memory on one device changes no number, and is refused where it cannot be."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.run import Group
from dltrain.core.release import ReleasingOptimize
from dltrain.core.scaled import ScaledOptimize
from dltrain.core.settings import Settings
from dltrain.core.update import Optimize
from dltrain.engine import precision
from dltrain.errors import Diverged, UserError
from dltrain.optim.activation_checkpointing import ActivationCheckpointing
from dltrain.optim.eight_bit import AdamW8bit
from dltrain.optim.muon import Muon
from dltrain.runs.environment import choose_precision

CPU = torch.device("cpu")
Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Block(nn.Module):
    """A block of what a network may have: batch norm, dropout, an argument by name."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm, self.drop = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)

    def forward(self, inputs: Tensor, scale: float = 1.0) -> Tensor:
        return inputs + scale * self.drop(torch.relu(self.norm(self.dense(inputs))))


class Network(nn.Module):
    """Blocks, with a weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.blocks = nn.Linear(6, 6), nn.ModuleList([Block(), Block()])

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        for block in self.blocks:
            hidden = block(hidden, scale=0.5)
        return self.first(hidden)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network()


def optimized(kind: type[Optimize], network: nn.Module, make: Make, **more: Any) -> Optimize:
    parameters = list(network.parameters())
    group = Group(parameters, parameters)
    return kind({"model": make(parameters)}, {"model": group}, {}, "cpu", **more)


def trained(kind: type[Optimize], network: nn.Module, make: Make, **more: Any) -> Optimize:
    optimize = optimized(kind, network, make, **more)
    optimize.measure = True
    torch.manual_seed(1)
    for _ in range(3):
        optimize(network(torch.randn(8, 6)).square().mean())
    return optimize


MAKERS: dict[str, Make] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "muon": lambda p: Muon(p, lr=0.01),
}


@pytest.mark.parametrize("name", MAKERS)
def test_released_gradients_move_weights_as_kept_ones_do(name: str, network: Network) -> None:
    other = copy.deepcopy(network)
    alive = []

    def look(_: Tensor) -> None:
        alive.append(sum(p.grad is not None for p in network.parameters()))

    for parameter in network.parameters():
        parameter.register_post_accumulate_grad_hook(look)
    released = trained(ReleasingOptimize, network, MAKERS[name])
    kept = trained(Optimize, other, MAKERS[name])

    assert max(alive) == 1, "of all gradients one is there at a time"
    torch.testing.assert_close(network.state_dict(), other.state_dict(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(released.gradient_norms, kept.gradient_norms)
    assert released.state_dict().keys() == kept.state_dict().keys()
    saved = copy.deepcopy(released.state_dict())
    released.load_state_dict(saved)  # which makes other groups of them
    before = network.first.weight.clone()
    released(network(torch.ones(4, 6)).sum())
    assert not before.equal(network.first.weight)


def test_a_gradient_that_somebody_else_asks_for_steps_nothing(network: Network) -> None:
    optimized(ReleasingOptimize, network, MAKERS["adamw"])
    before = copy.deepcopy(network.state_dict())
    network.eval()
    network(torch.ones(4, 6)).sum().backward()
    torch.testing.assert_close(network.state_dict(), before)
    assert network.first.weight.grad is not None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"clip_norm": 1.0}, "clip_norm"),
        ({"accumulate": 2}, "accumulate"),
        ({"precision": "float16"}, "precision=float16"),
    ],
)
def test_what_needs_all_gradients_does_not_go_with_releasing(
    settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=f"release_gradients .* does not go with {named}"):
        Settings(CPU, release_gradients=True, **settings)


@pytest.mark.parametrize("kind", [ReleasingOptimize, ScaledOptimize])
def test_a_search_is_refused(kind: type[Optimize], network: Network) -> None:
    with pytest.raises(UserError, match=r"LBFGS .*Choose another optimizer"):
        optimized(kind, network, lambda p: torch.optim.LBFGS(p))


@pytest.mark.parametrize("fused", [True, False])
def test_a_scaled_loss_moves_weights_as_the_loss_itself_does(fused: bool, network: Network) -> None:
    """The scale is a power of two, so that nothing is rounded."""
    other = copy.deepcopy(network)
    make: Make = lambda p: torch.optim.AdamW(p, lr=0.01, fused=fused)  # noqa: E731
    scaled = trained(ScaledOptimize, network, make, clip_norm=0.1)
    plain = trained(Optimize, other, make, clip_norm=0.1)
    torch.testing.assert_close(network.state_dict(), other.state_dict())
    torch.testing.assert_close(scaled.gradient_norms, plain.gradient_norms)


def test_a_step_that_overflows_is_skipped_counted_and_kept_in_mind(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    scaled = trained(ScaledOptimize, network, MAKERS["adamw"])
    before = copy.deepcopy(dict(network.named_parameters()))
    scaled(network(torch.ones(4, 6)).sum() * float("inf"))
    torch.testing.assert_close(dict(network.named_parameters()), before)
    state = copy.deepcopy(scaled.state_dict())
    assert state["scalers"]["model"]["scale"] == 2.0**15
    assert (state["skipped"], state["made"]) == ({"model": 1.0}, {"model": 4})
    with caplog.at_level(logging.INFO, "dltrain"):
        scaled.finish()
    assert "1 of 4 steps were skipped, for a gradient overflowed" in caplog.text

    again = optimized(ScaledOptimize, copy.deepcopy(network), MAKERS["adamw"])
    again.load_state_dict(state)
    assert again.state_dict()["scalers"] == state["scalers"]
    for _ in range(40):
        scaled(network(torch.ones(4, 6)).sum() * float("nan"))
    with pytest.raises(Diverged, match="not finite, however small the loss is scaled"):
        scaled.state_dict()


class Task(nn.Module):
    """As far as a modifier looks at one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def gradients(task: Task) -> dict[str, Tensor]:
    torch.manual_seed(2)
    for _ in range(2):
        task.model(torch.randn(8, 6)).square().mean().backward()
    return {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("blocks", [None, ["blocks.*"], ["model.blocks.0", "first"]])
def test_what_is_computed_twice_gives_the_same_gradients_and_buffers(
    blocks: list[str] | None, network: Network
) -> None:
    plain, frugal = Task(copy.deepcopy(network)), Task(network)
    modifier: Any = ActivationCheckpointing(blocks)
    modifier.attach(frugal)
    calls = []
    network.blocks[0].dense.register_forward_hook(lambda *_: calls.append(0))

    found, expected = gradients(frugal), gradients(plain)

    assert len(calls) == 4, "forward, and once more in backward, of two batches"
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(frugal.state_dict(), plain.state_dict(), rtol=0, atol=0)
    modifier.finish(frugal)
    assert type(network.blocks[0]) is Block


def test_a_block_that_changes_what_it_computes_with_is_given_it_back() -> None:
    """Spectral norm improves a buffer in each forward pass, and divides by what comes of it."""
    torch.manual_seed(0)
    dense = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
    network = nn.Sequential(nn.Sequential(dense, nn.Tanh()), nn.Linear(6, 1))
    plain, frugal = Task(copy.deepcopy(network)), Task(network)
    modifier: Any = ActivationCheckpointing(["0"])
    modifier.attach(frugal)
    torch.testing.assert_close(gradients(frugal), gradients(plain), rtol=0, atol=0)
    torch.testing.assert_close(frugal.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_blocks_that_there_are_not_are_one_message(network: Network) -> None:
    modifier: Any = ActivationCheckpointing(["block.0"])
    with pytest.raises(ValueError, match=r"blocks: the network has no module 'block\.0'.*blocks"):
        modifier.attach(Task(network))
    modifier = ActivationCheckpointing()
    with pytest.raises(ValueError, match="no list of blocks; name some of"):
        modifier.attach(Task(nn.Sequential(nn.Linear(2, 2))))
    with pytest.raises(ValueError, match="names of modules, or null"):
        ActivationCheckpointing([])


@pytest.fixture
def eight_bit() -> Make:
    pytest.importorskip("torchao", reason="the extra torchao is not installed")
    return lambda parameters: AdamW8bit(parameters, lr=0.01)


def test_means_in_bytes_learn_as_whole_ones_and_are_saved_as_plain_tensors(
    eight_bit: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    small, whole = (nn.Linear(64, 64) for _ in range(2))
    whole.load_state_dict(small.state_dict())
    monkeypatch.setattr("dltrain.optim.eight_bit.PIECE", 1024)
    one, other = eight_bit(list(small.parameters())), torch.optim.AdamW(whole.parameters(), lr=0.01)
    inputs, targets = torch.randn(32, 64), torch.randn(32, 64)

    def step(layer: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        loss = functional.mse_loss(layer(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    with caplog.at_level(logging.INFO, "dltrain"):
        for _ in range(20):
            found, expected = step(small, one), step(whole, other)
    assert found == pytest.approx(expected, rel=0.02)
    assert "4,096 of 4,160 weights are in 8 bits" in caplog.text

    saved = copy.deepcopy(one.state_dict())
    assert {n: v.dtype for n, v in saved["state"][0]["exp_avg"].items()} == {
        "codes": torch.uint8,
        "scale": torch.float32,
    }
    assert type(saved["state"][1]["exp_avg"]) is Tensor
    again = copy.deepcopy(small)
    resumed = eight_bit(list(again.parameters()))
    resumed.load_state_dict(saved)
    for _ in range(2):
        step(small, one), step(again, resumed)
    torch.testing.assert_close(again.state_dict(), small.state_dict(), rtol=0, atol=0)
    step(small, one)
    monkeypatch.undo()  # in one piece, the same
    step(again, resumed)
    torch.testing.assert_close(again.state_dict(), small.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_precision_without_instructions_is_said_to_be_slow(
    name: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "_has", lambda *names: True)
    assert choose_precision(name, CPU) == name
    assert not caplog.text
    monkeypatch.setattr(precision, "_has", lambda *names: False)
    assert choose_precision(name, CPU) == name
    assert f"precision={name}: the cpu here has no instructions for it" in caplog.text
    assert choose_precision("auto", CPU) == "float32"
