"""Give pictures back after they went through a bottleneck."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.evaluate import noise_at
from dltrain.tasks.latent import SHOWN, CodedSplit, rows_of
from dltrain.tasks.pixels import Pixels
from dltrain.types import Batch, Evaluation, Metrics, Optimize, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@runtime_checkable
class Bottleneck(Protocol):
    """A network that turns pictures into codes, and codes into logits of pictures."""

    latent_size: int

    def encode(self, pictures: Tensor) -> Tensor:
        """Codes (n, latent_size), of pictures (n, c, h, w) as a source gives them."""

    def decode(self, codes: Tensor) -> Tensor:
        """Logits (n, c, h, w)."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Logits of those pictures."""


class Reconstruction(Task):
    """Pictures (batch, c, h, w) of 0..1 against the sigmoid of the network's outputs.

    ``loss`` is the mean over pixels of their cross-entropy (``bce``; of grey values it has a
    minimum above 0) or of their squared error (``mse``).

    ``noise`` and ``masking`` make a denoising autoencoder: in training the network reads pictures
    to which normal noise of that deviation was added, or of which each value was set to 0 with
    that probability (Vincent et al. 2008, 2010), and is to give back the clean ones. It is judged
    on clean pictures, and besides on some corrupted alike each time.

    Raises ValueError for a network without a bottleneck, a deviation below 0 and what is no share.
    """

    recordable = True

    def __init__(
        self,
        model: nn.Module,
        loss: Literal["bce", "mse"] = "bce",
        noise: float = 0.0,
        masking: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, Bottleneck):
            raise ValueError(
                f"{type(model).__name__} has no code to give pictures back from: take "
                "model=autoencoder or conv_autoencoder"
            )
        if noise < 0 or not 0 <= masking < 1:
            raise ValueError(
                "noise is a standard deviation, not negative, and masking a share from 0 to "
                f"below 1; got {noise} and {masking}"
            )
        self.model = model
        self.noise, self.masking = noise, masking
        self.class_names = class_names
        self._cross_entropy = loss == "bce"
        self._pixels = Pixels(mean, std)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimise the mean loss of a pixel, from pictures corrupted anew."""
        pictures = self._pixels.shown(batch["input"])
        outputs = self.model(self._pixels.normalised(self._corrupted(pictures, None)))
        loss = self._loss(outputs.float(), pictures)
        optimize(loss)
        return {"loss": loss.detach()}

    def predict(self, batch: Batch) -> Tensor:
        """Reconstructions (batch, c, h, w) of 0..1."""
        return self.model(batch["input"]).sigmoid()

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """The loss and the mean squared error of a pixel; of a denoising one, from noise too.

        ``corruption_mse`` is that of the corrupted pictures themselves, ``denoising_mse`` of what
        the network makes of them.
        """
        sums: dict[str, list[Tensor]] = {"loss": [], "mse": []}
        corrupts = self.noise > 0 or self.masking > 0
        split = CodedSplit(self.class_names)
        shown: dict[str, Tensor] = {}
        pixels = 0
        for position, batch in enumerate(batches):
            pictures = self._pixels.shown(batch["input"])
            pixels += pictures.numel()
            codes = self.model.encode(batch["input"])
            outputs = self.model.decode(codes).float()
            split.add(batch, pictures, codes)
            made = {"original": pictures, "reconstruction": outputs.sigmoid()}
            found = {
                "loss": self._loss(outputs, pictures, "sum"),
                "mse": _squared(made["reconstruction"], pictures),
            }
            if corrupts:
                corrupted = self._corrupted(pictures, noise_at(position))
                restored = self.model(self._pixels.normalised(corrupted)).float().sigmoid()
                made |= {"corrupted": corrupted.clamp(0, 1), "restored": restored}
                found["corruption_mse"] = _squared(corrupted, pictures)
                found["denoising_mse"] = _squared(restored, pictures)
            for name, value in found.items():
                sums.setdefault(name, []).append(value)
            shown = shown or {name: some[:SHOWN].clone() for name, some in made.items()}
        scalars = {
            name: math.fsum(torch.stack(values).tolist()) / pixels for name, values in sums.items()
        }
        return Evaluation(scalars, figures=self._figures(split, shown))

    def _figures(
        self, split: CodedSplit, shown: dict[str, Tensor]
    ) -> dict[str, Callable[[], Figure]]:
        figures = {
            "reconstructions": rows_of(**shown),
            "interpolation": split.ways(self._decode),
        }
        if self.model.latent_size == 2:
            figures["latent_plane"] = split.plane(self._decode)
        return figures

    def _decode(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes).float().sigmoid()

    def _corrupted(self, pictures: Tensor, generator: torch.Generator | None) -> Tensor:
        """With the noise of ``generator`` (None: the run's own), drawn where that lies."""
        where = pictures.device if generator is None else generator.device
        if self.noise:
            noise = torch.randn(pictures.shape, generator=generator, device=where)
            pictures = pictures + self.noise * noise.to(pictures.device)
        if self.masking:
            lots = torch.rand(pictures.shape, generator=generator, device=where)
            pictures = pictures * (lots >= self.masking).to(pictures.device)
        return pictures

    def _loss(self, outputs: Tensor, pictures: Tensor, reduction: str = "mean") -> Tensor:
        if self._cross_entropy:
            return functional.binary_cross_entropy_with_logits(
                outputs, pictures, reduction=reduction
            )
        return functional.mse_loss(outputs.sigmoid(), pictures, reduction=reduction)


def _squared(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().sum()
