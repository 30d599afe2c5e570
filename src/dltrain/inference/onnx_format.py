"""Networks as ONNX files.

By the exporter that traces. torch's newer one, which is the default from 2.9 on, does without a
trace, but it unrolls recurrent layers to the length of the example, and takes 5 to 25 seconds.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dltrain.contracts.data import Batch
from dltrain.errors import UserError
from dltrain.inference.comparison import Program
from dltrain.inference.layers import Averaged, replaced
from dltrain.inference.network import Network

SUFFIX = ".onnx"
OPSET = 18
"""The first with bitwise operations on integers, which n-grams are hashed by."""
LIBRARIES: tuple[str, ...] = ("onnx", "onnxruntime")
SHORTEST = 1
"""Steps of the shortest sequence."""


def write(network: Network, path: Path) -> None:
    """Export to ``path``. Raises :class:`UserError` for what the exporter cannot do."""
    batch = {name: {0: "batch"} for name in (*network.inputs, *network.fields)}
    for name in network.ragged:
        batch[name][1] = "length"
    with warnings.catch_warnings(), _integers(), _unheard(), _plain(), torch.no_grad():
        warnings.simplefilter("ignore")  # that it traces, and is not the default any more
        try:
            torch.onnx.export(
                replaced(network.flat, nn.AdaptiveAvgPool2d, Averaged),
                tuple(network.inputs.values()),
                str(path),
                input_names=list(network.inputs),
                output_names=list(network.fields),
                dynamic_axes=batch,
                opset_version=OPSET,
                dynamo=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            said = first_line(error).rstrip(".")
            raise UserError(
                f"export: torch cannot write {network.name} as ONNX: {said}. "
                "--format torch may take it."
            ) from error


def read(path: Path, network: Network) -> Program:
    """Open ``path`` by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = [one.name for one in session.get_inputs() if one.name in network.inputs]

    def program(inputs: Batch) -> list[torch.Tensor]:
        given = {name: inputs[name].numpy() for name in taken}
        try:
            return [torch.from_numpy(column) for column in session.run(None, given)]
        except Exception as error:  # of onnxruntime's own kinds
            raise unusable(network.name, error) from error

    return program


def unusable(name: str, error: Exception) -> UserError:
    """The error to raise for a network whose file does not take what the run does."""
    return UserError(
        f"export: {name} does not take batches or lengths of every size: {first_line(error)}"
    )


def first_line(error: Exception) -> str:
    """What an exporter said, without the graph that it prints."""
    return str(error).strip().partition("\n")[0].partition("  [Caused by")[0]


@contextmanager
def _plain() -> Iterator[None]:
    """While inside, attention is computed by operations that ONNX has."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _unheard() -> Iterator[None]:
    """While inside, nothing is printed: torch writes the whole graph of what it cannot export."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _integers() -> Iterator[None]:
    """While inside, the exporter knows ``^`` and ``>>`` of signed integers."""
    from torch.onnx import (  # type: ignore[attr-defined]
        register_custom_op_symbolic,
        unregister_custom_op_symbolic,
    )

    def xor(g: Any, one: Any, other: Any) -> Any:
        return g.op("BitwiseXor", one, other)

    def shift(g: Any, one: Any, by: Any) -> Any:
        two = g.op("Constant", value_t=torch.tensor(2.0))
        power = g.op("Cast", g.op("Pow", two, g.op("Cast", by, to_i=1)), to_i=7)
        # ONNX divides towards 0, a shift downwards; its remainder is that of the shift.
        return g.op("Div", g.op("Sub", one, g.op("Mod", one, power)), power)

    # Of a name's last underscores the exporter takes one for that of an operation in place.
    symbols = {"aten::__xor_": xor, "aten::__rshift_": shift}
    for name, symbol in symbols.items():
        register_custom_op_symbolic(name, symbol, OPSET)
    try:
        yield
    finally:
        for name in symbols:
            unregister_custom_op_symbolic(name, OPSET)
