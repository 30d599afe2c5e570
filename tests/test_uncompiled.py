"""The compiler that nobody asked for stays out, and the step is the optimizer's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dltrain.engine.torch_startup import step_of
from dltrain.optim.muon import Muon
from tests.conftest import expect_speed

OPTIMIZERS = [
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.NAdam,
    Muon,
]


def test_runs_import_neither_the_compiler_nor_its_languages(tmp_path: Path) -> None:
    """They would take a second and 150 MiB of each start."""
    program = (
        "import sys, atexit\n"
        "names = ('torch._dynamo', 'triton', 'sympy')\n"
        "atexit.register(lambda: print([n for n in names if n in sys.modules], file=sys.stderr))\n"
        "from dltrain.cli import main\n"
        "main()\n"
    )
    jobs = ["-m", "model=lenet5,gan", "optimizer=adam,sgd", "trainer.precision=bfloat16"]
    quick = ["data=digits", "trainer.clip_norm=1", "trainer.steps=3", "callbacks=none"]
    done = subprocess.run(
        [sys.executable, "-c", program, *jobs, *quick],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = done.stderr.splitlines()[-1]
    expect_speed(found == "[]", f"a run imports {found}")


def stepped(kind: type[torch.optim.Optimizer], whole: bool) -> torch.Tensor:
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    optimizer = kind(network.parameters(), lr=0.1)
    step = optimizer.step if whole else step_of(optimizer)
    for _ in range(3):
        network(torch.ones(2, 4)).square().sum().backward()
        step()
        optimizer.zero_grad()
    return nn.utils.parameters_to_vector(network.parameters()).detach()


@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_a_step_moves_weights_as_the_whole_one_does(kind: type[torch.optim.Optimizer]) -> None:
    torch.testing.assert_close(
        stepped(kind, whole=False), stepped(kind, whole=True), rtol=0, atol=0
    )


def test_hooks_are_called_also_when_they_come_late() -> None:
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    step = step_of(optimizer)
    network(torch.ones(1, 1)).sum().backward()
    calls: list[str] = []
    step()
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    step()
    assert calls == ["after"]


def test_a_torch_of_other_hooks_keeps_its_own_step() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    del optimizer._optimizer_step_pre_hooks
    assert step_of(optimizer) == optimizer.step


def test_a_decorated_step_of_somebody_elses_keeps_its_decoration() -> None:
    class Theirs(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            assert not torch.is_grad_enabled()
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.fill_(7)

    weight = nn.Parameter(torch.zeros(2))
    step_of(Theirs([weight], lr=0.1))()
    assert weight.tolist() == [7, 7]
