"""Codes of a whole split, ways between them, and what can be drawn of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dltrain.figures.plane import Plane
from dltrain.types import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 20
"""Pictures of which reconstructions are drawn."""
WAYS, STEPS = 8, 9
"""From picture to picture, and the pictures decoded on each way."""
PLACES = 20
"""Along each side of the latent plane."""
OUTLIERS = 0.005
"""The share of codes that each side of the latent plane leaves out."""
AT_ONCE = 500
"""Codes that are decoded in one go."""
FLAT = 1e-3
"""The sine of the angle between two points below which the way between them is straight."""

Decode = Callable[[Tensor], Tensor]
"""Codes (n, latent_size) to pictures (n, c, h, w) of 0..1."""


class CodedSplit:
    """The codes (n, latent_size) of a split, and its first pictures."""

    def __init__(self, class_names: Sequence[str] | None) -> None:
        self._class_names = class_names
        self._codes: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._first: Tensor | None = None

    def add(self, batch: Batch, pictures: Tensor, codes: Tensor) -> None:
        """Look at a batch: its ``pictures`` (n, c, h, w) of 0..1 have these ``codes``."""
        self._codes.append(codes.float())
        if self._class_names is not None:
            self._targets.append(batch["target"])
        if self._first is None:
            self._first = pictures[:SHOWN].clone()

    def codes(self) -> Tensor:
        """All of them, where they are."""
        return torch.cat(self._codes)

    def first(self) -> Tensor:
        """The first pictures (some, c, h, w)."""
        assert self._first is not None, "an empty split"
        return self._first

    def ways(self, decode: Decode) -> Callable[[], Figure]:
        """Decode now, and draw later, the straight ways between pairs of pictures' codes."""
        count = min(len(self.first()) // 2, WAYS)
        starts, ends = (self.codes()[which : 2 * count : 2] for which in (0, 1))
        shares = torch.linspace(0, 1, STEPS, device=starts.device)[:, None]
        between = torch.lerp(starts[:, None], ends[:, None], shares)
        pictures = decoded(between.flatten(0, 1), decode).unflatten(0, between.shape[:2])
        columns = (self.first()[0 : 2 * count : 2], pictures, self.first()[1 : 2 * count : 2])
        return partial(_draw_ways, *(column.cpu() for column in columns))

    def plane(self, decode: Decode, deviations: Sequence[float] = ()) -> Callable[[], Figure]:
        """Decode now, and draw later, the plane of two latent dimensions.

        ``deviations`` are the prior's; the plane is a square where there are any.
        """
        codes = self.codes().cpu()
        limits = codes.quantile(torch.tensor([OUTLIERS, 1 - OUTLIERS]), dim=0)
        if deviations:
            middle, reach = limits.mean(0), (limits[1] - limits[0]).max() / 2
            limits = torch.stack((middle - reach, middle + reach))
        plane = Plane.around(limits, PLACES)
        pictures = decoded(plane.grid().to(self.codes()), decode).cpu()
        targets = torch.cat(self._targets).cpu() if self._targets else None
        names = list(self._class_names or ())
        return partial(_draw_plane, plane, pictures, codes, targets, names, deviations)


def decoded(codes: Tensor, decode: Decode) -> Tensor:
    """The pictures (n, c, h, w) of any number of codes (n, latent_size)."""
    return torch.cat([decode(some).float() for some in codes.split(AT_ONCE)])


def between(starts: Tensor, ends: Tensor, steps: int) -> Tensor:
    """Points (rows, steps, size) on the great circles between points (rows, size), ends included.

    Draws of a normal distribution all have about the same length in many dimensions, and so have
    the points on these ways, but not those on straight ones (White 2016).
    """
    shares = torch.linspace(0, 1, steps, device=starts.device)[:, None]
    straight = torch.lerp(starts[:, None], ends[:, None], shares)
    cosine = torch.cosine_similarity(starts, ends, dim=1).clamp(-1, 1)
    angle = cosine.acos()[:, None, None]
    one, other = ((1 - shares) * angle).sin(), (shares * angle).sin()
    arcs = (one * starts[:, None] + other * ends[:, None]) / angle.sin()
    # Through points on one line with 0 there is no circle, or there are many.
    return arcs.where(angle.sin() > FLAT, straight)


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients, and afterwards as it was."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


def rows_of(**versions: Tensor) -> Callable[[], Figure]:
    """Draw, later, versions (n, c, h, w) of the same pictures in rows, by name."""
    return partial(_draw_rows, {name: version.cpu() for name, version in versions.items()})


def _draw_rows(versions: dict[str, Tensor]) -> Figure:
    from dltrain.figures.sheets import draw_rows

    return draw_rows({name: _last(version).numpy() for name, version in versions.items()})


def _draw_ways(starts: Tensor, between: Tensor, ends: Tensor) -> Figure:
    from dltrain.figures.sheets import draw_ways

    return draw_ways(_last(starts).numpy(), _last(between).numpy(), _last(ends).numpy())


def _draw_plane(
    plane: Plane,
    pictures: Tensor,
    codes: Tensor,
    targets: Tensor | None,
    class_names: Sequence[str],
    deviations: Sequence[float],
) -> Figure:
    from dltrain.figures.latent import draw_latent_plane

    whose = None if targets is None else targets.numpy()
    return draw_latent_plane(
        plane, _last(pictures).numpy(), codes.numpy(), whose, class_names, deviations
    )


def _last(pictures: Tensor) -> Tensor:
    """Channels last."""
    return pictures.float().movedim(-3, -1)
