"""A set whose rows need two columns: digits' images, some spoiled, and their names, some garbled.

    python scripts/fusion_set.py DIR --mnist FOLDER       # FOLDER/MNIST/raw has the IDX files

Writes DIR/train.csv and DIR/test.csv (photo, name, digit) and DIR/images/. Of the images a fraction
``--spoiled`` is noise; of the names, which are misspelled at random, a fraction ``--garbled`` is a
row of random letters. Both are drawn independently, so that one column alone cannot tell all rows.
"""

from __future__ import annotations

import argparse
import csv
import string
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FILES = {"train": "train", "test": "t10k"}


def idx(path: Path) -> NDArray[np.uint8]:
    """What an IDX file of bytes holds."""
    content = path.read_bytes()
    sides = content[3]
    shape = np.frombuffer(content, ">i4", sides, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * sides).reshape(shape)


def misspelled(name: str, draw: Any) -> str:
    """The name with one letter of it doubled, dropped or another; every third as it is."""
    place, how = int(draw.integers(len(name))), int(draw.integers(6))
    if how == 0:
        return name[:place] + name[place] + name[place:]
    if how == 1:
        return name[:place] + name[place + 1 :]
    if how in (2, 3):
        return name[:place] + letters(1, draw) + name[place + 1 :]
    return name


def letters(count: int, draw: Any) -> str:
    """Random letters."""
    return "".join(draw.choice(list(string.ascii_lowercase), count))


def write(folder: Path, raw: Path, rows: dict[str, int], spoiled: float, garbled: float) -> None:
    """All of both splits; the same for every call."""
    draw = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, count in rows.items():
        images = idx(raw / f"{FILES[split]}-images-idx3-ubyte")
        labels = idx(raw / f"{FILES[split]}-labels-idx1-ubyte")
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("photo", "name", "digit"))
            for number, place in enumerate(draw.permutation(len(images))[:count]):
                pixels, name = images[place], misspelled(NAMES[labels[place]], draw)
                if draw.random() < spoiled:
                    pixels = draw.integers(0, 256, pixels.shape).astype(np.uint8)
                if draw.random() < garbled:
                    name = letters(int(draw.integers(3, 6)), draw)
                path = f"images/{split}_{number:05}.png"
                Image.fromarray(pixels).save(folder / path)
                writer.writerow((path, name, f"d{labels[place]}"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--test", type=int, default=4_000)
    parser.add_argument("--spoiled", type=float, default=0.1)
    parser.add_argument("--garbled", type=float, default=0.1)
    asked = parser.parse_args()
    raw = asked.mnist / "MNIST" / "raw"
    rows = {"train": asked.train, "test": asked.test}
    write(asked.folder, raw, rows, asked.spoiled, asked.garbled)


if __name__ == "__main__":
    main()
