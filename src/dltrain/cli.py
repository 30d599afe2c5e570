"""The command line: which command was meant, and what its exit code says.

0: done. 1: a bug of ours, with its traceback. 2: a mistake that the user can mend. 130 and 143:
interrupted by Ctrl-C or SIGTERM. Nothing here imports torch until a run begins.
"""

from __future__ import annotations

import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    Fault,
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
        faults = [*error.faults, *_faults_of_the_rest(overrides, error)]
        _complain(ConfigError(faults), overrides)
        return 2
    if QUERIES & options:
        composition.launch(arguments, lambda job: None)
        return 0
    if multirun:
        return _train_several(arguments, Path(composed["output_dir"]))
    return _train_one(arguments)


def _faults_of_the_rest(overrides: Sequence[str], found: ConfigError) -> list[Fault]:
    """What is wrong beside ``found``: what would be left once that is mended.

    A user who has mistyped one key wants to hear now that another one's value is impossible, and
    nothing of what follows from the first mistake alone.
    """
    from dltrain.config import compose as composition

    bad = {fault.key.partition("=")[0]: fault for fault in found.faults}
    if "config" in bad:
        return []
    typed = {line: line.lstrip("+~").partition("=")[0] for line in overrides}
    rest = [bad[key].instead if key in bad else line for line, key in typed.items()]
    # Nobody knows what a choice that cannot be guessed would bring.
    unknown = {f.key.partition("=")[0] for f in found.faults if "=" in f.key and not f.instead}
    from dltrain.assemble import Assembly

    try:
        with Assembly(composition.compose(composition.first_of(list(filter(None, rest))))):
            return []
    except ConfigError as error:
        faults = [fault for fault in error.faults if fault.key not in bad]
    except UserError:
        return []  # told when all else is mended
    known = set(typed.values()) if unknown else {fault.key for fault in faults}
    return [f for f in faults if f.key in known and f.key.partition(".")[0] not in unknown]


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
            _complain(_with_what_fits(error, job.overrides), job.overrides)
            codes.append(2)
        except Interrupted:
            raise
        except KeyboardInterrupt:
            print("Interrupted before the run began.", file=sys.stderr)
            codes.append(exit_code(signal.SIGINT))
        return None

    composition.launch(arguments, work)
    return codes[0]


def _with_what_fits(error: UserError, overrides: Sequence[str]) -> UserError:
    """``error``; where the model and the data are at odds, with the models that fit the data.

    Each is tried with the other overrides; where the data must be read to tell, they may fit.
    """
    keys = {line.lstrip("+~").partition("=")[0].partition(".")[0] for line in overrides}
    at_odds = {"model"} if "task" in keys else {"model", "task"}
    if not isinstance(error, ConfigError) or not at_odds & {fault.key for fault in error.faults}:
        return error
    from dltrain.assemble import fits_together, outline_is_complete
    from dltrain.config import compose as composition

    rest = [line for line in overrides if not line.lstrip("+~").startswith(("model=", "model."))]

    names = [
        name for name, config in composition.compose_each(rest, "model") if fits_together(config)
    ]
    if not names:
        return error
    first = next(fault for fault in error.faults if fault.key in at_odds)
    known = outline_is_complete(composition.compose(overrides))
    word = "fits" if known else "may fit"
    problem = f"{first.problem.rstrip('.')}; {word}: {', '.join(names)}"
    faults = [replace(f, problem=problem) if f is first else f for f in error.faults]
    return ConfigError(faults)


def _train_several(arguments: Sequence[str], output_dir: Path) -> int:
    from dltrain.config import compose as composition
    from dltrain.runs import sweep

    folder = sweep.create(output_dir)
    codes: list[int] = []

    def work(job: Job) -> float | None:
        from dltrain.runs.monitor import monitored
        from dltrain.training import train as train_run

        runtime.collect_again()
        print(f"\n[{len(codes) + 1}] {shlex.join(job.overrides)}")
        summary, failure = None, "failed"
        try:
            summary = train_run(job.config, job.overrides)
            codes.append(exit_code(summary["signal"]))
        except UserError as error:
            failure = "diverged" if isinstance(error, Diverged) else failure
            _complain(error, job.overrides)
            codes.append(2)
        except Exception:
            # One bug does not take the other runs with it; its traceback is shown at once.
            traceback.print_exc()
            codes.append(1)
        sweep.add(folder, job.overrides, summary, failure)
        if codes[-1] in (130, 143):
            raise SystemExit(codes[-1])
        value = None if summary is None else monitored(summary)
        if value is None and summary is not None and job.needs_value:
            raise SystemExit(_without_value(summary))
        return value

    try:
        composition.launch([*arguments, f"hydra.sweep.dir={in_grammar(str(folder))}"], work)
    finally:
        sweep.report(folder)
    return next((code for code in codes if code), 0)


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
    if not isinstance(error, ConfigError):
        print(f"dltrain: {error}", file=sys.stderr)
        return
    for fault in error.faults:
        file = None
        if overrides:
            from dltrain.config import compose as composition

            file = composition.defining_file(fault.key, overrides)
            text = composition.as_text(fault.key, overrides) if fault.takes_text else None
            if text is not None:
                fault = replace(fault, hint=f"If it is text, write {text}")
        print(f"dltrain: {fault}" + (f" ({file})" if file else ""), file=sys.stderr)


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
