"""``dltrain compare RUN RUN…``: what differs between runs, and whether by more than chance.

Nothing here imports torch but for ``--cost``, and only the figure matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from dltrain.commands.arguments import Parser
from dltrain.commands.chart import chart
from dltrain.commands.tables import (
    Column,
    amount,
    plain,
    screen_width,
    show_csv,
    show_json,
    show_table,
)
from dltrain.errors import UserError
from dltrain.runs.finding import find_run
from dltrain.runs.folding import ELSEWHERE
from dltrain.runs.listing import SPLITS, UNREADABLE, Listed, Unreadable, listed_run, mapping
from dltrain.runs.paired import LEVEL, Bootstrap, McNemar, bootstrap, is_binary, mcnemar
from dltrain.runs.query import in_short
from dltrain.runs.results import Curve, curves, identity_of_test, per_example

MOST_RUNS = len(ascii_uppercase)
MOST_PANELS = 6
SIDE_BY_SIDE = 5
"""Runs that fit beside each other in 80 columns."""


@dataclass(frozen=True)
class Compared:
    """A run with the letter that it goes by here."""

    letter: str
    run: Listed
    curves: Mapping[str, Mapping[str, Curve]]


@dataclass(frozen=True)
class Paired:
    """A metric of two runs, example by example."""

    metric: str
    first: str
    second: str
    examples: int
    bootstrap: Bootstrap
    mcnemar: McNemar | None
    """Of what is right or wrong alone."""


def compare(arguments: Sequence[str]) -> int:
    """Print and draw what differs; return the exit code.

    Raises :class:`UserError` where a run cannot be found or read, or nothing can be compared.
    """
    asked = _parser().parse(arguments)
    compared = _found([asked.run, *asked.more], asked.output_dir)
    names = _common(compared)
    differs = _differences(compared)
    tests, reasons = _paired(compared)
    costs = _costs(compared) if asked.cost else []
    if asked.json:
        show_json(_as_data(compared, differs, tests, reasons) | ({"cost": costs} if costs else {}))
    elif asked.csv:
        show_csv([*_metric_rows(compared), *costs], ("split", "metric"))
    else:
        _show(compared, differs, tests, reasons)
        _show_costs(compared, costs)
        _show_chart(compared, names)
    if asked.out is not None or not (asked.json or asked.csv):
        where = Path(asked.out).expanduser() if asked.out else _default_file(compared, asked)
        drawn = _draw(compared, names, where)
        if not (asked.json or asked.csv):
            print(f"\nCurves: {where}" if drawn else "\nThere are no curves to draw.")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "compare",
        "What differs in the configs of two or more runs, their metrics side by side, their curves "
        "one over the other, and paired tests on the test examples: McNemar's for right or wrong, "
        "the bootstrap for any mean. All are compared with the first.",
        ["latest 2026-01-31_12-00-00", "lenet5-mnist mlp-mnist --cost --out curves.png"],
        more="RUN …",
    )
    add = parser.add_argument
    add(
        "--cost", action="store_true",
        help="also what the networks cost: weights, bytes, multiply-adds, measured latency",
    )  # fmt: skip
    add("--out", metavar="FILE", help="the .png file of the curves (default DIR/comparisons/…)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="all of it, for a program to read")
    output.add_argument("--csv", action="store_true", help="the metrics, for a spreadsheet")
    return parser


def _found(words: Sequence[str], output_dir: Path) -> list[Compared]:
    if len(words) < 2:
        raise UserError("compare: give two runs or more. See dltrain compare --help.")
    if len(words) > MOST_RUNS:
        raise UserError(f"compare: at most {MOST_RUNS} runs, not {len(words)}.")
    found: dict[Path, Compared] = {}
    for letter, word in zip(ascii_uppercase, words, strict=False):
        path = find_run(word, output_dir).path
        if path.resolve() in found:
            raise UserError(f"compare: {word} is {path}, which is given already.")
        run = listed_run(path)
        if run.status == UNREADABLE:
            raise UserError(f"compare: {path} cannot be read: {run.problem}.")
        try:
            found[path.resolve()] = Compared(letter, run, curves(path))
        except Unreadable as error:
            if run.metrics:
                found[path.resolve()] = Compared(letter, run, {})
                continue
            raise UserError(f"compare: {path} has no results yet: {error}.") from error
    return list(found.values())


def _common(compared: Sequence[Compared]) -> list[str]:
    """The metrics that all runs have, the one that the first is monitored by before the others.

    Raises :class:`UserError` where there is none.
    """
    known = [list(dict.fromkeys([*one.run.metrics, *one.curves])) for one in compared]
    common = [name for name in known[0] if all(name in names for names in known)]
    if not common:
        lines = [
            f"\n  {one.letter}  {one.run.path}: {', '.join(names) or 'none'}"
            for one, names in zip(compared, known, strict=True)
        ]
        raise UserError(f"compare: these runs have no metric in common.{''.join(lines)}")
    return common


def _differences(compared: Sequence[Compared]) -> dict[str, list[Any]]:
    """By key, the value of each run, where they are not all the same; None: it has no such key."""
    keys = dict.fromkeys(
        key
        for one in compared
        for key, value in one.run.config.items()
        if key not in ELSEWHERE and value != {}  # of a group with nothing in it, absence tells
    )
    return {
        key: [one.run.config.get(key) for one in compared]
        for key in keys
        if len({repr(one.run.config.get(key, ...)) for one in compared}) > 1
    }


def _paired(compared: Sequence[Compared]) -> tuple[list[Paired], list[str]]:
    """Each run against the first; and why some are not tested."""
    tests: list[Paired] = []
    reasons: list[str] = []
    first = compared[0]
    try:
        base = per_example(first.run.path)
    except Unreadable as error:
        return [], [f"no paired test with {first.letter}: {error}"]
    for other in compared[1:]:
        pair = f"{first.letter} and {other.letter}"
        try:
            columns = per_example(other.run.path)
        except Unreadable as error:
            reasons.append(f"no paired test with {other.letter}: {error}")
            continue
        problem = _other_examples(first.run.path, other.run.path)
        common = [name for name in base if name in columns]
        if not problem and not common:
            problem = "the runs have no metric in common"
        if not problem and len(base[common[0]]) != len(columns[common[0]]):
            problem = f"{len(base[common[0]]):,} and {len(columns[common[0]]):,} results"
        if problem:
            reasons.append(f"no paired test of {pair}: {problem}")
            continue
        for name in common:
            a, b = base[name], columns[name]
            exact = mcnemar(a, b) if is_binary([*a, *b]) else None
            letters = first.letter, other.letter
            tests.append(Paired(name, *letters, len(a), bootstrap(a, b), exact))
    return tests, reasons


def _other_examples(one: Path, other: Path) -> str:
    """Why the test splits of two runs are not known to be the same; empty where they are."""
    before, after = identity_of_test(one), identity_of_test(other)
    if not before or not after:
        return "data.json does not tell which test examples they had"
    if before == after:
        return ""
    counts = [str(split.get("examples", "?")) for split in (before, after)]
    how = f"of {' and '.join(counts)} examples" if counts[0] != counts[1] else "of other examples"
    return f"their test splits differ, {how}"


def _metric_rows(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    rows = []
    for split in SPLITS:
        for name in dict.fromkeys(n for one in compared for n in one.run.metrics):
            values = {str(one.run.path): one.run.metric(name, split) for one in compared}
            if any(value is not None for value in values.values()):
                rows.append({"split": split, "metric": name, **values})
    return rows


def _costs(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """A row for each kind of cost, as those of metrics are; loads the networks."""
    from dltrain.inference.cost import cost_of
    from dltrain.runs.folder import RunFolder

    each = {str(one.run.path): cost_of(RunFolder(one.run.path)) for one in compared}
    names = dict.fromkeys(name for costs in each.values() for name in costs)
    return [
        {"split": "cost", "metric": name, **{run: costs.get(name) for run, costs in each.items()}}
        for name in names
    ]


def _show_costs(compared: Sequence[Compared], costs: Sequence[Mapping[str, Any]]) -> None:
    width = screen_width()
    per_block = max(1, SIDE_BY_SIDE * width // 80)
    for start in range(0, len(compared) if costs else 0, per_block):
        block = compared[start : start + per_block]
        print()
        rows = [[row["metric"], *(_cost(row[str(one.run.path)]) for one in block)] for row in costs]
        show_table(
            [Column("cost"), *(Column(one.letter, right=True) for one in block)], rows, width
        )


def _cost(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _show(
    compared: Sequence[Compared],
    differs: Mapping[str, Sequence[Any]],
    tests: Sequence[Paired],
    reasons: Sequence[str],
) -> None:
    width = screen_width()
    letters = [one.letter for one in compared]
    names = [[one.letter, str(one.run.path), one.run.status] for one in compared]
    show_table([Column("run"), Column("", folds=True), Column("status")], names, width)
    per_block = max(1, SIDE_BY_SIDE * width // 80)
    for start in range(0, len(compared), per_block):
        block = slice(start, start + per_block)
        columns = [Column(letter, folds=True) for letter in letters[block]]
        if differs:
            print()
            rows = [
                [
                    in_short(key, "")[0],
                    *("-" if v is None else in_short(key, v)[1] for v in values[block]),
                ]
                for key, values in differs.items()
            ]
            show_table([Column("config", folds=True), *columns], rows, width)
        for split in SPLITS:
            known = [row for row in _metric_rows(compared) if row["split"] == split]
            if known:
                print()
                cells = [[r["metric"], *_amounts(r, compared[block])] for r in known]
                head = [Column(split), *(Column(one, right=True) for one in letters[block])]
                show_table(head, cells, width)
    if not differs:
        print("\nTheir configs are the same.")
    _show_tests(tests, width)
    for reason in reasons:
        print(f"\n{reason[0].upper()}{reason[1:]}.")


def _amounts(row: Mapping[str, Any], compared: Sequence[Compared]) -> Iterator[str]:
    for one in compared:
        value = row[str(one.run.path)]
        yield "" if value is None else amount(value)


def _show_tests(tests: Sequence[Paired], width: int) -> None:
    if not tests:
        return
    print()
    rows = []
    for test in tests:
        found, exact = test.bootstrap, test.mcnemar
        rows.append([
            test.metric,
            f"{test.second} - {test.first}",
            _signed(found.difference),
            f"{_signed(found.low)} to {_signed(found.high)}",
            _p(found.p_value),
            f"{exact.only_second} : {exact.only_first}" if exact else "",
            _p(exact.p_value) if exact else "",
        ])  # fmt: skip
    names = ("difference", f"{LEVEL:.0%} interval", "p", "right alone", "McNemar p")
    head = [Column("paired"), Column(""), *(Column(name, right=True) for name in names)]
    show_table(head, rows, width)
    counts = sorted({test.examples for test in tests})
    print(f"On {' and '.join(f'{n:,}' for n in counts)} test examples; p by the paired bootstrap.")


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{amount(abs(value))}"


def _show_chart(compared: Sequence[Compared], names: Sequence[str]) -> None:
    for split in ("validation", "train"):
        for name in names:
            drawn = {
                one.letter: one.curves[name][split]
                for one in compared
                if one.curves.get(name, {}).get(split)
            }
            if len(drawn) > 1:
                print(f"\n{split} {plain(name)}, by epoch (* where curves meet)")
                print("\n".join(chart(drawn, screen_width())))
                return


def _default_file(compared: Sequence[Compared], asked: Any) -> Path:
    names = [one.run.path.name for one in compared]
    name = "_".join(names[:2]) + (f"_and_{len(names) - 2}_more" if len(names) > 2 else "")
    return Path(asked.output_dir) / "comparisons" / f"{name}.png"


def _draw(compared: Sequence[Compared], names: Sequence[str], where: Path) -> bool:
    """Write the figure; whether there was anything to draw."""
    shown = [name for name in names if any(one.curves.get(name) for one in compared)]
    if not shown:
        return False
    from dltrain.reports.canvas import png
    from dltrain.reports.comparison import draw_comparison

    legend = {f"{one.letter}  {one.run.path}": one.curves for one in compared}
    image = png(draw_comparison(legend, shown[:MOST_PANELS]))
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(image)
    except OSError as error:
        raise UserError(f"--out: {where} cannot be written: {error.strerror}.") from error
    return True


def _as_data(
    compared: Sequence[Compared],
    differs: Mapping[str, Sequence[Any]],
    tests: Sequence[Paired],
    reasons: Sequence[str],
) -> dict[str, Any]:
    return {
        "runs": [
            {
                "letter": one.letter,
                "run": str(one.run.path),
                "status": one.run.status,
                **{split: dict(mapping(one.run.summary.get(split))) for split in SPLITS},
            }
            for one in compared
        ],
        "differs": {key: list(values) for key, values in differs.items()},
        "paired": [asdict(test) for test in tests],
        "not_paired": list(reasons),
    }
