"""``dltrain sample RUN``: what a trained network generates: images, text, or what it does.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.commands.arguments import Parser
from dltrain.commands.sample_episodes import add_episode_options, played
from dltrain.commands.sample_text import (
    TOKENS,
    add_text_options,
    refuse_text_options,
    texts_of,
    write_texts,
)
from dltrain.config.suggest import did_you_mean
from dltrain.engine import runtime
from dltrain.errors import UserError, printable_lines
from dltrain.runs.finding import find_run
from dltrain.runs.folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dltrain.contracts.task import Task

COUNT, MOST = 64, 10_000
STEPS = 10
"""Images from one latent point to the other."""


def sample(arguments: Sequence[str]) -> int:
    """Generate images or texts, and write them; return the exit code.

    Raises :class:`UserError` where the arguments ask for what the run cannot give.
    """
    asked = _parser().parse(arguments)
    _check(asked)
    folder = find_run(asked.run, asked.output_dir)
    with runtime.generators_kept():
        task = _task(folder, asked)
        if played(task, folder, asked):
            return 0
        texts = texts_of(task, folder, asked)
        if texts is not None:
            return write_texts(texts, asked)
        images, columns, name = _images(task, folder, asked)
    out = Path(asked.out).expanduser() if asked.out else folder.place("samples")
    try:
        where = _write(images, columns, out, name, asked)
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written: {error.strerror}.") from error
    print(printable_lines(f"{len(images):,} {'images' if len(images) > 1 else 'image'} in {where}"))
    return 0


def _parser() -> Parser:
    parser = Parser(
        "sample",
        "Images or text that a network generates, or how it acts. The same command gives the same "
        "bytes.",
        [
            "latest --n 100 --out sheet.png",
            "gan-mnist --label 7 --each --out sevens/",
            "lstm-text_file --prompt 'ROMEO:' --n 500 --temperature 0.8",
            "dqn-gym --episodes 3",
        ],
    )
    add = parser.add_argument
    add(
        "--n", type=int, metavar="N",
        help=f"how many images (default {COUNT}), or tokens of a text (default {TOKENS})",
    )  # fmt: skip
    add_text_options(parser)
    add_episode_options(parser)
    add("--label", metavar="CLASS", help="of which class, by name or number: conditional models")
    add("--seed", type=int, default=0, metavar="N", help="another seed, other samples (default 0)")
    add("--each", action="store_true", help="one file an image, as it is, for one enlarged sheet")
    add(
        "--interpolate", type=int, metavar="ROWS",
        help=f"rows of {STEPS} images from one latent point to another",
    )  # fmt: skip
    parser.add_weights()
    add(
        "--out",
        metavar="PATH",
        help="a .png or .gif file, or a folder (default: RUN/samples); a file of text",
    )
    return parser


def _check(asked: argparse.Namespace) -> None:
    if asked.interpolate is not None and (asked.n is not None or asked.label is not None):
        raise UserError("--interpolate goes with neither --n nor --label.")
    _require_up_to(100, "--interpolate", asked.interpolate)
    if not 0 <= asked.seed < 2**63:
        raise UserError(f"--seed is from 0 to 2**63 - 1, got {asked.seed}.")
    if asked.out and asked.each and asked.out.endswith(".png"):
        raise UserError(f"--out: --each needs a folder, not {asked.out}.")


def _require_up_to(most: int, option: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= most:
        raise UserError(f"{option} is from 1 to {most:,}, got {value:,}.")


def _task(folder: RunFolder, asked: argparse.Namespace) -> Task:
    from dltrain.runs.load import load_run

    loaded = load_run(folder, asked.weights)
    asked.weights = loaded.weights
    return loaded.task


def _images(
    task: Task, folder: RunFolder, asked: argparse.Namespace
) -> tuple[NDArray[np.uint8], int | None, str]:
    """Bytes (n, height, width, channels), the columns of a sheet of them, and a name."""
    import torch

    from dltrain.contracts.task import SamplesImages
    from dltrain.reports.samples import class_columns, to_bytes
    from dltrain.runs.load import spec_of_run

    refuse_text_options(asked, folder)
    asked.n = COUNT if asked.n is None else asked.n
    _require_up_to(MOST, "--n", asked.n)
    if not isinstance(task, SamplesImages):
        raise UserError(f"{folder.path} generates no images: its task is {type(task).__name__}.")
    classes = spec_of_run(folder).class_names
    labels = None
    what = f"n{asked.n}" if asked.interpolate is None else f"interpolate{asked.interpolate}"
    name, columns = f"{what}_seed{asked.seed}", None
    if asked.label is not None:
        if not task.conditional:
            raise UserError(
                "--label: this run's network was trained without labels. gan, dcgan and wgan_gp "
                "learn them with model.conditional=true."
            )
        number = _class_number(asked.label, classes)
        labels = torch.full((asked.n,), number)
        name += f"_label{number}"
    elif task.conditional:
        columns = class_columns(len(classes))
    if asked.weights != "last":
        name += f"_{asked.weights}"
    with torch.inference_mode():
        if asked.interpolate is None:
            made = task.sample(asked.n, asked.seed, labels)
        else:
            made = task.interpolate(asked.interpolate, STEPS, asked.seed)
            columns = STEPS
    return to_bytes(made.columns["image"].float().numpy()), columns, name


def _class_number(label: str, classes: Sequence[str]) -> int:
    """Which class is meant by its name, or by its number."""
    if label in classes:
        return classes.index(label)
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    listed = ", ".join(classes[:12]) + (", …" if len(classes) > 12 else "")
    hint = did_you_mean(label, classes) or f"There are {len(classes)} classes: {listed}."
    raise UserError(f"--label {label}: there is no such class. {hint}")


def _write(
    images: NDArray[np.uint8], columns: int | None, out: Path, name: str, asked: Any
) -> Path:
    """Write a sheet, or a file each; return the sheet's path, or the folder of the files."""
    from dltrain.reports.samples import sheet, single

    if not asked.each:
        path = out if out.suffix == ".png" else out / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sheet(images, columns))
        return path
    path = out if asked.out else out / name
    path.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(images) - 1))
    for index, values in enumerate(images):
        (path / f"{index:0{digits}}.png").write_bytes(single(values))
    return path
