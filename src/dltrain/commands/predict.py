"""``dltrain predict RUN INPUT…``: what a trained network says of new examples.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from glob import has_magic
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.commands.arguments import Parser
from dltrain.commands.recommend import add_user_options, recommended, require_alone
from dltrain.errors import UserError
from dltrain.inference.painted import PAINTED, PaintedWriter
from dltrain.inference.writers import (
    ENDINGS,
    IMAGES,
    CsvWriter,
    FileWriter,
    FolderWriter,
    JsonWriter,
    LineWriter,
    ShownWriter,
    Writer,
    by_step,
)
from dltrain.runs.finding import find_run
from dltrain.runs.folder import RunFolder

if TYPE_CHECKING:
    from dltrain.inference.predictor import Part, Predictor

STDIN = "-"
PREDICTIONS = "predictions"
"""Where in a run's folder answers lie that are images, where nobody says otherwise."""
MOST_PIXELS = 4096
"""Of the longer side of a style."""
FIGURE = 64
"""Examples of a figure."""
SETTING = re.compile(r"\bdata\.\w+=")
"""A key of what a run was trained on, which a prediction has no say in."""
ALL = "all"
PNG = ".png"


def predict(arguments: Sequence[str]) -> int:
    """Read the inputs, write what is predicted of them; return the exit code.

    Raises :class:`UserError` for what the run cannot read or answer.
    """
    parser = _parser()
    asked = parser.parse(arguments)
    top = _top(asked.top)
    require_alone(asked)
    if not asked.more and asked.user is None:
        raise UserError("predict: give an INPUT. See dltrain predict --help.")
    folder = find_run(asked.run, asked.output_dir)
    from dltrain import messages

    with messages.shown():
        return _predict(asked, folder, top)


def _predict(asked: argparse.Namespace, folder: RunFolder, top: int | None) -> int:
    from dltrain.inference.predictor import Predictor

    predictor = Predictor(folder, asked.weights, asked.device)
    if asked.user is not None:
        return _recommend(asked, predictor, folder)
    predictor.require_predicts()
    if asked.threshold is not None:
        predictor.require_score(_score(asked.threshold))
    if asked.style is not None:
        predictor.paint_as(asked.style, _style_size(asked.style_size))
    elif asked.style_size is not None:
        raise UserError("predict: --style-size is of a --style FILE.")
    typed = [_input(word) for word in asked.more]
    for option, out in (("--out", asked.out), ("--figure", asked.figure)):
        _refuse_input(option, out, typed)
    figure = _Figure(predictor, asked.figure) if asked.figure else None
    with _writer(asked, predictor.paints, folder) as writer:
        count = rows = 0
        try:
            for part in predictor.predict_in_parts(typed, top, asked.skip_unreadable):
                columns = by_step(_columns(predictor, part, count, asked))
                writer.write(columns)
                count += len(part.answers)
                rows += len(next(iter(columns.values())))
                if figure is not None:
                    figure.add(part)
        except UserError:
            raise
        except (ValueError, OSError) as error:
            kept = f" {count:,} predictions before it are in {asked.out}."
            done = kept if asked.out and count else ""
            hint = " --skip-unreadable leaves out what cannot be read." if count or done else ""
            raise UserError(f"predict: {_said(error)}.{done}{hint}".replace("..", ".")) from error
    if not count:
        raise UserError("predict: there was nothing to predict.")
    if where := asked.out or writer.place:
        print(f"{rows:,} {'predictions' if rows > 1 else 'prediction'} in {where}")
    if figure is not None:
        figure.draw()
    return 0


def _recommend(asked: argparse.Namespace, predictor: Predictor, folder: RunFolder) -> int:
    found = recommended(asked, predictor)
    if _is_folder(asked.out):
        raise UserError(f"--out: {asked.out} ends in none of {', '.join(ENDINGS)}.")
    with _writer(asked, paints=False, folder=folder) as writer:
        writer.write(found)
    if asked.out:
        print(f"{len(found['item']):,} items in {asked.out}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "predict",
        "What a trained network says of new examples: images (files, folders, patterns), texts "
        "(as they are, or a file of lines), rows of a table (csv, Parquet, JSON, Excel). - reads "
        "paths, texts or csv from standard input.",
        [
            "latest photo.jpg scans/ --figure answers.png",
            "latest houses.csv --out prices.csv",
            "mf-ratings --user 42 --n 10",
        ],
        more="INPUT …",
    )
    add = parser.add_argument
    add(
        "--out",
        metavar="FILE",
        help=f"a file ({', '.join(ENDINGS)}); a folder, or .png, for images (RUN/predictions)",
    )
    add("--csv", action="store_true", help="print csv")
    add("--json", action="store_true", help="print an object a line")
    add("--top", default="3", metavar="K", help="the K most probable classes, or all (default 3)")
    add("--keep", default="", metavar="A,B", help="columns of the input to write, too")
    add("--figure", metavar="FILE", help=f"draw the first {FIGURE} answers as a .png")
    add("--threshold", metavar="SCORE", help="of what is found in images: the least score, 0 to 1")
    add("--style", metavar="FILE", help="an image in whose style to paint, of a run of model=adain")
    add("--style-size", metavar="PIXELS", help="of its longer side: how large its strokes are")
    add_user_options(parser)
    add("--skip-unreadable", action="store_true", help="leave out and list what cannot be read")
    parser.add_weights()
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda:0, … (default auto)")
    return parser


def _top(typed: str) -> int | None:
    if typed == ALL:
        return None
    if not typed.isdecimal() or int(typed) < 1:
        raise UserError(f"predict: --top is a whole number from 1, or all; got {typed}.")
    return int(typed)


