"""Flower's server in this process, and processes of clients that are connected to it.

Flower has two ways to run: SuperLink and SuperNodes, which start a Python process for each message
to a client and ask for messages every three seconds; and a server that keeps a gRPC connection to
each client. This is the second: torch is imported once a process, not once a round.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import numpy as np

from dltrain.errors import UserError

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # read when flwr is imported, here and in the clients

from flwr.common import (
    DisconnectRes,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
    ReconnectIns,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server import Server, SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg, FedProx, Strategy
from flwr.server.superlink.fleet.grpc_bidi.grpc_server import start_grpc_server

T = TypeVar("T")
LOOK = 0.05
"""Seconds after which it is seen whether the processes of clients are alive."""
LEAVE = 5.0
"""Seconds that a process has to end by itself."""
CLIENT = "dltrain.federated_client"
"""The module that a process of clients runs."""


@dataclass(frozen=True)
class RoundResult:
    """What came back of a round."""

    values: Sequence[np.ndarray[Any, Any]]
    """The means, in the order in which values were sent."""
    metrics: Mapping[str, float]
    """Training means of the clients, by examples."""
    sent: int
    """Bytes of weights to clients."""
    returned: int
    """Bytes of weights from clients."""


class FlowerServer:
    """Flower's server on loopback, with ``processes`` that train its clients.

    Client number ``c`` is trained by process ``c % processes``. No wait is longer than ``timeout``
    seconds.
    """

    def __init__(self, processes: int, timeout: float, proximal: float) -> None:
        # What matters of what Flower logs is told here.
        logging.getLogger("flwr").setLevel(logging.CRITICAL + 1)
        self._timeout = timeout
        self._clients = ChosenClients()
        self._server = Server(client_manager=self._clients, strategy=_strategy(proximal))
        self._processes: list[Process] = []
        self._count = processes
        self._of_process: dict[int, ClientProxy] = {}
        self._locks = [threading.Lock() for _ in range(processes)]
        self._grpc: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        """Start the server and the processes; return when all of them are connected.

        Raises :class:`UserError` where one ends, or the time is over.
        """
        try:
            # Another user of this machine can connect, too, and does not know this.
            token = secrets.token_hex()
            self._grpc = start_grpc_server(
                client_manager=self._clients, server_address="127.0.0.1:0"
            )
            order = {"config": config, "address": self._grpc.bound_address, "token": token}
            for number in range(self._count):
                self._processes.append(Process(number, order, self._count))
            self._wait(lambda: self._connect(token), "have the processes of clients ready")
        except BaseException:
            self.close()
            raise

    def round(
        self, number: int, clients: Sequence[int], values: Sequence[np.ndarray[Any, Any]]
    ) -> RoundResult:
        """Have ``clients`` train from ``values`` on, in round ``number`` of the run.

        Raises :class:`UserError` where a process ends, or the time is over.
        """
        self._clients.chosen = [
            OneClient(self._of_process[client % self._count], self._locks[client % self._count])
            for client in clients
        ]
        for place, one in enumerate(self._clients.chosen):
            one.place, one.phase = place, number * len(clients) + place
        self._server.parameters = ndarrays_to_parameters(list(values))
        self._server.set_max_workers(len(clients))
        what = f"train round {number + 1:,}"
        fitted = self._wait(lambda: self._server.fit_round(number + 1, None), what)
        assert fitted is not None, "clients were chosen"
        parameters, _, (results, failures) = fitted
        if failures or parameters is None:
            reason = failures[0] if failures else "nothing came back"
            raise UserError(f"federated: Flower could not {what}: {reason}")
        sent = sum(map(len, self._server.parameters.tensors)) * len(clients)
        returned = sum(len(one) for _, result in results for one in result.parameters.tensors)
        in_order = [result for _, result in sorted(results, key=_place)]
        return RoundResult(parameters_to_ndarrays(parameters), _means(in_order), sent, returned)

    def close(self) -> None:
        """End every process, at once if need be, and the server."""
        for process in self._processes:
            process.end()
        self._processes.clear()
        if self._grpc is not None:
            self._grpc.stop(grace=0)
            self._grpc = None

    def _connect(self, token: str) -> None:
        """Find out which connection is which process's."""
        seen: set[str] = set()
        while len(self._of_process) < self._count and self._processes:
            self._clients.wait_for(len(seen) + 1, timeout=1)
            for cid, proxy in list(self._clients.all().items()):
                if cid in seen:
                    continue
                seen.add(cid)
                told = proxy.get_properties(GetPropertiesIns({}), None, None).properties
                if secrets.compare_digest(str(told.get("token")), token):
                    self._of_process[int(told["process"])] = proxy

    def _wait(self, work: Callable[[], T], what: str) -> T:
        """The result of ``work``, in a thread of its own: this one sees whether it can end."""
        found: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                found.append(work())
            except BaseException as error:  # it is raised below
                failed.append(error)

        thread, end = threading.Thread(target=run, daemon=True), time.monotonic() + self._timeout
        thread.start()
        while thread.is_alive():
            thread.join(LOOK)
            for process in self._processes:
                process.require_alive()
            if time.monotonic() > end:
                raise UserError(
                    f"federated.timeout: Flower could not {what} within {self._timeout:g} s. "
                    "Give more seconds, or fewer federated.processes."
                )
        if failed:
            raise failed[0]
        return found[0]


