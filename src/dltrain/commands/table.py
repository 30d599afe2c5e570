"""The commands: a line here, and a function that is imported when its command is typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError


@dataclass(frozen=True)
class Command:
    """What ``dltrain NAME`` does.

    ``place`` is ``module:function``; the function is given what follows the name, returns the exit
    code and raises :class:`~dltrain.errors.UserError` for what the user can mend.
    """

    arguments: str
    summary: str
    place: str

    def __call__(self, arguments: Sequence[str]) -> int:
        """Run it; return the exit code."""
        module, _, function = self.place.partition(":")
        code = getattr(import_module(module), function)(arguments)
        assert isinstance(code, int)
        return code


COMMANDS = {
    "train": Command("key=value …", "train a run; this word may be left out", "dltrain.cli:train"),
    "resume": Command("RUN", "go on with an interrupted run", "dltrain.commands.resume:resume"),
    "predict": Command(
        "RUN INPUT …", "what a run says of new data", "dltrain.commands.predict:predict"
    ),
    "sample": Command(
        "RUN", "images that a generative network makes", "dltrain.commands.sample:sample"
    ),
    "profile": Command(
        "key=value …", "where a step's time and memory go", "dltrain.commands.profile:profile"
    ),
    "help": Command(
        "[TOPIC]", "this page; or on a command, a group, a choice", "dltrain.commands.help:show"
    ),
}


def unknown(name: str) -> UserError:
    """The error to raise where no command is called ``name``."""
    hint = did_you_mean(name, COMMANDS) or f"Commands are {', '.join(COMMANDS)}."
    return UserError(f"dltrain {name}: there is no such command. {hint}")
