"""New images, each at its own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dltrain.data.images.decode import Opened
from dltrain.data.images.reader import OwnSizeReader, opened
from dltrain.data.masks.decode import open_page
from dltrain.data.masks.pairs import Page, pages_of


class SegmentedReader(OwnSizeReader):
    """Reads images of any size as they are; in TIFF files, each page as an example."""

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """A file of several pages is as many examples."""
        for one in super().expand(inputs):
            path = Path(one).expanduser() if isinstance(one, (str, Path)) else None
            count = pages_of(path) if path is not None and path.is_file() else 1
            if path is None or count == 1:
                yield one
            else:
                yield from (Page(path, number) for number in range(count))


@opened.register
def _(example: Page) -> Opened:
    return open_page(example)
