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
    "train": Command("key=value …", "may be left out", "dltrain.cli:train"),
    "federate": Command("key=value …", "by clients, in rounds", "dltrain.cli:federate"),
    "resume": Command("RUN", "finish it, or go on longer", "dltrain.commands.resume:resume"),
    "predict": Command("RUN INPUT …", "answers to new data", "dltrain.commands.predict:predict"),
    "evaluate": Command(
        "RUN [data=…]", "metrics on any data", "dltrain.commands.evaluate:evaluate"
    ),
    "export": Command("RUN", "the network as a file", "dltrain.commands.export:export"),
    "serve": Command("RUN", "a page and JSON over HTTP", "dltrain.commands.serve:serve"),
    "sample": Command("RUN", "what a network generates", "dltrain.commands.sample:sample"),
    "runs": Command("[options]", "all runs, their results", "dltrain.commands.runs:runs"),
    "compare": Command("RUN RUN …", "runs side by side", "dltrain.commands.compare:compare"),
    "list": Command("[GROUP [NAME]]", "choices and their origin", "dltrain.commands.list:show"),
    "profile": Command(
        "[key=value …]", "time and memory of steps", "dltrain.commands.profile:profile"
    ),
    "config": Command(
        "[key=value …]", "what a command composes to", "dltrain.commands.config:show"
    ),
    "tune": Command("key=RANGE …", "search for best values", "dltrain.commands.tune:tune"),
    "lr-find": Command("key=value …", "loss by learning rate", "dltrain.commands.lr_find:lr_find"),
    "batch-find": Command(
        "key=value …", "the largest batch (CUDA)", "dltrain.commands.batch_find:batch_find"
    ),
    "new": Command("KIND NAME", "a part of your own", "dltrain.commands.new:new"),
    "tour": Command("[STEP]", "five steps to begin with", "dltrain.commands.tour:tour"),
    "completion": Command("SHELL", "for bash, zsh, fish", "dltrain.commands.completion:completion"),
    "help": Command("[TOPIC]", "on a command or a choice", "dltrain.commands.help:show"),
}
MOST_LETTERS = 26
"""Of a summary: the first page of help has two columns."""


MEANT = {
    "test": "evaluate",
    "eval": "evaluate",
    "validate": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "fit": "train",
    "models": "list model",
    "ls": "runs",
    "sweep": "tune",
    "optimize": "tune",
    "search": "tune",
    "convert": "export",
    "generate": "sample",
    "continue": "resume",
    "diff": "compare",
    "tutorial": "tour",
    "demo": "tour",
}
"""What other tools call some of them."""


def unknown(name: str) -> UserError:
    """The error to raise where no command is called ``name``."""
    meant = MEANT.get(name)
    if meant is not None:
        return UserError(f"dltrain {name}: there is no such command. It is dltrain {meant}.")
    hint = did_you_mean(name, COMMANDS) or f"Commands are {', '.join(COMMANDS)}."
    return UserError(f"dltrain {name}: there is no such command. {hint}")
