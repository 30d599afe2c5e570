"""A task that makes pictures without a network to speak of, so that what it makes is known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dltrain import composition, run
from dltrain.data.digits import Digits
from dltrain.folder import latest
from dltrain.types import Batch, Evaluation, Metrics, Optimize, Task

PACKAGE = "tests"


class Maker(Task):
    """Its samples are the bundled digits of the training split, drawn anew for every seed.

    What it learns is how bright they are, from ``brightness`` (0..1) towards 1. ``only`` are the
    classes of which it has pictures, the first ``each`` of them or all; ``conditional`` ones can be
    asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        brightness: float = 1.0,
        only: list[int] | None = None,
        conditional: bool = False,
        each: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.brightness = nn.Parameter(torch.tensor([brightness]))
        self.conditional = conditional
        self._dropout = nn.Dropout(0.5)
        train, _ = Digits().read()
        of_class = [torch.nonzero(train["target"] == label)[:, 0] for label in only or range(10)]
        known = torch.cat([rows[:each] for rows in of_class])
        self._pictures = train["input"][known] / 255
        self._classes = train["target"][known]

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        loss = (1 - self.brightness).square().sum()
        optimize(loss)
        return {"loss": loss.detach()}

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        return Evaluation({"loss": float((1 - self.brightness).square())})

    def predict(self, batch: Batch) -> Tensor:
        return batch["input"].flatten(1) * self.brightness

    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Tensor:
        if labels is None and self.conditional:
            labels = torch.arange(count) % 10
        generator = torch.Generator().manual_seed(seed)
        places = torch.randint(len(self._classes), (count,), generator=generator)
        if labels is not None:
            of_class = [torch.nonzero(self._classes == label)[:, 0] for label in labels]
            places = torch.stack(
                [own[place % len(own)] for own, place in zip(of_class, places, strict=True)]
            )
        training = self.training
        pictures = self.eval()._dropout(self._pictures[places] * self.brightness.detach())
        self.train(training)
        return pictures.clamp(0, 1)

    def interpolate(self, rows: int, steps: int, seed: int) -> Tensor:
        ends = self.sample(2 * rows, seed).unflatten(0, (2, rows))
        shares = torch.linspace(0, 1, steps)[:, None, None, None]
        return torch.lerp(ends[0][:, None], ends[1][:, None], shares).flatten(0, 1)


def trained(output_dir: Path, *overrides: str, **maker: Any) -> Path:
    """The folder of a run of :class:`Maker` on the bundled digits: 11 steps an epoch."""
    config = composition.compose(
        ["data=digits", "data.batch_size=128", "callbacks=none", "device=cpu", *overrides]
    )
    config["model"] = {"_target_": "torch.nn.Identity"}
    config["task"] = {"_target_": f"{PACKAGE}.making.Maker", **maker}
    run.train({**config, "output_dir": str(output_dir)}, overrides)
    return latest(output_dir)
