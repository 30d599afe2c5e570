"""Federated averaging by Flower: its server and strategy, and real processes of clients."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, DataSpec, Stream, Streams
from dltrain.contracts.run import Modifier
from dltrain.contracts.task import Metrics, Phase, Task
from dltrain.engine.parallel import environment
from dltrain.errors import ConfigError, Fault, require_at_least
from dltrain.federated.averaging import averaged
from dltrain.federated.plan import Federated
from dltrain.federated.rounds import Rounds

if TYPE_CHECKING:
    from dltrain.federated.flower_server import FlowerServer

INSTALL = "pip install 'dltrain[flower]'"
ROUND = "round"
"""The column of a batch that tells which round it is."""


class Flower(Federated):
    """As :class:`~dltrain.federated.plan.Federated`, with Flower (``flwr``) as the engine.

    Clients are dealt to ``processes``, which are started on this machine, read the data for
    themselves and train their own clients alone, by the trainer's loop; weights alone go between
    them and Flower's server, over a loopback connection. Flower's strategy averages them: FedAvg,
    or FedProx where ``proximal`` is above 0. This process evaluates. A step of the run is a round.

    No round, and not the start of the processes either, may take longer than ``timeout`` seconds.

    Raises ValueError for what is out of bounds, and for classes where the data have none.
    """

    def __init__(
        self,
        spec: DataSpec,
        clients: int = 100,
        per_round: float = 10,
        local_epochs: int = 1,
        classes_per_client: int | None = None,
        proximal: float = 0.0,
        processes: int = 2,
        timeout: float = 600.0,
    ) -> None:
        require_at_least(1, processes=processes)
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
        super().__init__(spec, clients, per_round, local_epochs, classes_per_client, proximal)
        if processes > clients:
            raise ValueError(
                f"processes must be at most the {clients:,} clients, got {processes:,}"
            )
        self._processes, self._timeout, self._proximal = processes, timeout, proximal
        self._traffic = Traffic()
        self.modifiers = [self._traffic]
        self.regularizers = []
        self._server: FlowerServer | None = None

    def check(self, task: Task) -> None:
        """Raise ValueError also where Flower is missing, or torchrun has started several of us."""
        super().check(task)
        if importlib.util.find_spec("flwr") is None:
            raise ValueError(f"federated=flower needs flwr: {INSTALL}")
        if environment.world_size() > 1:
            raise ValueError(
                "federated=flower starts processes of its own, and torchrun started "
                f"{environment.world_size()}: type dltrain federate …"
            )

    def streams(self, streams: Streams) -> Streams:
        """One batch a round, which tells its number. Raises ValueError as without Flower."""
        found = super().streams(streams)
        assert self._rounds is not None, "they were just made"
        return {**found, "train": RoundNumbers(self._rounds)}

    def phases(self, steps: int, steps_per_epoch: Mapping[str, int | None]) -> Sequence[Phase]:
        """A phase of one step for each round."""
        self._count = steps
        return [Phase(f"round {number + 1}", 1) for number in range(steps)]

    def step(self, config: Mapping[str, Any], task: Task) -> Callable[[Batch], Metrics]:
        """Have the clients of a round train, and take the mean of their weights."""
        if config["modifiers"]:
            names = ", ".join(config["modifiers"])
            problem = f"clients begin anew in every round, and {names} would have to be kept."
            raise ConfigError([Fault("modifiers", problem, "Leave it out, or federated=fedavg.")])
        self._config, self._task = config, task
        return self._round

    def close(self) -> None:
        """End the processes of the clients."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _round(self, batch: Batch) -> Metrics:
        number = int(batch[ROUND][0])
        if self._server is None:
            # Here, not above: a query has no need of it.
            from dltrain.federated.flower_server import FlowerServer

            self._server = FlowerServer(self._processes, self._timeout, self._proximal)
            self._server.start(_of_clients(self._config, self._count))
        values = averaged(self._task)
        assert self._rounds is not None, "streams come first"
        found = self._server.round(
            number, self._rounds.clients(number), [value.detach().cpu().numpy() for value in values]
        )
        with torch.no_grad():
            for value, mean in zip(values, found.values, strict=True):
                value.copy_(torch.from_numpy(mean))
        self._traffic.count(found.sent, found.returned)
        device = values[0].device
        return {name: torch.tensor(mean, device=device) for name, mean in found.metrics.items()}


class RoundNumbers(Stream):
    """An epoch is a round, and one batch: as many rows as its clients train on, of its number."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds

    @property
    def steps_per_epoch(self) -> int:
        """A round is a step."""
        return 1

    @property
    def examples(self) -> int:
        """Of all clients."""
        return self._rounds.examples

    @property
    def smallest_batch(self) -> int:
        """Of those that a client trains on."""
        return self._rounds.smallest_batch

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The round ``epoch``, unless it is over."""
        if start == 0:
            yield {ROUND: torch.full((self._rounds.examples_per_round,), epoch)}

    def plain(self) -> Iterator[Batch]:
        """Everybody's examples as they are."""
        return self._rounds.plain()

    def rows(self, epoch: int, position: int) -> Tensor:
        """Which examples the clients of a round train on, one client after the other."""
        steps = range(self._rounds.steps_per_epoch)
        return torch.cat([self._rounds.rows(epoch, step) for step in steps])


class Traffic(Modifier):
    """Counts the bytes of weights that were sent to clients, and came back."""

    def __init__(self) -> None:
        self._sent, self._returned = 0, 0

    def count(self, sent: int, returned: int) -> None:
        """Add those of a round."""
        self._sent += sent
        self._returned += returned

    def scalars(self) -> Mapping[str, float]:
        """Bytes so far."""
        return {"bytes_down": float(self._sent), "bytes_up": float(self._returned)}

    def state_dict(self) -> dict[str, Any]:
        return {"bytes": [self._sent, self._returned]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sent, self._returned = state["bytes"]


def _of_clients(config: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """The config by which a process of clients builds its parts: it neither saves nor evaluates."""
    own = {"_target_": f"{Federated.__module__}.{Federated.__qualname__}"}
    plan = {key: v for key, v in config["federated"].items() if key not in ("processes", "timeout")}
    trainer = {
        **config["trainer"],
        "epochs": rounds,
        "steps": None,
        "evaluate_steps": None,
        "log_every": 2**62,
        "checkpoint_seconds": 1e18,
    }
    # The weights come from the server.
    without = {"callbacks": {}, "init_from": None, "trainer": trainer}
    return {**config, "federated": {**plan, **own}, **without}
