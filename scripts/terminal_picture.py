"""Draw what `dltrain` prints, as the README shows it: docs/terminal.svg.

    python scripts/terminal_picture.py

It is a real run, LeNet-5 on the bundled digits. Left out are all but the first and last few of its
epochs, and the line of its time, which is the machine's: the README's results have that. rich
draws it, without the font that it would have browsers fetch.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
DRAWING = ROOT / "docs" / "terminal.svg"
WIDTH, KEPT = 92, 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "dltrain"], cwd=folder, capture_output=True, text=True,
            env=os.environ | {"COLUMNS": str(WIDTH), "PYTHONPATH": str(ROOT / "src")}, check=True,
        )  # fmt: skip
    DRAWING.write_text(drawing(done.stdout), encoding="utf-8")
    print(f"{DRAWING.relative_to(ROOT)}: {DRAWING.stat().st_size:,} bytes")


def drawing(said: str) -> str:
    """An SVG of a command and what it said."""
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


if __name__ == "__main__":
    main()
