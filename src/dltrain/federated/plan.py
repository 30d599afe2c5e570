"""A run in rounds, a phase for each client of each of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dltrain.contracts.data import DataSpec, Stream, Streams, epoch_seed
from dltrain.contracts.run import Plan
from dltrain.contracts.task import Phase, Task
from dltrain.data.streams.in_memory import FixedSizeStream
from dltrain.errors import require_at_least
from dltrain.federated.averaging import Averaging, Proximal
from dltrain.federated.partition import by_class, even
from dltrain.federated.rounds import SHARDS, Rounds

logger = logging.getLogger(__name__)


class Federated(Plan):
    """``clients`` have the training split among them, and ``per_round`` train in every round.

    One below 1 is a fraction of the clients. Each makes ``local_epochs`` over its own examples,
    from the server's weights on and with an optimizer that begins anew; the mean of their weights
    is the server's (FedAvg, McMahan et al. 2017). ``proximal`` above 0 holds them near it (FedProx,
    Li et al. 2020). A round is an epoch of the run: ``trainer.epochs`` is how many there are.

    All clients have as many examples, by chance, or of ``classes_per_client`` classes each
    (:func:`~dltrain.federated.partition.by_class`); those that are left over are told of.

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
    ) -> None:
        require_at_least(1, clients=clients, local_epochs=local_epochs)
        self._clients, self._local_epochs = clients, local_epochs
        self._per_round = _number(per_round, clients)
        if classes_per_client is not None:
            require_at_least(1, classes_per_client=classes_per_client)
            kinds = [field.kind for field in spec.of("target")]
            if kinds != ["class"]:
                raise ValueError(
                    "classes_per_client: the target of this data is no class"
                    f" ({', '.join(kinds) or 'there is none'}); null deals examples by chance"
                )
            size = spec.target.size
            if size is not None and classes_per_client > size:
                raise ValueError(
                    f"classes_per_client must be at most the {size} classes of this data, got "
                    f"{classes_per_client}"
                )
        self._classes = classes_per_client
        averaging = Averaging(self._per_round)
        self.modifiers = [averaging]
        held = Proximal(proximal, averaging)
        self.regularizers = [held] if proximal else []
        self._rounds: Rounds | None = None

    def check(self, task: Task) -> None:
        """Raise ValueError for a task of several networks, and one that carries something along."""
        name, groups = type(task).__name__, list(task.parameter_groups())
        if len(groups) != 1:
            raise ValueError(
                f"task {name} trains {', '.join(groups)} by turns, and clients average one "
                "network: choose a task with one"
            )
        if task.training_state():
            raise ValueError(
                f"task {name} carries {', '.join(task.training_state())} from batch to batch, "
                "which would go from client to client: choose another task"
            )

    def streams(self, streams: Streams) -> Streams:
        """Rounds in the place of the training split. Raises ValueError for clients without data."""
        train = streams["train"]
        if not isinstance(train, FixedSizeStream):
            raise ValueError(
                "federated: this training split cannot be dealt to clients: it is no set of "
                "examples of one size (trainer.overfit has some batches only)."
            )
        if train.balanced:
            raise ValueError("federated: data.balance=true draws from all examples at once.")
        rounds = Rounds(train, self._shards(train), self._per_round, self._local_epochs)
        self._rounds = rounds
        return {**streams, "train": rounds}

    def phases(self, steps: int, steps_per_epoch: Mapping[str, int | None]) -> Sequence[Phase]:
        """A phase a client, by rounds."""
        assert self._rounds is not None, "streams come first"
        each = self._rounds.steps_per_epoch
        if steps % each:
            raise ValueError(
                f"federated: a round has {each:,} steps, and trainer.steps={steps:,} ends within "
                f"one: give a multiple, or trainer.epochs, which counts rounds."
            )
        length = self._rounds.steps_per_client
        return [
            Phase(f"round {number + 1}, client {client}", length, fresh=True)
            for number in range(steps // each)
            for client in self._rounds.clients(number)
        ]

    def _shards(self, train: FixedSizeStream) -> Tensor:
        """The examples (clients, each) of each client, on the CPU."""
        count, pieces = train.examples, self._clients * (self._classes or 1)
        if count < pieces:
            of = "" if self._classes is None else f" of {self._classes} classes each"
            raise ValueError(
                f"federated.clients: {self._clients:,} clients{of} and {count:,} training examples "
                "leave some without any. Give fewer clients."
            )
        generator = torch.Generator().manual_seed(epoch_seed(train.seed, SHARDS))
        if self._classes is None:
            shards = even(count, self._clients, generator)
        else:
            targets = _targets(train, count)
            shards = by_class(targets, self._clients, self._classes, generator)
            kinds = [len(targets[shard].unique()) for shard in shards]
            logger.info(
                f"federated: a client has {sum(kinds) / len(kinds):.1f} classes on average, "
                f"{max(kinds)} at most."
            )
        left = count - shards.numel()
        some = f"; {left:,} are left over" if left else ""
        logger.info(
            f"federated: {self._clients:,} clients of {shards.shape[1]:,} examples each{some}. "
            f"An epoch is a round of {self._per_round:,} clients."
        )
        return shards


def _number(per_round: float, clients: int) -> int:
    """How many clients that is. Raises ValueError where it is none, or more than there are."""
    if 0 < per_round < 1:
        return max(1, round(per_round * clients))
    if per_round != int(per_round) or not 1 <= per_round <= clients:
        raise ValueError(
            f"per_round must be a whole number from 1 to the {clients:,} clients, or a fraction of "
            f"them between 0 and 1; got {per_round}"
        )
    return int(per_round)


def _targets(train: Stream, count: int) -> Tensor:
    """The class of each example (examples,), on the CPU."""
    found = torch.zeros(count, dtype=torch.int64)
    for position, batch in enumerate(train.plain()):
        found[train.rows(0, position).cpu()] = batch["target"].cpu()
    return found
