"""What the run says on the terminal and in train.log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console as RichConsole
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from dltrain.summary import summarise
from dltrain.trainer import Trainer
from dltrain.types import Callback, Evaluation, Table

SECONDS_BETWEEN_LINES = 10.0
REFRESHES_PER_SECOND = 4


class Console(Callback):
    """A progress bar on a terminal, plain lines elsewhere, and the same lines in ``train.log``.

    The bar is drawn by a thread that reads the trainer; a training step pays nothing for it.
    """

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}
        """For other callbacks: how many of a unit are read in a second; no mean is shown."""
        self._live: Live | None = None
        self._log_file: TextIO | None = None
        self._rich = RichConsole(highlight=False)
        self._last_line = 0.0

    def start(self, trainer: Trainer) -> None:
        """The folder, the device, the network; then the bar."""
        path = trainer.folder.path
        self._log_file = (path / "train.log").open("a", encoding="utf-8")
        self.say(f"Run {path}")
        examples = trainer.loaders.train.examples
        validation, test = trainer.loaders.validation, trainer.loaders.test
        self.say(
            f"{examples:,} training, {validation.examples if validation else 0:,} validation, "
            f"{test.examples:,} test examples"
        )
        self.say(f"{trainer.max_steps:,} steps on {trainer.device} in {trainer.precision}")
        self._table(summarise(trainer.task, next(iter(trainer.loaders.train))))
        if self._rich.is_terminal:
            self._live = Live(
                _Bar(trainer, self.rates),
                console=self._rich,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start(refresh=True)

    def log(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """A line now and then, where an epoch takes long and there is no bar."""
        if self._live is None and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self.say(
                f"epoch {trainer.epoch + 1}  step {trainer.step:,}/{trainer.max_steps:,}  "
                f"{self._shown(values)}  {self._rates(trainer.samples_per_second)}"
            )

    def note(self, trainer: Trainer, text: str) -> None:
        """A line."""
        self.say(text)

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """One line an evaluation, and its warnings."""
        for warning in evaluation.warnings:
            self.say(f"warning: {warning}")
        last = "validation" if trainer.loaders.validation is not None else "train"
        if split != last:
            return
        train = trainer.results["train"]
        line = f"epoch {trainer.epoch}  step {trainer.step:,}  train {self._shown(train)}"
        if split == "validation":
            line += f"  validation {self._shown({n: evaluation.scalars[n] for n in train})}"
        self.say(line)

    def end(self, trainer: Trainer, status: str) -> None:
        """The final table, and the folder again."""
        if self._live is not None:
            self._live.stop()
        if self._log_file is None:
            return  # the run failed before it began
        path = trainer.folder.path
        if status == "finished":
            if trainer.stop_reason:
                self.say(f"Stopped early: {trainer.stop_reason}.")
            self._table(_results(trainer))
            train = trainer.seconds["train"]
            rate = trainer.samples / train if train else 0.0
            self.say(f"Trained {train:,.1f} s at {self._rates(rate)}.")
        elif status == "interrupted":
            self.say(f"Interrupted after step {trainer.step:,} of {trainer.max_steps:,}.")
            self.say(f"Go on with: dltrain resume {path}")
        self.say(f"Run {path}")
        self._log_file.close()

    def _shown(self, values: Mapping[str, float]) -> str:
        means = {name: value for name, value in values.items() if name not in self.rates}
        return "  ".join(f"{name} {_cell(value)}" for name, value in means.items())

    def _rates(self, samples_per_second: float) -> str:
        rates = {"samples": samples_per_second, **self.rates}
        return ", ".join(f"{rate:,.0f} {unit}/s" for unit, rate in rates.items())

    def say(self, line: str) -> None:
        """A line, here and in the log; other callbacks may have some too."""
        self._last_line = time.monotonic()
        if self._live is not None:
            self._live.console.print(line, markup=False)
        else:
            print(line, flush=True)
        assert self._log_file is not None
        self._log_file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        self._log_file.flush()

    def _table(self, table: Table) -> None:
        rich = RichTable(box=None, header_style="bold", pad_edge=False)
        for number, column in enumerate(table.columns):
            rich.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
        for row in table.rows:
            rich.add_row(*(_cell(value) for value in row))
        self._rich.print(rich)
        RichConsole(file=self._log_file, width=100).print(rich)


class _Bar:
    """Epoch, bar, step, the latest means, throughput and the time that is left."""

    def __init__(self, trainer: Trainer, rates: Mapping[str, float]) -> None:
        self._trainer, self._rates = trainer, rates
        self._started = time.monotonic()
        self._first_step: int | None = None

    def __rich__(self) -> RichTable:
        trainer = self._trainer
        if self._first_step is None:
            self._first_step, self._started = trainer.step, time.monotonic()
        done = trainer.step - self._first_step
        elapsed = time.monotonic() - self._started
        left = elapsed / done * (trainer.max_steps - trainer.step) if done else None
        epochs = -(-trainer.max_steps // len(trainer.loaders.train))
        unit, rate = [("samples", trainer.samples_per_second), *self._rates.items()][-1]
        row: list[Text | ProgressBar] = [
            Text(f"epoch {min(trainer.epoch + 1, epochs)}/{epochs}"),
            ProgressBar(total=trainer.max_steps, completed=trainer.step),
            Text(f"{trainer.step:,}/{trainer.max_steps:,}"),
            *(Text(f"{name} {value:.4f}") for name, value in list(trainer.latest.items())[:2]),
            Text(f"{rate:,.0f} {unit}/s"),
            Text("" if left is None else f"{_clock(left)} left"),
        ]
        grid = RichTable.grid(padding=(0, 1), expand=True)
        for cell in row:
            grid.add_column(ratio=1 if isinstance(cell, ProgressBar) else None, no_wrap=True)
        grid.add_row(*row)
        return grid


def _results(trainer: Trainer) -> Table:
    splits = [split for split in ("validation", "test") if split in trainer.results]
    names = list(trainer.results["test"])
    rows = [(name, *(trainer.results[split].get(name, "") for split in splits)) for name in names]
    return Table(("", *splits), rows)


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
