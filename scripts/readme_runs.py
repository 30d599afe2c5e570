"""Run what README.md shows: what commands print, docs/terminal.svg and docs/figures.png.

    python scripts/readme_runs.py

Each block of README.md that begins with ``$ dltrain`` is run, in the order in which they stand, in
one empty folder beside ``seven.png`` and ``wine.csv``; before them `dltrain` alone, LeNet-5 on the
bundled digits. What was printed replaces what stands below the command, but for the lines that
:data:`SHOWN` leaves out, which are an ellipsis. Left out of docs/terminal.svg are all but the first
and last few of the epochs, and the line of the run's time, which is the machine's: docs/results.md
has that. rich draws it, without the font that it would have browsers fetch.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

from dltrain.commands.tour import write_digit, write_wines
from dltrain.runs.finding import latest

ROOT = Path(__file__).resolve().parent.parent
README, DRAWING, FIGURES = ROOT / "README.md", ROOT / "docs/terminal.svg", ROOT / "docs/figures.png"
WIDTH, KEPT = 92, 3
BLOCK = re.compile(r"^```\n(\$ dltrain .*?)^```$", re.S | re.M)
SHOWN = {
    "-m": r"Validation split|setting|model=",
    "data=csv": r"note: (the target|target)| +validation +test|(baseline_\w+_)?accuracy",
    "model=lstm": r" +validation +test|accuracy",
    "model=gan": r" +validation +test|sliced|nearest",
}
"""How the lines begin that are kept of what a command prints, by its first word; of others all."""
PANELS = (("test_confusion_matrix.png", "test_calibration.png", "test_predictions.png"),)
"""The figures of a run that are put together, row by row."""
ACROSS, GAP = 1100, 12
"""Pixels of docs/figures.png from left to right, and between figures."""


def main() -> None:
    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        DRAWING.write_text(drawing(printed([], folder)), encoding="utf-8")
        together(latest(folder / "outputs") / "figures").save(FIGURES, optimize=True)
        write_digit(folder)
        write_wines(folder)
        text = BLOCK.sub(lambda found: f"```\n{shown(found[1], folder)}```", text)
    README.write_text(text, encoding="utf-8")
    for file in (DRAWING, FIGURES):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")


def commands(text: str) -> Iterator[list[str]]:
    """The words behind ``dltrain`` of each command in the blocks that show what is printed."""
    for block in BLOCK.findall(text):
        for line in re.findall(r"^\$ dltrain (.*)$", block, re.M):
            yield shlex.split(line, comments=True)


def printed(words: list[str], folder: Path) -> str:
    """What a command prints; of several processes, as a terminal has it."""
    done = subprocess.run(
        [sys.executable, "-m", "dltrain", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": str(WIDTH)},
        check=False,
    )
    if done.returncode not in (0, 2):
        sys.exit(f"dltrain {shlex.join(words)}: {done.stdout[-2000:]}")
    return done.stdout


def shown(block: str, folder: Path) -> str:
    """A block of commands with what they print now."""
    lines = []
    for command in re.findall(r"^\$ dltrain .*$", block, re.M):
        words = shlex.split(command, comments=True)[2:]
        print(command, flush=True)
        lines.append(command)
        kept = re.compile(SHOWN.get(words[0], ""))
        for line in printed(words, folder).rstrip().splitlines():
            if kept.match(line):
                lines.append(line.rstrip())
            elif lines[-1] != "…":
                lines.append("…")
        if lines[-1] == "…":
            lines.pop()
    return "\n".join([*lines, ""])


def drawing(said: str) -> str:
    """An SVG of ``dltrain`` and what it printed."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text("$ dltrain", style="bold"))
    lines = said.rstrip().splitlines()
    epochs = [number for number, line in enumerate(lines) if line.startswith("epoch ")]
    times = {number for number, line in enumerate(lines) if line.startswith("Trained ")}
    left_out = {*epochs[KEPT:-KEPT], *times}
    for number, line in enumerate(lines):
        if number not in left_out:
            console.print(Text(line))
        elif number in epochs and number - 1 not in left_out:
            console.print(Text("…", style="dim"))
    svg = console.export_svg(title="dltrain")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)


def together(figures: Path) -> Image.Image:
    """Figures of a run in one image, with as many colors as they need."""
    rows = []
    for names in PANELS:
        images = [Image.open(figures / name).convert("RGB") for name in names]
        # As wide as the image in all, and as high as each other.
        high = (ACROSS - GAP * (len(images) - 1)) / sum(one.width / one.height for one in images)
        rows.append(
            [one.resize((round(one.width / one.height * high), round(high))) for one in images]
        )
    down = sum(row[0].height for row in rows) + GAP * (len(rows) - 1)
    sheet = Image.new("RGB", (ACROSS, down), "white")
    y = 0
    for row in rows:
        x = 0
        for one in row:
            sheet.paste(one, (x, y))
            x += one.width + GAP
        y += row[0].height + GAP
    return sheet.quantize(128)


if __name__ == "__main__":
    main()
