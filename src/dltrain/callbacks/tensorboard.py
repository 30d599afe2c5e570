"""The run's curves for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dltrain.trainer import Callback, Trainer
from dltrain.types import Evaluation


class TensorBoard(Callback):
    """Training curves in the run folder's own event file, validation curves beside them."""

    def __init__(self) -> None:
        self._writers: dict[str, Any] = {}

    def start(self, trainer: Trainer) -> None:
        """Open both event files."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        path = trainer.folder.path
        self._writers = {
            "train": EventFileWriter(str(path)),
            "validation": EventFileWriter(str(path / "validation")),
        }

    def log(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """One event."""
        self._write("train", trainer.step, values)

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """One event."""
        writer = "validation" if split == "validation" else "train"
        self._write(writer, trainer.step, evaluation.scalars)

    def end(self, trainer: Trainer, status: str) -> None:
        """Close both event files."""
        for writer in self._writers.values():
            writer.close()

    def _write(self, writer: str, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=n, simple_value=v) for n, v in values.items()])
        self._writers[writer].add_event(Event(wall_time=time.time(), step=step, summary=summary))
