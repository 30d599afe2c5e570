"""Answers painted into images, as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dltrain.errors import UserError
from dltrain.inference.writers import Columns, Writer, json_cell

PAINTED = "painted"
"""The column of images that answers are painted into."""


class PaintedWriter(Writer):
    """Painted images as .png files, and a .json file of the other columns.

    ``out`` is a folder, in which they are called after their examples and the JSON is
    ``answers.json``; or the one image, beside which the JSON has its name. What else an answer has
    is called ``NAME_<suffix>.png``. No input is written over.
    """

    def __init__(self, out: Path) -> None:
        self._single = out if out.suffix else None
        self._folder = out.parent if out.suffix else out
        self._taken = {"answers"}
        self._rows: list[dict[str, Any]] = []

    def write(self, columns: Columns) -> None:
        """Write the column ``PAINTED``, mappings of :class:`~dltrain.contracts.task.Painted`."""
        from dltrain.reports.samples import indexed, single

        names = next(iter(columns.values()))
        others = {name: cells for name, cells in columns.items() if name != PAINTED}
        rows = zip(names, columns[PAINTED], *others.values(), strict=True)
        for name, images, *cells in rows:
            stem = self._stem(str(name), images)
            row = dict(zip(others, map(json_cell, cells), strict=True))
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                for suffix, image in images.items():
                    path = self._folder / f"{stem}{f'_{suffix}' if suffix else ''}.png"
                    pixels = image.pixels.numpy()
                    content = indexed(pixels, image.colors) if image.colors else single(pixels)
                    path.write_bytes(content)
                    row[suffix or "painted"] = path.name
            except OSError as error:
                raise UserError(f"--out: {self._folder}: {error.strerror}.") from error
            self._rows.append(row)

    def _stem(self, name: str, images: Mapping[str, Any]) -> str:
        if self._single is not None:
            if self._rows:
                raise UserError(f"--out: {self._single} is one image: give a folder for several.")
            return self._single.stem
        if Path(name).is_file() and Path(name).parent.resolve() == self._folder.resolve():
            raise UserError(f"--out: {self._folder} has the images that are read: give another.")
        first = stem = Path(name).stem[:80] or "image"
        number = 1
        while self._taken & {f"{stem}_{s}" if s else stem for s in images}:
            number += 1
            stem = f"{first}_{number}"
        self._taken |= {f"{stem}_{s}" if s else stem for s in images}
        return stem

    def close(self) -> None:
        """Write the JSON file, if there is any row."""
        if not self._rows:
            return
        path = self._folder / "answers.json" if self._single is None else self._single
        text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in self._rows)
        try:
            path.with_suffix(".json").write_text(f"[\n{text}\n]\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out: {self._folder}: {error.strerror}.") from error
