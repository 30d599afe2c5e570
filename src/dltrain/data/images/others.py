"""Opening the image files that a task learns from."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from dltrain.contracts.other_image import LearnsFromImages, OtherImage
from dltrain.contracts.task import Task
from dltrain.data.images.listing import Unused, image_files
from dltrain.data.images.style import read_image
from dltrain.errors import ConfigError, Fault

logger = logging.getLogger(__name__)


def open_images(task: Task, device: torch.device) -> None:
    """Open all image files that ``task`` learns from, on ``device``.

    Raises :class:`ConfigError` with what is wrong with them.
    """
    if not isinstance(task, LearnsFromImages):
        return
    faults = []
    for name, image in task.image_files().items():
        try:
            if isinstance(image, OtherImage):
                image.open(read_image(image.path, image.size).to(device))
            else:
                files = _files(Path(image.path).expanduser())
                image.open([read_image(file, image.size).to(device) for file in files])
        except (ValueError, OSError) as error:
            faults.append(Fault(f"task.{name}", str(error)))
    if faults:
        raise ConfigError(faults)


def _files(path: Path) -> list[Path]:
    """The images in a folder, at any depth; or the one file. What is left out is told.

    Raises ValueError where a folder has none.
    """
    if not path.is_dir():
        return [path]
    unused = Unused()
    found = list(image_files(path, unused))
    if not found:
        raise ValueError(f"{path} has no image")
    logger.info("%s: %s images.", path, f"{len(found):,}")
    if unused.counts:
        logger.info("not used: %s", unused)
    return found
