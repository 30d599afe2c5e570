"""How much the output depends on each time step: whether the gradient vanishes on its way back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dltrain.callbacks.drawing import drawn
from dltrain.contracts.data import Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Logged, Probe, Setup, View
from dltrain.contracts.task import Task
from dltrain.errors import UserError

NAME = "gradient_by_time"


class Sensitivity(Probe):
    """The norm of d output / d input at each time step, before training and at each evaluation.

    For inputs (batch, time, features) of numbers: of the first ``examples`` sequences of the
    validation split (else of the test split, else of the training split) the mean, in eval mode
    and float32; of several outputs the norm of all derivatives together. Where it falls towards
    early steps, so does what training can tell the weights of them (Bengio, Simard and Frasconi
    1994).

    Writes ``figures/gradient_by_time.png`` and ``tables/gradient_by_time.csv`` (step, time,
    gradient_norm; time counted from 1) as the run ends, and the image for TensorBoard. Raises
    :class:`UserError` for other inputs.
    """

    def __init__(self, examples: int = 64) -> None:
        if examples < 1:
            raise ValueError(f"examples is at least 1, got {examples}")
        self.examples = examples
        self._inputs = torch.empty(0)
        self._steps: list[int] = []
        self._curves: list[Tensor] = []

    def check(self, setup: Setup) -> None:
        """See that there are sequences of numbers."""
        inputs = setup.spec.of("input")
        if len(inputs) != 1 or inputs[0].kind != "number" or len(inputs[0].shape) != 2:
            shapes = ", ".join("x".join(map(str, field.shape)) for field in inputs)
            kinds = ", ".join(field.kind for field in inputs)
            raise UserError(
                "callbacks.gradient_by_time: it shows sequences of numbers (time, features), but "
                f"this data has inputs of {shapes} ({kinds}); leave it out of callbacks."
            )

    def begin(self, task: Task, streams: Streams, view: View) -> None:
        """Look at the network before it has learned anything."""
        split = next(name for name in ("validation", "test", "train") if name in streams)
        inputs = next(iter(streams[split].plain()))["input"]
        self._inputs = inputs[: self.examples].clone()
        self._take(task, view.progress.step)

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """A curve a period; the image with the test split."""
        if split == "train":
            self._take(task, view.progress.step)
        if split == "test":
            image = drawn(NAME, self._draw)
            view.log(Logged(images={} if image is None else {NAME: image}))
        return Evaluation()

    def end(self, view: View, status: str) -> None:
        if status == "failed":
            return
        image = drawn(NAME, self._draw)
        if image is not None:
            view.write(f"figures/{NAME}.png", image)
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(("step", "time", "gradient_norm"))
        for step, curve in zip(self._steps, self._curves, strict=True):
            rows.writerows((step, time + 1, norm) for time, norm in enumerate(curve.tolist()))
        view.write(f"tables/{NAME}.csv", table.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """The curves so far (curves, time), and the step of each."""
        return {"steps": list(self._steps), "curves": torch.stack(self._curves)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps, self._curves = list(state["steps"]), list(state["curves"].cpu())

    def _take(self, task: Task, step: int) -> None:
        self._curves.append(gradient_by_time(task, self._inputs).cpu())
        self._steps.append(step)

    def _draw(self) -> bytes:
        from dltrain.reports.canvas import png
        from dltrain.reports.sequences import draw_gradient_by_time

        return png(draw_gradient_by_time(self._steps, torch.stack(self._curves).numpy()))


def gradient_by_time(task: Task, inputs: Tensor) -> Tensor:
    """The mean over ``inputs`` (n, time, features) of each step's gradient norm, (time,).

    No parameter's ``grad`` changes.
    """
    # cuDNN's recurrent layers give no gradients in eval mode.
    without_cudnn = torch.backends.cudnn.flags(enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), without_cudnn:
        squares = torch.zeros(inputs.shape[:2], device=inputs.device)
        inputs = inputs.clone().requires_grad_()
        outputs = task.forward({"input": inputs})
        values = torch.cat([column.flatten(1) for column in outputs.values()], 1)
        for value in values.unbind(1):
            # One sequence's output depends on no other's input.
            (slope,) = torch.autograd.grad(
                value.sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            squares += slope.square().sum(2)
    return squares.sqrt().mean(0)
