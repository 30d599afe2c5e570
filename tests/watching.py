"""A run as a callback sees it, without a run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

from dltrain.contracts.run import Logged
from dltrain.contracts.task import Monitor


class FakeView:
    """A view of whatever a test says; keeps what is written, logged and asked for."""

    def __init__(self, path: Path = Path(), splits: Mapping[str, int | None] | None = None) -> None:
        self.path = path
        self.splits = {"train": 8, "validation": 4, "test": 4} if splits is None else splits
        self.progress = SimpleNamespace(
            step=0, max_steps=10, epoch=0, steps_per_epoch=5, samples=0, samples_per_second=0.0
        )
        self.results: dict[str, dict[str, float]] = {}
        self.latest: dict[str, float] = {}
        self.monitor = Monitor("loss", "min")
        self.seconds = {"setup": 0.0, "train": 0.0, "evaluate": 0.0}
        self.rates: dict[str, float] = {}
        self.device, self.precision = "cpu", "float32"
        self.stop_reason, self.resumed = "", False
        self.written: dict[str, bytes | str] = {}
        self.heard: list[Logged] = []

    def write(self, name: str, content: bytes | str, sync: bool = True) -> None:
        self.written[name] = content

    def log(self, logged: Logged) -> None:
        self.heard.append(logged)

    def stop(self, reason: str) -> None:
        self.stop_reason = reason


def png(size: tuple[int, int]) -> bytes:
    """A black image of (width, height) pixels, as a file."""
    file = io.BytesIO()
    Image.new("L", size).save(file, "png")
    return file.getvalue()
