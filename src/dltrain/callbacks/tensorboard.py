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
from dltrain.engine.runtime import cycles_freed
from dltrain.files import open_within, read_within
from dltrain.runs import durable

logger = logging.getLogger(__name__)

VALIDATION = "validation"
TRAINING = "training"
"""What is logged in training beside the metrics; in TensorBoard's order it comes after these."""
LEADING = {
    "model": "Model",
    "data": "Data",
    "optimizer": "Optimizer",
    "optimizer.lr": "Optimizer lr",
}
"""TensorBoard sorts settings by name, capitals first."""
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
    """An event file in the run folder: a run is one entry of TensorBoard's list.

    Scalars are ``<metric>/train`` (means of ``log_every`` steps, or of an evaluation period that is
    shorter), ``<metric>/validation`` and ``<metric>/test``, and ``training/…`` for learning rate,
    gradient norm and throughput. The page of custom scalars has training and validation of each
    metric in one chart.

    Figures and tables of the validation split are drawn when ``figure_seconds`` have passed since
    the last, and at the end; those of the test split at the end.
    """

    def __init__(self, figure_seconds: float = 60.0) -> None:
        if figure_seconds < 0:
            raise ValueError(f"figure_seconds is not negative, got {figure_seconds}")
        self.figure_seconds = figure_seconds
        self._folder = Path()
        self._earlier: list[Path] = []
        self._file: EventFile | None = None
        self._waiting: dict[str, tuple[int, Evaluation]] = {}
        self._last_drawn = 0.0
        self._step = self._logged = self._evaluated = 0
        self._laid_out = False

    @property
    def _events(self) -> EventFile:
        assert self._file is not None, "start comes first"
        return self._file

    def start(self, view: View) -> None:
        """Open the event file; a new run's begins with its config."""
        self._folder = view.path
        self._earlier = _event_files(self._folder)
        if not view.resumed:  # they are of a process that was killed before its first checkpoint
            for path in self._earlier:
                path.unlink()
            self._earlier = []
        self._file = EventFile(self._folder)
        self._last_drawn = time.monotonic()
        if not self._earlier:
            self._file.begin(0)
            config = read_within(self._folder, "config.yaml").decode()
            self._file.text("config", 0, f"```yaml\n{config}\n```")
            self._file.session_start(_hyper_parameters(yaml.safe_load(config)))

    def log(self, view: View, values: Mapping[str, float]) -> None:
        """Metrics under ``<name>/train``; learning rate, gradient norm, speed under training."""
        self._step = self._logged = view.progress.step
        scalars = {
            f"{name}/train" if name in view.latest else f"{TRAINING}/{name}": value
            for name, value in values.items()
        }
        scalars[f"{TRAINING}/samples_per_second"] = view.progress.samples_per_second
        self._events.scalars(self._step, scalars)

    def logged(self, view: View, logged: Logged) -> None:
        file, step = self._events, view.progress.step
        if logged.scalars:
            file.scalars(step, {f"{TRAINING}/{n}": v for n, v in logged.scalars.items()})
        for name, values in logged.histograms.items():
            file.histogram(name, step, values)
        for name, image in logged.images.items():
            file.image(name, step, image)
        for name, text in logged.texts.items():
            file.text(name, step, text)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Curves at once; figures and tables now and then."""
        step = self._step = view.progress.step
        if evaluation.figures or evaluation.tables or evaluation.texts or evaluation.scores:
            self._waiting[split] = (step, evaluation)
        if split != "train":
            named = {f"{name}/{split}": value for name, value in evaluation.scalars.items()}
            self._events.scalars(step, named)
        elif self._logged <= self._evaluated:
            # In so short a period nothing was logged: its mean is the curve's point.
            named = {f"{name}/train": value for name, value in evaluation.scalars.items()}
            self._events.scalars(step, named)
        if split == "train":
            self._evaluated = step
        if split == VALIDATION:
            self._lay_out(view.results["train"], evaluation.scalars)
            if time.monotonic() - self._last_drawn >= self.figure_seconds:
                self._show()

    def reevaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Figures and tables of the weights that the run is used with; no point of a curve."""
        self._waiting[split] = (view.progress.step, evaluation)

    def finish(self, task: Task, streams: Streams, view: View) -> None:
        """The last figures and tables, and the graph.

        It is traced on one example; a network that cannot be traced costs the graph, not the run.
        """
        self._show()
        split = "test" if "test" in streams else "train"
        batch = {name: column[:1] for name, column in streams[split].first().items()}
        try:
            with cycles_freed():
                self._events.graph(task, batch)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            note = f"TensorBoard shows no graph: tracing the task's forward gave {reason}"
            self._events.text("graph", view.progress.step, note)
            logger.info(note)

    def end(self, view: View, status: str) -> None:
        if self._file is None:
            return  # the run failed before it began
        self._file.session_end(status)
        self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """How long each event file was, and the last steps that are in one."""
        for path in _event_files(self._folder):
            if path not in self._earlier:
                durable.sync_file(path)
        durable.sync_folder(self._folder)
        lengths = {
            path.relative_to(self._folder).as_posix(): path.lstat().st_size
            for path in _event_files(self._folder)
        }
        return {
            "lengths": lengths,
            "step": self._step,
            "logged": self._logged,
            "evaluated": self._evaluated,
            "laid_out": self._laid_out,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forget the events since the checkpoint: they will be written again."""
        for path in self._earlier:
            name = path.relative_to(self._folder).as_posix()
            length = state["lengths"].get(name)
            if length is None:
                path.unlink()
            elif path.lstat().st_size < length:
                logger.warning(f"{path} is shorter than it was: TensorBoard misses a part of it.")
            elif path.lstat().st_size > length:
                with open_within(self._folder, name, "r+b") as file:
                    file.truncate(length)
        self._step = state["step"]
        # A run that an earlier version began has none of these.
        self._logged = state.get("logged", 0)
        self._evaluated = state.get("evaluated", 0)
        self._laid_out = state.get("laid_out", False)
        # A TensorBoard that has read those events already drops its points by step on this.
        self._events.begin(self._step + 1)

    def _lay_out(self, train: Mapping[str, float], validation: Mapping[str, float]) -> None:
        """Have the curves of training and validation on one chart, once."""
        shared = [name for name in validation if name in train]
        if not self._laid_out and shared:
            charts = {name: [f"{name}/train", f"{name}/{VALIDATION}"] for name in shared}
            self._events.layout(charts)
        self._laid_out = True

    def _show(self) -> None:
        """Draw the evaluations that nobody has seen yet."""
        if not self._waiting:
            return
        file = self._events
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
            for name, sound in evaluation.sounds.items():
                file.sound(f"{split}/sounds/{name}", step, sound)
            for name, scores in evaluation.scores.items():
                file.precision_recall(f"{split}/{name}", step, scores())
        self._waiting.clear()
        self._last_drawn = time.monotonic()


def _event_files(folder: Path) -> list[Path]:
    """Those of a run, with those of a ``validation/`` that earlier versions wrote."""
    pattern = "events.out.tfevents.*"
    return [*folder.glob(pattern), *(folder / VALIDATION).glob(pattern)]


def _hyper_parameters(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """The settings that can change what is learned, flat: ``model.hidden``, ``schedule`` (a class).

    Those in ``LEADING`` have names of their own. Lists become text; what is null is left out.
    """
    flat: dict[str, bool | float | str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in NOT_HYPER_PARAMETERS or value is None:
            continue
        if isinstance(value, Mapping):
            flat |= _hyper_parameters(value, f"{name}.")
        elif key == "_target_":
            name = prefix.removesuffix(".")
            flat[LEADING.get(name, name)] = value.rpartition(".")[2]
        else:
            flat[LEADING.get(name, name)] = (
                value if isinstance(value, bool | float | int | str) else str(value)
            )
    return flat


def markdown(table: Table) -> str:
    """``table`` as TensorBoard's texts have it."""
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(value: str | int | float) -> str:
    shown = f"{value:.4f}" if isinstance(value, float) else str(value)
    return shown.replace("|", "\\|")
