"""The one grammar of commands that use a run: ``dltrain COMMAND RUN … [--option VALUE] …``.

Options are argparse's, in any place. ``output_dir=DIR``, as one types it for training, is the same
as ``--output-dir DIR``. Mistakes are told as the rest of dltrain tells them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dltrain.config.punctuation import with_quotes
from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError
from dltrain.pages import address, page_of_place

OUTPUT_DIR = "output_dir"
OVERRIDE = re.compile(r"[+~]*[\w./]+(@[\w.]+)?=|~[\w./]+$")
RUN = "a run's folder, a part of its path that no other run has, or latest for the newest"


class Parser(argparse.ArgumentParser):
    """Parses what follows ``dltrain COMMAND``; a command adds its own options to it.

    Besides those it knows ``--help``, which prints and exits with 0; ``--output-dir``, unless
    ``output_dir`` is false; and ``RUN``, unless ``run`` is empty. ``more`` is what may follow that,
    as the usage shows it (``INPUT …``); empty: nothing. ``examples`` are command lines for the
    help, without ``dltrain COMMAND``.
    """

    def __init__(
        self,
        command: str,
        description: str,
        examples: Sequence[str] = (),
        more: str = "",
        run: str = "RUN",
        output_dir: bool = True,
    ) -> None:
        words = " ".join(filter(None, (run, more)))
        shown = [f"  dltrain {command} {line}" for line in examples]
        page = page_of_place(f"dltrain.commands.{command.replace('-', '_')}")
        below = ["examples:", *shown] if shown else []
        below += [f"See {address(page)}"] if page else []
        super().__init__(
            prog=f"dltrain {command}",
            usage=" ".join(filter(None, (f"dltrain {command}", words, "[options]"))),
            description=description,
            epilog="\n".join(below) or None,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self.command, self._run, self._more = command, run, more
        self._output_dir = output_dir
        self.add_argument("words", nargs="*", metavar=words, help=RUN if run else argparse.SUPPRESS)
        self.add_argument(
            "--output-dir", default="outputs", metavar="DIR",
            help="where runs lie (default outputs); output_dir=DIR means the same"
            if output_dir else argparse.SUPPRESS,
        )  # fmt: skip

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options by name, ``run`` as it was typed, ``more``, and ``output_dir``, a path.

        Raises :class:`UserError` where something is unknown, missing or too much.
        """
        parsed, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            self._refuse_option(unknown[0].partition("=")[0])
        words = []
        for word in parsed.words:
            key, _, value = word.partition("=")
            if self._output_dir and key == OUTPUT_DIR and not Path(word).exists():
                parsed.output_dir = value
            else:
                words.append(word)
        if self._run and not words:
            from dltrain.runs.finding import listed  # a query such as --help needs no locks

            there = listed(Path(parsed.output_dir).expanduser())
            self._refuse(f"give a RUN: {RUN}", there)
        parsed.run, parsed.more = (words[0], words[1:]) if self._run else ("", words)
        if not self._more:
            self._refuse_more(words)
        parsed.output_dir = Path(parsed.output_dir).expanduser()
        return parsed

    def add_weights(self) -> None:
        """The option ``--weights``: of which step, ``last`` or ``best``; None as the run says."""
        self.add_argument(
            "--weights", choices=("last", "best"),
            help="of the last step, or of the best validation (default: those it was tested with)",
        )  # fmt: skip

    def overrides(self, parsed: argparse.Namespace) -> list[str]:
        """``more`` as overrides, with quotes where the grammar needs them.

        Raises :class:`UserError` for a word that is none.
        """
        for word in parsed.more:
            if not OVERRIDE.match(word):
                self._refuse(f"{word}: not a key=value")
        return with_quotes(parsed.more)

    def error(self, message: str) -> NoReturn:
        """Called by argparse: a value is missing, or is of the wrong kind."""
        self._refuse(message.removeprefix("argument "))

    def _refuse_more(self, words: Sequence[str]) -> None:
        """Only the run itself may be there, if that."""
        for word in words:
            if OVERRIDE.match(word) and not Path(word).exists():
                key = word.partition("=")[0]
                hint = did_you_mean(key, [OUTPUT_DIR]) or f"Only {OUTPUT_DIR}=DIR can be given."
                why = "a run keeps its own config. " if self._run else ""
                self._refuse(f"{word}: {why}{hint}")
        if not self._run and words:
            self._refuse(f"{words[0]}: nothing but options is taken")
        if len(words) > 1:
            self._refuse(f"one RUN, not {len(words)}: {', '.join(words)}")

    def _refuse_option(self, name: str) -> NoReturn:
        names = [name for name in self._option_string_actions if name.startswith("--")]
        self._refuse(f"{name}: there is no such option. {did_you_mean(name, names)}".rstrip())

    def _refuse(self, message: str, more: str = "") -> NoReturn:
        end = "" if message[-1] in ".?" else "."
        raise UserError(f"{self.command}: {message}{end} See {self.prog} --help.{more}")


class _Formatter(argparse.HelpFormatter):
    """Fills paragraphs as argparse does, but leaves examples a line each."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        return super()._fill_text(text, width, indent)
