"""Run the commands of the course's pages, and renew their images and tables.

    python scripts/course.py                     # every page
    python scripts/course.py 01 07               # some of them
    python scripts/course.py --outputs DIR 01    # keep the runs there, and use those that it has

Of each page docs/course/NN-name.md the commands below "## Run it" are run as they stand, in an
empty folder. What a page shows of their runs is drawn by ``course_*.py``: docs/course/images/NN.png
and the bodies of tables between ``<!-- table: NAME -->`` and ``<!-- end -->``, in both languages.
scripts/course.json keeps the tables, and the seconds that the commands took, of one core.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import course_images
import course_language
import course_measures
import course_models
import course_steps
from course_runs import Shown

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "scripts" / "course.json"
LANGUAGES = {"en": ROOT / "docs" / "course", "zh": ROOT / "docs" / "zh" / "course"}
IMAGES = LANGUAGES["en"] / "images"
SECTIONS = {
    number: draw
    for module in (course_steps, course_images, course_language, course_models, course_measures)
    for number, draw in module.SECTIONS.items()
}
"""What draws each page."""
CELLS = ROOT / "docs" / "zh" / "cells.csv"
"""Words in tables, in English and in Chinese."""
RUN_IT = {"en": "## Run it", "zh": "## 运行"}
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.S | re.M)
TABLE = r"(<!-- table: {} -->\n)(.*?)(<!-- end -->)"
MOST_BYTES = 60_000
"""Of an image."""
BEHIND = {"31": "17"}
"""Pages that were written last and are read earlier: behind which one each stands in the list."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*sorted(SECTIONS), []])
    parser.add_argument("--outputs", type=Path, help="keep the runs there, a folder a page")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        kept = (asked.outputs or Path(temporary)).resolve()
        for number in asked.sections or sorted(SECTIONS):
            renew(number, kept / number)
    renew_index()


def renew(number: str, folder: Path) -> None:
    """Run a page's commands, unless ``folder`` has their runs, and draw what it shows."""
    commands = commands_of(page(number))
    if not folder.exists():
        folder.mkdir(parents=True)
        seconds = round(sum(run(command, folder) for command in commands), 1)
        (folder / "seconds.txt").write_text(str(seconds))
    seconds = float((folder / "seconds.txt").read_text())
    shown = SECTIONS[number](folder / "outputs")
    save(shown, number)
    for name, rows in shown.tables.items():
        for language in LANGUAGES:
            fill(page(number, language), name, in_language(rows, language))
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[number] = {"commands": commands, "seconds": seconds, "tables": shown.tables}
    RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n")
    print(f"{number}: {seconds} s", flush=True)


def page(number: str, language: str = "en") -> Path:
    """The page of a section."""
    (found,) = LANGUAGES[language].glob(f"{number}-*.md")
    return found


def commands_of(file: Path, language: str = "en") -> list[str]:
    """The commands below "Run it", a line each."""
    _, _, below = file.read_text(encoding="utf-8").partition(f"{RUN_IT[language]}\n")
    block = BLOCK.search(below)
    assert block, f"{file}: no commands"
    return [line.partition("  #")[0].strip() for line in block[1].splitlines() if line.strip()]


def run(command: str, folder: Path) -> float:
    """Run a page's command as a shell would, in ``folder``; the seconds it took, of one core."""
    program, *words = shlex.split(command)
    assert program in ("dltrain", "python"), command
    if program == "python":
        words[0] = str(ROOT / words[0])
    module = ["-m", "dltrain"] if program == "dltrain" else []
    before = sum(os.times()[2:4])  # of children: a busy machine adds nothing to it
    done = subprocess.run(
        [sys.executable, *module, *words], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{command}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return sum(os.times()[2:4]) - before


def save(shown: Shown, number: str) -> None:
    """Write the figure with as few colors as it needs: it lies in the repository."""
    from PIL import Image

    drawn, file = io.BytesIO(), IMAGES / f"{number}.png"
    shown.figure.savefig(drawn, format="png", dpi=100)
    file.parent.mkdir(exist_ok=True)
    image = Image.open(drawn).convert("RGB")
    for colors in (256, 128, 64, 32):
        image.quantize(colors).save(file, optimize=True)
        if file.stat().st_size <= MOST_BYTES:
            return
    sys.exit(f"{file} has {file.stat().st_size} bytes")


def fill(file: Path, name: str, rows: Sequence[Sequence[str]]) -> None:
    """Write the rows of a table; its head stays as the page has it."""
    text = file.read_text(encoding="utf-8")
    found = re.search(TABLE.format(name), text, re.S)
    assert found, f"{file} has no table {name}"
    head = "".join(found[2].splitlines(keepends=True)[:2])
    body = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    file.write_text(text[: found.start(2)] + head + body + text[found.end(2) :], encoding="utf-8")


def in_language(rows: Sequence[Sequence[str]], language: str) -> list[list[str]]:
    """The cells as a page has them: words of Chinese pages are in docs/zh/cells.csv."""
    with CELLS.open(encoding="utf-8", newline="") as file:
        words = {row["english"]: row["chinese"] for row in csv.DictReader(file)}
    return [[words.get(cell, cell) if language == "zh" else cell for cell in row] for row in rows]


def renew_index() -> None:
    """The list of pages, with the seconds that their commands took."""
    record = json.loads(RECORD.read_text())
    for language, folder in LANGUAGES.items():
        rows = []
        for number in sorted(record, key=in_order):
            file = page(number, language)
            title = file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
            rows.append([f"[{title}]({file.name})", str(round(record[number]["seconds"]))])
        fill(folder / "index.md", "pages", rows)


def in_order(number: str) -> str:
    """By what pages are sorted as they are read."""
    return f"{BEHIND[number]}-{number}" if number in BEHIND else number


if __name__ == "__main__":
    main()
