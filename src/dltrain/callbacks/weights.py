"""What the weights look like: the first layer's filters, and each layer's histogram."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from dltrain.callbacks.drawing import drawn
from dltrain.contracts.data import Batch, Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Logged, Probe, Setup, View
from dltrain.contracts.task import Task

MOST = 1_000_000
"""Values of a layer beyond which evenly spaced ones stand for all."""


class Weights(Probe):
    """Histograms for TensorBoard at each evaluation; images of them as the run ends.

    ``figures/weights.png`` has every layer's weights (not biases, nor scales of norms),
    ``figures/filters.png`` the first layer's where it looks at images. With ``gradients`` there
    are histograms of those too, and ``figures/gradients.png``: of the loss alone, without penalty
    or clipping, on the training split's first batch, in float32.
    """

    def __init__(self, gradients: bool = False) -> None:
        self.gradients = gradients
        self._batch: Batch = {}
        self._images: dict[str, bytes] = {}
        self._input_shape: Sequence[int | None] = ()

    def check(self, setup: Setup) -> None:
        """Remember how large the inputs are, which the first layer's weights may be."""
        self._input_shape = next((field.shape for field in setup.spec.of("input")), ())

    def begin(self, task: Task, streams: Streams, view: View) -> None:
        if self.gradients:
            self._batch = next(iter(streams["train"].batches(0)))

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """Histograms once a period; images with the test split."""
        if split == "train":
            for what, layers in self._layers(task).items():
                named = {f"{what}/{name}": values for name, values in layers.items()}
                view.log(Logged(histograms=named))
        if split == "test":
            self._images = self._draw(task)
            view.log(Logged(images={f"weights/{n}": image for n, image in self._images.items()}))
        return Evaluation()

    def finish(self, task: Task, streams: Streams, view: View) -> None:
        """Write the images; those of an interrupted run are drawn only now."""
        for name, image in (self._images or self._draw(task)).items():
            view.write(f"figures/{name}.png", image)

    def _layers(self, task: Task) -> dict[str, dict[str, Tensor]]:
        """Weights, and gradients when asked, by layer."""
        layers = {"weights": _shown(task.named_parameters())}
        if self.gradients:
            layers["gradients"] = _shown(gradients(task, self._batch).items())
        return layers

    def _draw(self, task: Task) -> dict[str, bytes]:
        images = {
            what: drawn(what, _histograms, layers, what)
            for what, layers in self._layers(task).items()
        }
        filters = first_filters(task, self._input_shape)
        if filters is not None:
            images["filters"] = drawn("filters", _filters, filters)
        return {name: image for name, image in images.items() if image is not None}


def _histograms(layers: Mapping[str, Tensor], what: str) -> bytes:
    from dltrain.reports.canvas import png
    from dltrain.reports.weights import draw_histograms

    return png(draw_histograms({name: v.numpy() for name, v in layers.items()}, what))


def _filters(filters: Tensor) -> bytes:
    from dltrain.reports.canvas import png
    from dltrain.reports.weights import draw_filters

    return png(draw_filters(filters.float().cpu().numpy()))


def first_filters(task: Task, input_shape: Sequence[int | None]) -> Tensor | None:
    """The first layer's weights as (filters, channels, height, width), or None.

    A dense layer's rows are shaped as the images that they are multiplied with.
    """
    first = next((p.detach() for p in task.parameters() if p.ndim > 1), None)
    shape = [side for side in input_shape if side is not None]
    if first is None or len(shape) != 3:
        return None
    if first.ndim == 2 and first.shape[1] == math.prod(shape):
        return first.view(-1, *shape)
    return first if first.ndim == 4 else None


def gradients(task: Task, batch: Batch) -> Mapping[str, Tensor]:
    """The gradient of a training step's loss by each parameter's name.

    The step is the task's own, in training mode, with all that it draws, and leaves no trace:
    gradients that are still being accumulated and the task's state are as before.
    """
    names: dict[nn.Parameter, str] = {p: name for name, p in task.named_parameters()}
    found: dict[str, Tensor] = {}

    def look(
        loss: Tensor | Callable[[], Tensor],
        name: str = "model",
        weight: Tensor | float | None = None,
    ) -> None:
        parameters = task.parameter_groups()[name]
        value = loss if isinstance(loss, Tensor) else loss()
        slopes = torch.autograd.grad(value, parameters, allow_unused=True)
        for parameter, slope in zip(parameters, slopes, strict=True):
            if slope is not None:
                found[names[parameter]] = slope

    state = task.state_dict()
    state.update({name: value.clone() for name, value in state.items()})
    carried, training = copy.deepcopy(task.training_state()), task.training
    with torch.enable_grad():
        task.train().train_step(batch, look)
    task.load_state_dict(state)
    task.load_training_state(carried)
    task.train(training)
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
