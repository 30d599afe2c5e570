"""The command line: which command was meant, and what its exit code says.

0: done. 1: a bug of ours, with its traceback. 2: a mistake that the user can mend. 130 and 143:
interrupted by Ctrl-C or SIGTERM. Nothing here imports torch until a run begins.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dltrain import mistakes
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.commands.table import COMMANDS, unknown
from dltrain.config.punctuation import with_quotes
from dltrain.config.quoting import in_grammar, override
from dltrain.config.suggest import did_you_mean
from dltrain.config.working_folder import importable
from dltrain.engine import runtime, terminal
from dltrain.engine.signals import exit_code
from dltrain.errors import (
    NO_HOME,
    ConfigError,
    Diverged,
    Interrupted,
    UserError,
    is_without_home,
)

if TYPE_CHECKING:
    from dltrain.config.compose import Job

# Hydra's own options that take a value, so that the value is not taken for an override.
WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-name", "-cn", "--info", "-i"}
WITH_VALUE |= {"--config-path", "-cp", "--experimental-rerun"}
# Those that answer a question instead of training; of these, the latter need no whole command.
COMPLETION = {"--shell-completion", "-sc"}
QUERIES = {"--cfg", "-c", "--info", "-i", "--hydra-help", *COMPLETION}
UNFINISHED = {"--hydra-help"}
MULTIRUN = {"--multirun", "-m"}
# All that may be typed: Hydra's options.
OPTIONS = WITH_VALUE | QUERIES | MULTIRUN | {"--resolve", "--run", "-r", "--version"}
OPTIONS |= {"--help", "-h", *CONFIG_DIR}  # which are ours to answer


def main() -> None:
    """Run the command that was typed, and exit."""
    terminal.make_writable()
    runtime.wait_asleep()
    try:
        code = dispatch(sys.argv[1:])
    except UserError as error:
        _complain(error)
        code = 2
    except RuntimeError as error:
        if not is_without_home(error):
            raise
        print(f"dltrain: {NO_HOME}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt as error:
        print(error if isinstance(error, Interrupted) else "Interrupted.", file=sys.stderr)
        code = exit_code(signal.SIGINT)
    sys.exit(code)


def dispatch(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    first = arguments[0] if arguments else ""
    if first in ("--version", "-V"):
        from dltrain import __version__

        print(f"dltrain {__version__}")
        return 0
    command = not (not first or first.startswith(("-", "+", "~")) or "=" in first)
    if command and first not in COMMANDS:
        raise unknown(first)
    # A user's own models and data sources are found where the command is typed.
    with importable(Path.cwd()):
        return COMMANDS[first](arguments[1:]) if command else train(arguments)


def train(arguments: Sequence[str]) -> int:
    """``dltrain [train] key=value …``: train a new run, or several with ``-m``."""
    with runtime.no_collection():
        return _train(arguments)


def _train(arguments: Sequence[str]) -> int:
    if {"--help", "-h"} & set(arguments):
        return COMMANDS["help"](list(_asked_about(arguments)))
    config_dir, arguments = take_value(with_quotes(arguments), CONFIG_DIR)
    options, overrides = _separate(arguments)
    if COMPLETION & options:
        return COMMANDS["completion"](overrides)
    from dltrain.config import compose as composition

    composition.use_folder(config_dir)
    if UNFINISHED & options:
        composition.launch(arguments, lambda job: None)
        return 0
    multirun = bool(MULTIRUN & options)
    try:
        composed = composition.check(overrides, multirun)
    except ConfigError as error:
        _complain(mistakes.with_the_rest(error, overrides), overrides)
        return 2
    if QUERIES & options:
        composition.launch(arguments, lambda job: None)
        return 0
    if multirun:
        return _train_several(arguments, Path(composed["output_dir"]))
    return _train_one(arguments)


def _train_one(arguments: Sequence[str]) -> int:
    from dltrain.config import compose as composition

    codes = []

    def work(job: Job) -> float | None:
        from dltrain.runs.monitor import monitored
        from dltrain.training import train as train_run

        runtime.collect_again()
        try:
            summary = train_run(job.config, job.overrides)
            codes.append(exit_code(summary["signal"]))
            return monitored(summary)
        except UserError as error:
            _complain(mistakes.with_what_fits(error, job.overrides), job.overrides)
            codes.append(2)
        except Interrupted:
            raise
        except KeyboardInterrupt:
            print("Interrupted before the run began.", file=sys.stderr)
            codes.append(exit_code(signal.SIGINT))
        return None

    composition.launch(arguments, work)
    return codes[0]


def _train_several(arguments: Sequence[str], output_dir: Path) -> int:
    from dltrain.config import compose as composition
    from dltrain.runs import sweep

    folder, here, process = sweep.create(output_dir), Path.cwd(), os.getpid()
    own = composition.UserFolder.path
    config_dir = None if own is None else str(own)

    def work(job: Job) -> float | None:
        """One run; a launcher such as joblib's calls this in processes of its own."""
        with importable(here), composition.folder_used(config_dir):
            done = _train_one_of_several(job)
        sweep.add(folder, job.overrides, done.summary, done.code, done.failure)
        if done.code in (130, 143) and os.getpid() == process:
            raise SystemExit(done.code)
        if done.summary is None:
            return None
        from dltrain.runs.monitor import monitored

        value = monitored(done.summary)
        if value is None and job.needs_value:
            raise SystemExit(_without_value(done.summary))
        return value

    try:
        composition.launch([*arguments, f"hydra.sweep.dir={in_grammar(str(folder))}"], work)
    finally:
        sweep.report(folder)
    return next((code for code in sweep.codes(folder) if code), 0)


