"""The layers of a trained run as what sees features in images."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.contracts.other_run import OtherRun
from dltrain.contracts.task import Task
from dltrain.errors import UserError
from dltrain.models.layers.denormalize import Pixels

LISTED = 12
"""Layers that are named where one is not there."""


class RunFeatures(OtherRun):
    """The network of a run of images, asked for outputs of its layers, by the names of modules."""

    def open(self, task: Task, spec: DataSpec) -> None:
        """See that it reads images of one channel or three."""
        if [field.kind for field in spec.of("input")] != ["image"]:
            raise ValueError(f"the run {self.run} reads no images")
        super().open(task, spec)
        device = next(task.parameters()).device
        self._pixels, self._channels = Pixels(spec.input).to(device), spec.input.shape[0]
        self._modules = {
            name.removeprefix("task.").removeprefix("model."): module
            for name, module in task.named_modules()
        }

    def outputs(self, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """Of the layers ``wanted``, for images (n, 3, h, w) of 0..1; the rest is not computed.

        Raises :class:`UserError` for a layer that is not there, or that sees no channels of an
        image.
        """
        found: dict[str, Tensor] = {}
        handles = [self._watch(name, found, len(wanted)) for name in wanted]
        if self._channels == 1:
            images = images.mean(1, keepdim=True)
        try:
            self.task.forward({"input": self._pixels.normalized(images)})
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        for name in wanted:
            if name not in found or found[name].ndim != 4:
                raise UserError(
                    f"task: the layer {name!r} of {self.run} sees no channels of an image."
                )
        return found

    def _watch(self, name: str, found: dict[str, Tensor], count: int) -> Any:
        layer: nn.Module | None = self._modules.get(name)
        if layer is None:
            names = [one for one in self._modules if one not in ("", "task", "model")]
            raise UserError(
                f"task: {self.run} has no layer {name!r}; it has {', '.join(names[:LISTED])}. "
                "task.content_layers and task.style_layers say which of a run's are looked at."
            )

        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            # What comes after it may overwrite it.
            found[name] = output.clone() if torch.is_grad_enabled() else output
            if len(found) == count:
                raise _Enough

        return layer.register_forward_hook(keep)


class _Enough(Exception):
    """All that was wanted is there."""
