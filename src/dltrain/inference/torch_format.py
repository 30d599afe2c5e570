"""Networks as programs of ``torch.export``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch
from dltrain.errors import UserError
from dltrain.inference.comparison import Program
from dltrain.inference.layers import Scanned, replaced
from dltrain.inference.network import Network
from dltrain.inference.onnx_format import first_line, unusable

SUFFIX = ".pt2"
LIBRARIES: tuple[str, ...] = ()
SHORTEST = 8
"""Steps to which shorter sequences are padded: a program is made for lengths from one on, and those
of a few steps are cases of their own."""

MOST = 2**31 - 1
"""Examples and steps; without a bound torch 2.6 refuses a network that compares with one."""


def write(network: Network, path: Path) -> None:
    """Export to ``path``. Raises :class:`UserError` for what torch.export cannot do."""
    batch = torch.export.Dim("batch", max=MOST)
    # Its range is found out: learned positions have an end.
    length = torch.export.Dim.AUTO
    inputs = network.padded(network.inputs, SHORTEST + 1)
    shapes = tuple(
        {0: batch, 1: length} if name in network.ragged else {0: batch} for name in inputs
    )
    # A batch of one would be a case of its own, too.
    given = tuple(torch.cat([column, column]) for column in inputs.values())
    flat = replaced(network.flat, nn.RNNBase, Scanned)
    with _quiet(), torch.no_grad():
        try:
            # All inputs are one argument, *raw.
            program = torch.export.export(flat, given, dynamic_shapes=(shapes,), strict=False)
            torch.export.save(program, path)
        except Exception as error:  # of many packages of torch
            hint = ""
            if any(isinstance(part, Scanned) for part in flat.modules()):
                hint = " Recurrent layers need a newer torch; --format onnx takes them with any."
            raise UserError(
                f"export: torch.export cannot take {network.name}: "
                f"{first_line(error).rstrip(' .')}.{hint}"
            ) from error


def read(path: Path, network: Network) -> Program:
    """Load ``path``. It is our own: with a stranger's file torch may run what is in it."""
    with _quiet():
        loaded = torch.export.load(path).module()

    def program(inputs: Batch) -> list[Tensor]:
        try:
            with torch.no_grad():
                return list(loaded(*network.padded(inputs, SHORTEST).values()))
        except (RuntimeError, AssertionError) as error:
            raise unusable(network.name, error) from error

    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """While inside, torch says nothing of its own insides."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
