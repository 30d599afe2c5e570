"""What the run says on the terminal and in train.log."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Literal

from rich.console import Console as RichConsole
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from dltrain.callbacks.notebook import NotebookBar, in_notebook
from dltrain.contracts.metric import Evaluation, Table
from dltrain.contracts.run import Callback, Progress, View
from dltrain.engine import clock, terminal
from dltrain.errors import printable_lines
from dltrain.files import open_within
from dltrain.messages import Messages

COLUMNS = 80
SECONDS_BETWEEN_LINES = 10.0
REFRESHES_PER_SECOND = 4


class Console(Callback):
    """A progress bar on a terminal or in a notebook, and lines, which ``train.log`` has too.

    ``layers`` is the table of the network, ``messages`` what everybody else has to say. The bar is
    drawn by a thread that reads the run's progress; a training step pays nothing for it.
    """

    def __init__(self, layers: Table, messages: Messages) -> None:
        self._layers, self._messages = layers, messages
        self._live: Live | None = None
        self._notebook: NotebookBar | None = None
        self._log_file: IO[str] | None = None
        # A notebook asks for colors as a terminal does (FORCE_COLOR), and is none.
        terminal = False if in_notebook() else None
        self._rich = RichConsole(highlight=False, force_jupyter=False, force_terminal=terminal)
        self._last_line = 0.0
        self._unread = False

    def start(self, view: View) -> None:
        self._log_file = open_within(view.path, "train.log", "a")
        for when, line in self._messages.show_by(self._say, self._write):
            self._write(line, when)
        self._say(f"Run {view.path}")
        counts = {name: view.splits.get(name, 0) for name in ("train", "validation", "test")}
        shown = ["any number of" if n is None else f"{n:,}" for n in counts.values()]
        self._say(f"{shown[0]} training, {shown[1]} validation, {shown[2]} test examples")
        self._say(f"{view.progress.max_steps:,} steps on {view.device} in {view.precision}")
        self._table(self._layers)
        if self._rich.is_terminal:
            self._live = Live(
                _Bar(view),
                console=self._rich,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start(refresh=True)
        elif in_notebook():
            self._notebook = NotebookBar(_Bar(view))
            self._notebook.start()

    def log(self, view: View, values: Mapping[str, float]) -> None:
        """A line now and then, where an epoch takes long and there is no bar."""
        if self._live is not None or self._notebook is not None:
            return
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            progress = view.progress
            rates = self._rates(view, progress.samples_per_second)
            where = f"epoch {progress.epoch + 1}  step {progress.step:,}/{progress.max_steps:,}"
            self._say(_in_columns([where, *self._shown(view, values), rates]))

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """One line an evaluation: the means of training, and the validation split."""
        if split != ("validation" if "validation" in view.splits else "train"):
            return
        train = view.results["train"]
        if split == "validation":
            found = evaluation.scalars
            # What both tell, and what the run is monitored by; a count such as tokens is no result.
            names = [name for name in found if name in train or name == view.monitor.name]
            train = {name: value for name, value in train.items() if name in found} or train
        parts = [_when(view.progress), *self._shown(view, train)]
        if split == "validation":
            means = self._shown(view, {name: found[name] for name in names})
            parts += [f"validation {means[0]}", *means[1:]] if means else []
        self._say(_in_columns(parts))

    def end(self, view: View, status: str) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._notebook is not None:
            self._notebook.stop()
            self._notebook = None
        if self._log_file is None:
            return  # the run failed before it began
        progress = view.progress
        if status == "finished":
            if view.stop_reason:
                self._say(f"Stopped early: {view.stop_reason}.")
            self._table(_results(view))
            train = view.seconds["train"]
            rate = progress.samples / train if train else 0.0
            self._say(f"Trained {train:,.1f} s at {self._rates(view, rate)}.")
        elif status == "interrupted":
            self._say(f"Interrupted after step {progress.step:,} of {progress.max_steps:,}.")
            self._say(f"Go on with: dltrain resume {shlex.quote(str(view.path))}")
        self._say(f"Run {view.path}")
        self._messages.show_by(None)
        self._log_file.close()

    def _shown(self, view: View, values: Mapping[str, float]) -> list[str]:
        """Means; what is a rate besides is shown as one."""
        means = {name: value for name, value in values.items() if name not in view.rates}
        return [f"{name} {_cell(value)}" for name, value in means.items()]

    def _rates(self, view: View, samples_per_second: float) -> str:
        rates = {"samples": samples_per_second, **view.rates}
        return ", ".join(f"{rate:,.0f} {unit}/s" for unit, rate in rates.items())

    def _say(self, line: str) -> None:
        """A line, here and in the log."""
        line = printable_lines(line)
        self._last_line = time.monotonic()
        if self._live is not None:
            self._live.console.print(line, markup=False, emoji=False)
        else:
            print(line, flush=True)
        self._write(line, time.time())
        if not self._unread and terminal.reader_has_left(sys.stdout):
            self._unread = True
            self._write("note: nobody reads standard output any more", time.time())

    def _write(self, line: str, when: float) -> None:
        line = printable_lines(line)
        assert self._log_file is not None
        self._log_file.write(f"{time.strftime('%H:%M:%S', time.localtime(when))} {line}\n")
        self._log_file.flush()

    def _table(self, table: Table) -> None:
        rich = RichTable(box=None, header_style="bold", pad_edge=False)
        for number, column in enumerate(table.columns):
            justify: Literal["left", "right"] = "left" if number == 0 else "right"
            rich.add_column(Text(printable_lines(column)), justify=justify, no_wrap=True)
        for row in table.rows:
            rich.add_row(*(Text(printable_lines(_cell(value))) for value in row))
        self._rich.print(rich)
        RichConsole(
            file=self._log_file, width=100, force_jupyter=False, force_terminal=False
        ).print(rich)


class _Bar:
    """Epoch, bar, step, the latest means, throughput and the time that is left."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._started = clock.seconds()
        self._first_step: int | None = None

    def __rich__(self) -> RichTable:
        view, progress = self._view, self._view.progress
        if self._first_step is None:
            self._first_step, self._started = progress.step, clock.seconds()
        done = progress.step - self._first_step
        elapsed = clock.seconds() - self._started
        left = elapsed / done * (progress.max_steps - progress.step) if done else None
        unit, rate = [("samples", progress.samples_per_second), *view.rates.items()][-1]
        row: list[Text | ProgressBar] = [
            Text(_epochs(progress)),
            ProgressBar(total=progress.max_steps, completed=progress.step),
            Text(f"{progress.step:,}/{progress.max_steps:,}"),
            *(Text(f"{name} {value:.4f}") for name, value in list(view.latest.items())[:2]),
            Text(f"{rate:,.0f} {unit}/s"),
            Text("" if left is None else f"{_clock(left)} left"),
        ]
        grid = RichTable.grid(padding=(0, 1), expand=True)
        for cell in row:
            grid.add_column(ratio=1 if isinstance(cell, ProgressBar) else None, no_wrap=True)
        grid.add_row(*row)
        return grid


def _when(progress: Progress) -> str:
    """The epoch that is over; the step where one has begun, or there are none."""
    each = progress.steps_per_epoch
    if each is not None and progress.step == progress.epoch * each:
        return f"epoch {progress.epoch}"
    return f"epoch {progress.epoch}  step {progress.step:,}"


def _in_columns(parts: Sequence[str]) -> str:
    """The parts in a line, or in several, indented, where one would be too long."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}  {part}"
        if len(longer) <= COLUMNS:
            lines[-1] = longer
        else:
            lines.append(f"  {part}")
    return "\n".join(lines)


def _epochs(progress: Progress) -> str:
    """Which epoch of how many; nothing where the data never ends."""
    if progress.steps_per_epoch is None:
        return ""
    epochs = -(-progress.max_steps // progress.steps_per_epoch)
    return f"epoch {min(progress.epoch + 1, epochs)}/{epochs}"


def _results(view: View) -> Table:
    splits = [split for split in ("validation", "test") if split in view.results]
    names = list(view.results[splits[-1]]) if splits else []
    rows = [(name, *(view.results[split].get(name, "") for split in splits)) for name in names]
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
