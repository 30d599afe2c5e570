"""A run in Weights & Biases."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from dltrain.callbacks.tracking import Tracker
from dltrain.contracts.metric import Table
from dltrain.contracts.run import View


class WeightsAndBiases(Tracker):
    """Scalars, histograms, images, tables, texts; ``offline`` they lie in the run folder.

    ``mode`` None: as the environment variable ``WANDB_MODE`` says, which is else ``online``. Of a
    run that was resumed, ``wandb sync`` joins the parts.
    """

    library = "wandb"

    def __init__(
        self,
        project: str = "dltrain",
        mode: Literal["online", "offline"] | None = None,
    ) -> None:
        super().__init__()
        self.project, self.mode = project, mode

    def open(self, view: View, known: str | None, config: Mapping[str, Any]) -> str:
        import wandb

        self._run = wandb.init(
            project=self.project,
            name="/".join(view.path.parts[-2:]),
            dir=view.path,
            config=dict(config),
            mode=self.mode,
            id=known,
            resume="allow" if known else None,
            # What the run prints is in train.log; the process keeps its streams and its git alone.
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
        return str(self._run.id)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def image(self, name: str, step: int, png: bytes) -> None:
        import wandb
        from PIL import Image

        self._run.log({name: wandb.Image(Image.open(io.BytesIO(png)))}, step=step)

    def table(self, name: str, step: int, table: Table) -> None:
        import wandb

        # A column has one type there, and a row of sums has an empty cell.
        rows = [[str(cell) for cell in row] for row in table.rows]
        self._run.log({name: wandb.Table(columns=list(table.columns), data=rows)}, step=step)

    def text(self, name: str, step: int, markdown: str) -> None:
        import wandb

        self._run.log({name: wandb.Html(f"<pre>{html.escape(markdown)}</pre>")}, step=step)

    def histogram(self, name: str, step: int, values: Tensor) -> None:
        import wandb

        found = wandb.Histogram(values.detach().float().cpu().flatten().numpy())
        self._run.log({name: found}, step=step)

    def close(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)
