"""How probable an image is to a model that draws a code first: bounds on log p(x)."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

MOST_NUMBERS = 2**22
"""Values of outputs that are in memory at a time."""


class Likelihood(Protocol):
    """What outputs say of images, both (..., c, h, w); of ``gray`` pixels or of 0 and 1."""

    gray: bool

    def log_probability(self, outputs: Tensor, images: Tensor) -> Tensor:
        """In nats, (...), of arguments that are broadcast."""

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected images."""


class Variation(Protocol):
    """A network that gives each image a distribution of codes, and each code one of images."""

    latent_size: int
    likelihood: Likelihood

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs (n, c, h, w), from the mean codes of ``images``."""

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (n, latent_size), of images (n, c, h, w) as a source gives."""

    def decode(self, codes: Tensor) -> Tensor:
        """Outputs (n, c, h, w), from codes (n, latent_size)."""


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of a diagonal Gaussian from the standard normal, in nats, of the arguments' shape.

    Kingma and Welling 2014, appendix B; the sum over a code's dimensions is the code's.
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def drawn(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
    """A code for each, of the arguments' shape, by the reparameterization trick.

    Noise is drawn where ``generator`` lies; None is the run's own, on the arguments' device.
    """
    if generator is None:
        noise = torch.randn_like(mean)
    else:
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)
    return mean + noise.to(mean.device) * (log_variance / 2).exp()


def importance_weighted(
    model: Variation,
    inputs: Tensor,
    images: Tensor,
    samples: int,
    generator: torch.Generator | None = None,
    most_numbers: int = MOST_NUMBERS,
) -> Tensor:
    """Estimates of log p(x), in nats, (n,), from ``samples`` codes each.

    ``log 1/k sum_i p(x, z_i) / q(z_i | x)`` with ``z_i`` drawn from the posterior: in the mean a
    lower bound that rises with ``samples``, towards log p(x) itself (Burda, Grosse and
    Salakhutdinov 2016, equation 8). ``inputs`` are what the encoder reads and ``images`` what
    the decoder is to explain, (n, c, h, w) both. About ``most_numbers`` values of outputs, or
    those of one code, are in memory at a time.
    """
    means, log_variances = (part.float() for part in model.posterior(inputs))
    codes_at_once = max(1, most_numbers // images[0].numel())
    at_once = min(samples, codes_at_once)
    rows = max(1, codes_at_once // samples)
    found = []
    for start in range(0, len(images), rows):
        here = slice(start, start + rows)
        weights = [
            _log_weights(model, means[here], log_variances[here], images[here], count, generator)
            for count in _chunks(samples, at_once)
        ]
        found.append(torch.cat(weights).logsumexp(0) - math.log(samples))
    return torch.cat(found)


def _log_weights(
    model: Variation,
    mean: Tensor,
    log_variance: Tensor,
    images: Tensor,
    count: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Log p(x, z) - log q(z | x), (count, n), of ``count`` codes for each image."""
    noise = torch.empty(count, *mean.shape, device=mean.device).normal_(generator=generator)
    codes = mean + noise * (log_variance / 2).exp()
    outputs = model.decode(codes.flatten(0, 1)).float().unflatten(0, codes.shape[:2])
    explained = model.likelihood.log_probability(outputs, images)
    # Both densities have the same constant.
    prior, posterior = codes.square().sum(2), (noise.square() + log_variance).sum(2)
    return explained + (posterior - prior) / 2


def _chunks(whole: int, most: int) -> list[int]:
    """``whole`` as a sum of numbers up to ``most``."""
    full, rest = divmod(whole, most)
    return [most] * full + ([rest] if rest else [])
