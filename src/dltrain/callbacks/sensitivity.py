"""How much the answer depends on each time step: whether the gradient vanishes on its way back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor

from dltrain import checkpoint
from dltrain.callbacks.tensorboard import TensorBoard
from dltrain.errors import UserError
from dltrain.trainer import Trainer
from dltrain.types import Callback, Evaluation, Loaders, Task

NAME = "gradient_by_time"


class Sensitivity(Callback):
    """The norm of d answer / d input at each time step, before training and at each evaluation.

    For inputs (batch, time, features) of numbers: of the first ``examples`` sequences of the
    validation split (else of the test split) the mean, in eval mode and float32; of several
    answers the norm of all derivatives together. Where it falls towards early steps, so does
    what training can tell the weights of them (Bengio, Simard and Frasconi 1994).

    Writes ``figures/gradient_by_time.png`` and ``tables/gradient_by_time.csv`` (step, time,
    gradient_norm; time counted from 1) as the run ends, and the picture for TensorBoard. Raises
    :class:`UserError` for other inputs.
    """

    def __init__(self, examples: int = 64) -> None:
        if examples < 1:
            raise ValueError(f"examples is at least 1, got {examples}")
        self.examples = examples
        self._inputs = torch.empty(0)
        self._steps: list[int] = []
        self._curves: list[Tensor] = []

    def check(self, loaders: Loaders) -> None:
        """See that there are sequences of numbers."""
        inputs = _inputs(loaders)
        if inputs.ndim != 3 or not inputs.is_floating_point():
            shape = "x".join(map(str, inputs.shape[1:]))
            kind = "numbers" if inputs.is_floating_point() else "ids"
            raise UserError(
                "callbacks.gradient_by_time: it shows sequences of numbers (time, features), but "
                f"this data has inputs of {shape} {kind}; leave it out of callbacks."
            )

    def start(self, trainer: Trainer) -> None:
        """Look at the network before it has learnt anything."""
        self._inputs = _inputs(trainer.loaders)[: self.examples].clone()
        self._take(trainer)

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """A curve a period, when the training means come; the picture with the test split."""
        if split == "train":
            self._take(trainer)
        if split == "test":
            picture = self._draw()
            for one in trainer.callbacks:
                if isinstance(one, TensorBoard):
                    one.image(NAME, trainer.step, picture)

    def end(self, trainer: Trainer, status: str) -> None:
        """Write the picture and the table."""
        if status == "failed":
            return
        trainer.folder.write(f"figures/{NAME}.png", methodcaller("write", self._draw()))
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(("step", "time", "gradient_norm"))
        for step, curve in zip(self._steps, self._curves, strict=True):
            rows.writerows((step, time + 1, norm) for time, norm in enumerate(curve.tolist()))
        trainer.folder.write_text(f"tables/{NAME}.csv", table.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """The curves so far (curves, time), and the step of each."""
        return {"steps": list(self._steps), "curves": torch.stack(self._curves)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the curves that were."""
        self._steps, self._curves = list(state["steps"]), list(state["curves"].cpu())

    def _take(self, trainer: Trainer) -> None:
        random = checkpoint.random_state(trainer.device)
        training = trainer.task.training
        trainer.task.eval()
        self._curves.append(gradient_by_time(trainer.task, self._inputs).cpu())
        self._steps.append(trainer.step)
        trainer.task.train(training)
        checkpoint.set_random_state(random, trainer.device)

    def _draw(self) -> bytes:
        from dltrain.figures.canvas import png
        from dltrain.figures.sequences import draw_gradient_by_time

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
        answers = next(iter(task.forward({"input": inputs}).values())).flatten(1)
        for answer in answers.unbind(1):
            # One sequence's answer depends on no other's input.
            (slope,) = torch.autograd.grad(
                answer.sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            squares += slope.square().sum(2)
    return squares.sqrt().mean(0)


def _inputs(loaders: Loaders) -> Tensor:
    return next(iter(loaders.validation or loaders.test))["input"]