class Process:
    """A process of clients: it reads what it is to do from its standard input, whose end ends it.

    It hears no Ctrl-C: who started it sees to its end.
    """

    def __init__(self, number: int, order: Mapping[str, Any], count: int) -> None:
        self._number = number
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - end closes it
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = {"OMP_NUM_THREADS": str(max(1, (cores or 1) // count))}
        # A folder where a command is typed is on no path; nothing goes by a proxy to loopback.
        fixed = {"PYTHONSAFEPATH": "1", "no_grpc_proxy": "127.0.0.1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**threads, **os.environ, **fixed},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # require_alive tells why it has ended
            line = json.dumps({**order, "process": number})
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def require_alive(self) -> None:
        """Raise :class:`UserError` with the last that it wrote where it has ended."""
        code = self._process.poll()
        if code is None:
            return
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        # A message of ours is whole; of a traceback the last line tells what was raised.
        told = "\n".join(lines) if code == 2 else (lines or ["it wrote nothing"])[-1]
        raise UserError(
            f"federated: the process of clients {self._number} has ended (exit code {code}): {told}"
        )

    def end(self) -> None:
        """End it, and wait for it."""
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(LEAVE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


class ChosenClients(SimpleClientManager):
    """Hands a strategy the clients of a round, whom the run's seed has chosen."""

    chosen: Sequence[OneClient] = ()

    def sample(self, *_: object, **__: object) -> Sequence[ClientProxy]:
        """Those of this round, in order."""
        return list(self.chosen)


class OneClient(ClientProxy):
    """One client of a process that has several, and trains one at a time."""

    place, phase = 0, 0

    def __init__(self, process: ClientProxy, lock: threading.Lock) -> None:
        super().__init__(process.cid)
        self._process, self._lock = process, lock

    def fit(self, ins: FitIns, timeout: float | None, group_id: int | None) -> FitRes:
        """Have it train the phase of the run that is its."""
        own = FitIns(ins.parameters, {**ins.config, "phase": self.phase})
        with self._lock:
            return self._process.fit(own, timeout, group_id)

    def get_properties(
        self, ins: GetPropertiesIns, timeout: float | None, group_id: int | None
    ) -> GetPropertiesRes:
        """Ask its process."""
        return self._process.get_properties(ins, timeout, group_id)

    def get_parameters(
        self, ins: GetParametersIns, timeout: float | None, group_id: int | None
    ) -> GetParametersRes:
        """Ask its process."""
        return self._process.get_parameters(ins, timeout, group_id)

    def evaluate(
        self, ins: EvaluateIns, timeout: float | None, group_id: int | None
    ) -> EvaluateRes:
        """Ask its process."""
        return self._process.evaluate(ins, timeout, group_id)

    def reconnect(
        self, ins: ReconnectIns, timeout: float | None, group_id: int | None
    ) -> DisconnectRes:
        """Have its process leave, and come back or not."""
        return self._process.reconnect(ins, timeout, group_id)


Results = list[tuple[ClientProxy, FitRes]]


class InOrder(Strategy):
    """Sums clients in their order, not in that of their answers: the same bytes every time."""

    def aggregate_fit(
        self, server_round: int, results: Results, failures: Any
    ) -> tuple[Parameters | None, Mapping[str, Any]]:
        """What the strategy makes of the results, sorted by client."""
        return super().aggregate_fit(server_round, sorted(results, key=_place), failures)


class OrderedFedAvg(InOrder, FedAvg):
    """FedAvg."""


class OrderedFedProx(InOrder, FedProx):
    """FedProx: the server's part is that of FedAvg, the clients' their regularizer."""


def _strategy(proximal: float) -> Strategy:
    """Flower's; whom to choose, and when enough are there, is not left to it."""
    if proximal:
        return OrderedFedProx(proximal_mu=proximal, accept_failures=False)
    return OrderedFedAvg(accept_failures=False)


def _place(result: tuple[ClientProxy, FitRes]) -> int:
    place: int = result[0].place
    return place


def _means(results: Sequence[FitRes]) -> dict[str, float]:
    """Of the clients' training metrics, each weighed by its examples."""
    total = sum(one.num_examples for one in results)
    return {
        name: sum(one.metrics[name] * one.num_examples for one in results) / total
        for name in results[0].metrics
    }
