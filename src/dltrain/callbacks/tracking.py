"""What experiment trackers have in common: one run there for each run folder, and what is sent."""

from __future__ import annotations

import importlib.util
import json
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import yaml
from torch import Tensor

from dltrain.callbacks.drawing import rendered
from dltrain.contracts.metric import Evaluation, Table
from dltrain.contracts.run import Callback, Logged, Setup, View
from dltrain.errors import UserError
from dltrain.files import read_within

MOST_ROWS = 10_000
"""Of a table that is sent; longer ones, such as those of single examples, lie in the run folder."""
ID = re.compile(r"[A-Za-z0-9]{1,64}")


class Tracker(Callback):
    """Sends a run to a tracker: scalars at once, the last figures and tables at its end.

    Scalars are called ``steps/loss``, ``train/loss``, ``validation/loss``, ``test/loss``. The run's
    id there is kept in the run folder, in ``<library>.json``, so that a resumed run goes on in it.
    """

    library: str
    """What is imported, and the extra of dltrain that brings it."""

    def __init__(self) -> None:
        self._last: dict[str, Evaluation] = {}
        self._begun = False

    def check(self, setup: Setup) -> None:
        if importlib.util.find_spec(self.library) is None:
            name = self.library
            raise UserError(
                f"callbacks.{name}: {name} is not installed: pip install 'dltrain[{name}]'"
            )

    def start(self, view: View) -> None:
        """Begin a run there, or go on with the one that this run folder has."""
        file = view.path / f"{self.library}.json"
        known = json.loads(read_within(view.path, file.name))["id"] if file.exists() else None
        if known is not None and not (isinstance(known, str) and ID.fullmatch(known)):
            raise UserError(f"{file}: {known!r} is not the id of a run.")
        config = yaml.safe_load(read_within(view.path, "config.yaml"))
        run = self.open(view, known, config)
        self._begun = True
        view.write(file.name, json.dumps({"id": run}) + "\n")

    def log(self, view: View, values: Mapping[str, float]) -> None:
        rate = {"samples_per_second": view.progress.samples_per_second}
        self._send(view, {f"steps/{n}": value for n, value in {**values, **rate}.items()})

    def logged(self, view: View, logged: Logged) -> None:
        step = view.progress.step
        if logged.scalars:
            self._send(view, logged.scalars)
        for name, values in logged.histograms.items():
            self.histogram(name, step, values)
        for name, png in logged.images.items():
            self.image(name, step, png)
        for name, text in logged.texts.items():
            self.text(name, step, text)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        self._last[split] = evaluation
        self._send(view, {f"{split}/{name}": v for name, v in evaluation.scalars.items()})

    def end(self, view: View, status: str) -> None:
        if not self._begun:
            return  # the run failed before it began
        step = view.progress.step
        for split, evaluation in self._last.items() if status != "failed" else ():
            for name, draw in evaluation.figures.items():
                png = rendered(f"{split}_{name}", draw)
                if png is not None:
                    self.image(f"{split}/figures/{name}", step, png)
            for name, table in evaluation.tables.items():
                if len(table.rows) > MOST_ROWS:
                    continue  # it is in the run folder
                self.table(f"{split}/tables/{name}", step, table)
            for name, text in evaluation.texts.items():
                self.text(f"{split}/texts/{name}", step, text)
        self.close(status)

    def _send(self, view: View, values: Mapping[str, float]) -> None:
        self.scalars(view.progress.step, {name: float(value) for name, value in values.items()})

    @abstractmethod
    def open(self, view: View, known: str | None, config: Mapping[str, Any]) -> str:
        """Begin the run ``known``, or a new one (None); return its id."""

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name; some may not be finite."""

    @abstractmethod
    def image(self, name: str, step: int, png: bytes) -> None:
        """A PNG file."""

    @abstractmethod
    def table(self, name: str, step: int, table: Table) -> None:
        """A table."""

    @abstractmethod
    def text(self, name: str, step: int, markdown: str) -> None:
        """Markdown."""

    def histogram(self, name: str, step: int, values: Tensor) -> None:
        """Finite values of any shape; left out where a tracker has no histograms."""

    @abstractmethod
    def close(self, status: str) -> None:
        """The run is ``finished``, ``interrupted`` or ``failed``."""
