"""``dltrain profile [key=value …]``: where a step's time and memory go.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.commands.arguments import Parser
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.config.punctuation import with_quotes
from dltrain.errors import ConfigError, UserError

if TYPE_CHECKING:
    from dltrain.contracts.metric import Table
    from dltrain.profiling import Profile

NAME_WIDTH = 30
"""Beside four columns of 12, within 80."""
OPERATIONS = 12


def profile(arguments: Sequence[str]) -> int:
    """Train a few steps, watched; print and write what they cost; return the exit code.

    Raises :class:`UserError` for what is wrong with the arguments or the config.
    """
    config_dir, rest = take_value(with_quotes(arguments), CONFIG_DIR)
    parser = Parser(
        "profile",
        "Where the time and the memory of a training step go: by part, by layer, by operation. "
        "A few steps are trained and forgotten: this leaves no run.",
        ["model=resnet18 data=cifar10", "experiment=lenet5_mnist data.batch_size=256 --steps 50"],
        more="[key=value …]",
        run="",
    )
    parser.add_argument("--steps", type=int, default=10, help="steps to measure (default 10)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them (default 3)")
    parser.add_argument("--config-dir", metavar="DIR", help="your own config files")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse(rest)
    for name, low in (("steps", 1), ("warmup", 0)):
        if getattr(asked, name) < low:
            got = getattr(asked, name)
            raise UserError(f"profile: --{name} must be at least {low}, got {got}.")
    overrides = parser.overrides(asked)

    # What torch's profiler tells of itself; read when torch is imported.
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from dltrain import mistakes
    from dltrain.config import compose as composition

    with composition.folder_used(config_dir):
        try:
            config = composition.compose(overrides)
            from dltrain.profiling import profiled

            folder = asked.output_dir / "profiles" / config["name"]
            folder /= time.strftime("%Y-%m-%d_%H-%M-%S")
            found = profiled(config, folder, asked.warmup, asked.steps)
        except ConfigError as error:
            raise UserError("\ndltrain: ".join(mistakes.told(error, overrides))) from None
    _write(found, folder)
    if asked.json:
        print(json.dumps(_plain(found, folder), indent=2))
    else:
        _print(found, folder)
    return 0


def _print(found: Profile, folder: Path) -> None:
    print(f"A step takes {found.milliseconds:.2f} ms on {found.device}; watched, by part:")
    _show(found.parts, len(found.parts.rows))
    print("\nLayers: forward, backward, memory that forward keeps for a step")
    _show(found.layers, len(found.layers.rows))
    print("\nOperations: own time a step, memory taken")
    _show(found.operations, OPERATIONS)
    print(f"\nAll of it: {folder}")
    print("trace.json opens in ui.perfetto.dev; TensorBoard shows the tables.")


def _show(table: Table, most: int) -> None:
    names = [_shortened(str(row[0])) for row in table.rows[:most]]
    wide = max(map(len, [table.columns[0], *names]), default=0)
    columns = table.columns[1:]
    print(f"  {table.columns[0]:<{wide}}" + "".join(f"  {name:>10}" for name in columns))
    for name, row in zip(names, table.rows, strict=False):
        cells = [
            f"{float(cell):,.3f}" if column.endswith("ms") else f"{float(cell):,.1f}"
            for column, cell in zip(columns, row[1:], strict=True)
        ]
        print(f"  {name:<{wide}}" + "".join(f"  {cell:>10}" for cell in cells))
    if len(table.rows) > most:
        print(f"  and {len(table.rows) - most} more")


def _shortened(name: str) -> str:
    """Of a long path the end tells more."""
    return name if len(name) <= NAME_WIDTH else f"…{name[1 - NAME_WIDTH :]}"


def _write(found: Profile, folder: Path) -> None:
    """Tables as csv files, and as texts for TensorBoard."""
    from dltrain.callbacks.events import EventFile
    from dltrain.callbacks.tensorboard import markdown
    from dltrain.profiling import tables

    events = EventFile(folder)
    for name, table in tables(found).items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])
        events.text(f"profile/{name}", 0, markdown(table))
    events.close()


def _plain(found: Profile, folder: Path) -> dict[str, Any]:
    from dltrain.profiling import tables

    rows = {
        name: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        for name, table in tables(found).items()
    }
    return {
        "device": found.device,
        "steps": found.steps,
        "milliseconds": found.milliseconds,
        "folder": str(folder),
        **rows,
    }
