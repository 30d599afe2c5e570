"""The help page, made from the one-line descriptions at the heads of the config files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from dltrain.commands.table import COMMANDS, Command, unknown

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

GROUPS = (
    ("model", "what learns"),
    ("data", "what it learns from"),
    ("task", "what it tries to do (the data or the model chooses one)"),
    ("optimizer", "how it steps"),
    ("schedule", "how the learning rate moves"),
    ("regularizer", "what holds it back; several as 'regularizer=[l2,dropout]'"),
    ("modifier", "what else touches weights; several as 'modifier=[a,b]'"),
    ("callbacks", "what watches; several as 'callbacks=[default,early_stopping]'"),
    ("trainer", "how long, how precisely"),
    ("experiment", "a whole recipe with its expected result"),
)

HEAD = """\
dltrain trains deep-learning models from the command line.

  dltrain                                     LeNet-5 on bundled digits
  dltrain model=lenet5 data=mnist             choose a file of each group below
  dltrain optimizer.lr=0.01 trainer.epochs=5  change any value
  dltrain -m model=lenet5,mlp seed=1,2,3      all combinations, means over seeds
  dltrain experiment=lenet5_mnist             a recipe
  tensorboard --logdir outputs                look at the runs

Commands (RUN is a run's folder, or latest for the newest)
{commands}

Options
  --cfg job            show the composed config, train nothing
  --config-dir DIR     your own config files; they win over the built-in ones
  -m, --multirun       run every combination of comma-separated values
  -sc install=bash     for eval "$(...)": the shell completes keys and choices
  --version, --help

"""


def show(arguments: Sequence[str]) -> int:
    """``dltrain help``, ``dltrain help COMMAND``: print the page, or a command's own.

    Raises :class:`UserError` where there is no such command.
    """
    for name in arguments:
        if name not in COMMANDS:
            raise unknown(name)
        if name not in ("train", "help"):
            return COMMANDS[name](["--help"])
    print(page(), end="")
    return 0


def page() -> str:
    """The whole page, at most 80 columns wide."""
    tree = files("dltrain.configs")
    head = HEAD.replace("{commands}", "\n".join(_line(*entry) for entry in COMMANDS.items()))
    return head + "\n".join(_group(tree / name, name, meaning) for name, meaning in GROUPS)


def _line(name: str, command: Command) -> str:
    typed = f"  dltrain {name} {command.arguments}"
    return f"{typed:<31}{command.summary}"


def describe(file: Traversable) -> str:
    """The one-line description at the head of a config file."""
    with file.open(encoding="utf-8") as lines:
        return next(line.lstrip("# ").strip() for line in lines if not line.startswith("# @"))


def _group(folder: Traversable, name: str, meaning: str) -> str:
    entries = sorted(
        (entry.name.removesuffix(".yaml"), describe(entry))
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )
    lines = [f"{name}=  {meaning}"]
    for entry, description in entries:
        lines.append(
            textwrap.fill(
                description,
                width=80,
                initial_indent=f"  {entry:<17} ",
                subsequent_indent=" " * 20,
            )
        )
    return "\n".join(lines) + "\n"
