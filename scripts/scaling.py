"""One run in 1, 2 and 4 processes of one thread each: time a step, and what torchrun itself costs.

    python scripts/scaling.py                             # AlexNet for small images, a U-Net
    python scripts/scaling.py --worlds 1 2 --rounds 3 --write    # and the table in docs/scaling.md
    python scripts/scaling.py --paper --write             # the cost model's, which measures nothing

The same command and the same global batch, by ``dltrain`` alone, by torchrun with one process, and
with more of them. They take turns, so that a machine that slows down slows all of them; a time is
that of all steps of a run but those of a shorter one, whose first steps are slow, over their
number. The table has medians, how many times as fast as ``dltrain`` alone each is, and what the
cost model expects of it: the step alone over the processes, and an all-reduce of as many bytes as
the gradients have, which is timed by itself. Images are noise, for speed does not depend on what
they show. A world needs as many free cores as processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling.md"
PARAMETERS = 25_557_032
"""Of ResNet-50: of gradients in float32, 102 MB."""
EACH, COMPUTE = 32, 0.18
"""Examples a device, and seconds of its step on them: 120 ms of backpropagation on a Tesla P100
(Goyal et al. 2017, section 4), and half of that again for the forward pass, which is assumed."""
WITHIN, BETWEEN = 20e9, 50e9 / 8
"""Bytes a second between the devices of a machine (assumed, NVLink of that time), and between
machines of eight: 50 Gbit Ethernet, as there."""
HOP = 10e-6
"""Seconds from one machine to the next, assumed."""
INPUT = 5e-6
"""Seconds to gather and augment an example on the device, assumed: of the global batch."""
COMMON = [
    *("callbacks=none", "data.validation=0", "device=cpu", "optimizer=momentum"),
    "trainer.evaluate_every=1000000",
]
CASES = {
    "alexnet_small, 32x32, batch 128": (
        *("model=alexnet_small", "data=image_folder", "data.path={0}/images", "data.size=32"),
        "data.batch_size=128",
    ),
    "unet (width 16), 128x128, batch 8": (
        *("model=unet", "model.width=16", "model.padding=same", "data=image_masks"),
        *("data.path={0}/masks", "data.test=0.05", "data.batch_size=8"),
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2, 4], help="processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="that are timed")
    parser.add_argument("--first", type=int, default=10, help="steps of the shorter run")
    parser.add_argument("--paper", action="store_true", help="the cost model's table")
    parser.add_argument("--write", action="store_true", help="the table into docs/scaling.md")
    parser.add_argument("--reduce", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.reduce is not None:
        reduce(asked.reduce)
        return
    if asked.paper:
        publish("paper", paper(), asked.write)
        return
    lines = [
        "| case | processes | ms a step | times as fast as alone | expected |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        draw(folder)
        for case, overrides in CASES.items():
            typed = [one.format(folder) for one in overrides]
            lines += measured(case, typed, asked, folder)
    cores = len(os.sched_getaffinity(0))
    lines += [
        "",
        f"{cores} cores, medians of {asked.rounds} rounds of {asked.steps} steps, float32.",
    ]
    publish("measured", lines, asked.write)


def publish(name: str, lines: Sequence[str], write: bool) -> None:
    """Print a table; and put it where the document has it."""
    text = "\n".join(lines)
    print(text)
    if write:
        begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
        after = rest.partition(end)[2]
        DOCUMENT.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def paper() -> list[str]:
    """The cost model's table: as many examples on every device, whatever their number."""
    lines = [
        "| devices | global batch | compute | input | all-reduce | a step | efficiency |",
        "|---|---|---|---|---|---|---|",
    ]
    for devices in (1, 8, 64, 256, 1024):
        machines = -(-devices // 8)
        speed = BETWEEN if machines > 1 else WITHIN
        moved = 2 * (devices - 1) / devices * 4 * PARAMETERS
        reduced = moved / speed + 2 * (machines - 1) * HOP
        given = INPUT * EACH * devices
        step = COMPUTE + given + reduced
        parts = (COMPUTE, given, reduced, step)
        cells = " | ".join(f"{part * 1e3:,.0f} ms" for part in parts)
        alone = COMPUTE + INPUT * EACH
        lines.append(f"| {devices:,} | {EACH * devices:,} | {cells} | {alone / step:.0%} |")
    return lines


def reduce(count: int) -> None:
    """Print, on rank 0, the seconds of an all-reduce of so many numbers; by torchrun."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    values, times = torch.ones(count), []
    for _ in range(12):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(values.fill_(1))
        times.append(time.perf_counter() - began)
    if dist.get_rank() == 0:
        print(statistics.median(times[2:]))
    dist.destroy_process_group()


def reduced(world: int, count: int) -> float:
    """The seconds of an all-reduce of so many numbers over so many processes."""
    if world < 2:
        return 0.0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={world}", __file__, f"--reduce={count}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return float(told.stdout.split()[-1])


def measured(case: str, typed: Sequence[str], asked: argparse.Namespace, folder: Path) -> list[str]:
    """The rows of a case."""
    worlds = [0, *asked.worlds]
    times: dict[int, list[float]] = {world: [] for world in worlds}
    for _ in range(asked.rounds):
        for world in worlds:
            short, _ = seconds(world, typed, asked.first, folder)
            long, parameters = seconds(world, typed, asked.first + asked.steps, folder)
            times[world].append((long - short) / asked.steps)
            print(f"{case}: {world or 'alone'}: {times[world][-1] * 1e3:.1f} ms", file=sys.stderr)
    medians = {world: statistics.median(found) for world, found in times.items()}
    rows = []
    for world, median in medians.items():
        name = f"{world} by torchrun" if world else "alone"
        expected = medians[0] / max(1, world) + reduced(world, parameters)
        rows.append(
            f"| {case} | {name} | {median * 1e3:.1f} | {medians[0] / median:.3f} "
            f"| {medians[0] / expected:.3f} |"
        )
    return rows


def seconds(world: int, typed: Sequence[str], steps: int, folder: Path) -> tuple[float, int]:
    """How long so many steps took, of how many parameters; ``world`` 0 is without torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    place = folder / f"runs-{world}-{steps}-{len(list(folder.iterdir()))}"
    command = [
        *(sys.executable, *(launcher if world else ()), "-m", "dltrain", *typed, *COMMON),
        *(f"trainer.steps={steps}", f"data.root={folder}/cache", f"output_dir={place}"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if told.returncode:
        raise SystemExit(f"{told.stdout}{told.stderr}")
    (file,) = place.glob("*/2*/summary.json")
    found = json.loads(file.read_text())
    return float(found["seconds"]["train"]), int(found["parameters"])


def draw(folder: Path) -> None:
    """Images of noise in two classes, and images with masks of two."""
    generator = np.random.default_rng(0)

    def save(place: Path, shape: Sequence[int], high: int = 256) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, high, shape, dtype=np.uint8)).save(place)

    for split, count in (("train", 640), ("test", 2)):
        for number in range(count):
            save(folder / "images" / split / str(number % 2) / f"{number}.png", (32, 32, 3))
    for number in range(42):
        save(folder / "masks" / "images" / f"{number}.png", (128, 128))
        save(folder / "masks" / "masks" / f"{number}.png", (128, 128), 2)


if __name__ == "__main__":
    main()
