"""Reconstruct images that went through a bottleneck."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Draw
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.structure import has_members
from dltrain.contracts.task import (
    Exportable,
    Metrics,
    Optimize,
    Predicting,
    Predictions,
    Task,
)
from dltrain.metrics.examples import PerExample
from dltrain.metrics.generative import LatentSpace, PixelErrors, Reconstructions
from dltrain.models.layers.denormalize import Pixels
from dltrain.tasks.latent import Decoding, decoded


class Bottleneck(Protocol):
    """A network that turns images into codes, and codes into logits of images."""

    latent_size: int

    def encode(self, images: Tensor) -> Tensor:
        """Codes (n, latent_size), of images (n, c, h, w) as a source gives them."""

    def decode(self, codes: Tensor) -> Tensor:
        """Logits (n, c, h, w)."""

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of those images."""


class Reconstruction(Task):
    """Images (batch, c, h, w) of 0..1 against the sigmoid of the network's outputs.

    ``loss`` is the mean over pixels of their cross-entropy (``bce``; of gray values it has a
    minimum above 0) or of their squared error (``mse``).

    ``noise`` and ``masking`` make a denoising autoencoder: in training the network reads images
    to which Gaussian noise of that std was added, or of which each value was set to 0
    with that probability (Vincent et al. 2008, 2010), and is to reconstruct the clean ones. It is
    evaluated on clean images, and besides on some corrupted alike each time.

    Raises ValueError for a network without a bottleneck, a negative standard deviation and what is
    no fraction.
    """

    replayable = True
    needs_target = False

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        loss: Literal["bce", "mse"] = "bce",
        noise: float = 0.0,
        masking: float = 0.0,
    ) -> None:
        super().__init__()
        if not has_members(model, Bottleneck):
            raise ValueError(
                f"{type(model).__name__} has no code to reconstruct images from: take "
                "model=autoencoder or conv_autoencoder"
            )
        if noise < 0 or not 0 <= masking < 1:
            raise ValueError(
                "noise is a standard deviation, not negative, and masking a fraction from 0 to "
                f"below 1; got {noise} and {masking}"
            )
        self.model = model
        self.noise, self.masking = noise, masking
        self.class_names = spec.class_names
        self._cross_entropy = loss == "bce"
        self._pixels = Pixels(spec.input)

    @property
    def denoising(self) -> bool:
        """Whether images are corrupted."""
        return self.noise > 0 or self.masking > 0

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean loss of a pixel, from images corrupted anew."""
        images = self._pixels.shown(batch["input"])
        outputs = self.model(self._pixels.normalized(self._corrupted(images, None)))
        loss = self._loss(outputs.float(), images)
        optimize(loss)
        return {"loss": loss.detach()}

    def forward(self, batch: Batch) -> Outputs:
        """``reconstruction`` (batch, c, h, w) of 0..1."""
        return {"reconstruction": self.model(batch["input"]).sigmoid()}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``image``, ``code``, ``logits``, ``reconstruction``; ``corrupted`` and ``restored``."""
        images = self._pixels.shown(batch["input"])
        codes = self.model.encode(batch["input"])
        logits = self.model.decode(codes).float()
        outputs = {
            "image": images,
            "code": codes,
            "logits": logits,
            "reconstruction": logits.sigmoid(),
        }
        if self.denoising:
            outputs["corrupted"] = self._corrupted(images, draw.generator)
            inputs = self._pixels.normalized(outputs["corrupted"])
            outputs["restored"] = self.model(inputs).float().sigmoid()
        return outputs

    def metrics(self, final: bool) -> Sequence[Metric]:
        """The loss and the mean squared error of a pixel; what can be drawn of codes."""
        versions = {"original": "image", "reconstruction": "reconstruction"}
        if self.denoising:
            versions |= {"corrupted": "corrupted", "restored": "restored"}
        metrics: list[Metric] = [
            PixelErrors(lambda logits, images: self._loss(logits, images, "sum"), self.denoising),
            Reconstructions(versions),
            LatentSpace(self._decode, self.model.latent_size, self.class_names),
        ]
        if final:
            columns = {"loss": self._image_losses, "mse": _error_of("reconstruction")}
            if self.denoising:
                columns["denoising_mse"] = _error_of("restored")
            metrics.append(PerExample(columns))
        return metrics

    def predict(self, batch: Batch) -> Predictions:
        """A column ``image``: reconstructions (batch, c, h, w) of 0..1."""
        images = self.forward(batch)["reconstruction"]
        return Predictions({"image": images}, {"image": self._pixels.field})

    def exports(self, examples: Batch) -> Mapping[str, Exportable]:
        """``model``: images to what is predicted of them; ``decoder``: ``code`` to images."""
        with torch.no_grad():
            codes = {"code": self.model.encode(examples["input"]).float()}
        decoder = Decoding(self, self._shown, self._pixels.field)
        return {
            "model": Exportable(Predicting(self, list(examples)), examples),
            "decoder": Exportable(decoder, codes),
        }

    def _decode(self, codes: Tensor) -> Tensor:
        return decoded(codes, self._shown)

    def _shown(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes).float().sigmoid()

    def _corrupted(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """With the noise of ``generator`` (None: the run's own), drawn where that lies."""
        where = images.device if generator is None else generator.device
        if self.noise:
            noise = torch.randn(images.shape, generator=generator, device=where)
            images = images + self.noise * noise.to(images.device)
        if self.masking:
            chances = torch.rand(images.shape, generator=generator, device=where)
            images = images * (chances >= self.masking).to(images.device)
        return images

    def _image_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The mean loss of each image's pixels, (batch,)."""
        return self._loss(outputs["logits"], outputs["image"], "none").flatten(1).mean(1)

    def _loss(self, logits: Tensor, images: Tensor, reduction: str = "mean") -> Tensor:
        if self._cross_entropy:
            return functional.binary_cross_entropy_with_logits(logits, images, reduction=reduction)
        return functional.mse_loss(logits.sigmoid(), images, reduction=reduction)


def _error_of(name: str) -> Callable[[Outputs, Batch], Tensor]:
    """The mean squared error of each image's pixels, (batch,), in the column ``name``."""

    def error(outputs: Outputs, batch: Batch) -> Tensor:
        return (outputs[name] - outputs["image"]).square().flatten(1).mean(1)

    return error
