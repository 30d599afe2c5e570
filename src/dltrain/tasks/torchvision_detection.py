"""Train torchvision's detectors by the losses that they bring."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.metric import Outputs
from dltrain.contracts.task import Metrics, Optimize
from dltrain.errors import UserError
from dltrain.models.vision.torchvision_detectors import TorchvisionDetector
from dltrain.tasks.detection import Finds
from dltrain.tasks.finding import Found, padded


class TorchvisionDetection(Finds):
    """Minimize the sum of the losses that a detector of torchvision has itself.

    These go image by image, and wait for the device: a step is slower than it could be. Crowds and
    the like are left out of training. Arguments are as of
    :class:`~dltrain.tasks.detection.Finds`.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        threshold: float = 0.3,
        lowest: float = 0.001,
        most: int = 100,
    ) -> None:
        super().__init__(spec, threshold, lowest, most)
        if not isinstance(model, TorchvisionDetector):
            raise ValueError(
                f"{type(model).__name__} is no detector of torchvision; task=detection trains "
                "model=yolo"
            )
        self.model = model
        model.limit(lowest, most)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the sum of the network's losses."""
        targets = []
        # One transfer; torchvision takes a list.
        for row, count in enumerate(batch["boxes_length"].tolist()):
            told = ~batch["ignored"][row, :count].bool()
            targets.append(
                {
                    "boxes": batch["boxes"][row, :count][told],
                    "labels": batch["labels"][row, :count][told] + 1,
                }
            )
        losses = self.model(batch["input"], targets)
        assert isinstance(losses, dict), "the network is in training mode"
        loss = torch.stack(list(losses.values())).sum()
        optimize(loss)
        return {"loss": loss.detach(), **{name: one.detach() for name, one in losses.items()}}

    def forward(self, batch: Batch) -> Outputs:
        """``boxes`` (batch, most, 4), ``labels`` and ``score``, in pixels of the input."""
        found = self.find(batch["input"])
        return {"boxes": found.boxes, "labels": found.labels, "score": found.scores}

    def find(self, images: Tensor) -> Found:
        """What the network chooses."""
        said = self.model(images)
        assert isinstance(said, list), "the network is in eval mode"
        # Some of these networks have a logit for the background, which no object is of.
        said = [{n: column[one["labels"] > 0] for n, column in one.items()} for one in said]
        lengths = torch.tensor([len(one["scores"]) for one in said], device=images.device)
        boxes, labels, scores = (
            torch.stack([self._filled(one[name]) for one in said])
            for name in ("boxes", "labels", "scores")
        )
        return padded(boxes.float(), labels - 1, scores.float(), lengths.clamp(max=self.most))

    def _filled(self, values: Tensor) -> Tensor:
        """Those of an image (n, …) as ``most``, zeros at the end."""
        found = values.new_zeros(self.most, *values.shape[1:])
        found[: len(values)] = values[: self.most]
        return found

    def exports(self, examples: Batch) -> NoReturn:
        """Raises :class:`UserError`."""
        raise UserError("export: torchvision's detectors are not exported; model=yolo is.")