class Done(NamedTuple):
    """What came of one run of several."""

    code: int
    summary: dict[str, Any] | None = None
    failure: str = "failed"
    """The status of one without a summary."""


def _train_one_of_several(job: Job) -> Done:
    from dltrain.training import train as train_run

    runtime.collect_again()
    print(f"\n[{job.number}] {shlex.join(job.overrides)}", flush=True)
    try:
        summary = train_run(job.config, job.overrides)
        return Done(exit_code(summary["signal"]), summary)
    except UserError as error:
        _complain(error, job.overrides)
        return Done(2, failure="diverged" if isinstance(error, Diverged) else "failed")
    except KeyboardInterrupt:
        return Done(exit_code(signal.SIGINT))
    except Exception:
        # One bug does not take the other runs with it; its traceback is shown at once.
        traceback.print_exc()
        return Done(1)


def _without_value(summary: Mapping[str, Any]) -> int:
    """Say why a run has nothing for a sweeper to choose by; return the exit code."""
    why = (
        f"the run's {summary['monitor']} is no number"
        if summary["validation"]
        else "there is no validation split to choose by; set data.validation above 0"
    )
    _complain(UserError(f"hydra/sweeper: {why}."))
    return 2


def _complain(error: UserError, overrides: Sequence[str] = ()) -> None:
    """Tell the user, on stderr, what is wrong and in which file it is defined."""
    for line in mistakes.told(error, overrides):
        print(f"dltrain: {line}", file=sys.stderr)


def _asked_about(arguments: Sequence[str]) -> Iterator[str]:
    """What ``--help`` is asked about: all but Hydra's options; the user's folder has a say."""
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            next(rest, None)
        elif argument in CONFIG_DIR:
            yield from (argument, next(rest, ""))
        elif not argument.startswith("-") or argument.partition("=")[0] in CONFIG_DIR:
            yield argument


def _separate(arguments: Sequence[str]) -> tuple[set[str], list[str]]:
    """The names of the options, and the overrides."""
    options: set[str] = set()
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            options.add(argument)
            next(rest, None)
        elif argument.startswith("-"):
            name = argument.partition("=")[0]
            if name not in OPTIONS:
                hint = did_you_mean(name, OPTIONS) or "See dltrain --help."
                raise UserError(f"{name}: there is no such option. {hint}")
            options.add(name)
        elif "=" not in argument and not argument.startswith("~"):
            hint = did_you_mean(argument, COMMANDS)
            if not hint and overrides:
                key, _, value = overrides[-1].partition("=")
                hint = f"A value with a blank is quoted: {override(key, f'{value} {argument}')}"
            raise UserError(f"{argument}: not a key=value. {hint}".rstrip())
        else:
            overrides.append(argument)
    return options, overrides
