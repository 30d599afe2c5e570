"""Data and evaluations by hand, and a task that makes images, so that what it makes is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dltrain import training as run
from dltrain.config import compose as composition
from dltrain.contracts.data import Batch, DataSpec, Field, Stream
from dltrain.contracts.metric import Evaluation, Metric, Outputs
from dltrain.contracts.task import Metrics, Optimize, Predictions, Task
from dltrain.core.evaluate import evaluate
from dltrain.data.images.digits import Digits
from dltrain.runs import checksums
from dltrain.runs.finding import latest
from dltrain.runs.folder import RunFolder

PACKAGE = "tests"


def image_spec(
    shape: Sequence[int],
    class_names: Sequence[str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> DataSpec:
    """Of images of one shape, and of classes or as many numbers as an image has."""
    image = Field(tuple(shape), "image", "input", mean=tuple(mean), std=tuple(std))
    target = Field(tuple(shape), "number", "target")
    if class_names:
        names = tuple(class_names)
        target = Field((), "class", "target", size=len(names), names=names)
    return DataSpec({"input": image, "target": target})


def digits(split: str) -> Mapping[str, Tensor]:
    """The bundled digits as they lie there: ``input`` of 0..255, and ``target``."""
    columns = Digits().splits()[split].columns
    return {"input": columns["input"].float(), "target": columns["target"]}


class Given(Stream):
    """Batches that are there, one after the other in the split; ``first`` is their first row."""

    def __init__(self, batches: Sequence[Batch], first: int = 0) -> None:
        self._batches, self._first = list(batches), first

    @property
    def steps_per_epoch(self) -> int:
        return len(self._batches)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(self._batches[start:])

    def rows(self, epoch: int, position: int) -> Tensor:
        sizes = [len(batch["input"]) for batch in self._batches]
        return self._first + torch.arange(sum(sizes[:position]), sum(sizes[: position + 1]))


def evaluated(task: Task, *batches: Batch, final: bool = False) -> Evaluation:
    """What the metrics of ``task`` say of a split of these batches."""
    with torch.inference_mode():
        return evaluate(task.eval(), Given(batches), seed=0, epoch=0, final=final)


class Brightness(Metric):
    """How far the task is from white; no batch tells."""

    names = ("loss",)

    def __init__(self, task: Maker) -> None:
        self._task = task

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        assert len(rows) == len(batch["input"])

    def merge(self, other: Brightness) -> None:
        assert other._task is self._task

    def compute(self) -> Evaluation:
        return Evaluation({"loss": float((1 - self._task.brightness).square())})

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert not state


class Maker(Task):
    """Its samples are the bundled digits of the training split, drawn anew for every seed.

    What it learns is how bright they are, from ``brightness`` (0..1) towards 1. ``only`` are the
    classes of which it has images, the first ``each`` of them or all; ``conditional`` ones can be
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
        train = digits("train")
        of_class = [torch.nonzero(train["target"] == label)[:, 0] for label in only or range(10)]
        known = torch.cat([rows[:each] for rows in of_class])
        self._images = train["input"][known] / 255
        self._classes = train["target"][known]

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        loss = (1 - self.brightness).square().sum()
        optimize(loss)
        return {"loss": loss.detach()}

    def forward(self, batch: Batch) -> Outputs:
        return {"output": batch["input"].flatten(1) * self.brightness}

    def metrics(self, final: bool) -> Sequence[Metric]:
        return [Brightness(self)]

    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Predictions:
        return _images(self._sample(count, seed, labels))

    def interpolate(self, rows: int, steps: int, seed: int) -> Predictions:
        ends = self._sample(2 * rows, seed, None).unflatten(0, (2, rows))
        fractions = torch.linspace(0, 1, steps)[:, None, None, None]
        return _images(torch.lerp(ends[0][:, None], ends[1][:, None], fractions).flatten(0, 1))

    def _sample(self, count: int, seed: int, labels: Tensor | None) -> Tensor:
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
        images = self.eval()._dropout(self._images[places] * self.brightness.detach())
        self.train(training)
        return images.clamp(0, 1)


def _images(images: Tensor) -> Predictions:
    return Predictions({"image": images}, {"image": Field((1, 8, 8), "image", "target")})


def trained(output_dir: Path, *overrides: str, **maker: Any) -> Path:
    """The folder of a run of :class:`Maker` on the bundled digits: 11 steps an epoch."""
    config = composition.compose(
        ["data=digits", "data.batch_size=128", "callbacks=none", "device=cpu", *overrides]
    )
    config["model"] = {"_target_": "torch.nn.Identity"}
    config["task"] = {"_target_": f"{PACKAGE}.making.Maker", **maker}
    run.train({**config, "output_dir": str(output_dir)}, overrides)
    return latest(output_dir)


def edit(folder: Path, name: str, content: str | bytes) -> None:
    """As whoever knows of the checksums does."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    listed = (folder / checksums.FILE).read_text().splitlines(keepends=True)
    kept = "".join(line for line in listed if not line.endswith(f"  {name}\n"))
    (folder / checksums.FILE).write_text(kept)


def tell_otherwise(folder: Path, **changed: Any) -> None:
    """Have ``summary.json`` say something else, as the run itself would."""
    run_folder = RunFolder(folder)
    run_folder.write_json("summary.json", {**run_folder.summary(), **changed}, sealed=True)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def write_style(folder: Path) -> Path:
    """``content.png``, ``style.png`` and ``vgg.pth``: first layers of a VGG-19 of noise."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 24)[None, :, None] * np.ones((20, 1, 3))
    stripes = (np.arange(32) % 8 < 4)[:, None, None] * generator.integers(99, 255, (1, 1, 3))
    for name, pixels in (("content", ramp), ("style", stripes * np.ones((32, 32, 3)))):
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
    torch.manual_seed(0)
    shapes = {0: (3, 3, 1), 2: (64, 3, 3), 5: (64, 64, 3), 9: (128, 64, 3)}
    tensors = {}
    for place, (out, inputs, side) in shapes.items():
        tensors[f"{place}.weight"] = torch.randn(out, inputs, side, side) / (inputs**0.5 * side)
        tensors[f"{place}.bias"] = torch.zeros(out)
    torch.save(tensors, folder / "vgg.pth")
    return folder
