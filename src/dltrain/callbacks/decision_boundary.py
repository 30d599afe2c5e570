"""The plane of two features, and how a network comes to divide it."""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller
from typing import Any

import torch

from dltrain.callbacks.frames import Frames
from dltrain.errors import UserError
from dltrain.figures.plane import Plane
from dltrain.trainer import Trainer
from dltrain.types import Callback, Evaluation, Loaders


class DecisionBoundary(Callback):
    """Writes ``figures/decision_boundary.gif`` as the run ends, over the test split's points.

    There is a frame before the first step and one an evaluation. A frame is what the task
    predicts at ``side`` by ``side`` places. Where there would be more than ``most_frames``,
    every other one is dropped, and from then on every other one taken; the newest is always there.
    """

    def __init__(self, side: int = 64, most_frames: int = 100) -> None:
        if side < 2:
            raise ValueError(f"side is at least 2, got {side}")
        self.side = side
        self._points = self._targets = self._grid = torch.empty(0)
        self._plane: Plane | None = None
        self._frames = Frames(most_frames)

    def check(self, loaders: Loaders) -> None:
        """See that there are two features, and classes."""
        batch = next(iter(loaders.test))
        shape = tuple(batch["input"].shape[1:])
        if shape != (2,) or batch["target"].is_floating_point():
            what = "x".join(map(str, shape))
            kind = "numbers" if batch["target"].is_floating_point() else "classes"
            raise UserError(
                f"callbacks.decision_boundary: it shows two features and classes, but this data "
                f"has inputs of {what} and {kind}; leave it out of callbacks."
            )

    def start(self, trainer: Trainer) -> None:
        """Look at the test split, and at the network before it has learnt anything."""
        batches = list(trainer.loaders.test)
        points = torch.cat([batch["input"] for batch in batches])
        self._points = points.cpu()
        self._targets = torch.cat([batch["target"] for batch in batches]).cpu()
        self._plane = Plane.around(self._points, self.side)
        self._grid = self._plane.grid().to(points)
        self._take(trainer)

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """One frame a period; every run has the training means, and them first."""
        if split == "train":
            self._take(trainer)

    def end(self, trainer: Trainer, status: str) -> None:
        """Draw the frames, one after the other."""
        if status == "failed" or self._plane is None:
            return
        from dltrain.figures.boundary import animate_decision_boundary

        classes = self._frames.kept[0].shape[1]
        moving = animate_decision_boundary(
            self._plane,
            [frame.numpy() for frame in self._frames.kept],
            [f"step {step:,}" for step in self._frames.steps],
            self._points.numpy(),
            self._targets.numpy(),
            [str(number) for number in range(classes)],
            ("first feature", "second feature"),
        )
        trainer.folder.write("figures/decision_boundary.gif", methodcaller("write", moving))

    def state_dict(self) -> dict[str, Any]:
        """The frames so far (frames, side * side, classes), and which they are."""
        return self._frames.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the frames that were."""
        self._frames.load_state_dict(state)

    def _take(self, trainer: Trainer) -> None:
        """Add a frame of probabilities, of which half precision is more than the eye sees."""
        training = trainer.task.training
        trainer.task.eval()
        with torch.inference_mode():
            outputs = trainer.task.forward({"input": self._grid})
            chances = next(iter(outputs.values())).float().softmax(1)
        trainer.task.train(training)
        self._frames.add(chances.half().cpu(), trainer.step)
