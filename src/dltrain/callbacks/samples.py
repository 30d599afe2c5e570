"""What a network makes of the same noise, all through a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor

from dltrain.callbacks.frames import Frames
from dltrain.callbacks.tensorboard import TensorBoard
from dltrain.trainer import Trainer
from dltrain.types import Callback, Evaluation, Sampler

STEPS = 10
"""Pictures from one latent point to the other."""


class Samples(Callback):
    """``count`` samples of one ``seed``, before the first step and at every evaluation.

    TensorBoard gets each sheet of them as it comes; as the run ends there are
    ``figures/samples.png`` with the last, ``figures/samples.gif`` with at most ``most_frames`` of
    them, evenly spaced, and ``figures/interpolation.png`` with ``interpolations`` rows, each from
    one latent point to another. Of a network that takes labels, a column shows a class.

    Where the task is no ``Sampler``, there is a note.
    """

    def __init__(
        self,
        count: int = 64,
        seed: int = 0,
        most_frames: int = 50,
        interpolations: int = 8,
        class_names: Sequence[str] = (),
    ) -> None:
        if count < 1 or seed < 0 or interpolations < 0:
            raise ValueError("count is at least 1; seed and interpolations are not negative")
        self.count, self.seed, self.interpolations = count, seed, interpolations
        self.class_names = list(class_names)
        self._frames = Frames(most_frames)
        self._boards: list[TensorBoard] = []
        self._between: bytes | None = None

    def start(self, trainer: Trainer) -> None:
        """Find TensorBoard, and look at what is made before anything is learnt."""
        self._boards = [one for one in trainer.callbacks if isinstance(one, TensorBoard)]
        if not isinstance(trainer.task, Sampler):
            print("note: callbacks.samples shows nothing: this task makes no pictures")
            return
        self._take(trainer, trainer.task)

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """One sheet a period; every run has the training means, and them first."""
        if not isinstance(trainer.task, Sampler):
            return
        if split == "train":
            self._take(trainer, trainer.task)
            if self._boards:
                self._show(trainer, "samples", self._sheet(trainer.task, self._frames.kept[-1]))
        if split == "test" and self.interpolations:
            self._between = self._interpolated(trainer.task)
            self._show(trainer, "interpolation", self._between)

    def end(self, trainer: Trainer, status: str) -> None:
        """Write the pictures."""
        task = trainer.task
        if status == "failed" or not isinstance(task, Sampler):
            return
        pictures = {
            "samples.png": self._sheet(task, self._frames.kept[-1]),
            "samples.gif": self._moving(task),
        }
        if self.interpolations:
            # An interrupted run has not seen the test split.
            pictures["interpolation.png"] = self._between or self._interpolated(task)
        for name, picture in pictures.items():
            trainer.folder.write(f"figures/{name}", methodcaller("write", picture))

    def state_dict(self) -> dict[str, Any]:
        """The sheets so far: bytes (frames, count, height, width, channels), and their steps."""
        return self._frames.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the sheets that were."""
        self._frames.load_state_dict(state)

    def _take(self, trainer: Trainer, task: Sampler) -> None:
        with torch.inference_mode():
            pictures = task.sample(self.count, self.seed).columns["image"]
        self._frames.add(torch.from_numpy(_bytes(pictures)), trainer.step)

    def _interpolated(self, task: Sampler) -> bytes:
        from dltrain.figures.samples import sheet

        with torch.inference_mode():
            pictures = task.interpolate(self.interpolations, STEPS, self.seed).columns["image"]
        return sheet(_bytes(pictures), STEPS)

    def _sheet(self, task: Sampler, frame: Tensor) -> bytes:
        from dltrain.figures.samples import sheet

        return sheet(frame.numpy(), self._columns(task))

    def _moving(self, task: Sampler) -> bytes:
        from dltrain.figures.samples import animate_samples

        return animate_samples(
            [frame.numpy() for frame in self._frames.kept],
            [f"step {step:,}" for step in self._frames.steps],
            self._columns(task),
        )

    def _columns(self, task: Sampler) -> int | None:
        from dltrain.figures.samples import class_columns

        return class_columns(len(self.class_names)) if task.conditional else None

    def _show(self, trainer: Trainer, tag: str, picture: bytes) -> None:
        for board in self._boards:
            board.image(tag, trainer.step, picture)


def _bytes(pictures: Tensor) -> Any:
    from dltrain.figures.samples import to_bytes

    return to_bytes(pictures.float().cpu().numpy())
