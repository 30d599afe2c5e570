"""The plane of two features, and how a network comes to divide it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dltrain.callbacks.drawing import drawn
from dltrain.callbacks.frames import Frames
from dltrain.contracts.data import Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Probe, Setup, View
from dltrain.contracts.task import Task
from dltrain.errors import UserError
from dltrain.reports.plane import Plane


class DecisionBoundary(Probe):
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
        self._feature_names: Sequence[str] = ()
        self._class_names: Sequence[str] = ()

    def check(self, setup: Setup) -> None:
        """See that there are two features, and classes."""
        inputs, targets = setup.spec.of("input"), setup.spec.of("target")
        fits = len(inputs) == len(targets) == 1 and "test" in setup.splits
        if not (fits and inputs[0].shape == (2,) and targets[0].kind == "class"):
            shapes = ", ".join("x".join(map(str, field.shape)) for field in inputs)
            kinds = ", ".join("classes" if f.kind == "class" else f"{f.kind}s" for f in targets)
            raise UserError(
                f"callbacks.decision_boundary: it shows two features and classes, but this data "
                f"has inputs of {shapes} and {kinds}; leave it out of callbacks."
            )
        self._feature_names = inputs[0].names or ("first feature", "second feature")
        self._class_names = targets[0].names

    def begin(self, task: Task, streams: Streams, view: View) -> None:
        """Look at the test split, and at the network before it has learned anything."""
        batches = list(streams["test"].plain())
        points = torch.cat([batch["input"] for batch in batches])
        self._points = points.cpu()
        self._targets = torch.cat([batch["target"] for batch in batches]).cpu()
        self._plane = Plane.around(self._points, self.side)
        self._grid = self._plane.grid().to(points)
        self._take(task, view.progress.step)

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """One frame a period."""
        if split == "train":
            self._take(task, view.progress.step)
        return Evaluation()

    def end(self, view: View, status: str) -> None:
        """Draw the frames, one after the other."""
        if status == "failed" or self._plane is None:
            return
        moving = drawn("decision_boundary", self._moving, self._plane)
        if moving is not None:
            view.write("figures/decision_boundary.gif", moving)

    def state_dict(self) -> dict[str, Any]:
        """The frames so far (frames, side * side, classes), and which they are."""
        return self._frames.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the frames that were."""
        self._frames.load_state_dict(state)

    def _moving(self, plane: Plane) -> bytes:
        from dltrain.reports.boundary import animate_decision_boundary

        return animate_decision_boundary(
            plane,
            [frame.numpy() for frame in self._frames.kept],
            [f"step {step:,}" for step in self._frames.steps],
            self._points.numpy(),
            self._targets.numpy(),
            self._class_names,
            self._feature_names,
        )

    def _take(self, task: Task, step: int) -> None:
        """Add a frame of probabilities, of which half precision is more than the eye sees."""
        logits = task.forward({"input": self._grid})["logits"]
        self._frames.add(logits.float().softmax(1).half().cpu(), step)
