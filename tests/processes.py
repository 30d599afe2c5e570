"""Trains in one process and in several: ``python -m tests.processes``.

Everything is imported once; each process of a run is forked from this one. Standard input has a
JSON list of ``[number of processes, overrides, step]``; standard output gets one of what came of
each: the exit codes, and what rank after rank has printed. After ``step``, a signal asks rank 0 for
an end; 0 is never. A second run of one ``output_dir`` goes on with the first, as torchrun's do.

Runs of which a rank fails wait for most of their time: they are started first, and the others run
meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dltrain.contracts.run import Callback, View
from dltrain.engine.parallel import environment
from dltrain.errors import UserError
from dltrain.models.mlp import MLP


class FailsOnRank1(MLP):
    """A network that rank 1 cannot train."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and environment.rank() == 1:
            raise UserError("model: of this rank.")
        return super().forward(inputs)


class HangsOnRank1(MLP):
    """A network that rank 1 does not come back from."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and environment.rank() == 1:
            time.sleep(600)
        return super().forward(inputs)


class Ends(Callback):
    """Sends this process a signal once ``step`` was logged."""

    def __init__(self, step: int) -> None:
        self._step = step

    def log(self, view: View, values: Mapping[str, float]) -> None:
        """Rank 0 alone is told."""
        if view.progress.step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Answer standard input."""
    import torch._dynamo  # noqa: F401 - what fully_shard imports with its first layer

    from dltrain.config import compose
    from dltrain.engine.parallel import fsdp  # noqa: F401
    from dltrain.runs import parts  # noqa: F401
    from dltrain.training import Assembly

    asked = json.load(sys.stdin)
    configs = [(world, compose.compose(arguments), step) for world, arguments, step in asked]
    with Assembly(configs[0][1]) as assembly:  # what a run imports is imported once
        assembly.read()
    waiting = {i: Run(*one) for i, one in enumerate(configs) if "OnRank1" in repr(one)}
    others = {i: Run(*one).end() for i, one in enumerate(configs) if i not in waiting}
    ends = others | {i: one.end() for i, one in waiting.items()}
    json.dump([ends[i] for i in range(len(configs))], sys.stdout)


class Run:
    """A run in ``world`` processes, which have been started."""

    def __init__(self, world: int, config: Mapping[str, Any], step: int) -> None:
        self._place = tempfile.TemporaryDirectory()
        self._files = [Path(self._place.name) / str(rank) for rank in range(world)]
        port = free_port()
        self._children = [
            forked(rank, world, port, config, file, step) for rank, file in enumerate(self._files)
        ]

    def end(self) -> dict[str, Any]:
        """Wait for it; what came of it."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self._children]
        with self._place:
            said = [file.read_text(errors="replace") for file in self._files]
        return {"codes": codes, "said": said}


def forked(
    rank: int, world: int, port: int, config: Mapping[str, Any], file: Path, step: int
) -> int:
    """Start rank ``rank`` as torchrun does; the number of its process."""
    child = os.fork()
    if child:
        return child
    code: Any = 1
    try:
        with file.open("w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        os.environ["TORCHELASTIC_RUN_ID"] = "this job"
        if world > 1:
            told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
            os.environ |= {name: str(value) for name, value in told.items()}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "LOCAL_WORLD_SIZE": str(world)}
        from dltrain import mistakes, training

        try:
            training.train(config, watchers=[Ends(step)] if step else ())
            code = 0
        except UserError as error:
            mistakes.complain(error)
            code = 2
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main()
