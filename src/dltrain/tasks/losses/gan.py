"""What two adversaries minimize, given the scores of real and of generated images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Scorer(Protocol):
    """A discriminator."""

    def __call__(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Scores (batch,) of images (batch, c, h, w)."""


class AdversarialLoss(NamedTuple):
    """Means over scores (batch,), the higher the more real an image seems; all are 0-d."""

    discriminator: Callable[[Tensor, Tensor, float], Tensor]
    """Of scores of real and of generated images, and the target of the real ones."""
    generator: Callable[[Tensor], Tensor]
    """Of scores of generated images."""
    border: Callable[[Tensor, Tensor], Tensor | float]
    """Between what passes for real and what does not; of scores of real and of generated images."""
    has_target: bool
    """Whether real images have a target score that is 1, and could be less."""


def _cross_entropy(real: Tensor, made: Tensor, target: float) -> Tensor:
    seen = target * functional.softplus(-real) + (1 - target) * functional.softplus(real)
    return seen.mean() + functional.softplus(made).mean()


def _squares(real: Tensor, made: Tensor, target: float) -> Tensor:
    return 0.5 * ((real - target).square().mean() + made.square().mean())


def _hinge(real: Tensor, made: Tensor, target: float) -> Tensor:
    return (1 - real).relu().mean() + (1 + made).relu().mean()


def _difference(real: Tensor, made: Tensor, target: float) -> Tensor:
    return made.mean() - real.mean()


LOSSES = {
    # The generator's is the one that does not saturate (Goodfellow et al. 2014, section 3).
    "bce": AdversarialLoss(
        _cross_entropy, lambda made: functional.softplus(-made).mean(), lambda *_: 0.0, True
    ),
    # Mao et al. 2017, equation 9.
    "lsgan": AdversarialLoss(
        _squares, lambda made: 0.5 * (made - 1).square().mean(), lambda *_: 0.5, True
    ),
    # Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17.
    "hinge": AdversarialLoss(_hinge, lambda made: -made.mean(), lambda *_: 0.0, False),
    # Arjovsky et al. 2017. Scores may have any mean: the border lies between the two.
    "wasserstein": AdversarialLoss(
        _difference,
        lambda made: -made.mean(),
        lambda real, made: (real.mean() + made.mean()) / 2,
        False,
    ),
}


def gradient_penalty(
    discriminator: Scorer, real: Tensor, made: Tensor, labels: Tensor | None
) -> Tensor:
    """How far the norm of the score's gradient is from 1, between real and generated images.

    Both are (batch, c, h, w). The mean over examples of ``(|gradient| - 1)^2`` at a random place
    on the way from one to the other (Gulrajani et al. 2017, equation 3), 0-d, with a gradient by
    the discriminator's weights.
    """
    weight = torch.rand(len(real), 1, 1, 1, device=real.device)
    slopes = _slopes(discriminator, torch.lerp(made.float(), real, weight), labels)
    return (slopes.norm(dim=1) - 1).square().mean()


def r1_penalty(discriminator: Scorer, real: Tensor, labels: Tensor | None) -> Tensor:
    """Half the squared gradient norm of the score at ``real`` images (batch, c, h, w), on average.

    0-d, with a gradient by the discriminator's weights (Mescheder et al. 2018, equation 9).
    """
    return _slopes(discriminator, real, labels).square().sum(1).mean() / 2


def _slopes(discriminator: Scorer, images: Tensor, labels: Tensor | None) -> Tensor:
    """How each image's score changes with its pixels: (batch, pixels)."""
    images = images.detach().requires_grad_()
    scores = discriminator(images, labels)
    # The backward pass already knows the dtypes that the forward pass chose.
    with torch.autocast(images.device.type, enabled=False):
        (slopes,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        return slopes.float().flatten(1)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether what ``module`` says of an example depends on the others of its batch."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
