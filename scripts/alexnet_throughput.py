"""How many 224x224 images a second AlexNet trains on: the whole command, a thousand classes.

    python scripts/alexnet_throughput.py                          # the network of 2012
    python scripts/alexnet_throughput.py --model alexnet_one_column --batches 256

The images are noise, one a class: speed does not depend on what they show. Times are of all
training steps of a run, the slow first ones included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from dltrain.runs.finding import latest

CLASSES, SIDE = 1000, 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="alexnet")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--images", type=int, default=2560, help="to train on, in each run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "images")
        print("| precision | batch | samples/s |\n|---|---|---|")
        for precision in arguments.precisions:
            for batch in arguments.batches:
                steps = max(10, arguments.images // batch)
                speed = samples_per_second(folder, arguments.model, precision, batch, steps)
                print(f"| {precision} | {batch} | {speed:,.0f} |", flush=True)


def draw(folder: Path) -> None:
    """An image of noise for each class to train on, and for ten of them one to test on."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in (("train", CLASSES), ("test", 10)):
        for number in range(count):
            place = folder / split / f"{number:04}"
            place.mkdir(parents=True)
            noise = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(noise).save(place / "noise.png")


def samples_per_second(folder: Path, model: str, precision: str, batch: int, steps: int) -> float:
    command = [
        *(sys.executable, "-m", "dltrain", f"model={model}", "data=image_folder"),
        *(f"data.path={folder / 'images'}", f"data.root={folder}", f"data.size={SIDE}"),
        *("data.validation=0", f"data.batch_size={batch}", "optimizer=momentum"),
        *("optimizer.lr=1e-4", f"trainer.steps={steps}", f"trainer.precision={precision}"),
        *("trainer.checkpoint_seconds=3600", "callbacks=none", f"output_dir={folder / 'runs'}"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((latest(folder / "runs") / "summary.json").read_text())
    return summary["samples_per_second"]


if __name__ == "__main__":
    main()
