"""Adam by its kernel alone: torch's own numbers to the last bit, whatever happens in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.engine.fused_adam import KERNELS
from dltrain.engine.torch_startup import step_of

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "maximize": {"maximize": True, "betas": (0.8, 0.9), "eps": 1e-4},
    "amsgrad": {"amsgrad": True},
    "several kernels": {"fused": False},
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def made(kind: type[torch.optim.Adam], model: nn.Module, **settings: Any) -> torch.optim.Adam:
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    return kind(groups, lr=0.01, **{"fused": True, **settings})


Between = Callable[[int, nn.Module, torch.optim.Adam], None]


def nothing(step: int, model: nn.Module, optimizer: torch.optim.Adam) -> None:
    """Torch alone between two steps."""


def another_rate(step: int, model: nn.Module, optimizer: torch.optim.Adam) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.01 / (step + 1)


def loaded(step: int, model: nn.Module, optimizer: torch.optim.Adam) -> None:
    if step == 3:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def begun_anew(step: int, model: nn.Module, optimizer: torch.optim.Adam) -> None:
    if step == 3:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": {}})


def frozen(step: int, model: nn.Module, optimizer: torch.optim.Adam) -> None:
    model[0].requires_grad_(step not in (0, 1, 4))  # type: ignore[index]


def trained(
    kind: type[torch.optim.Adam], between: Between, lean: bool, **settings: Any
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    model = network()
    optimizer = made(kind, model, **settings)
    step = step_of(optimizer) if lean else optimizer.step
    for number in range(6):
        between(number, model, optimizer)
        inputs = torch.randn(7, 4, generator=torch.Generator().manual_seed(number))
        model(inputs).square().sum().backward()
        step()
        optimizer.zero_grad()
    return [p.detach() for p in model.parameters()], optimizer.state_dict()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_numbers_and_state_are_those_of_torch(
    kind: type[torch.optim.Adam], settings: dict[str, Any]
) -> None:
    found, expected = (trained(kind, nothing, lean, **settings) for lean in (True, False))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("between", [another_rate, loaded, begun_anew, frozen])
def test_what_happens_between_steps_is_seen(between: Between) -> None:
    found, expected = (trained(torch.optim.AdamW, between, lean) for lean in (True, False))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_decay_may_be_decoupled_by_argument() -> None:
    settings = {"weight_decay": 0.1, "decoupled_weight_decay": True}
    found, expected = (
        trained(torch.optim.Adam, nothing, lean, **settings) for lean in (True, False)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_after_the_first_step_the_kernel_is_called_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    kernel = KERNELS[False]
    monkeypatch.setitem(KERNELS, False, lambda *a, **k: calls.append(k["lr"]) or kernel(*a, **k))
    trained(torch.optim.Adam, nothing, lean=True)
    assert len(calls) == 2 * 5  # two groups; torch itself made the first step


def test_a_torch_without_the_kernel_steps_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KERNELS, False, None)
    expected = trained(torch.optim.Adam, nothing, lean=False)
    torch.testing.assert_close(trained(torch.optim.Adam, nothing, lean=True), expected)
