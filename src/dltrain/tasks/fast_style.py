"""Teach a network to give any image the style of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.other_image import OtherImage
from dltrain.contracts.other_run import OtherRun
from dltrain.contracts.paths import FilePath, PathOrName
from dltrain.contracts.task import Metrics, Monitor, Optimize, Phase, Predictions, Task
from dltrain.errors import UserError, require_at_least
from dltrain.metrics.generative import Reconstructions
from dltrain.metrics.style import StyleLosses
from dltrain.models.layers.denormalize import Pixels
from dltrain.models.vision.vgg_features import TORCHVISION
from dltrain.tasks.losses.style import content_loss, gram, style_loss, total_variation
from dltrain.tasks.painting_size import SMALLEST, PaintingSize
from dltrain.tasks.style_features import Layers, StyleFeatures, require_weights, weighted


class FastStyle(Task):
    """Minimize over a network what its images and a style differ by (Johnson et al. 2016).

    The losses are those of :class:`~dltrain.tasks.style_transfer.StyleTransfer`, of each image that
    the network makes of one of the data's: the content is that image's, the style that of the file
    ``style``, its longer side of ``style_size`` pixels (null: of the data's images). Targets of the
    data are not looked at. What is trained paints an image of any size in one pass, without the
    file and the ``features``; a longer side than ``largest`` pixels is scaled down to it.

    ``style_fraction`` in the logs is the style loss over that of the images as they are.

    Raises ValueError for other data than images, for negative weights and for no layers.
    """

    monitor = Monitor("loss", "min")
    any_size = True
    needs_target = False

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        style: FilePath,
        style_size: int | None = None,
        features: PathOrName = TORCHVISION,
        content_layers: Layers = ("relu3_1",),
        style_layers: Layers = ("relu1_1", "relu2_1", "relu3_1"),
        content_weight: float = 1.0,
        style_weight: float = 100.0,
        total_variation: float = 0.0,
        largest: int = 2048,
    ) -> None:
        super().__init__()
        if spec.input.kind != "image":
            raise ValueError(f"images are given a style, and this data has {spec.input.kind}")
        require_at_least(SMALLEST, style_size=style_size or SMALLEST)
        self._weights = require_weights(
            content_weight=content_weight,
            style_weight=style_weight,
            total_variation=total_variation,
        )
        self.content_layers = weighted("content_layers", content_layers)
        self.style_layers = weighted("style_layers", style_layers)
        self.model, self._size = model, PaintingSize(largest)
        self._pixels = Pixels(spec.input)
        self._seen_by = StyleFeatures(features)
        side = max(spec.input.shape[1] or SMALLEST, spec.input.shape[2] or SMALLEST)
        self._style = OtherImage(style, style_size or side)
        self._grams: dict[str, Tensor] = {}

    def others(self) -> Mapping[str, OtherRun]:
        """The run whose network sees the features, where it is one."""
        return self._seen_by.others()

    def image_files(self) -> Mapping[str, OtherImage]:
        """The image that the style is taken of."""
        return {"style": self._style}

    def enter(self, phase: Phase) -> None:
        """See the style. Raises :class:`UserError` where nothing can see it."""
        pixels = self._style.pixels
        self._seen_by.open(pixels.device)
        with torch.no_grad():
            seen = self._seen_by(pixels[None], self.style_layers)
            self._grams = {name: gram(features) for name, features in seen.items()}

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the losses of what is made of the batch."""
        made = self.model(batch["input"])
        losses = self._losses(self._pixels.shown(batch["input"]), made)
        loss = losses["loss"].mean()
        optimize(loss)
        told = {name: values.detach().mean() for name, values in losses.items()}
        told["style_fraction"] = told["style_loss"] / told.pop("plain_style_loss")
        return told

    def forward(self, batch: Batch) -> Outputs:
        """``image`` (batch, 3, h, w) of 0..1."""
        return {"image": self.model(batch["input"])}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``image``, ``styled`` and the losses (batch,).

        Raises :class:`UserError` for a run that is used without what it was trained with.
        """
        if not self._grams:
            raise UserError(
                "the losses of this run are those of its style image, seen by another network, "
                "which training alone opens: they are in its metrics.csv and summary.json. "
                "dltrain predict RUN IMAGE paints images."
            )
        images, made = self._pixels.shown(batch["input"]), self.model(batch["input"]).float()
        return {"image": images, "styled": made, **self._losses(images, made)}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Mean losses, and images to look at."""
        return [StyleLosses(), Reconstructions({"image": "image", "styled": "styled"})]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``image`` (batch, 3, h, w) of 0..1, in the style."""
        images = self._size.limited(batch["input"])
        field = Field((3, None, None), "image", fill=1.0)
        return Predictions({"image": self.model(images).float()}, {"image": field})

    def training_state(self) -> dict[str, Any]:
        """Which style was learned so far."""
        return {"style": self._style.digest}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Raise :class:`UserError` where the style is not what it was."""
        if state["style"] != self._style.digest:
            raise UserError(
                f"task.style: {self._style.path} has other pixels than when this run began: "
                "its losses were of those."
            )

    def _losses(self, images: Tensor, made: Tensor) -> dict[str, Tensor]:
        """(batch,) each; ``plain_style_loss`` is that of the images as they are."""
        wanted = {**self.content_layers, **self.style_layers}
        with torch.no_grad():
            before = self._seen_by(images, wanted)
            plain = style_loss(before, self._grams, self.style_layers)
        after = self._seen_by(made, wanted)
        content = content_loss(after, before, self.content_layers)
        style = style_loss(after, self._grams, self.style_layers)
        loss = self._weights["content_weight"] * content + self._weights["style_weight"] * style
        if self._weights["total_variation"]:
            loss = loss + self._weights["total_variation"] * total_variation(made)
        found = {"loss": loss, "content_loss": content, "style_loss": style}
        return {**found, "plain_style_loss": plain.clamp_min(1e-12)}
