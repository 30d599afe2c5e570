"""Curves, images, tables, the graph and the hyperparameters for TensorBoard."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dltrain.callbacks.drawing import rendered
from dltrain.callbacks.events import EventFile
from dltrain.contracts.data import Streams
from dltrain.contracts.metric import Evaluation, Table
from dltrain.contracts.run import Logged, Probe, View
from dltrain.contracts.task import Task

logger = logging.getLogger(__name__)

VALIDATION = "validation"
MOST_ROWS = 200
"""Of a table that is shown."""
NOT_HYPER_PARAMETERS = {
    "name",
    "output_dir",
    "device",
    "callbacks",
    "data.root",
    "data.mean",
    "data.std",
    "data.augment._target_",
    "data.evaluation_batch_size",
    "data.evaluation_tokens",
    "trainer._target_",
    "trainer.evaluate_every",
    "trainer.evaluate_steps",
    "trainer.log_every",
    "trainer.checkpoint_seconds",
}


class TensorBoard(Probe):
    """Event files in the run folder, and in its ``validation/`` for the validation curves.

    Both use the same tags, so that TensorBoard draws training and validation on one chart:
    ``<metric>/by_step`` (training: means of ``log_every`` steps) and ``<metric>/by_epoch``
    (training: means of an evaluation period). Everything else is in the run folder's own file.

    Figures and tables of the validation split are drawn when ``figure_seconds`` have passed since
    the last, and at the end; those of the test split at the end.
    """

    def __init__(self, figure_seconds: float = 60.0) -> None:
        if figure_seconds < 0:
            raise ValueError(f"figure_seconds is not negative, got {figure_seconds}")
        self.figure_seconds = figure_seconds
        self._folder = Path()
        self._earlier: list[Path] = []
        self._files: dict[str, EventFile] = {}
        self._waiting: dict[str, tuple[int, Evaluation]] = {}
        self._last_drawn = 0.0
        self._step = 0

    def start(self, view: View) -> None:
        """Open the event files; a new run's begin with its config."""
        self._folder = view.path
        self._earlier = _event_files(self._folder)
        self._files = {"train": EventFile(self._folder)}
        if VALIDATION in view.splits:
            self._files[VALIDATION] = EventFile(self._folder / VALIDATION)
        self._last_drawn = time.monotonic()
        if not self._earlier:
            for file in self._files.values():
                file.begin(0)
            config = (self._folder / "config.yaml").read_text(encoding="utf-8")
            self._files["train"].text("config", 0, f"```yaml\n{config}\n```")
            self._files["train"].session_start(_hyper_parameters(yaml.safe_load(config)))

    def log(self, view: View, values: Mapping[str, float]) -> None:
        """Metrics under ``<name>/by_step``; learning rate, gradient norm, speed as they are."""
        self._step = view.progress.step
        scalars = {
            f"{name}/by_step" if name in view.latest else name: value
            for name, value in values.items()
        }
        scalars["samples_per_second"] = view.progress.samples_per_second
        self._files["train"].scalars(self._step, scalars)

    def logged(self, view: View, logged: Logged) -> None:
        file, step = self._files["train"], view.progress.step
        if logged.scalars:
            file.scalars(step, logged.scalars)
        for name, values in logged.histograms.items():
            file.histogram(name, step, values)
        for name, image in logged.images.items():
            file.image(name, step, image)
        for name, text in logged.texts.items():
            file.text(name, step, text)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Curves at once; figures and tables now and then."""
        step = self._step = view.progress.step
        if evaluation.figures or evaluation.tables or evaluation.texts:
            self._waiting[split] = (step, evaluation)
        scalars = evaluation.scalars
        if split == "test":
            self._files["train"].scalars(step, {f"test/{n}": v for n, v in scalars.items()})
            return
        file = self._files[split]
        # An epoch that was cut short counts as one, or its point would cover the last one's.
        epoch = -(-step // (view.progress.steps_per_epoch or 1))
        file.scalars(epoch, {f"{name}/by_epoch": value for name, value in scalars.items()})
        if split == VALIDATION:
            file.scalars(step, {f"{name}/by_step": v for name, v in scalars.items()})
            if time.monotonic() - self._last_drawn >= self.figure_seconds:
                self._show()

    def finish(self, task: Task, streams: Streams, view: View) -> None:
        """The last figures and tables, and the graph.

        It is traced on one example; a network that cannot be traced costs the graph, not the run.
        """
        self._show()
        split = "test" if "test" in streams else "train"
        batch = {name: column[:1] for name, column in next(iter(streams[split].plain())).items()}
        try:
            self._files["train"].graph(task, batch)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            note = f"TensorBoard shows no graph: tracing the task's forward gave {reason}"
            self._files["train"].text("graph", view.progress.step, note)
            logger.info(note)

    def end(self, view: View, status: str) -> None:
        if not self._files:
            return  # the run failed before it began
        self._files["train"].session_end(status)
        for file in self._files.values():
            file.close()

    def state_dict(self) -> dict[str, Any]:
        """How long each event file was, and the last step that is in one."""
        for file in self._files.values():
            file.flush()
        lengths = {
            path.relative_to(self._folder).as_posix(): path.stat().st_size
            for path in _event_files(self._folder)
        }
        return {"lengths": lengths, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forget the events since the checkpoint: they will be written again."""
        for path in self._earlier:
            length = state["lengths"].get(path.relative_to(self._folder).as_posix())
            if length is None:
                path.unlink()
            elif path.stat().st_size > length:
                with path.open("r+b") as file:
                    file.truncate(length)
        self._step = state["step"]
        # A TensorBoard that has read those events already drops its points by step on this.
        for events in self._files.values():
            events.begin(self._step + 1)

    def _show(self) -> None:
        """Draw the evaluations that nobody has seen yet."""
        if not self._waiting:
            return
        file = self._files["train"]
        for split, (step, evaluation) in self._waiting.items():
            for name, draw in evaluation.figures.items():
                image = rendered(f"{split}_{name}", draw)
                if image is not None:
                    file.image(f"{split}/figures/{name}", step, image)
            for name, table in evaluation.tables.items():
                if len(table.rows) > MOST_ROWS:
                    continue  # nobody reads it here; it is in the run folder
                file.text(f"{split}/tables/{name}", step, markdown(table))
            for name, text in evaluation.texts.items():
                file.text(f"{split}/texts/{name}", step, text)
        self._waiting.clear()
        self._last_drawn = time.monotonic()


def _event_files(folder: Path) -> list[Path]:
    """Those of a run, with those of its ``validation/``."""
    pattern = "events.out.tfevents.*"
    return [*folder.glob(pattern), *(folder / VALIDATION).glob(pattern)]


def _hyper_parameters(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """The settings that can change what is learned, flat: ``optimizer.lr``, ``model`` (its class).

    Lists become text; what is null is left out.
    """
    flat: dict[str, bool | float | str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in NOT_HYPER_PARAMETERS or value is None:
            continue
        if isinstance(value, Mapping):
            flat |= _hyper_parameters(value, f"{name}.")
        elif key == "_target_":
            flat[prefix.removesuffix(".")] = value.rpartition(".")[2]
        else:
            flat[name] = value if isinstance(value, bool | float | int | str) else str(value)
    return flat


def markdown(table: Table) -> str:
    """``table`` as TensorBoard's texts have it."""
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(value: str | int | float) -> str:
    shown = f"{value:.4f}" if isinstance(value, float) else str(value)
    return shown.replace("|", "\\|")
