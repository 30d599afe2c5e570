"""``dltrain lr-find``: the loss against the learning rate, and a rate to begin with.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.commands.arguments import Parser
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.config.punctuation import with_quotes
from dltrain.config.quoting import override
from dltrain.errors import UserError

if TYPE_CHECKING:
    from dltrain.tuning.range_test import RangeTest

LOW, HIGH, STEPS = 1e-7, 10.0, 150
STEEPEST = "steepest descent"


def lr_find(arguments: Sequence[str]) -> int:
    """Find, draw and say it; return the exit code.

    Raises :class:`UserError` for arguments and configs that make no test.
    """
    config_dir, rest = take_value(with_quotes(arguments), CONFIG_DIR)
    parser = _parser()
    asked = parser.parse(rest)
    overrides = parser.overrides(asked)
    if not 0 < asked.min < asked.max < math.inf:
        raise UserError(
            f"lr-find: --min and --max are 0 < min < max, got {asked.min}, {asked.max}."
        )
    if asked.steps < 20:
        raise UserError(f"lr-find: --steps must be at least 20, got {asked.steps}.")
    from dltrain.config import compose as composition

    composition.use_folder(config_dir)
    config = composition.compose(overrides)
    from dltrain.tuning.range_test import range_test

    keep = asked.output_dir if asked.keep else None
    found = range_test(config, asked.min, asked.max, asked.steps, keep)
    suggested = _suggested(found)
    out = Path(asked.out).expanduser() if asked.out else _figure_path(asked, config["name"])
    _draw(found, suggested, out)
    if not suggested:
        raise UserError(
            f"lr-find: the loss fell at no rate from {found.rates[0]:.1e} to "
            f"{found.rates[-1]:.1e}, so none can be suggested. Look at {out}."
        )
    word = override("optimizer.lr", float(f"{suggested[STEEPEST]:.2g}"))
    folder = [] if config_dir is None else ["--config-dir", config_dir]
    command = f"{shlex.join(['dltrain', *folder, *overrides])} {word}"
    if asked.json:
        told = {"suggested": suggested, "diverged": found.diverged, "figure": str(out),
                "rates": found.rates, "losses": found.losses, "command": command}  # fmt: skip
        print(json.dumps(told, indent=2))
        return 0
    _print(found, suggested, out)
    print(f"\n{command}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "lr-find",
        "Train a few steps with a learning rate that rises by the same factor each step, and see "
        "where the loss falls fastest and where it diverges (Smith 2017). The config's schedule "
        "and callbacks are left out; no run is kept.",
        ["model=lenet5 data=digits", "model=mlp data=iris optimizer=sgd --max 100 --steps 300"],
        more="KEY=VALUE …",
        run="",
    )
    add = parser.add_argument
    add("--min", type=float, default=LOW, metavar="RATE", help=f"the first (default {LOW:g})")
    add("--max", type=float, default=HIGH, metavar="RATE", help=f"the last (default {HIGH:g})")
    add("--steps", type=int, default=STEPS, metavar="N", help=f"how many (default {STEPS})")
    add("--out", metavar="FILE", help="where the figure goes, a .png (default: DIR/lr-find/…)")
    add("--keep", action="store_true", help="keep the run's folder")
    add("--json", action="store_true", help="print the result as JSON")
    return parser


def _suggested(found: RangeTest) -> dict[str, float]:
    """Rates to begin with, by where they come from; none where the loss never fell."""
    if found.steepest is None:
        return {}
    tenth = found.rates[found.least] / 10
    return {STEEPEST: found.rates[found.steepest], "a tenth of the minimum": tenth}


def _print(found: RangeTest, suggested: dict[str, float], out: Path) -> None:
    least, last = found.least, found.rates[-1]
    print(f"Loss {found.smoothed[0]:.4f} at {found.rates[0]:.1e}, at its least "
          f"{found.smoothed[least]:.4f} at {found.rates[least]:.1e}.")  # fmt: skip
    print(f"Diverged at {last:.1e}." if found.diverged else f"Did not diverge up to {last:.1e}.")
    for name, rate in suggested.items():
        print(f"  {name:<23} {rate:.2g}")
    print(f"Figure {out}")


def _figure_path(asked: argparse.Namespace, name: str) -> Path:
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    path: Path = asked.output_dir / "lr-find" / f"{name}_{stamp}.png"
    return path


def _draw(found: RangeTest, suggested: dict[str, Any], out: Path) -> None:
    from dltrain.reports.canvas import png
    from dltrain.reports.range_test import draw_range_test

    image = png(draw_range_test(found.rates, found.losses, found.smoothed, suggested))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(image)
    except OSError as error:
        raise UserError(f"lr-find: --out: {out} cannot be written: {error.strerror}.") from error
