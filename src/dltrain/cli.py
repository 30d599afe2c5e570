"""The command line: which command was meant, and what its exit code says.

0: done. 1: a bug of ours, with its traceback. 2: a mistake that the user can mend. Above 128:
interrupted by the signal of that number, such as 130 by Ctrl-C and 143 by SIGTERM. Nothing here
imports torch until a run begins.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dltrain import mistakes
from dltrain.commands.config_dir import CONFIG_DIR, take_value
from dltrain.commands.table import COMMANDS, unknown
from dltrain.config.punctuation import with_quotes
from dltrain.config.quoting import override
from dltrain.config.suggest import did_you_mean
from dltrain.config.working_folder import importable
from dltrain.engine import clock, runtime, signals, terminal
from dltrain.engine.parallel import environment
from dltrain.engine.signals import exit_code
from dltrain.errors import (
    NO_HOME,
    ConfigError,
    Interrupted,
    UserError,
    as_refused,
    is_without_home,
    printable_lines,
)
from dltrain.mistakes import complain

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
# Commands whose results are in folders, whoever reads what they print.
FEDERATE_EXAMPLES = """
examples:
  dltrain federate model=cnn data=mnist federated.clients=100
  dltrain federate data=digits federated=fedprox federated.clients=10"""
TRAINING = {"train", "federate", "resume", "tune"}
TOGETHER = TRAINING - {"tune"}
"""Those that several processes do together."""


def main() -> None:
    """Run the command that was typed, and exit."""
    terminal.make_writable()
    runtime.wait_asleep()
    runtime.hear_of_threads_once()
    with clock.running(), signals.raised():
        try:
            code = _run(sys.argv[1:])
        except KeyboardInterrupt as error:
            told = printable_lines(str(error)) or signals.said(signal.SIGINT)
            if environment.speaks():
                print(told, file=sys.stderr)
            code = exit_code(signals.number_of(error))
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code, whatever it raises but for signals and bugs."""
    try:
        code = dispatch(arguments)
        answers = bool(arguments) and arguments[0] in COMMANDS.keys() - TRAINING
        # What a run says is in its folder, too; an answer that was cut off is none.
        return 2 if answers and not code and terminal.is_cut(sys.stdout) else code
    except UserError as error:
        complain(error)
    except OSError as error:
        refused = as_refused(error)
        if refused is None:
            raise
        complain(refused)
    except RuntimeError as error:
        if not is_without_home(error):
            raise
        print(f"dltrain: {NO_HOME}", file=sys.stderr)
    return 2


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
    if environment.world_size() > 1 and command and first not in TOGETHER:
        raise UserError(
            f"{first} is done by one process, and torchrun has started {environment.world_size()}: "
            f"several train one run, by {', '.join(sorted(TOGETHER))}. Type dltrain {first} …"
        )
    # A user's own models and data sources are found where the command is typed.
    with importable(Path.cwd()):
        return COMMANDS[first](arguments[1:]) if command else train(arguments)


def train(arguments: Sequence[str]) -> int:
    """``dltrain [train] key=value …``: train a new run, or several with ``-m``."""
    with runtime.no_collection():
        return _train(arguments)


def federate(arguments: Sequence[str]) -> int:
    """``dltrain federate key=value …``: train by clients, by federated averaging or as is typed."""
    if {"--help", "-h"} & set(arguments):
        code = COMMANDS["help"](["federated=fedavg"])
        print(FEDERATE_EXAMPLES)
        return code
    chosen = any(argument.startswith("federated=") for argument in arguments)
    return train(arguments if chosen else ["federated=fedavg", *arguments])


def _train(arguments: Sequence[str]) -> int:
    if {"--help", "-h"} & set(arguments):
        return COMMANDS["help"](list(_asked_about(arguments)))
    config_dir, arguments = take_value(with_quotes(arguments), CONFIG_DIR)
    options, words, overrides = _separate(arguments)
    arguments = [*words, *overrides]  # among overrides, Hydra would take what follows for unknown
    if COMPLETION & options:
        return COMMANDS["completion"](overrides)
    from dltrain.config import compose as composition

    composition.use_folder(config_dir)
    if UNFINISHED & options:
        composition.launch(arguments, lambda job: None)
        return 0
    multirun = bool(MULTIRUN & options)
    if multirun and environment.world_size() > 1:
        raise UserError(
            "-m is done by one process: torchrun trains one run by several. Leave one of both out; "
            "hydra/launcher=joblib trains several runs at once."
        )
    try:
        if not options and composition.is_plain(overrides):
            return _train_one(partial(_hand, composition.job_of(overrides)))
        composed = composition.check(overrides, multirun)
    except ConfigError as error:
        complain(mistakes.with_the_rest(error, overrides), overrides)
        return 2
    if QUERIES & options:
        composition.launch(arguments, lambda job: None)
        return 0
    if multirun:
        from dltrain.commands.several import train_several

        return train_several(arguments, overrides, Path(composed["output_dir"]))
    return _train_one(lambda work: composition.launch(arguments, work))


def _hand(job: Job, work: Callable[[Job], object]) -> None:
    work(job)


def _train_one(launch: Callable[[Callable[[Job], object]], object]) -> int:
    """Have ``launch`` hand over the run, and train it; return its exit code."""
    codes = []

    def work(job: Job) -> float | None:
        from dltrain.runs.monitor import monitored
        from dltrain.training import train as train_run

        begun: list[Path] = []
        runtime.collect_again()
        try:
            summary = train_run(job.config, job.overrides, created=begun.append)
            codes.append(exit_code(summary["signal"]))
            return monitored(summary)
        except UserError as error:
            complain(mistakes.with_what_fits(error, job.overrides), job.overrides)
            codes.append(2)
        except Interrupted:
            raise
        except KeyboardInterrupt as error:
            number = signals.number_of(error)
            if begun:
                raise Interrupted(begun[0], number, signals.said(number)) from error
            if environment.speaks():
                print(f"{signals.said(number)[:-1]} before the run began.", file=sys.stderr)
            codes.append(exit_code(number))
        return None

    launch(work)
    return codes[0]


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


def _separate(arguments: Sequence[str]) -> tuple[set[str], list[str], list[str]]:
    """The names of the options; they as they were typed, with their values; and the overrides."""
    options: set[str] = set()
    words: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            options.add(argument)
            words += [argument, *islice(rest, 1)]
        elif argument.startswith("-"):
            name = argument.partition("=")[0]
            if name not in OPTIONS:
                hint = did_you_mean(name, OPTIONS) or "See dltrain --help."
                raise UserError(f"{name}: there is no such option. {hint}")
            options.add(name)
            words.append(argument)
        elif "=" not in argument and not argument.startswith("~"):
            hint = did_you_mean(argument, COMMANDS)
            if not hint and overrides:
                key, _, value = overrides[-1].partition("=")
                hint = f"A value with a blank is quoted: {override(key, f'{value} {argument}')}"
            raise UserError(f"{argument}: not a key=value. {hint}".rstrip())
        else:
            overrides.append(argument)
    return options, words, overrides
