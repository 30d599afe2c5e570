"""``dltrain evaluate RUN [data=…]``: a run's metrics, tables and figures on any data.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.commands.arguments import Parser
from dltrain.commands.tables import json_text, show_csv
from dltrain.errors import UserError, printable_lines
from dltrain.runs.finding import find_run
from dltrain.runs.folder import RunFolder

if TYPE_CHECKING:
    from dltrain.inference.evaluate import Evaluated

SPLITS = ("test", "validation", "train", "all")


def evaluate(arguments: Sequence[str]) -> int:
    """Evaluate a run, print its metrics, write the rest; return the exit code.

    Raises :class:`UserError` where the run cannot be evaluated so.
    """
    parser = _parser()
    asked = parser.parse(arguments)
    overrides = parser.overrides(asked)
    if asked.csv and asked.json:
        raise UserError("evaluate: --csv or --json, not both.")
    folder = find_run(asked.run, asked.output_dir)
    from dltrain import messages
    from dltrain.engine import runtime
    from dltrain.inference.evaluate import data_of, evaluate_run

    with messages.shown(), runtime.generators_kept():
        found = evaluate_run(
            folder,
            asked.split,
            data_of(folder, overrides),
            asked.weights,
            asked.device,
            asked.skip_unknown,
            asked.changed_data,
        )
        written = None if asked.no_files else _write(folder, asked.out, found, overrides)
    _print(found, asked.csv, asked.json, folder)
    if written is not None:
        print(
            f"tables and figures: {written}", file=sys.stderr if asked.csv or asked.json else None
        )
    return 0


def _parser() -> Parser:
    parser = Parser(
        "evaluate",
        "A trained run's metrics, tables and figures on a split of its own data, or of another "
        "data set: data=… chooses one, data.KEY=… changes the run's own. Its examples are read as "
        "the run's were, and its classes go by their names.",
        ["latest", "lenet5-mnist data=image_folder data.path=photos --split all"],
        more="[data=… data.KEY=…]",
    )
    add = parser.add_argument
    add("--split", choices=SPLITS, help="default: test, or validation where there is none")
    parser.add_weights()
    add("--device", metavar="NAME", help="auto, cpu, cuda:0, … (default: the run's)")
    add("--skip-unknown", action="store_true", help="leave out classes that the run does not know")
    add("--changed-data", action="store_true", help="although the run's own data has changed")
    add("--out", metavar="DIR", help="where tables and figures go (default: RUN/evaluations/…)")
    add("--no-files", action="store_true", help="print metrics, write nothing")
    add("--json", action="store_true", help="print an object")
    add("--csv", action="store_true", help="print csv")
    return parser


def _write(
    folder: RunFolder, out: str | None, found: Evaluated, overrides: Sequence[str]
) -> Path | None:
    """Write the metrics, tables, texts and figures; return where. None: there is no place."""
    from dltrain.callbacks.drawing import rendered

    stem = found.split if not overrides else f"{found.split}-{Path(found.data).stem}"
    place = Path(out).expanduser() if out else folder.place("evaluations") / stem
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out: {place} cannot be made: {error.strerror}. --no-files writes nothing."
        ) from error
    to, evaluation = RunFolder(place), found.evaluation
    to.write_json("metrics.json", _summary(found, folder))
    for name, table in evaluation.tables.items():
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        if rows:
            to.write_table(f"tables/{name}", rows)
    for name, text in evaluation.texts.items():
        to.write_text(f"texts/{name}.md", text)
    for name, draw in evaluation.figures.items():
        image = rendered(name, draw)
        if image is not None:
            to.write(f"figures/{name}.png", methodcaller("write", image))
    return place


def _summary(found: Evaluated, folder: RunFolder) -> dict[str, Any]:
    return {
        "run": str(folder.path),
        "data": found.data,
        "split": found.split,
        "examples": found.examples,
        "weights": found.weights,
        "metrics": dict(found.evaluation.scalars),
    }


def _print(found: Evaluated, as_csv: bool, as_json: bool, folder: RunFolder) -> None:
    for warning in found.evaluation.warnings:
        print(printable_lines(f"warning: {warning}"), file=sys.stderr)
    scalars = found.evaluation.scalars
    if as_json:
        print(json_text(_finite(_summary(found, folder))))
    elif as_csv:
        rows = ({"split": found.split, "name": n, "value": value} for n, value in scalars.items())
        show_csv(rows, ("split", "name", "value"))
    else:
        print(
            printable_lines(
                f"{found.split} split of {found.data}: {found.examples:,} examples, "
                f"{found.weights} weights"
            )
        )
        wide = max(map(len, scalars), default=0)
        for name, value in scalars.items():
            print(printable_lines(f"  {name:<{wide}}  {value:.6g}"))


def _finite(value: Any) -> Any:
    """JSON has no word for what is not finite."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and value - value != 0 else value
