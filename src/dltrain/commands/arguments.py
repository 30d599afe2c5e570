"""The one grammar of commands that use a run: ``dltrain COMMAND RUN [--option VALUE] …``.

Options are argparse's, in any place. ``output_dir=DIR``, as one types it for training, is the same
as ``--output-dir DIR``. Mistakes are told as the rest of dltrain tells them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError

OUTPUT_DIR = "output_dir"
OVERRIDE = re.compile(r"[+~]*[\w.]+=")


class Parser(argparse.ArgumentParser):
    """Parses what follows ``dltrain COMMAND``; a command adds its own options to it.

    Besides those it knows ``RUN``, ``--output-dir`` and ``--help``, which prints and exits with 0.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"dltrain {command}",
            usage=f"dltrain {command} RUN [options]",
            description=description,
            allow_abbrev=False,
        )
        self.command = command
        run = "a run's folder, or latest for the newest in DIR"
        self.add_argument("words", nargs="*", metavar="RUN", help=run)
        self.add_argument(
            "--output-dir", default="outputs", metavar="DIR",
            help="where runs lie (default outputs); output_dir=DIR means the same",
        )  # fmt: skip

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options by name, ``run`` as it was typed, and ``output_dir``, a path.

        Raises :class:`UserError` where something is unknown, missing or too much.
        """
        parsed, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            self._refuse_option(unknown[0].partition("=")[0])
        runs = []
        for word in parsed.words:
            if not OVERRIDE.match(word) or Path(word).exists():
                runs.append(word)
                continue
            key, _, value = word.partition("=")
            if key != OUTPUT_DIR:
                hint = did_you_mean(key, [OUTPUT_DIR]) or f"Only {OUTPUT_DIR}=DIR can be given."
                self._refuse(f"{word}: a run keeps its own config. {hint}")
            parsed.output_dir = value
        if not runs:
            from dltrain.runs.folder import listed  # a query such as --help needs no locks

            there = listed(Path(parsed.output_dir).expanduser())
            self._refuse("give a RUN: a run's folder, or latest for the newest", there)
        if len(runs) > 1:
            self._refuse(f"one RUN, not {len(runs)}: {', '.join(runs)}")
        parsed.run = runs[0]
        parsed.output_dir = Path(parsed.output_dir).expanduser()
        return parsed

    def error(self, message: str) -> NoReturn:
        """Called by argparse: a value is missing, or is of the wrong kind."""
        self._refuse(message.removeprefix("argument "))

    def _refuse_option(self, name: str) -> NoReturn:
        names = [name for name in self._option_string_actions if name.startswith("--")]
        self._refuse(f"{name}: there is no such option. {did_you_mean(name, names)}".rstrip())

    def _refuse(self, message: str, more: str = "") -> NoReturn:
        end = "" if message[-1] in ".?" else "."
        raise UserError(f"{self.command}: {message}{end} See {self.prog} --help.{more}")
