"""``dltrain resume RUN``: go on with an interrupted run, or train a finished one for longer."""

from __future__ import annotations

from collections.abc import Sequence

from dltrain.commands.arguments import Parser
from dltrain.engine.signals import exit_code


def resume(arguments: Sequence[str]) -> int:
    """Train to the end, or to the next interruption; return the exit code.

    Raises :class:`UserError` where there is no such run, or nothing left to do.
    """
    parser = Parser(
        "resume",
        "Go on with an interrupted run: it ends as if nothing had happened. With trainer.epochs=N "
        "or trainer.steps=N, train a finished run to that length in all: a new run beside it, "
        "which begins where it ended. Then keys of schedule, of its callbacks and of when it "
        "evaluates can be given too.",
        [
            "latest",
            "latest trainer.epochs=20",
            "outputs/lenet5-digits/2026-01-31_12-00-00 --changed-data",
        ],
        more="[KEY=VALUE …]",
    )
    parser.add_argument(
        "--changed-data", action="store_true",
        help="go on although the data is not what the run began with",
    )  # fmt: skip
    asked = parser.parse(arguments)
    overrides = parser.overrides(asked)
    if overrides:
        from dltrain.prolong import prolong

        done = prolong(asked.run, asked.output_dir, overrides, asked.changed_data)
        return exit_code(done["signal"])
    from dltrain import training as run

    return exit_code(run.resume(asked.run, asked.output_dir, asked.changed_data)["signal"])
