"""How fast a trained run answers: from the shell, and many images.

    python scripts/predict_speed.py [--images 10000] [--rounds 7]

Trains LeNet-5 on MNIST-sized images and an LSTM on bundled texts for two steps. Then, alternated:
``dltrain predict RUN x.png`` and ``dltrain predict RUN "a text"`` beside a process that imports
torch and loads the same run by ``dltrain.load``; the median of wall-clock and of processor seconds,
and of the ratios of pairs. Then ``--images`` PNG files of 28 x 28 in a folder, in one process; and
a csv of 1,000 and one of 300,000 rows, each in a process of its own, whose largest memory is told.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import dltrain
from dltrain import training
from dltrain.config import compose as composition

SHORT = ("trainer.steps=2", "callbacks=none", "device=cpu")
ROWS = """
import pathlib, resource, sys
from dltrain.cli import dispatch
dispatch(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss: a process begins with that of the one it came from.
status = pathlib.Path("/proc/self/status").read_text()
most = int(status.partition("VmHWM:")[2].split()[0]) / 1024
print(f"{most:.0f} MiB, {used.ru_utime + used.ru_stime:.2f} s of processors")
"""
LOAD = "import torch, dltrain; dltrain.load({run!r}, output_dir={outputs!r})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        outputs = str(place / "outputs")
        generator = np.random.default_rng(0)
        for number in range(asked.images):
            kind = place / "images" / str(number % 2)
            kind.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (28, 28), np.uint8)
            pixels[:, ::2] = 0  # a PNG of noise alone is no digit
            Image.fromarray(pixels).save(kind / f"{number:05}.png")
        small = place / "small"
        for path in [p for kind in "01" for p in sorted((place / "images" / kind).iterdir())[:20]]:
            (small / path.parent.name).mkdir(parents=True, exist_ok=True)
            (small / path.parent.name / path.name).write_bytes(path.read_bytes())
        train(outputs, "images", "model=lenet5", "data=image_folder", f"data.path={small}",
              f"data.root={place}")  # fmt: skip
        train(outputs, "texts", "model=lstm", "data=toy_reviews", "data.limit=400")
        one = str(next((place / "images").glob("*/*")))
        for run, example in (("images", one), ("texts", "a fine film")):
            ask = ["-m", "dltrain", "predict", run, example, "--output-dir", outputs]
            load = ["-c", LOAD.format(run=run, outputs=outputs)]
            beside(run, ask, load, asked.rounds)
        predictor = dltrain.load("images", output_dir=outputs)
        predictor.predict(one)
        wall, processors = time.perf_counter(), time.process_time()
        count = sum(len(p.answers) for p in predictor.predict_in_parts([place / "images"]))
        wall, processors = time.perf_counter() - wall, time.process_time() - processors
        print(
            f"{count:,} PNG files: {count / wall:,.0f} a second, {processors / wall:.2f} processors"
        )
        rows(outputs, place)


def rows(outputs: str, place: Path) -> None:
    """Tables of flowers."""
    train(outputs, "rows", "model=mlp", "data=iris")
    for count in (1_000, 300_000):
        path = place / f"{count}.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("sepal length,sepal width,petal length,petal width\n")
            for row in range(count):
                file.write(f"{4 + row % 30 / 10},3.0,4.0,1.{row % 10}\n")
        out = str(place / "answers.csv")
        ask = ["predict", "rows", str(path), "--out", out, "--output-dir", outputs]
        told = subprocess.run(
            [sys.executable, "-c", ROWS, *ask], check=True, capture_output=True, text=True
        ).stdout
        print(f"{count:,} rows of csv: {told.splitlines()[-1]}")


def train(outputs: str, name: str, *overrides: str) -> None:
    typed = [*overrides, *SHORT, f"name={name}", f"output_dir={outputs}"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        training.train(composition.compose(typed), typed)


def beside(name: str, ask: list[str], load: list[str], rounds: int) -> None:
    """Time both, in turn."""
    found: list[tuple[float, float, float, float]] = [
        (*timed(ask), *timed(load)) for _ in range(rounds)
    ]
    walls = [statistics.median(row[place] for row in found) for place in range(4)]
    ratios = [statistics.median(row[p] / row[p + 2] for row in found) for p in (0, 1)]
    print(
        f"{name}: predict {walls[0]:.2f} s (processors {walls[1]:.2f}), import torch and load "
        f"{walls[2]:.2f} s ({walls[3]:.2f}): {ratios[0]:.2f} times ({ratios[1]:.2f})",
        flush=True,
    )


def timed(arguments: list[str]) -> tuple[float, float]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=os.environ)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
