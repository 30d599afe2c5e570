"""What a network may take of memory, seen while it is built and before any of it is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from dltrain.errors import OutOfMemory

MOST_PARTS = 20_000
"""Layers and tensors of one network: Python takes kilobytes for each, and a step takes minutes."""


def available_memory() -> int:
    """Bytes that the machine can still give: those that are free, or that a cache would give up."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - one read of a line
            kilobytes = next(line.split()[1] for line in file if line.startswith("MemAvailable"))
        return int(kilobytes) * 1024
    except (OSError, StopIteration, ValueError):  # no Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def network_within(limit: int) -> Iterator[None]:
    """While inside, no network is built to its end whose parameters are above ``limit`` bytes.

    Raises :class:`OutOfMemory` as the first parameter too much is registered, which is before it
    is given a value: what was only reserved takes nothing of a machine. So it does at the layer or
    tensor after :data:`MOST_PARTS`.
    """
    taken, parts = 0, 0

    def count(module: nn.Module, name: str, part: object) -> None:
        nonlocal parts
        parts += 1
        if parts > MOST_PARTS:
            raise OutOfMemory(f"has more than {MOST_PARTS:,} layers and parameters")

    def weigh(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal taken
        count(module, name, parameter)
        if isinstance(parameter, Tensor) and parameter.device.type != "meta":
            taken += parameter.numel() * parameter.element_size()
        if taken > limit:
            raise OutOfMemory(
                f"takes more than {taken / 1e9:,.1f} GB for its parameters, and there are "
                f"{limit / 1e9:,.1f} GB"
            )

    handles = [
        register_module_parameter_registration_hook(weigh),
        register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
