"""The process of a Flower run's clients: ``python -m dltrain.federated_client``.

It reads one line of JSON from its standard input: the config, the address of Flower's server, which
process it is, and the token by which the server knows it. It builds the parts of the run, and
trains each client that it is asked for by the loop that trains everything else.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from flwr.client import Client, start_client
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)

from dltrain import messages
from dltrain.assemble import Assembly
from dltrain.config.working_folder import importable
from dltrain.contracts.data import position_seed
from dltrain.core.loop import Trainer
from dltrain.engine import clock, runtime
from dltrain.errors import UserError
from dltrain.federated.averaging import Averaging, averaged
from dltrain.federated.rounds import Rounds
from dltrain.runs.folder import FolderOfAnother
from dltrain.training import Run

DONE = Status(Code.OK, "")


class Clients(Client):
    """Those of this process, of whom one is trained at a time."""

    def __init__(self, run: Run, process: int, token: str) -> None:
        parts = run.parts
        self._trainer = Trainer(
            parts.settings,
            parts.task,
            run.streams,
            run.optimize,
            run.schedule,
            FolderOfAnother(Path(run.config["output_dir"])),
            parts.modifiers,
            phases=run.phases,
            seed=run.config["seed"],
        )
        (self._averaging,) = (one for one in parts.modifiers if isinstance(one, Averaging))
        rounds = run.streams["train"]
        assert isinstance(rounds, Rounds), "the plan's"
        self._examples, self._per_round = rounds.examples_per_client, len(rounds.clients(0))
        self._told = {"process": process, "token": token}

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        """Who this is."""
        return GetPropertiesRes(DONE, self._told)

    def fit(self, ins: FitIns) -> FitRes:
        """Train the client of phase ``ins.config["phase"]`` from the server's weights on."""
        trainer, phase = self._trainer, int(ins.config["phase"])
        device = trainer.settings.device
        given = [torch.from_numpy(array) for array in parameters_to_ndarrays(ins.parameters)]
        self._averaging.receive([value.to(device) for value in given])
        # Whatever else this process has trained, and in which order.
        seed = position_seed(trainer.seed, *divmod(phase, self._per_round))
        runtime.seed_generators(seed, device)
        means = trainer.train_phase(phase)
        values = [value.detach().cpu().numpy() for value in averaged(trainer.task)]
        return FitRes(DONE, ndarrays_to_parameters(values), self._examples, means)


def main() -> None:
    """Serve until the server has no more to ask, or whoever started this process is gone."""
    logging.getLogger("flwr").setLevel(logging.CRITICAL + 1)
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        with importable(Path.cwd()), messages.shown(False) as shown:
            config = order["config"]
            with Assembly(config) as assembly:
                run = Run(config, assembly.read(), shown, clock.seconds())
                clients = Clients(run, order["process"], order["token"])
                start_client(server_address=order["address"], client=clients, insecure=True)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _leave_with_parent() -> None:
    """End with whoever holds the other end of standard input, however that was ended."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
