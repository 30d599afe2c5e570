"""``dltrain evaluate RUN [data=…]``: a run's metrics, tables and figures on any data.

Nothing here imports torch until the arguments are known to be right.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.commands.arguments import Parser
from dltrain.commands.tables import json_text, show_csv
from dltrain.config.quoting import in_grammar
from dltrain.errors import UserError, printable_lines
from dltrain.runs.finding import find_run
from dltrain.runs.folder import RunFolder

if TYPE_CHECKING:
    from dltrain.inference.evaluate import Evaluated

SPLITS = ("test", "validation", "train", "all")


@dataclass(frozen=True)
class Under:
    """An attack: its name, its settings, and the evaluation for each epsilon."""

    name: str
    node: Mapping[str, Any]
    each: Mapping[float, Evaluated]

    def rows(self) -> list[dict[str, float]]:
        """The metrics for each epsilon."""
        return [{"epsilon": e, **found.evaluation.scalars} for e, found in self.each.items()]

    def described(self) -> dict[str, Any]:
        """For JSON: settings, and what came of each epsilon."""
        settings = {name: value for name, value in self.node.items() if name != "_target_"}
        each = [{"epsilon": e, "metrics": one.evaluation.scalars} for e, one in self.each.items()]
        return {"name": self.name, **settings, "epsilon": [*self.each], "each": each}


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
    from dltrain.inference.attacked import attack_of
    from dltrain.inference.evaluate import data_of, evaluate_run

    with messages.shown(), runtime.generators_kept():
        attacks, of_data, name = attack_of(overrides)
        data = data_of(folder, of_data)
        nodes: Sequence[Mapping[str, Any] | None] = [*attacks] or [None]
        each = [
            evaluate_run(
                folder,
                asked.split,
                data,
                asked.weights,
                asked.device,
                asked.skip_unknown,
                asked.changed_data,
                node,
            )
            for node in nodes
        ]
        found = each[-1]
        epsilons = [node["epsilon"] for node in attacks]
        under = None
        if attacks:
            under = Under(name, attacks[-1], dict(zip(epsilons, each, strict=True)))
        written = None
        if not asked.no_files:
            written = _write(folder, asked.out, found, of_data, under)
    _print(found, asked.csv, asked.json, folder, under)
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
        "the run's were, and its classes go by their names. attack=pgd or fgsm changes the inputs "
        "to mislead the network, within attack.epsilon, one number or a list.",
        [
            "latest",
            "lenet5-mnist data=image_folder data.path=photos --split all",
            "latest attack=pgd 'attack.epsilon=[0,0.1,0.3]'",
        ],
        more="[data=… data.KEY=… attack=…]",
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
    folder: RunFolder,
    out: str | None,
    found: Evaluated,
    of_data: Sequence[str],
    under: Under | None,
) -> Path | None:
    """Write the metrics, tables, texts and figures; return where. None: there is no place."""
    from dltrain.callbacks.drawing import rendered

    stem = found.split if not of_data else f"{found.split}-{Path(found.data).stem}"
    stem = stem if under is None else f"{stem}-{under.name}"
    place = Path(out).expanduser() if out else folder.place("evaluations") / stem
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out: {place} cannot be made: {error.strerror}. --no-files writes nothing."
        ) from error
    to, evaluation = RunFolder(place), found.evaluation
    to.write_json("metrics.json", _summary(found, folder, under))
    if under is not None:
        to.write_table("tables/robustness", under.rows())
        image = rendered("robustness", partial(_robustness, under))
        if image is not None:
            to.write("figures/robustness.png", methodcaller("write", image))
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


def _robustness(under: Under) -> Any:
    from dltrain.reports.robustness import draw_robustness

    rows = under.rows()
    names = [name for name in ("accuracy", "f1") if all(name in row for row in rows)]
    values = {name: [row[name] for row in rows] for name in names}
    return draw_robustness([row["epsilon"] for row in rows], values, under.name)


def _summary(found: Evaluated, folder: RunFolder, under: Under | None) -> dict[str, Any]:
    attack = {} if under is None else {"attack": under.described()}
    return attack | {
        "run": str(folder.path),
        "data": found.data,
        "split": found.split,
        "examples": found.examples,
        "weights": found.weights,
        "metrics": dict(found.evaluation.scalars),
        **({"signatures": signatures} if (signatures := found.evaluation.signatures) else {}),
    }


def _print(
    found: Evaluated, as_csv: bool, as_json: bool, folder: RunFolder, under: Under | None
) -> None:
    for warning in found.evaluation.warnings:
        print(printable_lines(f"warning: {warning}"), file=sys.stderr)
    scalars = found.evaluation.scalars
    if as_json:
        print(json_text(_finite(_summary(found, folder, under))))
    elif as_csv and under is not None:
        table = under.rows()
        show_csv(table, list(table[0]))
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
        if under is not None:
            _print_attack(under)
            return
        wide = max(map(len, scalars), default=0)
        for name, value in scalars.items():
            print(printable_lines(f"  {name:<{wide}}  {value:.6g}"))


def _print_attack(under: Under) -> None:
    """The attack's settings, and a line of metrics for each epsilon."""
    skipped = ("_target_", "epsilon")
    settings = ", ".join(f"{k} {in_grammar(v)}" for k, v in under.node.items() if k not in skipped)
    print(f"under {under.name}: {settings}")
    rows = under.rows()
    names = [name for name in rows[0] if name in ("epsilon", "accuracy", "loss", "f1")]
    print("  " + "".join(f"{name:>10}" for name in names))
    for row in rows:
        print("  " + "".join(f"{row[name]:>10.4g}" for name in names))


def _finite(value: Any) -> Any:
    """JSON has no word for what is not finite."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and value - value != 0 else value
