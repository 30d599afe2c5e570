"""How long a newcomer takes from nothing to a trained model and an answer about an image of theirs.

    python scripts/first_minutes.py

Three commands, in an empty folder: git clone of this repository; README.md's first command, which
makes an environment and trains LeNet-5; ``dltrain predict latest mine.png``, of a digit drawn here.
pip has no cache, so that all packages are fetched and unpacked. Of each command the seconds by the
clock and those of the processors, and what it is for: the run's figures, and the answer. Of a
machine that does other work beside it, the processors' seconds alone say something; they leave out
what is waited for, such as the network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
STROKE, WIDTH = [(22, 16), (74, 16), (44, 88)], 14
"""The corners of a seven, and how thick it is, in pixels of an image of 96 x 96."""


def main() -> None:
    (first, *_) = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.M)
    with tempfile.TemporaryDirectory() as name:
        folder, clone = Path(name), Path(name) / "dltrain"
        total = [0.0, 0.0]
        print("| command | seconds | of processors |\n|---|---|---|")
        for command, place in (
            (f"git clone -q {ROOT} dltrain", folder),
            (first, clone),
            (".venv/bin/dltrain predict latest mine.png", clone),
        ):
            if place == clone:
                drawn().save(clone / "mine.png")
            seconds = timed(command, place)
            total = [a + b for a, b in zip(total, seconds, strict=True)]
            shown = command.replace(str(ROOT), "URL")
            print(f"| `{shown}` | {seconds[0]:.0f} | {seconds[1]:.0f} |", flush=True)
        print(f"| all | {total[0]:.0f} | {total[1]:.0f} |\n")
        figures = sorted(clone.glob("outputs/*/*/figures/*.png"))
        print(f"{len(figures)} figures, such as {figures[0].name}")
        print((clone / "printed").read_text().rstrip())


def timed(command: str, folder: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processors; what it prints is in the file ``printed``."""
    fresh = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    started = time.perf_counter()
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=fresh | {"PIP_NO_CACHE_DIR": "1"},
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command}: {(folder / 'printed').read_text()[-2000:]}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def drawn() -> Image.Image:
    """A seven, as by a mouse; light on dark, as the digits are that the network has seen."""
    image = Image.new("L", (96, 96), 0)
    ImageDraw.Draw(image).line(STROKE, fill=255, width=WIDTH, joint="curve")
    return image


if __name__ == "__main__":
    main()
