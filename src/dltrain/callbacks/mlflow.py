"""A run in MLflow."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dltrain.callbacks.tracking import Tracker
from dltrain.contracts.metric import Table
from dltrain.contracts.run import View
from dltrain.errors import UserError

LONGEST = 500
"""Characters of a parameter that every store takes."""
STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(Tracker):
    """Metrics, the config's keys as parameters, images, tables and texts as artifacts.

    Where to is MLflow's to say: the environment variable ``MLFLOW_TRACKING_URI``, else its own
    default in the working folder. MLflow has no histograms: they are left out.
    """

    library = "mlflow"

    def __init__(self, experiment: str = "dltrain") -> None:
        super().__init__()
        self.experiment = experiment
        self._there: dict[str, int] = {}

    def open(self, view: View, known: str | None, config: Mapping[str, Any]) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return self._open(view, known, config)
        except (MlflowException, ImportError) as error:
            said = str(error).strip().partition("\n")[0]
            hint = (
                "MLFLOW_TRACKING_URI names a server; a store on this machine needs all of mlflow."
            )
            raise UserError(f"callbacks.mlflow: {said} {hint}") from error

    def _open(self, view: View, known: str | None, config: Mapping[str, Any]) -> str:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = client = MlflowClient()
        if known is not None:
            self._id = known
            client.update_run(known, status="RUNNING")
            # An exact resume makes the same values again: those that are there stay alone.
            for key in client.get_run(known).data.metrics:
                self._there[key] = max(m.step for m in client.get_metric_history(known, key))
            return known
        found = client.get_experiment_by_name(self.experiment)
        where = client.create_experiment(self.experiment) if found is None else found.experiment_id
        name = "/".join(view.path.parts[-2:])
        self._id = client.create_run(where, run_name=name).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in _flat(config)]
        for first in range(0, len(params), 100):
            client.log_batch(self._id, params=params[first : first + 100])
        return str(self._id)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [
            Metric(name, value, now, step)
            for name, value in values.items()
            if step > self._there.get(name, -1)
        ]
        self._client.log_batch(self._id, metrics=new)

    def image(self, name: str, step: int, png: bytes) -> None:
        from PIL import Image

        self._client.log_image(self._id, Image.open(io.BytesIO(png)), f"{name}.png")

    def table(self, name: str, step: int, table: Table) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([table.columns, *table.rows])
        self._client.log_text(self._id, text.getvalue(), f"{name}.csv")

    def text(self, name: str, step: int, markdown: str) -> None:
        self._client.log_text(self._id, markdown, f"{name}.md")

    def close(self, status: str) -> None:
        self._client.set_terminated(self._id, STATUS[status])


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
