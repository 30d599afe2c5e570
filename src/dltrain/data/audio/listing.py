"""Which files below a folder are sounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from dltrain.data.images.listing import Unused, files_in

SOUNDS = {
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".caf", ".w64", ".rf64", ".sph"),
    *(".m4a", ".aac", ".wma", ".amr"),  # not read here: refused by name, not passed over
}
"""Endings of sounds; files of others are counted and left out."""


def sound_files(place: Path, unused: Unused, deep: bool = True) -> Iterator[Path]:
    """Files of sound in ``place``: see :func:`~dltrain.data.images.listing.files_in`."""
    return files_in(place, unused, deep, _no_sound)


def add_unused(place: Path, unused: Unused, used: Collection[Path]) -> None:
    """Count the files in ``place`` that are no sounds and are not ``used`` beside them either."""

    def left_out(path: Path, regular: bool) -> str | None:
        return None if path in used else _no_sound(path, regular)

    for _ in files_in(place, unused, True, left_out):
        pass


def _no_sound(path: Path, regular: bool) -> str | None:
    if not regular:
        return "pipes and devices"
    return None if path.suffix.lower() in SOUNDS else "no sound"
