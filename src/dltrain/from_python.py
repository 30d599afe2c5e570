"""``dltrain.train(…)``: a run from Python or a notebook, as ``dltrain …`` trains it in a shell."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

from dltrain import mistakes
from dltrain.config import compose as composition
from dltrain.config.punctuation import with_quotes
from dltrain.config.working_folder import importable
from dltrain.engine import runtime
from dltrain.errors import ConfigError, Fault, Interrupted, UserError
from dltrain.inference.predictor import Predictor
from dltrain.runs.folder import RunFolder
from dltrain.training import train as train_run

_ONE_AT_A_TIME = threading.RLock()
"""Hydra, the random generators and deterministic mode are the process's."""


def train(
    overrides: str | Iterable[str] = (), *, config_dir: str | Path | None = None
) -> Predictor:
    """Train a run, as the command does; return it, ready to be used, with its ``summary``.

    ``overrides`` are what one types behind ``dltrain``: in one text, read as a shell reads it, or
    one by one, taken as they are. ``config_dir`` is a folder of one's own config files::

        run = dltrain.train("model=lenet5 data=mnist trainer.epochs=2")
        run = dltrain.train(["model=mlp", f"data.path={path}"])
        run.summary["test"]["accuracy"]

    Nothing global is left changed. It may be called from a thread, where signals do not end it;
    two runs of one process train one after the other, for they share its random generators.

    Raises :class:`ConfigError` with every fault of the overrides, :class:`UserError` for what goes
    wrong later, and :class:`Interrupted`, a ``KeyboardInterrupt``, after an orderly end by Ctrl-C.
    Another signal that has ended the run, such as SIGTERM, is passed on to the process.
    """
    typed = shlex.split(overrides) if isinstance(overrides, str) else list(overrides)
    lines = with_quotes([_override(word) for word in typed])
    folder = None if config_dir is None else str(config_dir)
    with (
        _ONE_AT_A_TIME,
        runtime.imports_without_traces(),
        composition.folder_used(folder),
        importable(Path.cwd()),
    ):
        try:
            summary = train_run(composition.compose(lines), lines)
        except ConfigError as error:
            raise _explained(error, lines) from None
        run = RunFolder(summary["path"])
        if summary["signal"] is None:
            return Predictor(run, trusted=True)
    if summary["signal"] != signal.SIGINT:
        signal.raise_signal(summary["signal"])
    raise Interrupted(run.path)


def _override(word: object) -> str:
    """Raise :class:`UserError` for what is no override."""
    if not isinstance(word, str):
        raise UserError(f"train: overrides are texts such as 'optimizer.lr=0.1', not {word!r}.")
    if word.startswith("-"):
        hint = (
            "config_dir=DIR is an argument." if "config" in word else "Call it once for each run."
        )
        raise UserError(f"train: {word} is an option of the command line. {hint}")
    if "=" not in word and not word.startswith("~"):
        raise UserError(f"train: {word}: not a key=value.")
    return word


def _explained(error: ConfigError, lines: list[str]) -> ConfigError:
    """The same faults, and all that the command would tell of them."""
    try:
        composition.compose(lines)
    except ConfigError as uncomposed:
        found: UserError = mistakes.with_the_rest(uncomposed, lines)
    else:
        found = mistakes.with_what_fits(error, lines)
    assert isinstance(found, ConfigError)
    return ConfigError(
        [Fault(f.key, line.removeprefix(f"{f.key}{f.joint}"), joint=f.joint)
         for f, line in zip(found.faults, mistakes.told(found, lines), strict=True)]
    )  # fmt: skip
