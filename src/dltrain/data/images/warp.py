"""Moving the pixels of a whole batch of images: one grid, one sampling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def places(
    size: tuple[int, int],
    matrix: Tensor,
    displacement: Tensor | None = None,
    within: tuple[int, int] | None = None,
) -> Tensor:
    """Where each pixel of images of ``size`` (h, w) is fetched from, (batch, h, w, 2).

    ``matrix`` (batch, 2, 3) maps a pixel of the result, (x, y, 1) counted from the center, to a
    place in the original; ``displacement`` (batch, 2, h, w) is added to that. Both are in pixels;
    what is returned counts each side of the original from -1 to 1. ``within`` is the original's
    size, where that is another.
    """
    count, (height, width) = len(matrix), size
    device = matrix.device
    x = (torch.arange(width, device=device) - (width - 1) / 2).expand(height, width)
    y = (torch.arange(height, device=device) - (height - 1) / 2)[:, None].expand(height, width)
    pixels = torch.stack([x.flatten(), y.flatten(), torch.ones(height * width, device=device)])
    grid = (matrix @ pixels).view(count, 2, height, width)
    if displacement is not None:
        grid = grid + displacement
    # grid_sample's coordinates run from -1 to 1 over each side.
    height, width = within or size
    grid[:, 0] *= 2 / width
    grid[:, 1] *= 2 / height
    # x and y stay planes: grid_sample reads such a view as fast as pairs, matmul writes it faster.
    return grid.permute(0, 2, 3, 1)


def sample(images: Tensor, grid: Tensor) -> Tensor:
    """Float images (batch, c, h, w), each pixel fetched from its place in ``grid``.

    Between pixels it interpolates bilinearly; beyond the border everything is 0.
    """
    return functional.grid_sample(images, grid, align_corners=False)


def sample_mask(masks: Tensor, grid: Tensor, fill: float) -> Tensor:
    """Masks (batch, h, w), each pixel the nearest to its place in ``grid``; ``fill`` beyond.

    Values up to 2^24 are kept exactly.
    """
    shifted = masks.float()[:, None] - fill
    found = functional.grid_sample(shifted, grid, mode="nearest", align_corners=False)
    return (found[:, 0] + fill).to(masks.dtype)


def cropped(images: Tensor, corner: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes of ``size`` (h, w) of images or masks (batch, …, h, w), which lie within them.

    ``corner`` (batch, 2) are top and left of each.
    """
    top, left = corner[:, 0], corner[:, 1]
    height, width = size
    device = images.device
    rows = (top[:, None] + torch.arange(height, device=device))[:, :, None]
    columns = (left[:, None] + torch.arange(width, device=device))[:, None, :]
    each = torch.arange(len(images), device=device)[:, None, None]
    found = images.movedim((-2, -1), (1, 2))[each, rows, columns]
    return found.movedim((1, 2), (-2, -1))


def affine(
    angle: Tensor, zoom: Tensor, shear: Tensor, mirror: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """Matrices (batch, 2, 3) that mirror, shear, rotate, scale and shift, from columns (batch,).

    ``angle`` is in radians, ``shear`` a tangent, ``mirror`` 1 or -1, the shift ``x``, ``y`` in
    pixels. They map results to originals: a ``zoom`` of 1/2 magnifies twice.
    """
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [cos * mirror, cos * shear - sin, x, sin * mirror, sin * shear + cos, y]
    return torch.stack(rows, 1).view(-1, 2, 3)


def smooth(noise: Tensor, sigma: float) -> Tensor:
    """Fields (…, h, w) convolved with a Gaussian, std ``sigma`` pixels; 0 beyond them."""
    height, width = noise.shape[-2:]
    return _gaussian(height, sigma, noise) @ noise @ _gaussian(width, sigma, noise)


def _gaussian(size: int, sigma: float, like: Tensor) -> Tensor:
    """The convolution of a line of ``size`` numbers, as a matrix (size, size)."""
    along = torch.arange(size, dtype=like.dtype, device=like.device)
    weights = (-0.5 * ((along - along[:, None]) / sigma) ** 2).exp()
    # On the host, wherever the fields are: reading the sum waits for no device.
    reach = torch.arange(-int(6 * sigma) - 1, int(6 * sigma) + 2)
    return weights / (-0.5 * (reach / sigma) ** 2).exp().sum().item()
