"""How large a batch fits into a CUDA device's memory: doubled until it does not, then between."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from dltrain import messages
from dltrain.assemble import Assembly
from dltrain.errors import UserError
from dltrain.runs.environment import choose_device
from dltrain.runs.folder import RunFolder
from dltrain.training import Run

STEPS = 3
"""The optimizer's own tensors are there from the first step on; a second one has all at once."""
PRECISION = 8
"""The largest size is found to one part in so many."""


def largest(fits: Callable[[int], bool], start: int, most: int) -> int | None:
    """The largest size up to ``most`` that fits, to one part in :data:`PRECISION`; None: none.

    ``start`` is tried first.
    """
    good, size = 0, min(start, most)
    while fits(size):
        good = size
        if size == most:
            return good
        size = min(2 * size, most)
    bad = size
    while bad - good > max(1, good // PRECISION):
        between = (good + bad) // 2
        if fits(between):
            good = between
        else:
            bad = between
    return good or None


def require_cuda(config: Mapping[str, Any]) -> torch.device:
    """The device of ``config``. Raises :class:`UserError` unless it is CUDA's."""
    with Assembly(config):  # whatever else is wrong with it comes first
        device = choose_device(config["device"])
    if device.type != "cuda":
        raise UserError(f"batch-find: it measures the memory of a CUDA device; this is {device}.")
    if not isinstance(config["data"].get("batch_size"), int):
        raise UserError("batch-find: data.batch_size must be a number to begin with.")
    return device


def peak_memory(
    config: Mapping[str, Any], size: int, device: torch.device
) -> tuple[int | None, int]:
    """The most bytes that a few steps with ``size`` examples took, and how many examples there are.

    The bytes are None where memory did not suffice.
    """
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    few = {"steps": STEPS, "evaluate_steps": STEPS, "checkpoint_seconds": 1e9}
    alone = {"monitor": None, "monitor_mode": None, "test_weights": "last"}
    config = {
        **config,
        "callbacks": {},
        "data": {**config["data"], "batch_size": size},
        "trainer": {**config["trainer"], **few, **alone},
    }
    examples = 0
    with (
        messages.shown() as shown,
        Assembly(config) as assembly,
        tempfile.TemporaryDirectory() as nowhere,
    ):
        try:
            run = Run(config, assembly.read(), shown, time.perf_counter())
            run.streams = {"train": run.streams["train"]}
            examples = run.streams["train"].examples or 0
            folder = RunFolder.create(Path(nowhere), "batch-find")
            with redirect_stdout(StringIO()):
                run.begin(folder)
                run.go(None)
        except torch.OutOfMemoryError:
            return None, examples
        except UserError as error:
            if not isinstance(error.__cause__, torch.OutOfMemoryError):
                raise
            return None, examples
    return torch.cuda.max_memory_allocated(device), examples
