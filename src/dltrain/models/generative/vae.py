"""Variational autoencoders (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from dltrain.models.generative.coders import convolutional_halves, dense_halves
from dltrain.models.layers.activations import Activation
from dltrain.models.layers.init import Init, initialize
from dltrain.models.layers.likelihoods import Bernoulli, Gaussian

Decoder = Literal["bernoulli", "gaussian"]


class _VAE(nn.Module):
    """Images (batch, c, h, w) to distributions over codes (batch, latent_size), and back."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_size: int,
        likelihood: Bernoulli | Gaussian,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.latent_size = latent_size
        self.likelihood = likelihood

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (batch, latent_size) of the codes that an image may have."""
        mean, log_variance = self.encoder(images).chunk(2, 1)
        return mean, log_variance

    def encode(self, images: Tensor) -> Tensor:
        """Codes (batch, latent_size): the mean alone."""
        return self.posterior(images)[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Outputs (batch, c, h, w), of which ``likelihood`` knows what they say of pixels."""
        return self.decoder(codes)

    def forward(self, images: Tensor) -> Tensor:
        """The outputs for each image's mean code."""
        return self.decode(self.encode(images))


class VAE(_VAE):
    """Of dense layers.

    ``hidden`` are the encoder's layers; the decoder has the same in reverse. ``decoder`` says what
    pixels are: 0 or 1, or gray values with the standard deviation ``scale``, learned from there on
    with ``learn_scale``. Raises ValueError for what is no image and for layers without units.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_size: int = 40,
        hidden: Sequence[int] = (512, 512),
        activation: Activation = "relu",
        init: Init = "xavier",
        decoder: Decoder = "bernoulli",
        scale: float = 0.25,
        learn_scale: bool = True,
    ) -> None:
        halves = dense_halves(
            "a variational autoencoder", input_shape, hidden, latent_size, activation, numbers=2
        )
        super().__init__(*halves, latent_size, _likelihood(decoder, scale, learn_scale))
        initialize(self, init)


class ConvolutionalVAE(_VAE):
    """Of convolutions, each of which halves the image's sides.

    ``channels`` are the maps of each, ``dense`` the layers between them and the code; the decoder
    has the same in reverse. The rest is as in :class:`VAE`. Raises ValueError for what is no
    image, for layers without units, and where nothing is left of the image.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_size: int = 40,
        channels: Sequence[int] = (32, 64),
        dense: Sequence[int] = (256,),
        activation: Activation = "relu",
        init: Init = "kaiming",
        decoder: Decoder = "bernoulli",
        scale: float = 0.25,
        learn_scale: bool = True,
    ) -> None:
        halves = convolutional_halves(
            "a variational autoencoder",
            input_shape,
            channels,
            dense,
            latent_size,
            activation,
            numbers=2,
        )
        super().__init__(*halves, latent_size, _likelihood(decoder, scale, learn_scale))
        initialize(self, init)


def _likelihood(decoder: Decoder, scale: float, learned: bool) -> Bernoulli | Gaussian:
    return Bernoulli() if decoder == "bernoulli" else Gaussian(scale, learned)
