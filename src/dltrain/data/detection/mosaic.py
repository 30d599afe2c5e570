"""Four images as one (Bochkovskiy, Wang and Liao 2020, YOLOv4, section 3.4), in one sampling.

The images of a batch meet at a point of a canvas as large as one of them: each image's own part
lies above and left of it, those of the next three images beside, below and across. Coordinates
count each side from -1 to 1, as grid_sample's do.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dltrain.data.streams.transfer import constant

TILES = ((-1, -1), (1, -1), (-1, 1), (1, 1))
"""On which side of the meeting point a tile lies, x and y."""


class Mosaic(NamedTuple):
    """Where four images meet, ``meeting`` (batch, 2), and how large they are: ``zoom`` (batch,).

    Those that are not ``chosen`` (batch,) stay alone.
    """

    meeting: Tensor
    zoom: Tensor
    chosen: Tensor

    def atlas(self, images: Tensor) -> Tensor:
        """The images (batch, c, h, w) and the next three, (batch, c, 2h, 2w)."""
        own, right, below, across = (images.roll(-step, 0) for step in range(len(TILES)))
        upper, lower = torch.cat((own, right), 3), torch.cat((below, across), 3)
        return torch.cat((upper, lower), 2)

    def places(self, grid: Tensor, size: tuple[int, int]) -> Tensor:
        """Where in the atlas of images of ``size`` (h, w) the canvas's ``grid`` is fetched from."""
        meeting = self.meeting[:, None, None]
        side = torch.where(grid < meeting, -1.0, 1.0)
        tiled = (grid - meeting) / self.zoom[:, None, None, None] - side
        chosen = self.chosen[:, None, None, None]
        inner = torch.where(chosen, tiled, grid)
        side = torch.where(chosen, side, -1.0)
        within = (inner.abs() <= 1).all(-1, keepdim=True)
        # Half a pixel from the border on, its neighbor would be another image's.
        edge = 1 - constant((1 / size[1], 1 / size[0]), grid)
        inner = torch.maximum(torch.minimum(inner, edge), -edge)
        return torch.where(within, (inner + side) / 2, 2.0)

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Those of an atlas's images (batch, 4 * n, 4), in pixels, as they lie on the canvas."""
        half = constant((size[1] / 2, size[0] / 2) * 2, boxes)
        found = []
        for step, side in enumerate(TILES):
            corners = boxes.roll(-step, 0) / half - 1
            there = constant((*side, *side), boxes)
            placed = (corners + there) * self.zoom[:, None, None] + self.meeting.repeat(1, 2)[
                :, None
            ]
            if not step:
                placed = torch.where(self.chosen[:, None, None], placed, corners)
            found.append((placed + 1) * half)
        return torch.cat(found, 1)

    def kept(self, keep: Tensor) -> Tensor:
        """Which of an atlas's boxes are seen, of ``keep`` (batch, n) of each image's."""
        others = [keep.roll(-step, 0) & self.chosen[:, None] for step in range(1, len(TILES))]
        return torch.cat((keep, *others), 1)


def gathered(column: Tensor) -> Tensor:
    """A column (batch, n, …) of an atlas's images, (batch, 4 * n, …)."""
    return torch.cat([column.roll(-step, 0) for step in range(len(TILES))], 1)
