"""What a run asks of the processes that train it. Where there is one, nothing costs anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, Stream
from dltrain.contracts.metric import Metric
from dltrain.contracts.run import Callback
from dltrain.engine import generators

T = TypeVar("T")


class Ranks:
    """The processes of a run as one of them sees the others; this class is of one alone.

    All ranks call the same methods in the same order, for each may wait for the others; save
    :meth:`ask`, which a signal calls at any time. Rank 0 has the run folder and the callbacks.
    """

    rank = 0
    world = 1
    fraction = 1.0
    """What part of the global batch the rows of this rank are; 0 where it has none of its own."""

    rows: int | None = None
    """How many rows this rank has, where nobody knows how many the others have; they weigh so."""

    def __init__(self) -> None:
        self._asked: int | None = None

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    divides = False
    """Whether each rank has, and reads, a part of large weights alone."""

    @property
    def several(self) -> bool:
        """Whether gradients are sums over ranks, each of which weighs what it is a mean over."""
        return self.world > 1

    def shard(self, stream: Stream) -> Stream:
        """The rows that are this rank's, of each batch of ``stream``."""
        return stream

    def examples(self, batch: Batch) -> int:
        """How many examples the global batch has that ``batch`` is a part of."""
        return len(next(iter(batch.values())))

    def synchronize(self, task: nn.Module, device: torch.device) -> None:
        """Have batch norm count the rows of all ranks, in training."""

    def watching(self, callbacks: Sequence[Callback]) -> Sequence[Callback]:
        """Those of ``callbacks`` that this rank has."""
        return callbacks

    def dealt(self, stream: Stream) -> Iterator[tuple[int, Batch]]:
        """The batches of an evaluated split that this rank looks at, with their numbers."""
        return stream.dealt(self.rank, self.world)

    def divided_in(self, state: Any) -> Mapping[tuple[Any, ...], Tensor]:
        """The tensors of which each rank has a part, by the keys that lead to them in ``state``."""
        return {}

    def placed(self, weights: Mapping[str, Any], like: Mapping[str, Any]) -> Mapping[str, Any]:
        """``weights`` of a checkpoint, divided as those of the same names in ``like``."""
        return weights

    def placed_states(
        self, state: Mapping[str, Any], parameters: Sequence[nn.Parameter]
    ) -> Mapping[str, Any]:
        """An optimizer's state of a checkpoint, divided as its ``parameters``."""
        return state

    def started(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """The optimizers are made, of what :meth:`divided` has left."""

    def scale(self, gradients: list[Tensor], factor: Tensor | float) -> None:
        """Multiply ``gradients`` by ``factor``, in place."""
        torch._foreach_mul_(gradients, factor)

    def norm(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """The norm of all gradients together."""
        return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
        """Bound that norm by ``limit``; what it was."""
        return nn.utils.clip_grad_norm_(parameters, limit)

    def plain(self, value: Tensor) -> Tensor:
        """A result that all ranks have, as a tensor of its own."""
        return value

    def start(self, task: nn.Module) -> None:
        """The task is built, and on its device."""

    def begin(
        self, seed: int, step: int, device: torch.device, states: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """The first step of this process is next, number ``step``: each rank draws for itself.

        ``states`` are those of the generators of all ranks, of a run that goes on.
        """
        if states:
            generators.restore(states[0], device)

    def together(
        self, parameters: Sequence[nn.Parameter], total: Tensor | float | None
    ) -> Tensor | float | None:
        """Sum the gradients of ``parameters``, in place, and ``total``, over all ranks."""
        return total

    def sum(self, value: Tensor) -> Tensor:
        """The sum of ``value`` over all ranks."""
        return value

    def finish(self) -> None:
        """Nothing more is asked: wait for what is under way."""

    def summed(self, values: Sequence[Tensor | float | None]) -> Sequence[Tensor | float | None]:
        """Sums over all ranks; None where no rank has a value."""
        return values

    def averaged(self, rows: Tensor, weighted: Sequence[int], fractions: Sequence[float]) -> Tensor:
        """Means of steps over all ranks, where each has some of its own.

        ``rows`` (steps, means and weights) has the means of a step first, and behind them the
        weights of the columns ``weighted``; the others weigh as the ``fractions`` (steps,) of rows.
        """
        return rows

    def meet(self, save: bool) -> bool:
        """A step is done: whether all are to save now, as rank 0 has asked for."""
        return save

    def ask(self, number: int) -> None:
        """A signal asks this process for an end."""
        self._asked = number

    def interrupted(self, number: int) -> None:
        """A signal has ended this process, whatever the others have heard of it."""
        self._asked = number

    @property
    def signal(self) -> int | None:
        """The signal that asks for an end, once all ranks know of it."""
        return self._asked

    def told(self, value: T) -> T:
        """``value`` of rank 0: tensors and primitives, in mappings and sequences."""
        return value

    def found(self, find: Callable[[], T]) -> T:
        """What ``find`` finds on rank 0, which alone looks."""
        return self.told(find())

    def gathered(self, value: T) -> list[T]:
        """``value`` of each rank, in order."""
        return [value]

    def merged(
        self, metrics: Sequence[Metric], used: bool, make: Callable[[], Sequence[Metric]]
    ) -> Sequence[Metric]:
        """What all ranks have gathered in their ``metrics``, which were ``used`` or not."""
        return metrics

    def joined(self, state: Any) -> Any:
        """The training states of all ranks as one: their rows one below the other."""
        return state

    def own(self, state: Any) -> Any:
        """The rows that are this rank's, of a state that was :meth:`joined` by whatever world."""
        return state
