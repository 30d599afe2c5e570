"""Run the tests with the oldest, the pinned and the newest versions, on every supported Python.

    python scripts/check_versions.py                                     # all twelve
    python scripts/check_versions.py --python 3.10 --versions oldest --write

Each goes into a throw-away environment of some 6 GB; only those Pythons are tried that are on the
PATH. Prints a table; with --write, its rows go into docs/versions.md, too.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from renew_constraints import CONSTRAINTS, ROOT, uv

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
VERSIONS = {
    "oldest": ("--resolution", "lowest-direct"),
    "locked": ("-c", str(CONSTRAINTS)),
    "newest": (),
}
TABLE = ROOT / "docs" / "versions.md"
BEGIN, END = "<!-- versions: begin -->\n", "<!-- versions: end -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS)
    parser.add_argument("--versions", nargs="+", choices=VERSIONS, default=VERSIONS)
    parser.add_argument("--write", action="store_true", help="into docs/versions.md")
    options = parser.parse_args()

    good = True
    with tempfile.TemporaryDirectory() as place:
        resolver = uv(Path(place))
        for python in options.python:
            for versions in options.versions:
                with tempfile.TemporaryDirectory() as folder:
                    row, passed = tried(resolver, python, versions, Path(folder))
                good &= passed
                print(row, flush=True)
                if options.write:
                    write(row)
    sys.exit(not good)


def tried(resolver: str, python: str, versions: str, folder: Path) -> tuple[str, bool]:
    """The table's row, and whether everything passed."""
    environment = folder / "env"
    own = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [resolver, "pip", "install", "-q", "--python", str(own)]
    installed, counts, good = ["", ""], ["not installed", "", ""], False
    try:
        subprocess.run([resolver, "venv", "-q", "--python", python, environment], check=True)
        requirements = ["-r", "pyproject.toml", "--extra", "dev"]
        subprocess.run([*install, *VERSIONS[versions], *requirements], cwd=ROOT, check=True)
        subprocess.run([*install, "--no-deps", "-e", "."], cwd=ROOT, check=True)
        program = "from importlib.metadata import version as v; print(v('torch'), v('torchvision'))"
        installed = subprocess.check_output([own, "-c", program], text=True).split()
        counts, good = suite(own, folder / "report.xml")
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
    today = datetime.date.today().isoformat()
    return f"| {' | '.join([python, versions, *installed, *counts, today])} |", good


def suite(python: Path, report: Path) -> tuple[list[str], bool]:
    """How many tests passed, failed and were skipped, and whether that is well."""
    command = [python, "-m", "pytest", f"--junitxml={report}"]
    ended = subprocess.run(command, cwd=ROOT, check=False)
    if not report.exists():
        return ["not begun", "", ""], False
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    return [f"{passed:,}", str(len(failed)), str(skipped)], ended.returncode == 0


def write(row: str) -> None:
    """Put the row into the table, in place of an older one of the same Python and versions."""
    before, _, rest = TABLE.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    head, rows = table.splitlines()[:2], table.splitlines()[2:]
    kept = {tuple(cells(line)[:2]): line for line in rows} | {tuple(cells(row)[:2]): row}
    order = [kept[key] for key in every() if key in kept]
    lines = "".join(f"{line}\n" for line in [*head, *order])
    TABLE.write_text(before + BEGIN + lines + END + after, encoding="utf-8")


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def every() -> Iterator[tuple[str, str]]:
    return ((python, versions) for python in PYTHONS for versions in VERSIONS)


if __name__ == "__main__":
    main()
