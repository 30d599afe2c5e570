"""The command line: which command was meant, and what its exit code says.

0: done. 1: a bug of ours, with its traceback. 2: a mistake that the user can mend. 130 and 143:
interrupted by Ctrl-C or SIGTERM. Nothing here imports torch until a run begins.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain import runtime
from dltrain.errors import ConfigError, Fault, UserError
from dltrain.nearest import did_you_mean
from dltrain.working_folder import importable

if TYPE_CHECKING:
    from dltrain.composition import Job

# Hydra's own options that take a value, so that the value is not taken for an override.
WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-name", "-cn", "--info", "-i"}
# Those that answer a question instead of training; of these, the latter two need no whole command.
QUERIES = {"--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--hydra-help"}
UNFINISHED = {"--shell-completion", "-sc", "--hydra-help"}
MULTIRUN = {"--multirun", "-m"}


def main() -> None:
    """Run the command that was typed, and exit."""
    runtime.wait_asleep()
    try:
        code = dispatch(sys.argv[1:])
    except UserError as error:
        _complain(error)
        code = 2
    except KeyboardInterrupt:
        print("Interrupted before the run began.", file=sys.stderr)
        code = 130
    sys.exit(code)


def dispatch(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    first = arguments[0] if arguments else ""
    if first in ("--version", "-V"):
        from dltrain import __version__

        print(f"dltrain {__version__}")
        return 0
    if first in COMMANDS:
        return COMMANDS[first](arguments[1:])
    if first and not first.startswith("-") and "=" not in first and first[0] not in "+~":
        hint = did_you_mean(first, COMMANDS) or f"Commands are {', '.join(COMMANDS)}."
        raise UserError(f"dltrain {first}: there is no such command. {hint}")
    return train(arguments)


def train(arguments: Sequence[str]) -> int:
    """``dltrain [train] key=value …``: train a new run, or several with ``-m``."""
    if {"--help", "-h"} & set(arguments):
        return show_help(())
    with runtime.no_collection(), importable(Path.cwd()):
        return _train(arguments)


def _train(arguments: Sequence[str]) -> int:
    config_dir, arguments = _take_value(arguments, ("--config-dir", "-cd"))
    options, overrides = _separate(arguments)
    from dltrain import composition

    if config_dir is not None:
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
    """What is wrong with the values of the overrides whose keys are right.

    A user who has mistyped one key wants to hear now that another one's value is impossible.
    """
    from dltrain import composition

    bad = {fault.key.partition("=")[0] for fault in found.faults}
    rest = [line for line in overrides if line.partition("=")[0] not in bad]
    if not rest or bad & {"config"}:
        return []
    from dltrain.run import Assembly

    try:
        with Assembly(composition.compose(rest)):
            pass
    except ConfigError as error:
        return error.faults
    return []


def _train_one(arguments: Sequence[str]) -> int:
    from dltrain import composition

    codes = []

    def work(job: Job) -> None:
        from dltrain.run import train as train_run

        runtime.collect_again()
        try:
            codes.append(_exit_code(train_run(job.config, job.overrides)))
        except UserError as error:
            _complain(error, job.overrides)
            codes.append(2)
        except KeyboardInterrupt:
            print("Interrupted before the run began.", file=sys.stderr)
            codes.append(130)

    composition.launch(arguments, work)
    return codes[0]


def _train_several(arguments: Sequence[str], output_dir: Path) -> int:
    from dltrain import composition, sweep

    folder = sweep.create(output_dir)
    codes: list[int] = []

    def work(job: Job) -> None:
        from dltrain.run import train as train_run

        runtime.collect_again()
        print(f"\n[{len(codes) + 1}] {' '.join(job.overrides)}")
        summary = None
        try:
            summary = train_run(job.config, job.overrides)
            codes.append(_exit_code(summary))
        except UserError as error:
            _complain(error, job.overrides)
            codes.append(2)
        except Exception:
            # One bug does not take the other runs with it; its traceback is shown at once.
            traceback.print_exc()
            codes.append(1)
        sweep.add(folder, job.overrides, summary)
        if codes[-1] in (130, 143):
            raise SystemExit(codes[-1])

    try:
        composition.launch([*arguments, f"hydra.sweep.dir='{folder}'"], work)
    finally:
        sweep.report(folder)
    return next((code for code in codes if code), 0)


def resume(arguments: Sequence[str]) -> int:
    """``dltrain resume RUN``: go on with an interrupted run."""
    output_dir = "outputs"
    runs = []
    for argument in arguments:
        if argument.startswith("output_dir="):
            output_dir = argument.partition("=")[2]
        else:
            runs.append(argument)
    if len(runs) != 1 or runs[0].startswith("-"):
        raise UserError("Usage: dltrain resume RUN, where RUN is a run's folder, or latest.")
    from dltrain.run import resume as resume_run

    with importable(Path.cwd()):
        return _exit_code(resume_run(runs[0], Path(output_dir)))


def sample(arguments: Sequence[str]) -> int:
    """``dltrain sample RUN``: pictures that a trained network makes."""
    from dltrain.sample import sample as sample_run

    with importable(Path.cwd()):
        return sample_run(arguments)


def show_help(arguments: Sequence[str]) -> int:
    """``dltrain help``: this page, made from the heads of the config files."""
    from dltrain.help import page

    print(page(), end="")
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "resume": resume,
    "sample": sample,
    "help": show_help,
}


def _exit_code(summary: Mapping[str, Any]) -> int:
    return 0 if summary["signal"] is None else 128 + int(summary["signal"])


def _complain(error: UserError, overrides: Sequence[str] = ()) -> None:
    """Tell the user, on stderr, what is wrong and in which file it is defined."""
    if not isinstance(error, ConfigError):
        print(f"dltrain: {error}", file=sys.stderr)
        return
    for fault in error.faults:
        line = str(fault)
        if overrides:
            from dltrain.composition import defining_file

            file = defining_file(fault.key, overrides)
            line += f" ({file})" if file else ""
        print(f"dltrain: {line}", file=sys.stderr)


def _separate(arguments: Sequence[str]) -> tuple[set[str], list[str]]:
    """The names of the options, and the overrides."""
    options, overrides = set(), []
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            options.add(argument)
            next(rest, None)
        elif argument.startswith("-"):
            options.add(argument.partition("=")[0])
        elif "=" not in argument and not argument.startswith("~"):
            raise UserError(
                f"{argument}: not a key=value. {did_you_mean(argument, COMMANDS)}".rstrip()
            )
        else:
            overrides.append(argument)
    return options, overrides


def _take_value(arguments: Sequence[str], names: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """Take the option ``names`` and its value out of ``arguments``."""
    value, rest = None, []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, given = argument.partition("=")
        if name in names:
            value = given if equals else next(remaining, None)
            if not value:
                raise UserError(f"{name} needs a folder.")
        else:
            rest.append(argument)
    return value, rest
