"""Weights, gradients and optimizer states that are divided among ranks: ``trainer.parallel=fsdp``.

PyTorch's :func:`torch.distributed.fsdp.fully_shard`: each rank has a part of every parameter, and
puts it together with the others' for the time of a layer's pass.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dltrain.contracts.data import Batch, Stream
from dltrain.contracts.metric import Metric
from dltrain.contracts.parallel import Parallel
from dltrain.contracts.run import Callback, Probe
from dltrain.engine.parallel.ranks import Ranks
from dltrain.engine.parallel.several import Several
from dltrain.engine.parallel.stored import Stored
from dltrain.errors import require_at_least

logger = logging.getLogger(__name__)


class FullyShard(Parallel):
    """Divides the large layers of a network by :func:`torch.distributed.fsdp.fully_shard`.

    A layer of torch's own with at least ``smallest`` parameters, none of which another layer has
    too, is put together for the time of its own pass. All else is whole on every rank, and its
    gradients are summed as ever. Raises ValueError where ``smallest`` is below 1.
    """

    def __init__(self, smallest: int = 100_000) -> None:
        require_at_least(1, smallest=smallest)
        self.smallest = smallest

    def divided(self, task: nn.Module, ranks: Ranks) -> Ranks:
        """Divide them, and say how much that is."""
        if not isinstance(ranks, Several):
            return ranks
        mesh = init_device_mesh(ranks.device.type, (ranks.world,))
        owners = Counter(p for m in task.modules() for p in m.parameters(recurse=False))
        whole = sum(parameter.numel() for parameter in owners)
        divided = 0
        for layer in list(task.modules()):
            own = list(layer.parameters(recurse=False))
            size = sum(parameter.numel() for parameter in own)
            alone = all(owners[parameter] == 1 for parameter in own)
            of_torch = type(layer).__module__.startswith("torch.nn.")
            if size >= self.smallest and alone and of_torch:
                for parameter in own:  # channels last is an order that it does not know
                    parameter.data = parameter.data.contiguous()
                fully_shard(layer, mesh=mesh)
                divided += size
        logger.info(
            f"trainer.parallel: {divided:,} of {whole:,} parameters are divided among "
            f"{ranks.world} processes."
        )
        found = Sharded(ranks.device)
        found.task = task
        return found


class Sharded(Several):
    """Ranks each of which has a part of the weights, so that all ask the network together."""

    divides = True
    _each_its_own = False
    """Whether the split that is evaluated is divided."""

    def together(
        self, parameters: Sequence[nn.Parameter], total: Tensor | float | None
    ) -> Tensor | float | None:
        """Gradients were summed in the backward pass, which makes means of them."""
        self.scale([p.grad for p in parameters if isinstance(p.grad, DTensor)], self.world)
        return super().together([p for p in parameters if not isinstance(p, DTensor)], total)

    def dealt(self, stream: Stream) -> Iterator[tuple[int, Batch]]:
        """Every batch that there is on this rank, for all of them ask the network together."""
        self._each_its_own = stream.divided
        return stream.dealt(0, 1)

    def merged(self, metrics: Sequence[Metric], used: bool, make: Any) -> Sequence[Metric]:
        return super().merged(metrics, used, make) if self._each_its_own else metrics

    def watching(self, callbacks: Sequence[Callback]) -> Sequence[Callback]:
        """Probes, on every rank; what others write is rank 0's."""
        return callbacks if self.first else [one for one in callbacks if isinstance(one, Probe)]

    def divided_in(self, state: Any) -> Mapping[tuple[Any, ...], Tensor]:
        found: dict[tuple[Any, ...], Tensor] = {}
        if isinstance(state, DTensor):
            found[()] = state
        inner: Iterable[tuple[Any, Any]] = ()
        if isinstance(state, Mapping):
            inner = state.items()
        elif isinstance(state, (list, tuple)):
            inner = enumerate(state)
        for key, value in inner:
            found |= {(key, *rest): tensor for rest, tensor in self.divided_in(value).items()}
        return found

    def placed(self, weights: Mapping[str, Any], like: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: _part(value, like.get(name)) for name, value in weights.items()}

    def placed_states(
        self, state: Mapping[str, Any], parameters: Sequence[nn.Parameter]
    ) -> Mapping[str, Any]:
        parts = {
            number: self.placed(values, dict.fromkeys(values, parameters[number]))
            for number, values in state["state"].items()
        }
        return {**state, "state": parts}

    def started(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """One parameter after the other: no kernel takes whole and divided ones at once."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group.update({name: False for name in ("foreach", "fused") if name in group})

    def scale(self, gradients: list[Tensor], factor: Tensor | float) -> None:
        if gradients:
            torch._foreach_mul_([_local(gradient) for gradient in gradients], factor)

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        gradients = [p.grad for p in parameters if p.grad is not None]
        zero = torch.zeros((), device=self.device)
        squares = {True: zero, False: zero}
        for gradient in gradients:
            divided = isinstance(gradient, DTensor)
            squares[divided] = squares[divided] + _local(gradient).square().sum()
        return (self.sum(squares[True]) + squares[False]).sqrt()

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
        norm = self.norm(parameters)
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        self.scale([p.grad for p in parameters if p.grad is not None], factor)
        return norm

    def plain(self, value: Tensor) -> Tensor:
        return _full(value)


def _full(value: Tensor) -> Tensor:
    """``value`` with what all ranks have of it."""
    if not isinstance(value, DTensor):
        return value
    divided: Any = value.detach()
    found: Tensor = divided.full_tensor()
    return found


def _local(value: Tensor) -> Tensor:
    """What this rank has of ``value``."""
    return value.to_local() if isinstance(value, DTensor) else value


def _part(value: Any, like: Any) -> Any:
    """What this rank has of ``value``, where it is divided as ``like`` is."""
    if not isinstance(value, (Tensor, Stored)):
        return value
    divided = isinstance(like, DTensor) and value.shape == like.shape
    if isinstance(value, Stored):
        if not divided:
            return value.whole()
        return value.fill(torch.empty_like(like.detach(), dtype=value.dtype))
    if not divided:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
