"""``dltrain tour``: five steps in five minutes, each a real command that anybody could type.

Nothing is acted out: what is shown is run, by a process of its own, and its runs are kept as all
others are. Nothing here imports torch.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dltrain.commands.arguments import Parser
from dltrain.errors import UserError

WIDTH = 76
SCALE = 8
"""Pixels of the written image to one of the data set's."""
SEVEN = 7
OUTPUTS, FILES, DIGITS = "outputs", "tour", "lenet5-digits"
"""Where runs are kept unless one says otherwise, and the folders there of what steps read and of
the first step's runs."""


@dataclass(frozen=True)
class Step:
    """One command, what it is for, and what to look at in what it prints.

    ``command`` is what follows ``dltrain``; ``{files}`` in it is a folder that ``prepare`` is given
    to write to, ``{run}`` the newest run of the first step's kind.
    """

    title: str
    before: str
    command: str
    after: str
    prepare: Callable[[Path], None] | None = None


def write_digit(folder: Path) -> None:
    """``seven.png``: one of the digits, as an image file that a person might have."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    row = next(row for row, digit in enumerate(digits.target) if digit == SEVEN)
    pixels = (digits.images[row] * 255 / 16).astype("uint8")
    side = SCALE * len(pixels)
    Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(
        folder / "seven.png"
    )


def write_wines(folder: Path) -> None:
    """``wine.csv``: 178 wines, 13 measurements of each, and the cultivar."""
    import csv

    from sklearn.datasets import load_wine

    wines = load_wine()
    with (folder / "wine.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow((*wines.feature_names, "cultivar"))
        for values, target in zip(wines.data.tolist(), wines.target.tolist(), strict=True):
            rows.writerow((*values, "ABC"[target]))


STEPS = (
    Step(
        "Train",
        "LeNet-5, a convolutional network, learns to read 1,797 handwritten digits that come with "
        "dltrain. Everything has a default; here only the number of epochs is said.",
        "trainer.epochs=5",
        "The last lines have the accuracy on digits that it has never seen, and the run's folder: "
        "its config, metrics, figures, checkpoints. The same command gives the same result again.",
    ),
    Step(
        "Change the parts",
        "A run is put together of a model, data, an optimizer and more, each a choice with values "
        "of its own. GROUP=CHOICE takes another one, GROUP.KEY=VALUE changes a value.",
        "model=mlp model.hidden=[64] optimizer=momentum optimizer.lr=0.1 trainer.epochs=5",
        "dltrain list shows all choices, dltrain help model=mlp explains one. A typo is answered "
        "with the nearest right name.",
    ),
    Step(
        "Try several values",
        "After -m each key may have several values, and all combinations are trained.",
        "-m optimizer.lr=0.0001,0.001,0.01 trainer.epochs=2",
        "dltrain tune searches instead of trying all; dltrain runs lists what there is, best "
        "first if asked; dltrain compare A B has two runs side by side, with a test of whether "
        "they differ at all.",
    ),
    Step(
        "Use a run",
        "What was trained answers to new files. The run is the newest on digits, of which latest, "
        "too, would do if nothing else was trained since; the image is {files}/seven.png.",
        "predict {run} {files}/seven.png",
        "It takes folders of images, too. dltrain serve latest makes a web page of it, dltrain "
        "export latest a file for other programs, and dltrain.load(FOLDER) a model in Python.",
        write_digit,
    ),
    Step(
        "Your own data",
        "A table: {files}/wine.csv has 178 wines, 13 measurements of each, and the cultivar, "
        "which is to be learned.",
        "model=mlp data=csv data.path={files}/wine.csv data.target=cultivar data.batch_size=16 "
        "trainer.epochs=30",
        "Numbers were standardized by the training rows alone, and rows set aside to test on. A "
        "folder of images is data=image_folder, texts are data=text_csv; dltrain list data has "
        "all.",
        write_wines,
    ),
)


def tour(arguments: Sequence[str]) -> int:
    """Go through the steps from the one that was asked for; return the exit code.

    Raises :class:`UserError` for a step that there is not.
    """
    asked = _parser().parse(arguments)
    first = _first(asked.more)
    outputs = Path(asked.output_dir).expanduser()
    asking = sys.stdin.isatty() and sys.stdout.isatty() and not asked.yes
    for number in range(first, len(STEPS) + 1):
        words = _shown(number, outputs)
        if asking and not _agreed():
            print(f"\ndltrain tour {number} goes on here.")
            return 0
        code = _run(number, words, outputs / FILES)
        if code:
            print(f"The command ended with {code}; dltrain tour {number} tries it again.")
            return code
    _say(
        f"That was it. All runs are in {outputs}; tensorboard --logdir {outputs} shows their "
        "curves. dltrain list experiment has recipes with their results, dltrain help the other "
        "commands."
    )
    return 0


def _shown(number: int, outputs: Path) -> list[str]:
    """What follows ``dltrain`` in a step, after it was printed, and what it is for."""
    step = STEPS[number - 1]
    print(f"{number}/{len(STEPS)}  {step.title}\n")
    _say(step.before.format(files=outputs / FILES))
    run = _newest(outputs, number) if "{run}" in step.command else None
    words = [word.format(files=outputs / FILES, run=run) for word in shlex.split(step.command)]
    if outputs != Path(OUTPUTS):
        words.append(f"output_dir={outputs}")
    print(f"  {shlex.join(['dltrain', *words])}\n", flush=True)
    return words


def _newest(outputs: Path, number: int) -> Path:
    """The folder of the newest run on digits that has weights."""
    weights = (outputs / DIGITS).glob("*/checkpoints/last.pt")
    found = sorted(path.parents[1] for path in weights)
    if not found:
        raise UserError(
            f"tour: step {number} uses the run of step 1, and {outputs / DIGITS} has none. Begin "
            "with dltrain tour 1."
        )
    return found[-1]


def _run(number: int, words: Sequence[str], files: Path) -> int:
    """Do it, and say what there is to see; the exit code of the command."""
    step = STEPS[number - 1]
    if step.prepare is not None:
        files.mkdir(parents=True, exist_ok=True)
        step.prepare(files)
    began = time.monotonic()
    code = subprocess.call([sys.executable, "-m", "dltrain", *words])
    print()
    if code == 0:
        _say(f"({time.monotonic() - began:.0f} seconds.) {step.after}")
    return code


def _agreed() -> bool:
    """Whether to run the command: Enter, not q."""
    try:
        return input("Enter: run it.  q: leave.  ").strip().lower() not in ("q", "quit", "exit")
    except EOFError:
        return False


def _say(text: str) -> None:
    print(textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n")


def _first(more: Sequence[str]) -> int:
    if not more:
        return 1
    if len(more) > 1 or not more[0].isdecimal() or not 1 <= int(more[0]) <= len(STEPS):
        raise UserError(f"tour: a step is a number from 1 to {len(STEPS)}, got {' '.join(more)!r}.")
    return int(more[0])


def _parser() -> Parser:
    titles = "; ".join(f"{number} {step.title}" for number, step in enumerate(STEPS, 1))
    parser = Parser(
        "tour",
        "Five steps in five minutes, each a real command that is shown, run when you press Enter, "
        f"and explained: {titles}. STEP is the one to begin with. Nothing is downloaded; the runs "
        "are kept like others.",
        ["", "4", "--yes"],
        more="[STEP]",
        run="",
    )
    parser.add_argument("--yes", action="store_true", help="run all without asking")
    return parser
