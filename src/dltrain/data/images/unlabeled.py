"""Images that belong to no class: what folders of them mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dltrain.data.images.layout import SPLITS
from dltrain.data.images.listing import Unused, folders, image_files, name_of

Files = Mapping[Path, Sequence[Path]]
"""Of each folder, the images at any depth."""


def find_unlabeled(path: Path, unused: Unused, asked: bool) -> dict[str, list[Path]] | None:
    """All images in ``path``, at any depth; by split, where it has nothing but folders of those.

    Unless it is ``asked`` for, None where folders look like two classes or more, or where there is
    no image at all. What is no image is counted in ``unused``.
    """
    tops = {folder: list(image_files(folder, unused)) for folder in folders(path)}
    filled = {folder: files for folder, files in tops.items() if files}
    loose = list(image_files(path, unused, deep=False))
    named = {
        split: sorted(
            (top for top in filled if name_of(top).lower() in spellings),
            key=lambda top: spellings.index(name_of(top).lower()),
        )
        for split, spellings in SPLITS.items()
    }
    named = {split: places for split, places in named.items() if places}
    are_splits = "train" in named and len(filled) == sum(map(len, named.values())) and not loose
    if not asked and (_are_classes(filled, named, are_splits) or not (filled or loose)):
        return None
    if not are_splits:
        return {"train": [*loose, *(file for files in filled.values() for file in files)]}
    for split, places in named.items():
        for place in places[1:]:
            why = f"another folder of the split {split}"
            unused.add(why, f"{place.name}/", len(filled[place]), images=True)
    return {split: list(filled[places[0]]) for split, places in named.items()}


def _are_classes(filled: Files, named: Mapping[str, Sequence[Path]], are_splits: bool) -> bool:
    """Whether these folders, or those within the splits', are two classes or more."""
    if not are_splits:
        return len(filled) > 1
    inner = {
        file.relative_to(places[0]).parts[0]
        for places in named.values()
        for file in filled[places[0]]
        if file.parent != places[0]
    }
    return len(inner) > 1
