"""What the folders of anyone's images mean: splits or classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from dltrain.config.suggest import did_you_mean
from dltrain.data.images.listing import Finds, Unused, folders, image_files, name_of

Layout = Literal["auto", "splits", "classes", "unlabeled"]

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folder of a split may be called."""
SHOWN = 5

Classes = dict[str, list[Path]]
"""Files by class."""


def find_splits(
    path: Path,
    layout: Layout,
    unused: Unused,
    given: Mapping[str, str] | None = None,
    finds: Finds = image_files,
    noun: str = "image",
) -> dict[str, Classes]:
    """The files of each split's classes, ``train`` first; those of no class are counted.

    ``given`` are the splits' folders, where their names do not tell. ``finds`` tells which files
    count, each a ``noun``. Raises ValueError where the
    folders may mean several things, or are neither.
    """
    tops = {folder: list(finds(folder, unused, True)) for folder in folders(path)}
    for file in finds(path, unused, False):
        unused.add("outside of class folders", file.name, images=True)
    if given is None:
        places = _split_places(path, tops, layout)
    else:
        places = _given_places(path, tops, given)
    if not places:
        return {"train": _classes(tops, unused, noun)}
    taken = {place for chosen in places.values() for place in chosen[:1]}
    for folder, files in tops.items():
        if folder not in taken and files:
            same = next((s for s, chosen in places.items() if folder in chosen), None)
            why = f"another folder of the split {same}" if same else "folders of no split"
            unused.add(why, f"{folder.name}/", len(files), images=True)
    return {split: _of_split(chosen[0], tops, unused, noun) for split, chosen in places.items()}


def _split_places(
    path: Path, tops: Mapping[Path, Sequence[Path]], layout: Layout
) -> dict[str, list[Path]]:
    """The folders of each split, the one that is used first; empty where all are classes."""
    named = {
        split: sorted(
            (top for top in tops if name_of(top).lower() in spellings),
            key=lambda top: (not tops[top], spellings.index(name_of(top).lower()), top.name),
        )
        for split, spellings in SPLITS.items()
    }
    named = {split: places for split, places in named.items() if places}
    if layout == "classes" or not named:
        if layout == "splits":
            raise ValueError(f"{path} has no folder train, as layout=splits needs")
        return {}
    if layout == "splits":
        if "train" not in named:
            raise ValueError(f"{path} has no folder train, as layout=splits needs")
        return named
    splits = [top for places in named.values() for top in places if tops[top]]
    others = [top for top in tops if tops[top] and top not in splits]
    nested = [top for top in splits if any(file.parent != top for file in tops[top])]
    if "train" in named and not others and nested:
        return named
    if "train" in named and others and not nested:
        return {}
    said, rest = _listed(splits or named["train"]), _listed(others)
    if "train" not in named:
        beside = f" beside {rest}" if others else ""
        found = f"{path} has {said}{beside}, but no train/"
    elif others:
        found = f"{path} has {said} with folders in them, and beside these {rest}"
    elif splits:
        found = f"in {path}, {said} {'has' if len(splits) == 1 else 'have'} no class folders"
    else:
        return named
    raise ValueError(
        f"{found}. Give each class its folder in each split's; data.layout=classes takes every "
        "folder for a class, data.layout=splits uses those of splits alone"
    )


def _given_places(
    path: Path, tops: Iterable[Path], given: Mapping[str, str]
) -> dict[str, list[Path]]:
    """The folder of each split, as ``given`` names it."""
    there = {name_of(top): top for top in tops}
    for split, name in given.items():
        if split not in SPLITS:
            hint = did_you_mean(split, SPLITS) or f"There are {', '.join(SPLITS)}."
            raise ValueError(f"splits: there is no split {split!r}. {hint}")
        if name not in there:
            hint = did_you_mean(name, there) or f"It has {', '.join(there) or 'none'}."
            raise ValueError(f"splits: {path} has no folder {name!r}. {hint}")
    if "train" not in given or len(set(given.values())) < len(given):
        raise ValueError(f"splits: train has a folder, and each split its own; got {dict(given)}")
    return {split: [there[given[split]]] for split in SPLITS if split in given}


def _classes(tops: Mapping[Path, list[Path]], unused: Unused, noun: str) -> Classes:
    classes: Classes = {}
    for folder, files in tops.items():
        if not files and any(names for _, _, names in os.walk(folder)):
            unused.add(f"folders without {noun}", f"{folder.name}/")
            continue
        classes.setdefault(name_of(folder), []).extend(files)
    return dict(sorted(classes.items()))


def _of_split(place: Path, tops: Mapping[Path, list[Path]], unused: Unused, noun: str) -> Classes:
    inner: dict[Path, list[Path]] = {folder: [] for folder in folders(place)}
    for file in tops[place]:
        parts = file.relative_to(place).parts
        if len(parts) == 1:
            unused.add("outside of class folders", f"{place.name}/{file.name}", images=True)
        else:
            inner[place / parts[0]].append(file)
    return _classes(inner, unused, noun)


def _listed(places: Iterable[Path]) -> str:
    names = [f"{place.name}/" for place in places]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
