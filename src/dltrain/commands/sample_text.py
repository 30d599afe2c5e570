"""``dltrain sample RUN`` where the run writes text: a prompt, and what the network adds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dltrain.errors import UserError, printable_lines
from dltrain.runs.folder import RunFolder

if TYPE_CHECKING:
    from dltrain.contracts.data import Field
    from dltrain.contracts.task import Task

TOKENS, MOST_TOKENS = 500, 100_000
MOST_TEXTS = 1000
OPTIONS = ("prompt", "count", "temperature", "top_k", "top_p", "skip_unknown")
SHOWN = 5
"""Unknown characters that a message names."""


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """The options that only texts have; None where they are not typed."""
    add = parser.add_argument
    add("--prompt", metavar="TEXT", help="of text: what is gone on with (default: a new line)")
    add("--count", type=int, metavar="N", help="of text: how many (default 1)")
    add(
        "--temperature", type=float, metavar="X",
        help="of text: 0 the likeliest token, 1 as the network has it (default 0.8)",
    )  # fmt: skip
    add("--top-k", type=int, metavar="N", help="of text: draw of the N likeliest tokens")
    add(
        "--top-p", type=float, metavar="X",
        help="of text: draw of the likeliest that together have this probability",
    )  # fmt: skip
    add(
        "--skip-unknown", action="store_true", default=None,
        help="of text: leave out what of the prompt the run does not know",
    )  # fmt: skip


def refuse_text_options(asked: argparse.Namespace, folder: RunFolder) -> None:
    """Raise :class:`UserError` for an option that images do not have."""
    for name in OPTIONS:
        if getattr(asked, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: {folder.path} generates no text.")


def texts_of(task: Task, folder: RunFolder, asked: argparse.Namespace) -> list[str] | None:
    """What the run writes; None where it writes no text."""
    from dltrain.contracts.pieces import text_of
    from dltrain.contracts.task import SamplesText
    from dltrain.runs.load import spec_of_run

    if not isinstance(task, SamplesText):
        return None
    for name in ("label", "each", "interpolate"):
        if getattr(asked, name):
            raise UserError(f"--{name}: {folder.path} generates text.")
    length = TOKENS if asked.n is None else asked.n
    count = 1 if asked.count is None else asked.count
    for option, value, most in (("--n", length, MOST_TOKENS), ("--count", count, MOST_TEXTS)):
        if not 1 <= value <= most:
            raise UserError(f"{option} is from 1 to {most:,}, got {value:,}.")
    source = spec_of_run(folder).input
    prompt = _prompt(folder, source, asked) if asked.prompt else []
    temperature = 0.8 if asked.temperature is None else asked.temperature
    try:
        made = task.sample_text(
            count, asked.seed, length, prompt, temperature, asked.top_k, asked.top_p
        )
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UserError(f"--{name.replace('_', '-')} {rest}.") from error
    return [text_of(source.names, row) for row in made.columns["text"].tolist()]


def write_texts(texts: Sequence[str], asked: argparse.Namespace) -> int:
    """Print texts, or write them to a file; return the exit code."""
    content = "\n----\n".join(texts) + "\n"
    if not asked.out:
        # What a stranger's run writes may steer a terminal, but no file.
        print(printable_lines(content) if sys.stdout.isatty() else content, end="")
        return 0
    out = Path(asked.out).expanduser()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written: {error.strerror}.") from error
    print(f"{len(texts):,} {'texts' if len(texts) > 1 else 'text'} in {out}")
    return 0


def _prompt(folder: RunFolder, source: Field, asked: argparse.Namespace) -> list[int]:
    """The tokens of the prompt. What the run never learned of is refused, or left out."""
    from dltrain.contracts.pieces import silent
    from dltrain.runs.load import reader_of_run

    reader, unknown = reader_of_run(folder.path), set(silent(source.names))

    def read(text: str) -> list[int]:
        return [int(index) for index in reader.read([text])["input"][0]]

    try:
        ids = read(asked.prompt)
    except ValueError as error:
        raise UserError(f"--prompt {str(error).removeprefix('example 0 ')}.") from error
    many = sum(index in unknown for index in ids)
    if not many:
        return ids
    # Of a vocabulary of words each letter may be unknown by itself.
    by_letter = len(ids) >= len(asked.prompt)
    first, *others = dict.fromkeys(asked.prompt if by_letter else asked.prompt.split())
    # A word that another stands before has a blank of its own.
    pieces = {first: first, **{one: one if by_letter else f" {one}" for one in others}}
    named = [piece for piece, text in pieces.items() if unknown.intersection(read(text))]
    shown = ", ".join(map(repr, named[:SHOWN])) or "a word"
    said = f"{many} of {len(ids)} tokens, such as {shown}, are not in the run's vocabulary"
    # A token that stands for whatever is rare was learned where training met it.
    if not asked.skip_unknown and any(source.counts[index] for index in unknown):
        print(f"--prompt: {said}: each is read as the unknown token.", file=sys.stderr)
        return ids
    known = [index for index in ids if index not in unknown]
    if not asked.skip_unknown or not known:
        hint = "Leave them out, or give --skip-unknown." if known else "Nothing is left of it."
        raise UserError(f"--prompt: {said}. {hint}")
    print(f"--prompt: {said}: they are left out.", file=sys.stderr)
    return known
