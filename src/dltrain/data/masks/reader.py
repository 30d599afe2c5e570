"""New images, each at its own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dltrain.contracts.data import Batch
from dltrain.contracts.preprocessing import Preprocessing
from dltrain.data.images.decode import Opened, Shape
from dltrain.data.images.reader import ImageReader, opened
from dltrain.data.masks.decode import open_page
from dltrain.data.masks.pairs import Page, pages_of


class SegmentedReader(ImageReader):
    """Reads images of any size as they are; in TIFF files, each page as an example.

    Otherwise as :class:`~dltrain.data.images.reader.ImageReader`. Images of one batch have one
    size.
    """

    at_once = 1

    def __init__(
        self,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        window: Sequence[float] | None = None,
    ) -> None:
        super().__init__(channels, 1, 1, mean, std, window=window)

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """A file of several pages is as many examples."""
        for one in super().expand(inputs):
            path = Path(one).expanduser() if isinstance(one, (str, Path)) else None
            count = pages_of(path) if path is not None and path.is_file() else 1
            if path is None or count == 1:
                yield one
            else:
                yield from (Page(path, number) for number in range(count))

    def read(self, examples: Sequence[Any]) -> Batch:
        """The images, float32 (batch, channels, height, width)."""
        try:
            return super().read(examples)
        except ValueError as error:
            if "same shape" not in str(error):
                raise
            raise ValueError("images of several sizes are read one by one") from error

    def shape_of(self, image: Opened) -> Shape:
        """Its own size."""
        own = image.image
        return replace(self.shape, height=own.height, width=own.width, fit=None)

    def node(self, folder: Path) -> dict[str, Any]:
        known = super().node(folder)
        kept = {name: known[name] for name in ("channels", "mean", "std", "window")}
        return {"_target_": f"{__name__}.SegmentedReader", **kept}

    def preprocessing(self) -> Preprocessing:
        """As of images of one size, whose height and width are any."""
        known = super().preprocessing()
        return replace(known, outside={**known.outside, "height": None, "width": None, "fit": None})


@opened.register
def _(example: Page) -> Opened:
    return open_page(example)