def _score(typed: str) -> float:
    try:
        return float(typed)
    except ValueError as error:
        raise UserError(f"predict: --threshold is a score from 0 to 1; got {typed}.") from error


def _style_size(typed: str | None) -> int | None:
    if typed is None:
        return None
    if not typed.isdecimal() or not 1 <= int(typed) <= MOST_PIXELS:
        raise UserError(
            f"predict: --style-size is a number of pixels up to {MOST_PIXELS:,}; got {typed}."
        )
    return int(typed)


def _refuse_input(option: str, out: str | None, inputs: Sequence[Any]) -> None:
    """Refuse to write over a file that is read."""
    path = Path(out).expanduser() if out else None
    if path is None or not path.is_file():
        return
    written = path.resolve()
    for one in inputs:
        if not isinstance(one, (str, Path)) or not str(one):
            continue
        # A folder's files are read at any depth; a pattern's are those that it is now.
        within = isinstance(one, Path) and one.is_dir() and one.resolve() in written.parents
        matched = isinstance(one, str) and _matches(one, path)
        if within or matched or Path(one).resolve() == written:
            raise UserError(f"predict: {option} {out} is read as an input: give another file.")


def _matches(pattern: str, path: Path) -> bool:
    """Whether ``path``, a file, is one that the reader takes for ``pattern``."""
    return has_magic(pattern) and fnmatch(str(path.absolute()), str(Path(pattern).absolute()))


def _input(word: str) -> Any:
    """What a word means: standard input, a file or folder that is there, or itself."""
    if word == STDIN:
        return sys.stdin
    if not word:  # which as a path would be the working folder
        return word
    try:
        path = Path(word).expanduser()
        return path if path.exists() else word
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, ~ of nobody: a text
        return word


def _columns(
    predictor: Predictor, part: Part, before: int, asked: argparse.Namespace
) -> Mapping[str, Sequence[Any]]:
    names = [_name(one, before + number) for number, one in enumerate(part.examples, 1)]
    kept: dict[str, list[Any]] = {}
    for column in filter(None, asked.keep.split(",")):
        for one in part.examples:
            if not isinstance(one, Mapping) or column not in one:
                has = ", ".join(one) if isinstance(one, Mapping) else "no columns"
                raise UserError(f"predict: --keep {column}: the input has {has}.")
        kept[column] = [one[column] for one in part.examples]
    answers = {name: part.answers[name] for name in part.answers.columns}
    if not answers:
        if asked.csv or asked.json or (asked.out and not _holds_images(asked.out)):
            raise UserError(
                "predict: this run's answers are images: give --out FOLDER, or --out NAME.png."
            )
        answers = {IMAGES: list(part.answers.tensors["image"].numpy())}
    elif _paints(asked.out, predictor.paints):
        answers[PAINTED] = predictor.paint(part)
    elif _holds_images(asked.out):
        raise UserError(f"--out: {asked.out} ends in none of {', '.join(ENDINGS)}.")
    head = predictor.reader.example
    return {head if head not in (*kept, *answers) else f"{head} number": names, **kept, **answers}


def _paints(out: str | None, possible: bool) -> bool:
    return possible and _holds_images(out)


def _holds_images(out: str | None) -> bool:
    """Whether it is a folder, or a .png file."""
    return _is_folder(out) or Path(out or "").suffix.lower() == PNG


def _is_folder(out: str | None) -> bool:
    return bool(out) and not Path(str(out)).suffix


def _name(example: Any, number: int) -> str | int:
    """An example's path or text, in which bytes that are no UTF-8 are told by their escapes."""
    if not isinstance(example, (str, PathLike)):
        return number
    return str(example).encode(errors="backslashreplace").decode()


@contextmanager
def _writer(asked: argparse.Namespace, paints: bool, folder: RunFolder) -> Iterator[Writer]:
    if asked.csv and asked.json:
        raise UserError("predict: --csv or --json, not both.")
    if _paints(asked.out, paints):
        painted = PaintedWriter(Path(asked.out).expanduser())
        try:
            yield painted
        finally:
            painted.close()
        return
    if _holds_images(asked.out):
        yield FolderWriter(Path(asked.out).expanduser())
        return
    if asked.out:
        file = FileWriter(Path(asked.out).expanduser())
        try:
            yield file
        finally:
            file.close()
        return
    printed: Writer = ShownWriter(LineWriter(sys.stdout), folder.place(PREDICTIONS))
    if asked.csv or asked.json:
        printed = CsvWriter(sys.stdout) if asked.csv else JsonWriter(sys.stdout, lines=True)
    yield printed
    printed.close()


class _Figure:
    """The first examples with their answers, as an image."""

    def __init__(self, predictor: Predictor, typed: str) -> None:
        self.path = Path(typed).expanduser()
        if self.path.suffix != ".png":
            raise UserError(f"--figure: {typed} does not end in .png.")
        self._predictor, self._parts, self._count = predictor, list[Any](), 0

    def add(self, part: Part) -> None:
        """Keep a part, while there is room."""
        if self._count < FIGURE:
            self._parts.append(part)
            self._count += len(part.answers)

    def draw(self) -> None:
        """Write the file, and say where."""
        from dltrain.inference.figures import draw
        from dltrain.reports.canvas import png

        figure = draw(self._predictor, self._parts, FIGURE)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(png(figure))
        except OSError as error:
            raise UserError(
                f"--figure: {self.path} cannot be written: {error.strerror}."
            ) from error
        print(
            f"{min(self._count, FIGURE)} of {self._count:,} drawn in {self.path}", file=sys.stderr
        )


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read: {error.strerror}"
    said = str(error).removesuffix(".")
    if SETTING.search(said):
        said += ". A run reads files as those that it was trained on: mend this one"
    return said
