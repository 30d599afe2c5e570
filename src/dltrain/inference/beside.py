"""What a run learned from beside its data, opened again to evaluate it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dltrain.contracts.other_image import LearnsFromImages
from dltrain.contracts.task import Phase, Task
from dltrain.data.images.others import open_images
from dltrain.files import own
from dltrain.runs import checkpoint
from dltrain.runs.folder import RunFolder
from dltrain.runs.load import ID
from dltrain.runs.others import open_runs


def open_beside(
    task: Task, folder: RunFolder, config: Mapping[str, Any], device: torch.device
) -> None:
    """Open the images that ``task`` learned from, where its losses are measured by them.

    Raises :class:`ConfigError` where they are gone, and :class:`UserError` where they are others.
    """
    if not isinstance(task, LearnsFromImages):
        return
    task.to(device)
    open_runs(task, Path(config["output_dir"]).expanduser(), device)
    open_images(task, device)
    last = own(folder.path, checkpoint.LAST)
    state = checkpoint.load(last, device, str(folder.summary().get(ID, "")))
    task.load_training_state(state["training"])
    task.enter(Phase("train", 1))
