"""CIFAR-10's copy of JPEG files compressed once more, to see what compressing costs.

    python scripts/recompress.py $DLTRAIN_DATA/cifar10 TWICE
    dltrain experiment=cifar10_fast data=hub data.path=TWICE data.image=img data.label=label

Images are moved by half a block (their edge repeated) and back, for a second compression on the
grid of the first changes almost nothing. Quality and subsampling of colors are the copy's own.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HALF = 4
"""Pixels of half a block of brightness; colors, at half the resolution, are moved by a quarter."""
QUALITY = 75


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("place", type=Path)
    asked = parser.parse_args()
    asked.place.mkdir(parents=True)
    for file in sorted(asked.source.glob("*.parquet")):
        table = pq.read_table(file)
        images = [{"bytes": again(row["bytes"]), "path": None} for row in table["img"].to_pylist()]
        column = pa.array(images, table.schema.field("img").type)
        pq.write_table(
            table.set_column(0, table.schema.field("img"), column), asked.place / file.name
        )


def again(coded: bytes) -> bytes:
    """A JPEG image, decoded, compressed on another grid, moved back; in a format without losses."""
    pixels = np.asarray(Image.open(io.BytesIO(coded)))
    height, width, _ = pixels.shape
    moved = np.pad(pixels, ((HALF, 16 - HALF), (HALF, 16 - HALF), (0, 0)), "edge")
    lossy, exact = io.BytesIO(), io.BytesIO()
    Image.fromarray(moved).save(lossy, "JPEG", quality=QUALITY)
    seen = np.asarray(Image.open(lossy))[HALF : HALF + height, HALF : HALF + width]
    Image.fromarray(seen).save(exact, "PNG")
    return exact.getvalue()


if __name__ == "__main__":
    main()
