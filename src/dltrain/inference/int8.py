"""ONNX files whose dense layers and convolutions compute with 8-bit integers.

By onnxruntime's static quantization: weights for each output, symmetric; inputs of layers between
the least and the greatest that some examples bring. docs/small_networks.md says what else there is.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dltrain.assemble import Assembly
from dltrain.contracts.data import Batch, Placement
from dltrain.data.kept import IDENTITY, KeptData
from dltrain.errors import UserError
from dltrain.inference.network import Network
from dltrain.runs.examples import Examples
from dltrain.runs.folder import RunFolder
from dltrain.runs.load import SPEC, allowed_packages, read_config, spec_of_run

LAYERS = ["Conv", "Gemm", "MatMul"]
"""What is computed with integers."""
WARNINGS, ERRORS = 2, 3
"""Of onnxruntime: what it tells of, by how bad it is."""
EXAMPLES = 512
"""Of the training split, whose activations are measured."""


def training_examples(folder: RunFolder) -> Examples:
    """The first examples of the run's training split, without augmentation.

    Raises :class:`UserError` where its data cannot be had.
    """
    config = {**read_config(folder), "device": "cpu"}
    kept = KeptData(folder.path, spec_of_run(folder), folder.read_json(SPEC).get(IDENTITY, {}))
    try:
        with Assembly(config, allowed_packages()) as assembly:
            parts = assembly.read(kept)
            streams = parts.source.open(Placement(torch.device("cpu"), config["seed"], parts.task))
            return Examples("train", _first(streams["train"].plain()))
    except UserError as error:
        raise UserError(
            f"export: --int8 measures activations on the training data, which cannot be had: "
            f"{error} Give examples: dltrain export RUN --int8 INPUT …"
        ) from error


def _first(batches: Iterator[Batch]) -> Batch:
    """The first ``EXAMPLES`` of them; fewer where texts become longer."""
    found = next(batches)
    for batch in batches:
        if len(next(iter(found.values()))) >= EXAMPLES or any(
            batch[name].shape[1:] != column.shape[1:] for name, column in found.items()
        ):
            break
        found = {name: torch.cat([column, batch[name]]) for name, column in found.items()}
    return {name: column[:EXAMPLES] for name, column in found.items()}


def quantize(path: Path, network: Network) -> None:
    """Make integers of the network in the file ``path``, measured on the inputs of ``network``.

    Names inside of it are shortened: in a small network they are a quarter of the file.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        simple = str(Path(folder) / "simple.onnx")
        quant_pre_process(str(path), simple, skip_symbolic_shape=True)
        quantize_static(
            simple,
            str(path),
            _Once(network),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=LAYERS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    _shorten_names(path)


def same_classes(network: Network, program: Any) -> dict[str, Any]:
    """How many examples get another class from ``program`` than from the run, by column."""
    with torch.no_grad():
        expected = network.original(*network.batch.values())
    found = {}
    for name, column, got in zip(
        network.fields, expected.columns.values(), program(network.inputs), strict=True
    ):
        if network.fields[name].kind == "class":
            found[name] = int((got != column).sum())
    return found


class _Once:
    """All examples as one batch, as onnxruntime asks for them."""

    def __init__(self, network: Network) -> None:
        self._left: list[Mapping[str, Any]] = [
            {name: column.numpy() for name, column in network.inputs.items()}
        ]

    def get_next(self) -> Mapping[str, Any] | None:
        """The batch, and then nothing."""
        return self._left.pop() if self._left else None


def _shorten_names(path: Path) -> None:
    import onnx

    model = onnx.load(str(path))
    graph, short = model.graph, dict[str, str]()
    kept = {value.name for value in (*graph.input, *graph.output)}

    def named(name: str) -> str:
        return name if name in kept or not name else short.setdefault(name, f"_{len(short):x}")

    for value in graph.initializer:
        value.name = named(value.name)
    for node in graph.node:
        # A name within a branch or a loop may mean one outside of it.
        if any(part.HasField("g") for part in node.attribute):
            return
        node.name = node.doc_string = ""
        node.input[:] = [named(name) for name in node.input]
        node.output[:] = [named(name) for name in node.output]
    del graph.value_info[:]
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """While inside, onnxruntime does not advise what is being done, nor tell what it removes."""
    import onnxruntime

    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(ERRORS)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        onnxruntime.set_default_logger_severity(WARNINGS)
