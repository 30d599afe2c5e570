"""``dltrain tune key=range …``: search for the values that give the best validation metric.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dltrain.commands.arguments import Parser
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.config.space import FORMS
from dltrain.errors import UserError
from dltrain.runs.names import problem_of

if TYPE_CHECKING:
    from dltrain.tuning.study import Order

TRIALS = 20


def tune(arguments: Sequence[str]) -> int:
    """Search, and say what was found; return the exit code.

    Raises :class:`UserError` where there is nothing to search, or nothing to choose by.
    """
    config_dir, rest = take_value(arguments, CONFIG_DIR)
    parser = _parser()
    asked = parser.parse(rest)
    overrides = parser.overrides(asked)
    if find_spec("optuna") is None:
        raise UserError("tune needs Optuna: pip install 'dltrain[tune]'.")
    from dltrain.config import compose as composition

    composition.use_folder(config_dir)
    order = _order(asked, overrides, config_dir)
    from dltrain.tuning.search import search

    code = search(order)
    if code > 1:
        print(
            f"Interrupted. Go on with: {shlex.join(['dltrain', 'tune', *arguments])}",
            file=sys.stderr,
        )
    return code


def _parser() -> Parser:
    parser = Parser(
        "tune",
        "Search for the values that give the best monitored validation metric. A key has one "
        f"value, as for training, or a range or choices: {FORMS}. A study that was interrupted or "
        "killed goes on where it was: type the same again.",
        [
            "model=mlp 'optimizer.lr=log(1e-4,1e-1)' --trials 40 --jobs 2",
            "data=iris model=logreg,mlp 'optimizer.lr=log(1e-3,1)' --jobs 2",
        ],
        more="KEY=VALUE …",
        run="",
    )
    add = parser.add_argument
    add("--trials", type=int, default=TRIALS, metavar="N", help=f"runs in all (default {TRIALS})")
    add("--jobs", type=int, default=1, metavar="N", help="processes at once (default 1)")
    add("--study", metavar="NAME", help="its name (default: that of the run, such as mlp-digits)")
    add("--seed", type=int, default=0, metavar="N", help="another seed, other values (default 0)")
    add("--storage", metavar="URL", help="a database, for machines that share no folder")
    add("--no-pruning", action="store_true", help="train each run to its end")
    add("--json", action="store_true", help="print the result as JSON")
    return parser


def _order(asked: argparse.Namespace, overrides: Sequence[str], config_dir: str | None) -> Order:
    from dltrain.config import compose as composition

    for option, value in (("--trials", asked.trials), ("--jobs", asked.jobs)):
        if value < 1:
            raise UserError(f"tune: {option} must be at least 1, got {value}.")
    if asked.seed < 0:
        raise UserError(f"tune: --seed must be at least 0, got {asked.seed}.")
    fixed, space = composition.separate(overrides)
    if not space:
        raise UserError(
            "tune: give a key a range or choices, such as 'optimizer.lr=log(1e-4,1e-1)'; "
            f"there are {FORMS}."
        )
    first = [f"{key}={dimension.ends[0]}" for key, dimension in space.items()]
    name = asked.study or composition.compose([*fixed, *first])["name"]
    if problem_of(name):
        raise UserError(f"tune: --study {problem_of(name)}.")
    from dltrain.tuning.study import Order

    return Order(
        name=name,
        folder=asked.output_dir / "studies" / name,
        output_dir=asked.output_dir,
        fixed=tuple(fixed),
        space=space,
        trials=asked.trials,
        jobs=asked.jobs,
        seed=asked.seed,
        prune=not asked.no_pruning,
        storage=asked.storage,
        config_dir=config_dir,
        json=asked.json,
    )
