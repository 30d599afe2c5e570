"""``dltrain completion SHELL``: the script by which bash, zsh or fish complete what is typed.

The scripts ask ``dltrain completion query LINE``, which prints a candidate a line. Whatever goes
wrong there, there are no candidates, and nothing is printed into what somebody is typing.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from importlib.resources import files

from dltrain.commands.arguments import Parser
from dltrain.commands.candidates import SHELLS
from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError

QUERY, INSTALL = "query", "install"


def completion(arguments: Sequence[str]) -> int:
    """Print a shell's script, or the candidates for a line; return the exit code.

    ``install=bash`` and ``query=bash``, which reads ``COMP_LINE``, are as Hydra's ``-sc`` has them.
    Raises :class:`UserError` for another shell.
    """
    if arguments and arguments[0].partition("=")[0] == QUERY:
        line = arguments[1] if len(arguments) > 1 else _line_of_bash()
        with contextlib.suppress(BrokenPipeError):
            print("".join(f"{word}\n" for word in _quietly(line)), end="")
        return 0
    asked = _parser().parse(arguments)
    if len(asked.more) != 1:
        raise UserError(f"completion: give one of {', '.join(SHELLS)}.")
    shell = asked.more[0].removeprefix(f"{INSTALL}=")
    if shell not in SHELLS:
        hint = did_you_mean(shell, SHELLS) or f"There are {', '.join(SHELLS)}."
        raise UserError(f"completion: {shell}: there is no script for this shell. {hint}")
    script = files("dltrain.commands").joinpath("templates", f"completion.{shell}.txt")
    print(script.read_text(encoding="utf-8"), end="")
    return 0


def _parser() -> Parser:
    return Parser(
        "completion",
        "A script by which the shell completes commands, runs, groups, choices, also the second "
        'of several, keys and their values. In ~/.bashrc: eval "$(dltrain completion bash)"; in '
        '~/.zshrc: eval "$(dltrain completion zsh)"; for fish as below.',
        ["bash", "fish > ~/.config/fish/completions/dltrain.fish"],
        more="SHELL",
        run="",
        output_dir=False,
    )


def _line_of_bash() -> str:
    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    return line[: int(point)] if point.isdecimal() else line


def _quietly(line: str) -> list[str]:
    """The candidates; none where anything fails, for a traceback would land in somebody's line."""
    nowhere = io.StringIO()
    try:
        with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            from dltrain.commands.candidates import candidates

            return candidates(line)
    except (Exception, SystemExit):  # a bug of ours as well
        return []
