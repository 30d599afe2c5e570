"""A small table with images and texts."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = {"dark": ("dim", "black", "shade"), "light": ("bright", "white", "glow")}
COLUMNS = ("photo", "title", "size", "city", "kind")


def write_photos(
    path: Path, rows: int = 60, changed: Mapping[tuple[int, str], str] | None = None
) -> Path:
    """Rows of dark and light images of 8x8 with a text, a number, a city; some cells changed."""
    draw = np.random.default_rng(0)
    folder = path.parent / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            kind = ("dark", "light")[number % 2]
            level = 200 * (kind == "light")
            pixels = draw.integers(level, level + 50, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            title = " ".join(draw.choice(WORDS[kind], int(draw.integers(1, 4))))
            row = {
                "photo": f"photos/{number}.png",
                "title": title,
                "size": f"{number % 7}",
                "city": ("Rome", "Oslo", "Lima")[number % 3],
                "kind": kind,
            }
            row |= {name: cell for (n, name), cell in (changed or {}).items() if n == number}
            writer.writerow(row.values())
    return path
