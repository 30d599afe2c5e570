"""The ranks of a run that several processes train: PyTorch's collectives, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dltrain.contracts.data import Batch, Stream, position_seed
from dltrain.contracts.metric import Metric
from dltrain.contracts.run import Callback
from dltrain.engine import generators, runtime
from dltrain.engine.parallel.batch_norm import synchronize
from dltrain.engine.parallel.gradients import Bucket, Buffers
from dltrain.engine.parallel.ranks import Ranks
from dltrain.engine.parallel.rows import Divided, Shard, rows_of

T = TypeVar("T")


EXTRA = "_extra_state"
"""How the name ends of what a module keeps beside tensors."""


class RankLost(RuntimeError):
    """Another process of the run has ended, or cannot be reached."""


class Several(Ranks):
    """The ranks of torch's default process group, which has a backend for CPU tensors.

    ``device`` is where this rank trains. What is told and gathered goes as bytes of ``torch.save``,
    and is read as weights are: it executes nothing.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.fraction = 1 / self.world
        self.device = device
        self._whole: int | None = None
        """Examples of the global batch; None where each rank has as many of its own."""
        self.task: nn.Module | None = None
        self._buckets: dict[tuple[int, ...], Bucket] = {}
        self._buffers: Buffers | None = None
        self._meeting: tuple[Tensor, dist.Work] | None = None
        self._agreed: int | None = None

    def shard(self, stream: Stream) -> Stream:
        if stream.divided:
            return Divided(stream, self._note, self._note_own)
        return Shard(stream, self.rank, self.world, self._note)

    def _note(self, rows: int, whole: int) -> None:
        self.fraction, self.rows, self._whole = rows / whole, None, whole

    def _note_own(self, rows: int) -> None:
        self.fraction, self.rows, self._whole = 1 / self.world, rows, None

    def examples(self, batch: Batch) -> int:
        return super().examples(batch) * self.world if self._whole is None else self._whole

    def synchronize(self, task: nn.Module, device: torch.device) -> None:
        synchronize(task, self, device)

    def watching(self, callbacks: Sequence[Callback]) -> Sequence[Callback]:
        return callbacks if self.first else ()

    def start(self, task: nn.Module) -> None:
        self.task = task
        task.load_state_dict(self.told(task.state_dict()))

    def begin(
        self, seed: int, step: int, device: torch.device, states: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Rank 0 draws on as one process would; the others by their number, and from this step.

        Where there are as many as before, each goes on as it was.
        """
        if len(states) == self.world or (states and self.first):
            generators.restore(states[self.rank], device)
        elif not self.first:
            runtime.seed_generators(position_seed(seed, step, -1 - self.rank), device)

    def together(
        self, parameters: Sequence[nn.Parameter], total: Tensor | float | None
    ) -> Tensor | float | None:
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            return total if total is None else self.sum(_number(total, self.device))
        buffers = self._buffers or self._agree_at_first()
        key = tuple(map(id, trained))
        if key not in self._buckets:
            self._buckets[key] = Bucket(trained, buffers)
        return self._buckets[key].reduce(total, self.fraction, self._reduce)

    def _agree_at_first(self) -> Buffers:
        """What was measured on the first batch of this process is rank 0's."""
        assert self.task is not None, "start comes first"
        own = self.task.state_dict(keep_vars=True)
        measured = {name: value for name, value in own.items() if not _is_trained(value)}
        for name, value in self.told(measured).items():
            if name.endswith(EXTRA):
                self.task.get_submodule(name.removesuffix(EXTRA).rstrip(".")).set_extra_state(value)
            elif isinstance(value, Tensor):
                own[name].data.copy_(value)
        self._buffers = Buffers(self.task)
        return self._buffers

    def _reduce(self, flat: Tensor) -> None:
        with _reaching():
            dist.all_reduce(flat)

    def sum(self, value: Tensor) -> Tensor:
        value = value.clone()
        self._reduce(value)
        return value

    def summed(self, values: Sequence[Tensor | float | None]) -> list[Tensor | None]:
        own = [None if one is None else _number(one, self.device) for one in values]
        shapes = self.gathered([None if one is None else list(one.shape) for one in own])
        found: list[Tensor | None] = []
        for one, there in zip(own, zip(*shapes, strict=True), strict=True):
            shape = next((shape for shape in there if shape is not None), None)
            if shape is None:
                found.append(None)
                continue
            found.append(self.sum(torch.zeros(shape, device=self.device) if one is None else one))
        return found

    def averaged(self, rows: Tensor, weighted: Sequence[int], fractions: Sequence[float]) -> Tensor:
        means = rows.shape[1] - len(weighted)
        fraction = torch.tensor(fractions, dtype=torch.float64, device=rows.device)[:, None]
        weights = fraction.repeat(1, means)
        weights[:, list(weighted)] = rows[:, means:].double() * (fraction > 0)
        # What weighs nothing may be no number.
        products = torch.where(weights == 0, 0.0, rows[:, :means].double() * weights)
        products, weights = self.sum(torch.stack([products, weights]))
        return torch.cat([products / weights, weights[:, list(weighted)]], 1)

    def meet(self, save: bool) -> bool:
        """Nobody waits: what is agreed upon now is known when the next step is done."""
        before = self._meeting
        wishes = torch.tensor([self._asked or 0, int(save and self.first)], dtype=torch.int32)
        with _reaching():
            work = dist.all_reduce(wishes, dist.ReduceOp.MAX, async_op=True)
            assert work is not None
            self._meeting = wishes, work
            if before is None:
                return False
            agreed, work = before
            work.wait()
        number, wanted = agreed.tolist()
        self._agreed = number or None
        return bool(wanted)

    def interrupted(self, number: int) -> None:
        self._agreed = number

    def finish(self) -> None:
        if self._meeting is not None:
            with _reaching():
                self._meeting[1].wait()

    @property
    def signal(self) -> int | None:
        return self._agreed

    def told(self, value: T) -> T:
        return self._from(0, _packed(value) if self.first else None, value)

    def found(self, find: Callable[[], T]) -> T:
        value: Any = find() if self.first else None
        return self.told(value)

    def gathered(self, value: T) -> list[T]:
        packed = _packed(value)
        return [
            self._from(rank, packed if rank == self.rank else None, value)
            for rank in range(self.world)
        ]

    def _from(self, rank: int, packed: Tensor | None, value: T) -> T:
        """What ``rank`` has ``packed``, which is ``value`` where this is the one."""
        size = torch.tensor([0 if packed is None else len(packed)])
        with _reaching():
            dist.broadcast(size, rank)
            content = torch.empty(int(size), dtype=torch.uint8) if packed is None else packed
            dist.broadcast(content, rank)
        return value if packed is not None else self._unpacked(content)

    def _unpacked(self, content: Tensor) -> Any:
        file = io.BytesIO(content.numpy().tobytes())
        return torch.load(file, map_location=self.device, weights_only=True)

    def merged(
        self, metrics: Sequence[Metric], used: bool, make: Callable[[], Sequence[Metric]]
    ) -> Sequence[Metric]:
        states = self.gathered([one.state_dict() for one in metrics] if used else None)
        merged: Sequence[Metric] = ()
        for state in filter(None, states):
            others = make()
            for other, its in zip(others, state, strict=True):
                other.load_state_dict(its)
            if not merged:
                merged = others
                continue
            for one, other in zip(merged, others, strict=True):
                one.merge(other)
        return merged

    def joined(self, state: Any) -> Any:
        return _joined(self.gathered(state))

    def own(self, state: Any) -> Any:
        return _own(state, self.rank, self.world)


@contextmanager
def _reaching() -> Iterator[None]:
    """What fails in here is another rank's end."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(str(error).splitlines()[0]) from error


def _is_trained(value: Any) -> bool:
    return isinstance(value, nn.Parameter) and value.requires_grad


def _packed(value: Any) -> Tensor:
    file = io.BytesIO()
    torch.save(value, file)
    return torch.frombuffer(bytearray(file.getbuffer()), dtype=torch.uint8)


def _number(value: Tensor | float, device: torch.device) -> Tensor:
    """``value`` as floating point; a tensor of such numbers as it is."""
    whole = not (isinstance(value, Tensor) and value.is_floating_point())
    return torch.as_tensor(value, dtype=torch.float32 if whole else None, device=device)


def _joined(states: Sequence[Any]) -> Any:
    """States of one structure as one: tensors have a row for each row of a batch."""
    first = states[0]
    if isinstance(first, Mapping):
        return {name: _joined([one[name] for one in states]) for name in first}
    if isinstance(first, (list, tuple)):
        return [_joined(parts) for parts in zip(*states, strict=True)]
    if isinstance(first, Tensor) and first.dim():
        return torch.cat(list(states))
    return first


def _own(state: Any, rank: int, world: int) -> Any:
    if isinstance(state, Mapping):
        return {name: _own(one, rank, world) for name, one in state.items()}
    if isinstance(state, (list, tuple)):
        return [_own(one, rank, world) for one in state]
    if isinstance(state, Tensor) and state.dim():
        low, high = rows_of(len(state), rank, world)
        return state[low : max(high, low + 1)]
    return state
