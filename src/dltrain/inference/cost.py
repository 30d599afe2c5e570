"""What a trained network costs: weights, bytes, multiply-adds, time for an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch

from dltrain.contracts.data import Batch
from dltrain.errors import UserError
from dltrain.files import own
from dltrain.inference.export import preprocessing_of
from dltrain.inference.network import networks_of
from dltrain.inference.predictor import Predictor
from dltrain.runs.examples import examples_of_run, inputs_of
from dltrain.runs.folder import RunFolder
from dltrain.runs.model_summary import summarize

SECONDS, CALLS = 1.0, 200
"""For how long an answer is timed, or how often at most."""
WARM = 5
"""Answers before those that count."""
EXPORTS = ("onnx", "int8")
"""Folders of a run's ``export`` whose network is measured, too."""


def cost_of(folder: RunFolder) -> dict[str, float]:
    """By name: ``parameters``, ``non-zero weights``, ``multiply-adds`` of an answer, and more.

    ``weights (bytes)`` are those of the parameters as they lie in memory; ``latency (ms)`` is the
    median time of an answer to one example, on one thread of the processor. For each network that
    lies in the run's ``export/``, there is its file's size and its latency by onnxruntime.

    Raises :class:`UserError` where the run cannot be loaded, or keeps no examples.
    """
    predictor = Predictor(folder)
    examples = inputs_of(examples_of_run(folder).columns, predictor.spec)
    one = {name: column[:1] for name, column in examples.items()}
    task = predictor.task
    parameters = list(task.parameters())
    found: dict[str, float] = {
        "parameters": sum(p.numel() for p in parameters),
        "non-zero weights": sum(int(p.count_nonzero()) for p in parameters),
        "weights (bytes)": sum(p.numel() * p.element_size() for p in parameters),
        "multiply-adds": int(summarize(task, one).rows[-1][3]),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            found["latency (ms)"] = _milliseconds(lambda: task.forward(one))
    finally:
        torch.set_num_threads(threads)
    for kind in EXPORTS:
        path = own(folder.path, f"export/{kind}/model.onnx")
        if path.is_file():
            found[f"{kind} file (bytes)"] = path.stat().st_size
            if find_spec("onnxruntime") is not None:
                steps = preprocessing_of(predictor)
                (network, *_) = networks_of(task, predictor.spec, one, steps)
                found[f"{kind} latency (ms)"] = _of_file(path, network.inputs)
    return found


def _of_file(path: Path, one: Batch) -> float:
    """The latency of an ONNX file on one example, as the file reads it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        given = {taken.name: one[taken.name].numpy() for taken in session.get_inputs()}
        return _milliseconds(lambda: session.run(None, given))
    except Exception as error:  # of onnxruntime's own kinds
        said = str(error).partition("\n")[0]
        raise UserError(f"{path} cannot be timed: {said}. Export the run again.") from error


def _milliseconds(answer: Callable[[], object]) -> float:
    for _ in range(WARM):
        answer()
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(times) < CALLS and (not times or time.perf_counter() < until):
        started = time.perf_counter()
        answer()
        times.append(time.perf_counter() - started)
    return median(times) * 1e3
