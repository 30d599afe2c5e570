"""What the weights look like: the first layer's filters, and each layer's histogram."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import methodcaller

import torch
from torch import Tensor, nn

from dltrain import checkpoint
from dltrain.callbacks.tensorboard import TensorBoard
from dltrain.trainer import Trainer
from dltrain.types import Batch, Callback, Evaluation, Task

MOST = 1_000_000
"""Values of a layer beyond which evenly spaced ones stand for all."""


class Weights(Callback):
    """Histograms for TensorBoard at each evaluation; pictures of them as the run ends.

    ``figures/weights.png`` has every layer's weights (not biases, nor scales of norms),
    ``figures/filters.png`` the first layer's where it looks at pictures. With ``gradients`` there
    are histograms of those too, and ``figures/gradients.png``: of the loss alone, without penalty
    or clipping, on the training split's first batch, in float32.
    """

    def __init__(self, gradients: bool = False) -> None:
        self.gradients = gradients
        self._boards: list[TensorBoard] = []
        self._batch: Batch = {}
        self._pictures: dict[str, bytes] = {}

    def start(self, trainer: Trainer) -> None:
        """Find TensorBoard, and the batch whose gradients to look at."""
        self._boards = [one for one in trainer.callbacks if isinstance(one, TensorBoard)]
        if self.gradients:
            self._batch = next(iter(trainer.loaders.train))

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """Histograms once a period, when the training means come; pictures with the test split."""
        if split == "train" and self._boards:
            for what, layers in self._layers(trainer).items():
                for name, values in layers.items():
                    for board in self._boards:
                        board.histogram(f"{what}/{name}", trainer.step, values)
        if split == "test":
            self._pictures = self._draw(trainer)
            for name, picture in self._pictures.items():
                for board in self._boards:
                    board.image(f"weights/{name}", trainer.step, picture)

    def end(self, trainer: Trainer, status: str) -> None:
        """Write the pictures; those of an interrupted run are drawn only now."""
        if status == "failed":
            return
        for name, picture in (self._pictures or self._draw(trainer)).items():
            trainer.folder.write(f"figures/{name}.png", methodcaller("write", picture))

    def _layers(self, trainer: Trainer) -> dict[str, dict[str, Tensor]]:
        """Weights, and gradients when asked, by layer."""
        layers = {"weights": _shown(trainer.task.named_parameters())}
        if self.gradients:
            layers["gradients"] = _shown(gradients(trainer, self._batch).items())
        return layers

    def _draw(self, trainer: Trainer) -> dict[str, bytes]:
        from dltrain.figures.canvas import png
        from dltrain.figures.weights import draw_filters, draw_histograms

        pictures = {
            what: png(draw_histograms({n: v.numpy() for n, v in layers.items()}, what))
            for what, layers in self._layers(trainer).items()
        }
        inputs = next(iter(trainer.loaders.test))["input"]
        filters = first_filters(trainer.task, inputs.shape[1:])
        if filters is not None:
            pictures["filters"] = png(draw_filters(filters.float().cpu().numpy()))
        return pictures


def first_filters(task: Task, input_shape: Sequence[int]) -> Tensor | None:
    """The first layer's weights as (filters, channels, height, width), or None.

    A dense layer's rows are shaped as the pictures that they are multiplied with.
    """
    first = next((p.detach() for p in task.parameters() if p.ndim > 1), None)
    if first is None or len(input_shape) != 3:
        return None
    if first.ndim == 2 and first.shape[1] == math.prod(input_shape):
        return first.view(-1, *input_shape)
    return first if first.ndim == 4 else None


def gradients(trainer: Trainer, batch: Batch) -> Mapping[str, Tensor]:
    """The gradient of a training step's loss by each parameter's name.

    The step is the task's own, with all that it draws, and leaves no trace: gradients that are
    still being accumulated, the task's state and random generators are as before.
    """
    task = trainer.task
    names: dict[nn.Parameter, str] = {p: name for name, p in task.named_parameters()}
    found: dict[str, Tensor] = {}

    def look(loss: Tensor, name: str = "model") -> None:
        parameters = task.parameter_groups()[name]
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, slope in zip(parameters, slopes, strict=True):
            if slope is not None:
                found[names[parameter]] = slope

    random = checkpoint.random_state(trainer.device)
    state = {name: value.clone() for name, value in task.state_dict().items()}
    training = copy.deepcopy(task.training_state())
    task.train_step(batch, look)
    task.load_state_dict(state)
    task.load_training_state(training)
    checkpoint.set_random_state(random, trainer.device)
    return found


def _shown(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The weights among ``parameters`` by layer, flat, on the CPU, at most ``MOST`` of each."""
    shown = {}
    for name, values in parameters:
        if values.ndim > 1:
            flat = values.detach().flatten()
            flat = flat[:: -(-len(flat) // MOST)].float().cpu()
            shown[name.removesuffix(".weight")] = flat[flat.isfinite()]
    return shown
