"""Autoencoders: images through a bottleneck, and back."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dltrain.models.generative.coders import convolutional_halves, dense_halves
from dltrain.models.layers.activations import Activation
from dltrain.models.layers.init import Init, initialize


class _Autoencoder(nn.Module):
    """Images (batch, c, h, w) to codes (batch, latent_size) and back to logits of images."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent_size: int) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.latent_size = latent_size

    def encode(self, images: Tensor) -> Tensor:
        """Codes (batch, latent_size)."""
        return self.encoder(images)

    def decode(self, codes: Tensor) -> Tensor:
        """Logits (batch, c, h, w): their sigmoid is an image of 0..1."""
        return self.decoder(codes)

    def forward(self, images: Tensor) -> Tensor:
        """Through the bottleneck."""
        return self.decode(self.encode(images))


class Autoencoder(_Autoencoder):
    """Of dense layers (Hinton and Salakhutdinov 2006, here trained as a whole).

    ``hidden`` are the encoder's layers; the decoder has the same in reverse. Raises ValueError for
    what is no image and for layers without units.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_size: int = 32,
        hidden: Sequence[int] = (512, 256),
        activation: Activation = "relu",
        init: Init = "xavier",
    ) -> None:
        halves = dense_halves("an autoencoder", input_shape, hidden, latent_size, activation)
        super().__init__(*halves, latent_size)
        initialize(self, init)


class ConvolutionalAutoencoder(_Autoencoder):
    """Of convolutions, each of which halves the image's sides (Masci et al. 2011).

    ``channels`` are the maps of each, ``dense`` the layers between them and the code; the decoder
    has the same in reverse. Raises ValueError for what is no image, for layers without units,
    and where nothing is left of the image.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_size: int = 32,
        channels: Sequence[int] = (32, 64),
        dense: Sequence[int] = (256,),
        activation: Activation = "relu",
        init: Init = "kaiming",
    ) -> None:
        halves = convolutional_halves(
            "an autoencoder", input_shape, channels, dense, latent_size, activation
        )
        super().__init__(*halves, latent_size)
        initialize(self, init)
