"""Files that list images, a path a line; and images by what a file calls them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dltrain.files import read_text


def read_list(key: str, path: Path, place: Path, images: Sequence[Path]) -> list[int]:
    """Which of ``images``, below ``place``, the file ``path`` lists, in the order of ``images``.

    A line is a path from ``place``, or a name that only one image has; with or without its ending.
    Raises ValueError, with the setting ``key`` or naming file and line, for what is no such list.
    """
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ValueError(f"{key}: {path} cannot be read: {why}") from error
    find, rows = Finder(place, images), {image: row for row, image in enumerate(images)}
    found = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        image = find(line.strip())
        if image is None:
            raise ValueError(f"{path}, line {number}: {place} has no image {line.strip()!r}")
        found.add(rows[image])
    if not found:
        raise ValueError(f"{path} lists no image")
    return sorted(found)


class Finder:
    """Finds an image by what a table calls it."""

    def __init__(self, place: Path, images: Sequence[Path]) -> None:
        self._paths = {image.relative_to(place).as_posix(): image for image in images}
        self._paths |= {image.absolute().as_posix(): image for image in images}
        self._names: defaultdict[str, list[Path]] = defaultdict(list)
        for image in images:
            unended = image.relative_to(place).with_suffix("").as_posix()
            for name in {image.name, image.stem, unended}:
                self._names[name].append(image)

    def __call__(self, name: str) -> Path | None:
        """The image, None where there is none or several might be meant."""
        path = PurePosixPath(name.replace("\\", "/")).as_posix()
        if path in self._paths:
            return self._paths[path]
        same = self._names.get(path, [])
        return same[0] if len(same) == 1 else None
