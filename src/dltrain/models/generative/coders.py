"""The two halves of an autoencoder: from images to a few numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from dltrain.errors import require_at_least, require_units
from dltrain.models.layers.activations import ACTIVATIONS, Activation
from dltrain.models.layers.shapes import image_shape, swept

# A kernel that its stride divides overlaps itself evenly: no chessboard (Odena et al. 2016).
KERNEL, STRIDE, PADDING = 4, 2, 1


def dense_halves(
    name: str,
    input_shape: Sequence[int],
    hidden: Sequence[int],
    latent_size: int,
    activation: Activation,
    numbers: int = 1,
) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder, images (batch, *input_shape) to (batch, numbers * latent_size), and decoder.

    ``hidden`` are the encoder's layers; the decoder has the same from the last to the first, from
    codes (batch, latent_size) to (batch, *input_shape) without a final activation. Raises
    ValueError, in the name of the network ``name``, for what is no image and for layers
    without units.
    """
    image_shape(name, input_shape)
    _refuse_empty(latent_size, hidden=hidden)
    pixels = math.prod(input_shape)
    encoder = _dense([pixels, *hidden, numbers * latent_size], activation)
    decoder = _dense([latent_size, *reversed(hidden), pixels], activation)
    return (
        nn.Sequential(nn.Flatten(), *encoder),
        nn.Sequential(*decoder, nn.Unflatten(1, tuple(input_shape))),
    )


def convolutional_halves(
    name: str,
    input_shape: Sequence[int],
    channels: Sequence[int],
    dense: Sequence[int],
    latent_size: int,
    activation: Activation,
    numbers: int = 1,
) -> tuple[nn.Sequential, nn.Sequential]:
    """What :func:`dense_halves` returns, of convolutions.

    Each entry of ``channels`` is a convolution that halves the image's sides (an odd one loses a
    pixel), each of ``dense`` a layer between them and the code. The decoder does all that in
    reverse, with transposed convolutions. Raises ValueError also where nothing of the image is
    left.
    """
    planes, sides = image_shape(name, input_shape)
    _refuse_empty(latent_size, channels=channels, dense=dense)
    maps = [planes, *channels]
    sizes = [sides]
    encoder: list[nn.Module] = []
    for before, after in pairwise(maps):
        encoder += [nn.Conv2d(before, after, KERNEL, STRIDE, PADDING), ACTIVATIONS[activation]()]
        sizes.append(swept(sizes[-1], KERNEL, STRIDE, PADDING))
    if min(sizes[-1]) < 1:
        raise ValueError(
            f"nothing is left of an image of {'x'.join(map(str, input_shape))} after being "
            f"halved {len(channels)} times; take fewer channels"
        )
    smallest = (maps[-1], *sizes[-1])
    widths = [math.prod(smallest), *dense]
    encoder += [nn.Flatten(), *_dense([*widths, numbers * latent_size], activation)]
    decoder = [*_dense([latent_size, *reversed(widths)], activation), nn.Unflatten(1, smallest)]
    steps = list(zip(pairwise(maps), sizes, strict=False))
    for (after, before), (height, width) in reversed(steps):
        lost = (height % STRIDE, width % STRIDE)
        decoder += [
            ACTIVATIONS[activation](),
            nn.ConvTranspose2d(before, after, KERNEL, STRIDE, PADDING, output_padding=lost),
        ]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _dense(widths: Sequence[int], activation: Activation) -> list[nn.Module]:
    """Dense layers with activations between them, none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return layers[:-1]


def _refuse_empty(latent_size: int, **widths: Sequence[int]) -> None:
    require_at_least(1, latent_size=latent_size)
    require_units(**widths)
