"""The part of ``use.py`` that makes features of a table's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEVEL = """\
def level(text):
    if not steps["merge"]:
        return text
    try:
        return number(text)
    except ValueError:
        return text.casefold() if steps["case"] else text


"""
PLACES = """\
places = {
    name: {level(one): place for place, one in enumerate(known, 1)}
    for name, known in steps["embedded"].items()
}
indices = {f"input.{name}": [] for name in places}


"""
PARTS = """\
def parts(text, format):
    try:
        date = datetime.strptime(text, format)
    except ValueError:
        date = datetime.fromisoformat(text)
    if date.tzinfo:
        date = date.astimezone(timezone.utc).replace(tzinfo=None)
    days = (date - datetime(1970, 1, 1)).total_seconds() / 86400
    hours = [date.hour + date.minute / 60 + date.second / 3600] if "%H" in format else []
    return [date.year, date.month, date.weekday(), days, *hours]


"""
TABLE = """\
missing = {{"", *(word.casefold() for word in steps["missing_values"])}}


def number(text):
    return float(text.replace(steps["thousands"], "").replace(steps["decimal"], "."))


{functions}def features(row):
    values = []
    for name in steps["columns"]:
        cell = " ".join(row[name].split())
        absent = cell.casefold() in missing
{branches}
    return values


with open(sys.argv[1], encoding="utf-8-sig", newline="") as file:
    rows = [features(row) for row in csv.DictReader(file)]
names, inputs = range(1, len(rows) + 1), {{"features": np.array(rows, np.float64)}}
{indices}if not steps["fill"] and np.isnan(inputs["features"]).any():
    sys.exit("a cell is empty, which the network knows nothing of")
"""
LEVELS = """\
known = [level(one) for one in steps["levels"][name]]
if not absent and level(cell) not in known:
    print(f"{name}: {cell!r} is a level that was not trained on", file=sys.stderr)
values += [np.nan if absent else float(level(cell) == one) for one in known]
"""
EMBEDDED = """\
if absent and not steps["index_missing"]:
    sys.exit(f"{name}: a cell is empty, which the network knows nothing of")
if not absent and level(cell) not in places[name]:
    print(f"{name}: {cell!r} is a level that was not trained on", file=sys.stderr)
indices[f"input.{name}"].append(0 if absent else places[name].get(level(cell), 0))
"""
INDICES = """inputs |= {name: np.array(found, np.int32) for name, found in indices.items()}
inputs = {one["name"]: inputs[one["name"]] for one in network["inputs"]}
"""
BOOLEANS = """\
true, false = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")
if not absent and cell.casefold() not in true + false:
    sys.exit(f"{name}: {cell!r} is not true or false")
values.append(np.nan if absent else float(cell.casefold() in true))
"""
DATES = """\
form = steps["dates"][name]
values += [np.nan] * (4 + ("%H" in form)) if absent else parts(cell, form)
"""
NUMBER = "values.append(np.nan if absent else number(cell))\n"
AFFIXED = 'unit = steps["affixes"].get(name, "")\n' + NUMBER.replace(
    "cell)", 'cell.replace(unit, "").strip())'
)


def table(steps: Mapping[str, Any]) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Lines that read a csv file, with the kinds of column that there are, and their imports."""
    needed: dict[str, tuple[str, ...]] = {"csv": ()}
    functions, cases = "", []
    for kind, lines in (
        *(("levels", LEVELS), ("embedded", EMBEDDED)),
        *(("booleans", BOOLEANS), ("dates", DATES)),
    ):
        if steps[kind]:
            cases.append((f'name in steps["{kind}"]', lines))
    if steps["levels"] or steps["embedded"]:
        functions += LEVEL
    if steps["embedded"]:
        functions += PLACES
    if steps["dates"]:
        functions += PARTS
        needed["datetime"] = ("datetime", "timezone")
    other = AFFIXED if steps["affixes"] else NUMBER
    read = TABLE.format(
        functions=functions,
        branches=_branches(cases, other),
        indices=INDICES if steps["embedded"] else "",
    )
    return read, needed


def _branches(cases: list[tuple[str, str]], other: str) -> str:
    lines, indent = [], 8
    for number, (condition, body) in enumerate(cases):
        lines.append(f"{' ' * indent}{'elif' if number else 'if'} {condition}:")
        lines += [f"{' ' * (indent + 4)}{line}" for line in body.splitlines()]
    if cases:
        lines.append(f"{' ' * indent}else:")
        indent += 4
    return "\n".join([*lines, *(f"{' ' * indent}{line}" for line in other.splitlines())])
