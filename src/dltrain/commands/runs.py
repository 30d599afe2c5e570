"""``dltrain runs``: all runs, what differs between them, and what came of each."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from dltrain.commands.arguments import Parser
from dltrain.commands.tables import (
    Column,
    amount,
    duration,
    screen_width,
    show_csv,
    show_json,
    show_table,
)
from dltrain.errors import UserError
from dltrain.runs.folding import ELSEWHERE, Row, Value, folded
from dltrain.runs.listing import SPLITS, UNREADABLE, Listed, mapping, runs_below
from dltrain.runs.query import as_text, condition, in_short, ordered, require_known
from dltrain.runs.sweep import left_of, sweeps_below
from dltrain.runs.sweep_report import REPEATED

MOST_DIFFERENCES = 4
"""Of a run, in a table: as many as can be taken in at a glance."""
COLUMNS_OF_CSV = ("run", "when", "model", "data", "status", "seed", "seconds", "differs", "problem")


def runs(arguments: Sequence[str]) -> int:
    """Print all runs that are asked for; return the exit code.

    Raises :class:`UserError` where there is no such folder, or no such key.
    """
    asked = _parser().parse(arguments)
    conditions = [condition(typed) for typed in asked.filter or ()]
    if not asked.output_dir.is_dir() and str(asked.output_dir) != "outputs":
        raise UserError(f"runs: {asked.output_dir}: there is no such folder.")
    there = runs_below(asked.output_dir)
    for one in conditions:
        require_known("--filter", one.key, there)
    for option, key in (("--sort", asked.sort), *(("--metric", name) for name in asked.metric)):
        if key is not None:
            require_known(option, key, there)
    found = [run for run in there if all(one.holds(run) for one in conditions)]
    as_data = asked.json or asked.csv
    fold = not as_data if asked.fold is None else asked.fold
    rows = folded(found) if fold else [Row([run]) for run in found]
    rows = ordered(rows, asked.sort or "when", asked.reverse)
    differences = differing(found)
    if asked.json:
        show_json([_as_data(row, differences, fold) for row in rows])
    elif asked.csv:
        show_csv((_flat(_as_data(row, differences, fold)) for row in rows), COLUMNS_OF_CSV)
    else:
        _show(rows, differences, asked)
        if not rows:
            print(f"None of {len(there):,} runs in {asked.output_dir} is such a run."
                  if there else f"There is no run in {asked.output_dir} yet.")  # fmt: skip
        for sweep in sweeps_below(asked.output_dir):
            left = left_of(sweep)
            if left:
                print(f"sweeps/{sweep.path.name}: {left}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "runs",
        "All runs: when, what, status, metrics of the test split or else of validation, time. "
        "Repeated seeds are one line, mean ± standard deviation (number of runs).",
        ["--filter model=lenet5 --sort accuracy", "--filter 'optimizer.lr<0.01' --no-fold --csv"],
        run="",
    )
    add = parser.add_argument
    add("--sort", metavar="KEY",
        help="by a metric (the best first), a config key, when, time, status …")  # fmt: skip
    add("--reverse", action="store_true", help="in the other order")
    add("--filter", action="append", metavar="KEY=VALUE",
        help="runs of which this is true; also !=, <, >, a,b for either, * for any letters; "
        "may be given several times")  # fmt: skip
    add("--metric", action="append", default=[], metavar="NAME",
        help="a column; may be given several times")  # fmt: skip
    add("--fold", action=argparse.BooleanOptionalAction,
        help="one line for runs that differ by seed or fold alone; of the table the default",
        )  # fmt: skip
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="for a program to read")
    output.add_argument("--csv", action="store_true", help="for a spreadsheet")
    return parser


def differing(found: Iterable[Listed]) -> dict[Any, list[str]]:
    """By path, the keys in which a run is not like all others of its model and data.

    What one typed is first, for the rest may follow from it.
    """
    kin: dict[Any, list[Listed]] = defaultdict(list)
    for run in found:
        kin[(run.model, run.data)].append(run)
    keys: dict[Any, list[str]] = {}
    for members in kin.values():
        values: dict[str, set[str]] = defaultdict(set)
        counts: Counter[str] = Counter()
        for run in members:
            for key, value in run.config.items():
                if value != {}:  # of a group with nothing in it, absence tells
                    counts[key] += 1
                    values[key].add(repr(value))
        differ = {
            key
            for key, known in values.items()
            if (len(known) > 1 or counts[key] < len(members)) and key not in ELSEWHERE
        }
        for run in members:
            typed = {word.lstrip("+").partition("=")[0] for word in run.overrides}
            own = [key for key, value in run.config.items() if key in differ and value != {}]
            keys[run.path] = sorted(own, key=lambda key: (key not in typed, key.endswith("_")))
    return keys


def _show(rows: Sequence[Row], differences: Mapping[Any, list[str]], asked: Any) -> None:
    """The table, and below it what was left out of it."""
    if not rows:
        return
    width = screen_width()
    names = asked.metric or _key_metrics(rows, asked.sort, 2 if width < 110 else 4)
    repeated = any(len(row.runs) > 1 for row in rows)
    names = names if asked.metric or not (repeated and width < 100) else names[:1]
    columns = [Column("run"), Column("what", folds=True), Column("status")]
    columns += [Column(name, right=True) for name in names] + [Column("time", right=True)]
    cells = []
    for row in rows:
        seconds = row.seconds
        cells.append([
            row.first.path.name,
            _what(row, differences),
            row.first.status,
            *_metric_cells(row, names, bool(asked.metric)),
            "" if seconds is None else duration(seconds),
        ])  # fmt: skip
    show_table(columns, cells, width)
    older = sum(row.older for row in rows)
    if any(cell.endswith(" v") for line in cells for cell in line[3:-1]):
        print("v: of the validation split, for there is no test result; all others are test.")
    if older:
        print(f"Left out: {older:,} older runs of the same config and seed; --no-fold lists them.")


def _key_metrics(rows: Sequence[Row], sort: str | None, most: int) -> list[str]:
    """What most runs are monitored by, then what most runs have."""
    monitored = Counter(row.metrics[0] for row in rows if row.metrics)
    had = Counter(name for row in rows for name in row.metrics)
    names = [name for name, _ in islice(monitored.most_common(), 1)]
    if sort is not None:
        name = sort.partition(".")[2] if sort.partition(".")[0] in SPLITS else sort
        names[:0] = [sort] if name in had else []
    names += ["loss"] if "loss" in had else []
    names += [name for name, _ in had.most_common()]
    return list(dict.fromkeys(names))[:most]


def _metric_cells(row: Row, names: Sequence[str], exactly: bool) -> list[str]:
    """A cell a metric; of a run that has none of them, its own first one by name."""
    cells = [_metric_cell(row, name) for name in names]
    if names and row.metrics and not exactly and not any(cells):
        cells[0] = f"{row.metrics[0]} {_metric_cell(row, row.metrics[0])}"
    return cells


def _metric_cell(row: Row, name: str) -> str:
    split, _, last = name.partition(".")
    value = row.value(last, split) if split in SPLITS else row.value(name)
    if value is None:
        return ""
    spread = "" if value.std is None else f" ± {amount(value.std)} ({value.n})"
    marked = " v" if value.split == "validation" and split not in SPLITS else ""
    return f"{amount(value.mean)}{spread}{marked}"


def _what(row: Row, differences: Mapping[Any, list[str]]) -> str:
    run = row.first
    if run.status == UNREADABLE:
        return f"{run.path.parent.name}: {run.problem}"
    words = [name for name in (run.model, run.data) if name]
    default = "-".join(words)
    if str(run.config.get("name", default)) not in (default, default.replace("/", "-")):
        words.append(f"name={run.config['name']}")
    own = [key for key in differences[run.path] if len(row.runs) == 1 or key not in REPEATED]
    words += ["=".join(in_short(key, run.config[key])) for key in own[:MOST_DIFFERENCES]]
    if len(own) > MOST_DIFFERENCES:
        words.append(f"and {len(own) - MOST_DIFFERENCES} more")
    return " ".join(words)


def _as_data(row: Row, differences: Mapping[Any, list[str]], fold: bool) -> dict[str, Any]:
    run = row.first
    content: dict[str, Any] = {
        "run": str(run.path),
        "when": run.when,
        "model": run.model,
        "data": run.data,
        "status": run.status,
        "seed": run.config.get("seed"),
        "seconds": row.seconds,
        "differs": {key: run.config[key] for key in differences.get(run.path, ())},
        "overrides": list(run.overrides),
    }
    if run.problem:
        content["problem"] = run.problem
    if not fold:
        return content | {s: dict(mapping(run.summary.get(s))) for s in SPLITS}
    content["runs"] = [str(one.path) for one in row.runs]
    content["older"] = row.older
    return content | {
        split: {name: vars_of(v) for name in row.metrics if (v := row.value(name, split))}
        for split in SPLITS
    }


def vars_of(value: Value) -> dict[str, Any]:
    """Mean, standard deviation (null of a single run) and the number of runs."""
    return {"mean": value.mean, "std": value.std, "n": value.n}


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` in cells: metrics each by itself, differences and lists as one types them."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if key in SPLITS:
            for name, known in value.items():
                parts = known if isinstance(known, dict) else {"": known}
                flat |= {f"{key}.{name}.{k}".rstrip("."): v for k, v in parts.items()}
        elif key == "differs":
            flat[key] = " ".join(f"{k}={as_text(v)}" for k, v in value.items())
        else:
            flat[key] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat
