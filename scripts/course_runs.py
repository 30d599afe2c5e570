"""What the course's pages are drawn from: the runs of their commands, and the house's figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

mpl.use("Agg")
COLORS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c")
Rows = list[list[str]]


@dataclass(frozen=True)
class Shown:
    """What a page shows: its figure, and the rows of its tables by name."""

    figure: Figure
    tables: dict[str, Rows] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run's folder, and what its files say."""

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.path / "config.yaml").read_text())

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.path / "summary.json").read_text())

    def value(self, key: str) -> Any:
        """Of the config, by its dotted key."""
        found: Any = self.config
        for part in key.split("."):
            found = found[part]
        return found

    def test(self, metric: str = "accuracy") -> float:
        return self.summary["test"][metric]

    def validation(self, metric: str = "accuracy") -> float:
        return self.summary["validation"][metric]

    def curve(self, split: str, metric: str = "loss", by: str = "epoch") -> tuple[Any, Any]:
        """Epochs (or steps), and the values of a metric."""
        with (self.path / "metrics.csv").open(newline="") as file:
            rows = [r for r in csv.DictReader(file) if (r["split"], r["name"]) == (split, metric)]
        return [float(row[by]) for row in rows], [float(row["value"]) for row in rows]

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.path / "tables" / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))


def runs(outputs: Path) -> list[Run]:
    """All runs in a folder, in the order in which they were trained."""
    return [Run(file.parent) for file in sorted(_summaries(outputs), key=_when)]


def _summaries(outputs: Path) -> Iterator[Path]:
    return (
        file for file in outputs.rglob("summary.json") if (file.parent / "config.yaml").exists()
    )


def _when(file: Path) -> float:
    return (file.parent / "overrides.txt").stat().st_mtime


def panels(
    columns: int, width: float = 8.0, height: float = 3.0, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of axes side by side, with room for their labels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = [one for row in grid for one in row]
    for one in axes:
        one.tick_params(labelsize=8)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def lines(
    axes: Axes, curves: dict[str, tuple[Sequence[float], Sequence[float]]], **labels: str
) -> None:
    """Curves by name, with a legend; ``labels`` as ``Axes.set`` takes them."""
    for (name, (x, y)), color in zip(curves.items(), COLORS, strict=False):
        axes.plot(x, y, label=name, color=color, linewidth=1.6)
    axes.legend(fontsize=8, frameon=False)
    axes.set(**labels)
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.title.set_fontsize(10)


def image(axes: Axes, pixels: Any, title: str = "", **how: Any) -> None:
    """An image without axes."""
    axes.imshow(pixels, **{"cmap": "gray", "interpolation": "nearest", **how})
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def regions(axes: Axes, run: Run, low: tuple[float, float], high: tuple[float, float]) -> None:
    """How a run of two features and two classes divides the plane between two corners."""
    import numpy as np

    import dltrain

    x, y = np.meshgrid(*(np.linspace(a, b, 80) for a, b in zip(low, high, strict=True)))
    answers = dltrain.load(run.path).predict(np.stack([x.ravel(), y.ravel()], 1).tolist())
    said = np.array([name in ("1", "lower") for name in answers["class"]]).reshape(x.shape)
    axes.contourf(x, y, said, levels=[-0.5, 0.5, 1.5], colors=["#d0ebff", "#ffe8cc"])


def percent(value: float, places: int = 1) -> str:
    return f"{100 * value:.{places}f}"


def mean_and_std(values: Sequence[float], places: int = 1) -> str:
    """Per cent, over seeds."""
    import statistics

    return (
        f"{100 * statistics.mean(values):.{places}f} ± {100 * statistics.stdev(values):.{places}f}"
    )
