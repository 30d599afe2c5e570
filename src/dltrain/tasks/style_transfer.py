"""Give an image the style of another, by changing its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.other_run import OtherRun
from dltrain.contracts.paths import PathOrName
from dltrain.contracts.task import Metrics, Monitor, Optimize, Phase, Predictions, Task
from dltrain.models.generative.style_image import StyleImage, resized
from dltrain.models.vision.vgg_features import TORCHVISION
from dltrain.tasks.losses.style import (
    content_loss,
    gram,
    style_loss,
    total_variation,
    with_colors_of,
)
from dltrain.tasks.style_features import StyleFeatures, require_weights, weighted


class StyleTransfer(Task):
    """Minimize over an image what its content and style are from (Gatys et al. 2016).

    Content is the features of ``content_layers`` of a trained network, style the Gram matrices of
    ``style_layers``; a mapping gives each layer a weight of its own. ``features`` names the
    network: ``vgg19`` (torchvision's, downloaded), a file of VGG-19, or a run, with the names of
    that network's modules. The loss is ``content_weight`` times the one, ``style_weight`` times the
    other, and ``total_variation`` times that of the pixels. With ``keep_color`` the style takes on
    the colors of the content first. The image begins as the content, or as ``noise``.

    ``style_fraction`` in the logs is the style loss over that of the content image.

    Raises ValueError for another model than an image, for negative weights and for no layers.
    """

    monitor = Monitor("loss", "min")
    needs_target = False

    def __init__(
        self,
        model: StyleImage,
        spec: DataSpec,
        features: PathOrName = TORCHVISION,
        content_layers: Sequence[str] | Mapping[str, float] = ("relu3_1",),
        style_layers: Sequence[str] | Mapping[str, float] = ("relu1_1", "relu2_1", "relu3_1"),
        content_weight: float = 1.0,
        style_weight: float = 10000.0,
        total_variation: float = 0.0,
        keep_color: bool = False,
        begin: Literal["content", "noise"] = "content",
    ) -> None:
        super().__init__()
        if not isinstance(model, StyleImage):
            raise ValueError(f"what is styled is model=style, not {type(model).__name__}")
        self._weights = require_weights(
            content_weight=content_weight,
            style_weight=style_weight,
            total_variation=total_variation,
        )
        self.model, self.spec = model, spec
        self.content_layers = weighted("content_layers", content_layers)
        self.style_layers = weighted("style_layers", style_layers)
        self.keep_color, self.begin = keep_color, begin
        self._seen_by = StyleFeatures(features)
        self._steps, self._total = 0, 1
        self._prepared: _Targets | None = None

    def others(self) -> Mapping[str, OtherRun]:
        """The run whose network sees the features, where it is one."""
        return self._seen_by.others()

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """An image each, from coarse to fine."""
        return {_name(image): [image] for image in self.model.images}

    def enter(self, phase: Phase) -> None:
        """Have the network that sees features. Raises :class:`UserError` where there is none."""
        self._total = phase.steps
        self._seen_by.open(self.model.images[0].device)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """A step of the image whose turn it is: each has as many as the others."""
        images = self.model.images
        number = min(len(images) - 1, self._steps * len(images) // self._total)
        image = images[number]
        if self._prepared is None or self._prepared.number != number:
            self._prepared = self._prepare(number, batch)
        targets, parts = self._prepared, dict[str, Tensor]()

        def loss() -> Tensor:
            found = self._differences(image[None], targets)
            parts.update({name: value.detach() for name, value in found.items()})
            return found["loss"]

        optimize(loss, _name(image))
        with torch.no_grad():
            image.clamp_(0, 1)
        self._steps += 1
        parts["style_fraction"] = parts["style_loss"] / targets.style_loss
        return parts

    def forward(self, batch: Batch) -> Outputs:
        """``image`` (1, 3, height, width)."""
        return {"image": self.model(*self.spec.inputs(batch))}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """None: there is no split to evaluate."""
        return []

    @property
    def conditional(self) -> bool:
        """There is one image."""
        return False

    @torch.no_grad()
    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Predictions:
        """The image as it is now, ``count`` times. Raises ``ValueError`` for labels."""
        if labels is not None:
            raise ValueError("this is one image, and has no classes")
        image = self.model().detach()  # it is a parameter itself
        field = Field(tuple(image.shape[1:]), "image", "target")
        return Predictions({"image": image.expand(count, -1, -1, -1)}, {"image": field})

    def interpolate(self, rows: int, steps: int, seed: int) -> Predictions:
        """The same image everywhere."""
        return self.sample(rows * steps, seed)

    def training_state(self) -> dict[str, Any]:
        """How many steps were made."""
        return {"steps": self._steps}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go on after them."""
        self._steps = int(state["steps"])

    def _prepare(self, number: int, batch: Batch) -> _Targets:
        """What image ``number`` is compared with; and what it begins as, if it has not begun."""
        image = self.model.images[number]
        content, style = batch["content"], batch["style"]
        factor = image.shape[-1] / content.shape[-1]
        if factor < 1:
            sides = [max(1, round(side * factor)) for side in style.shape[-2:]]
            style = resized(style, style.new_empty(sides))
        with torch.no_grad():
            style = with_colors_of(style, content) if self.keep_color else style
            content = resized(content, image)
            seen = self._features(content)
            grams = {n: gram(f) for n, f in self._features(style).items() if n in self.style_layers}
            targets = _Targets(number, seen, grams, torch.ones(()))
            targets.style_loss = self._differences(content, targets)["style_loss"].clamp_min(1e-12)
            if int(self.model.begun) <= number:
                first = torch.rand_like(content) if self.begin == "noise" else content
                self.model.begin(number, self.model.images[number - 1][None] if number else first)
        return targets

    def _differences(self, image: Tensor, targets: _Targets) -> dict[str, Tensor]:
        seen = self._features(image)
        content = content_loss(seen, targets.content, self.content_layers).mean()
        style = style_loss(seen, targets.grams, self.style_layers).mean()
        weights = self._weights
        loss = weights["content_weight"] * content + weights["style_weight"] * style
        if weights["total_variation"]:
            loss = loss + weights["total_variation"] * total_variation(image).mean()
        return {"loss": loss, "content_loss": content, "style_loss": style}

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        return self._seen_by(images, {**self.content_layers, **self.style_layers})


class _Targets:
    """What an image is compared with, by layer."""

    def __init__(
        self, number: int, content: dict[str, Tensor], grams: dict[str, Tensor], style_loss: Tensor
    ) -> None:
        self.number, self.content, self.grams = number, content, grams
        self.style_loss = style_loss
        """That of the content image."""


def _name(image: Tensor) -> str:
    return f"image_{image.shape[-1]}x{image.shape[-2]}"
