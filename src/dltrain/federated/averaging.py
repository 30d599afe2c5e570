"""What a server does: sends its weights to a client, and averages what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.run import Group, Modifier, Regularizer
from dltrain.contracts.task import Phase, Task
from dltrain.errors import require_at_least


def averaged(task: Task) -> list[Tensor]:
    """All that is averaged of ``task``: weights, and saved buffers that are no counts."""
    saved = task.state_dict(keep_vars=True)
    buffers = [(name, value) for name, value in task.named_buffers() if name in saved]
    named = (*task.named_parameters(), *buffers)
    return [value for _, value in named if value.is_floating_point()]


class Averaging(Modifier):
    """Federated averaging (McMahan et al. 2017): a phase is a client's.

    A client begins with the server's weights and buffers. When ``per_round`` of them have trained,
    the server's become their mean; all clients have as many examples. In between, evaluations see
    the server's. Bytes are counted that a client would be sent, and would send back.
    """

    replayable = False

    def __init__(self, per_round: int) -> None:
        self._per_round = per_round
        self._sum: list[Tensor] = []
        self._clients = 0
        """Of this round, that have come back."""
        self._away = False
        """Whether the task has a client's weights."""
        self._sent, self._returned = 0, 0

    def attach(self, task: Task) -> None:
        """Remember whose weights are sent."""
        self._task = task

    def receive(self, values: Sequence[Tensor]) -> None:
        """Take the server's weights from elsewhere, in the order of :func:`averaged`."""
        torch._foreach_copy_(self.server, list(values))

    def start(self, groups: Mapping[str, Group]) -> None:
        """The server begins with what there is."""
        self.server = [value.detach().clone() for value in self._values()]
        self._sum = [torch.zeros_like(value) for value in self.server]

    def begin_phase(self, phase: Phase) -> None:
        """Send the server's weights."""
        self._away = True
        self._sent += self._bytes()
        torch._foreach_copy_(self._values(), self.server)

    def end_phase(self, phase: Phase) -> None:
        """Take a client's weights; after the last one of a round, average."""
        values = self._values()
        torch._foreach_add_(self._sum, values)
        self._returned += self._bytes()
        self._clients += 1
        if self._clients < self._per_round:
            return
        torch._foreach_div_(self._sum, self._per_round)
        torch._foreach_copy_(self.server, self._sum)
        torch._foreach_copy_(values, self._sum)
        torch._foreach_zero_(self._sum)
        self._clients, self._away = 0, False

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """While inside, the task has the server's weights."""
        if not self._away:
            yield
            return
        values = self._values()
        kept = [value.clone() for value in values]
        with torch.no_grad():
            torch._foreach_copy_(values, self.server)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(values, kept)

    def distance(self) -> Tensor:
        """Half the squared distance of what is trained from the server's, 0-d."""
        pairs = zip(self._values(), self.server, strict=True)
        near = [(value - server).square().sum() for value, server in pairs if value.requires_grad]
        return torch.stack(near).sum() / 2

    def scalars(self) -> Mapping[str, float]:
        """Bytes so far."""
        return {"bytes_down": float(self._sent), "bytes_up": float(self._returned)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "sum": self._sum,
            "clients": self._clients,
            "away": self._away,
            "bytes": [self._sent, self._returned],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for mine, saved in ((self.server, state["server"]), (self._sum, state["sum"])):
            for value, other in zip(mine, saved, strict=True):
                value.copy_(other)
        self._clients, self._away = state["clients"], state["away"]
        self._sent, self._returned = state["bytes"]

    def _values(self) -> list[Tensor]:
        return averaged(self._task)

    def _bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.server)


class Proximal(Regularizer):
    """FedProx (Li et al. 2020): a client is held near the server, by ``strength`` / 2 ||w - w'||^2.

    Raises ValueError for a strength that is negative.
    """

    def __init__(self, strength: float, averaging: Averaging) -> None:
        require_at_least(0, proximal=strength)
        self.strength, self._averaging = strength, averaging

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """Of all that is trained, not of weights alone."""
        return self.strength * self._averaging.distance()
