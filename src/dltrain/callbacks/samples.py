"""What a network makes of the same noise, all through a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dltrain.callbacks.drawing import drawn
from dltrain.callbacks.frames import Frames
from dltrain.contracts.data import DataSpec, Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Logged, Probe, View
from dltrain.contracts.task import Predictions, SamplesImages, Task
from dltrain.errors import require_at_least

logger = logging.getLogger(__name__)

STEPS = 10
"""Images from one latent point to the other."""


class Samples(Probe):
    """``count`` samples of one ``seed``, before the first step and at every evaluation.

    TensorBoard gets each sheet of them as it comes; as the run ends there are
    ``figures/samples.png`` with the last, ``figures/samples.gif`` with at most ``most_frames`` of
    them, evenly spaced, and ``figures/interpolation.png`` with ``interpolations`` rows, each from
    one latent point to another. Of a network that takes labels, a column shows a class.

    Where the task makes no samples, there is a note.
    """

    def __init__(
        self,
        spec: DataSpec,
        count: int = 64,
        seed: int = 0,
        most_frames: int = 50,
        interpolations: int = 8,
    ) -> None:
        require_at_least(1, count=count)
        require_at_least(0, seed=seed, interpolations=interpolations)
        self.count, self.seed, self.interpolations = count, seed, interpolations
        self._classes = len(spec.class_names)
        self._frames = Frames(most_frames)
        self._between: bytes | None = None

    def begin(self, task: Task, streams: Streams, view: View) -> None:
        """Look at what is made before anything is learned."""
        if not isinstance(task, SamplesImages):
            logger.info("callbacks.samples shows nothing: this task makes no images")
            return
        self._take(task, view.progress.step)

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """One sheet a period; the ways between latent points with the test split."""
        if not isinstance(task, SamplesImages):
            return Evaluation()
        if split == "train":
            self._take(task, view.progress.step)
            image = drawn("samples", self._sheet, task, self._frames.kept[-1])
            view.log(Logged(images={} if image is None else {"samples": image}))
        if split == "test" and self.interpolations:
            image = self._between = drawn("interpolation", self._interpolated, task)
            view.log(Logged(images={} if image is None else {"interpolation": image}))
        return Evaluation()

    def finish(self, task: Task, streams: Streams, view: View) -> None:
        """Write the images."""
        if not isinstance(task, SamplesImages):
            return
        images = {
            "samples.png": drawn("samples", self._sheet, task, self._frames.kept[-1]),
            "samples.gif": drawn("samples.gif", self._moving, task),
        }
        if self.interpolations:
            # An interrupted run has not seen the test split.
            images["interpolation.png"] = self._between or drawn(
                "interpolation", self._interpolated, task
            )
        for name, image in images.items():
            if image is not None:
                view.write(f"figures/{name}", image)

    def state_dict(self) -> dict[str, Any]:
        """The sheets so far: bytes (frames, count, height, width, channels), and their steps."""
        return self._frames.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the sheets that were."""
        self._frames.load_state_dict(state)

    def _take(self, task: SamplesImages, step: int) -> None:
        made = task.sample(self.count, self.seed)
        self._frames.add(torch.from_numpy(_bytes(made)), step)

    def _interpolated(self, task: SamplesImages) -> bytes:
        from dltrain.reports.samples import sheet

        return sheet(_bytes(task.interpolate(self.interpolations, STEPS, self.seed)), STEPS)

    def _sheet(self, task: SamplesImages, frame: Tensor) -> bytes:
        from dltrain.reports.samples import sheet

        return sheet(frame.numpy(), self._columns(task))

    def _moving(self, task: SamplesImages) -> bytes:
        from dltrain.reports.samples import animate_samples

        return animate_samples(
            [frame.numpy() for frame in self._frames.kept],
            [f"step {step:,}" for step in self._frames.steps],
            self._columns(task),
        )

    def _columns(self, task: SamplesImages) -> int | None:
        from dltrain.reports.samples import class_columns

        return class_columns(self._classes) if task.conditional else None


def _bytes(made: Predictions) -> Any:
    from dltrain.reports.samples import to_bytes

    return to_bytes(made.columns["image"].float().cpu().numpy())
