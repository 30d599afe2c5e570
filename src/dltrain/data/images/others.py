"""Opening the image files that a task learns from."""

from __future__ import annotations

import torch

from dltrain.contracts.other_image import LearnsFromImages
from dltrain.contracts.task import Task
from dltrain.data.images.style import read_image
from dltrain.errors import ConfigError, Fault


def open_images(task: Task, device: torch.device) -> None:
    """Open all image files that ``task`` learns from, on ``device``.

    Raises :class:`ConfigError` with what is wrong with them.
    """
    if not isinstance(task, LearnsFromImages):
        return
    faults = []
    for name, image in task.image_files().items():
        try:
            image.open(read_image(image.path, image.size).to(device))
        except ValueError as error:
            faults.append(Fault(f"task.{name}", str(error)))
    if faults:
        raise ConfigError(faults)
