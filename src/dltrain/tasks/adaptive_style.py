"""Teach a network to give any image the style of any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.other_image import OtherImages
from dltrain.contracts.paths import FilePath
from dltrain.contracts.task import Metrics, Monitor, Optimize, Phase, Predictions, Task
from dltrain.errors import UserError, require_at_least, require_between
from dltrain.metrics.generative import Reconstructions
from dltrain.metrics.style import StyleLosses
from dltrain.models.generative.adain import AdaptiveStyle, moments, with_moments
from dltrain.models.layers.denormalize import Pixels
from dltrain.tasks.painting_size import SMALLEST, PaintingSize
from dltrain.tasks.style_features import Layers, require_weights, weighted

Moments = Mapping[str, tuple[Tensor, Tensor]]
"""Mean and std (styles, channels) of each layer."""


class AdaptiveStyleTransfer(Task):
    """Minimize over a decoder what its images and their styles differ by (Huang, Belongie 2017).

    Each image of the data is given a style, drawn of the image files ``styles`` (a file, or a
    folder), each with its longer side of ``style_size`` pixels (null: of the data's images). The
    content loss is the mean squared difference of the encoder's last layer from what was decoded,
    the style loss those of the means and of the stds of ``style_layers``. Targets of the data are
    not looked at. What is trained paints images of any size in the style of any image, also of
    those that it has not seen; a longer side than ``largest`` pixels is scaled down to it.
    ``strength`` says how much of the style is taken: 0 keeps the content's own.

    ``style_fraction`` in the logs is the style loss over that of the images as they are.

    Raises ValueError for another network, other data than images, negative weights and layers that
    the encoder does not have.
    """

    monitor = Monitor("loss", "min")
    any_size = True
    needs_target = False

    def __init__(
        self,
        model: AdaptiveStyle,
        spec: DataSpec,
        styles: FilePath,
        style_size: int | None = None,
        style_layers: Layers = ("relu1_1", "relu2_1", "relu3_1"),
        content_weight: float = 1.0,
        style_weight: float = 10.0,
        strength: float = 1.0,
        largest: int = 2048,
    ) -> None:
        super().__init__()
        if not isinstance(model, AdaptiveStyle):
            raise ValueError(f"the network is model=adain, not {type(model).__name__}")
        if spec.input.kind != "image":
            raise ValueError(f"images are given a style, and this data has {spec.input.kind}")
        require_at_least(SMALLEST, style_size=style_size or SMALLEST)
        require_between(0, 1, strength=strength)
        self._weights = require_weights(content_weight=content_weight, style_weight=style_weight)
        self.style_layers = weighted("style_layers", style_layers)
        known = [name for name in model.encoder.names if name]
        for name in self.style_layers:
            if name not in known:
                raise ValueError(
                    f"style_layers: the encoder has no layer {name!r}; it has {', '.join(known)}"
                )
        self.model, self.strength = model, strength
        self._size = PaintingSize(largest)
        self._pixels = Pixels(spec.input)
        side = max(spec.input.shape[1] or SMALLEST, spec.input.shape[2] or SMALLEST)
        self._styles = OtherImages(styles, style_size or side)
        self._moments: dict[str, tuple[Tensor, Tensor]] = {}
        self._asked: tuple[Tensor, Tensor] | None = None

    def image_files(self) -> Mapping[str, OtherImages]:
        """The images that styles are drawn of."""
        return {"styles": self._styles}

    @torch.no_grad()
    def enter(self, phase: Phase) -> None:
        """See the styles: nothing of them but means and stds is needed.

        Raises :class:`UserError` for an encoder without weights.
        """
        if not bool(self.model.learned):
            raise UserError(
                "model.pretrained: an encoder that has learned nothing sees no style: true takes "
                "torchvision's weights (downloaded), model.pretrained=FILE a file of VGG-19's."
            )
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for pixels in self._styles.pixels:
            for name, features in self.model.encode(pixels[None], self.style_layers).items():
                seen.setdefault(name, []).append(moments(features))
        self._moments = {
            name: (torch.cat([mean for mean, _ in some]), torch.cat([std for _, std in some]))
            for name, some in seen.items()
        }

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the losses of the batch, each image in a style drawn for it."""
        images = self._pixels.shown(batch["input"])
        which = torch.randint(len(self._styles.pixels), (len(images),), device=images.device)
        losses = self._losses(images, which)[0]
        optimize(losses["loss"].mean())
        told = {name: values.detach().mean() for name, values in losses.items()}
        told["style_fraction"] = told["style_loss"] / told.pop("plain_style_loss")
        return told

    def forward(self, batch: Batch) -> Outputs:
        """``image`` (batch, 3, h, w), in the style that was asked for, if one was."""
        images = self._pixels.shown(batch["input"])
        return {"image": self._painted(images, self._asked)}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``image``, ``styled`` and the losses (batch,), the styles dealt to the images in turn.

        Raises :class:`UserError` for a run that is used without what it was trained with.
        """
        if not self._moments:
            raise UserError(
                "the losses of this run are those of its style images, which training alone opens: "
                "they are in its metrics.csv and summary.json. dltrain predict RUN IMAGE --style "
                "FILE paints images."
            )
        images = self._pixels.shown(batch["input"])
        losses, made = self._losses(images, draw.rows.to(images.device) % len(self._styles.pixels))
        return {"image": images, "styled": made.float().clamp(0, 1), **losses}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Mean losses, and images to look at."""
        return [StyleLosses(), Reconstructions({"image": "image", "styled": "styled"})]

    @torch.no_grad()
    def paint_as(self, pixels: Tensor) -> None:
        """Paint in the style of ``pixels`` (3, h, w) of 0..1 from now on."""
        device = next(self.model.parameters()).device
        self._asked = moments(self.model.encode(pixels[None].to(device))[self.model.layer])

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``image`` (batch, 3, h, w) of 0..1, in the style that was asked for.

        Raises :class:`UserError` where none was.
        """
        if self._asked is None:
            raise UserError(
                "this run paints in any style, and was told none: dltrain predict RUN IMAGE "
                "--style FILE, or load(RUN).paint_as(FILE)."
            )
        images = self._pixels.shown(self._size.limited(batch["input"]))
        made = self._painted(images, self._asked).float().clamp(0, 1)
        field = Field((3, None, None), "image", fill=1.0)
        return Predictions({"image": made}, {"image": field})

    def training_state(self) -> dict[str, Any]:
        """Which styles were learned so far."""
        return {"styles": self._styles.digest}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Raise :class:`UserError` where the styles are not what they were."""
        if state["styles"] != self._styles.digest:
            raise UserError(
                f"task.styles: {self._styles.path} has other images than when this run "
                "began: its losses were of those."
            )

    def _painted(self, images: Tensor, style: tuple[Tensor, Tensor] | None) -> Tensor:
        features = self.model.encode(images)[self.model.layer]
        if style is not None:
            features = torch.lerp(features, with_moments(features, *style), self.strength)
        return self.model.decode(features, images.shape[2:])

    def _losses(self, images: Tensor, which: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(batch,) each, of images (batch, 3, h, w) in the styles ``which`` (batch,); the images.

        ``plain_style_loss`` is that of the images as they are.
        """
        wanted = {name: tuple(one[which] for one in pair) for name, pair in self._moments.items()}
        last = self.model.layer
        with torch.no_grad():
            before = self.model.encode(images, self.style_layers)
            mean, std = wanted[last]
            aim = with_moments(before[last], mean, std)
            plain = self._style_loss(before, wanted)
        made = self.model.decode(aim, images.shape[2:])
        after = self.model.encode(made, self.style_layers)
        content = functional.mse_loss(after[last], aim, reduction="none").mean((1, 2, 3))
        style = self._style_loss(after, wanted)
        loss = self._weights["content_weight"] * content + self._weights["style_weight"] * style
        found = {"loss": loss, "content_loss": content, "style_loss": style}
        return {**found, "plain_style_loss": plain.clamp_min(1e-12)}, made

    def _style_loss(
        self, features: Mapping[str, Tensor], wanted: Mapping[str, tuple[Tensor, ...]]
    ) -> Tensor:
        """(batch,): the mean squared differences of means and of stds, over the layers."""
        parts = []
        for name, weight in self.style_layers.items():
            for own, other in zip(moments(features[name]), wanted[name], strict=True):
                parts.append(weight * (own - other).square().mean(1))
        return torch.stack(parts).sum(0)
