"""What is told of a mistake in what was typed: all of it, where it is defined, what would fit.

For the shell and for Python alike. Nothing here imports torch unless parts have to be tried.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from dltrain.engine.parallel import environment
from dltrain.errors import LISTED, ConfigError, Fault, UserError, printable, shortened
from dltrain.pages import address, page_of

MOST_LINES = 10
"""Of faults told at once."""


def told(error: UserError, overrides: Sequence[str] = ()) -> list[str]:
    """The lines of ``error``; of a fault in ``overrides`` with the file that defines its key."""
    if not isinstance(error, ConfigError):
        return ["\n".join(shortened(printable(x), LISTED) for x in str(error).splitlines())]
    lines = []
    most = MOST_LINES if len(error.faults) <= MOST_LINES else MOST_LINES - 1
    for fault in error.faults[:most]:
        file = None
        if overrides:
            from dltrain.config import compose as composition

            file = composition.defining_file(fault.key, overrides)
            text = composition.as_text(fault.key, overrides) if fault.takes_text else None
            if text is not None:
                fault = replace(fault, hint=f"If it is text, write {text}")
            group, _, choice = (file or "").removesuffix(".yaml").rpartition("/")
            if fault.missing and group in composition.groups():
                fault = replace(fault, hint=f"See dltrain help {group}={choice}.")
        lines.append(f"{fault}" + (f" ({file})" if file else ""))
    left = len(error.faults) - most
    lines = [shortened(printable(line), LISTED) for line in lines]
    return lines + ([f"And {left} more, which are told when these are mended."] if left > 0 else [])


def complain(error: UserError, overrides: Sequence[str] = ()) -> None:
    """Tell the user, on stderr, what is wrong, in which file it is defined, and what explains it.

    Of several processes that train one run, one tells.
    """
    if not environment.speaks():
        return
    lines = told(error, overrides)
    page = page_of(error)
    if page is not None:
        end = "" if lines[-1].endswith((".", "?", ")")) else "."
        lines[-1] += f"{end} See {address(page)}"
    for line in lines:
        print(f"dltrain: {line}", file=sys.stderr)


def with_the_rest(error: ConfigError, overrides: Sequence[str]) -> ConfigError:
    """``error``, of overrides that do not compose, with what would be wrong with them besides."""
    return ConfigError([*error.faults, *_faults_of_the_rest(overrides, error)])


def with_what_fits(error: UserError, overrides: Sequence[str]) -> UserError:
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
