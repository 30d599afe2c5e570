"""``dltrain resume RUN``: go on with what was interrupted, or train a finished run for longer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dltrain.commands.arguments import Parser
from dltrain.engine.parallel import environment
from dltrain.engine.signals import exit_code, number_of
from dltrain.errors import Diverged, UserError
from dltrain.runs import sweep
from dltrain.runs.finding import find_run
from dltrain.runs.folder import INTERRUPTED


def resume(arguments: Sequence[str]) -> int:
    """Train to the end, or to the next interruption; return the exit code.

    Raises :class:`UserError` where there is no such run, or nothing left to do.
    """
    parser = _parser()
    asked = parser.parse(arguments)
    overrides = parser.overrides(asked)
    several = _sweep(asked.run, asked.output_dir)
    if environment.world_size() > 1 and (several is not None or overrides):
        what = "keys to go on for longer" if overrides else "sweeps"
        raise UserError(f"resume: {what} are for one process; torchrun goes on with one run as is.")
    if several is not None:
        from dltrain.commands.several import go_on

        return go_on(several, overrides, asked.changed_data)
    if overrides:
        from dltrain.prolong import prolong

        done = prolong(asked.run, asked.output_dir, overrides, asked.changed_data)
        return exit_code(done["signal"])
    return exit_code(_resume(asked)["signal"])


def _parser() -> Parser:
    parser = Parser(
        "resume",
        "Go on with an interrupted run: it ends as if nothing had happened. With trainer.epochs=N "
        "or trainer.steps=N, train a finished run to that length in all: a new run beside it, "
        "which begins where it ended. Then keys of schedule, of its callbacks and of when it "
        "evaluates can be given too. Of a sweep (-m), train what is missing; hydra/launcher=… "
        "trains several runs at once.",
        [
            "latest",
            "latest trainer.epochs=20",
            "outputs/lenet5-digits/2026-01-31_12-00-00 --changed-data",
            "outputs/sweeps/2026-01-31_12-00-00",
        ],
        more="[KEY=VALUE …]",
    )
    parser.add_argument(
        "--changed-data", action="store_true",
        help="go on although the data is not what the run began with",
    )  # fmt: skip
    return parser


def _sweep(word: str, output_dir: Path) -> sweep.Sweep | None:
    """The sweep that is meant; None where it is a run, which may have begun in the same second."""
    named = sweep.SWEEPS in Path(word).parts
    if not named and any(word in str(path.parent) for path in output_dir.glob("*/*/config.yaml")):
        return None
    return sweep.find(word, output_dir)


def _resume(asked: argparse.Namespace) -> Mapping[str, Any]:
    """Go on with one run; if it is one of a sweep, its result joins the others."""
    from dltrain import training

    path = find_run(asked.run, asked.output_dir).path
    found = sweep.with_run(path) if environment.rank() == 0 else None
    if found is None:
        return training.resume(str(path), asked.output_dir, asked.changed_data)
    several, number = found
    try:
        summary = training.resume(str(path), asked.output_dir, asked.changed_data)
    except Diverged:
        several.end(number, None, 2, sweep.DIVERGED)
        raise
    except UserError as error:
        raise UserError(f"{error}{_rest(several)}") from error
    except KeyboardInterrupt as error:
        several.end(number, None, exit_code(number_of(error)), INTERRUPTED)
        raise
    several.end(number, summary, exit_code(summary["signal"]))
    print(f"note: joined {several.path / sweep.RESULTS}.{_rest(several)}", file=sys.stderr)
    return summary


def _rest(several: sweep.Sweep) -> str:
    """What is left of a sweep, to be told behind something else; empty where nothing is."""
    left = sweep.left_of(several)
    return f" Of its sweep, {left}" if left else ""
