"""How fast CIFAR-10 is streamed from Parquet shards, beside data in memory and others' loaders.

    python scripts/stream_speed.py --data DIR [--model alexnet_small] [--rounds 5] [--steps 200]
    python scripts/stream_speed.py --data DIR --cost

``DIR`` is a folder with ``cifar10/train-*.parquet``, as the hub has it. It is written again as 20
shards in a temporary folder. Two comparisons, each of whose contestants take turns:

- training: the same network, batch size and steps on ``data=shards``, and on the same images
  decoded in memory (``data=hub``). Each is a process of its own; the run's own samples a second,
  the median over the rounds, and the ratio, whose bound is 0.8.
- loaders alone: images a second through ``data=shards``, through ``datasets``' own
  ``IterableDataset`` and through WebDataset on tar shards of the same images, if it is installed;
  the latter two in a ``DataLoader`` of as many worker processes, decoding by Pillow.

A busy machine tells little. ``--cost`` counts processor time instead, in one process: seconds for
10,000 images as they are (JPEG) and written again as PNG, by what they are spent on, the least of
the rounds. What a decoder alone takes is what no way of streaming can be below. Then processor
seconds of training on the images, in memory and streamed, from step 50 on.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

BOUND = 0.8
SHARDS, GROUP = 20, 500
BATCH, WORKERS, BUFFER = 128, 2, 10_000


def write(data: Path, folder: Path) -> None:
    """The training images as Parquet and as tar shards; the first 1,000 for evaluation."""
    files = sorted((data / "cifar10").glob("train-*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files])
    each = -(-len(table) // SHARDS)
    hub = folder / "hub"
    hub.mkdir()
    pq.write_table(table, hub / "train-00000-of-00001.parquet", row_group_size=GROUP)
    pq.write_table(table.slice(0, 1000), hub / "test-00000-of-00001.parquet")
    for shard in range(SHARDS):
        part = table.slice(shard * each, each)
        pq.write_table(part, folder / f"train-{shard:02}.parquet", row_group_size=GROUP)
        with tarfile.open(folder / f"train-{shard:02}.tar", "w") as archive:
            for row, entry in enumerate(part.to_pylist()):
                label = str(entry["label"]).encode()
                for ending, content in (("jpg", entry["img"]["bytes"]), ("cls", label)):
                    member = tarfile.TarInfo(f"{row:06}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def trained(folder: Path, model: str, steps: int, data: list[str]) -> float:
    """Samples a second of a run, by its own count."""
    output = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "dltrain", f"model={model}", *data, "device=cpu"]
    command += [f"data.batch_size={BATCH}", f"trainer.steps={steps}", "callbacks=none"]
    command += [f"trainer.evaluate_every={steps}", f"data.root={folder}/root"]
    command += ["data.mean=[0.49,0.48,0.45]", "data.std=[0.25,0.24,0.26]", f"output_dir={output}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (summary,) = output.glob("*/*/summary.json")
    found = json.loads(summary.read_text())
    return steps * BATCH / float(found["seconds"]["train"])


def streamed(folder: Path) -> Iterator[int]:
    """Examples of each batch of ``data=shards``."""
    yield from opened(folder)()


def opened(folder: Path) -> Callable[[], Iterator[int]]:
    """What has been done once the shards are known: an epoch of ``data=shards``."""
    import torch

    from dltrain.contracts.data import Placement
    from dltrain.data.shards.images import ImageShards

    source = ImageShards(
        str(folder / "train-{00..19}.parquet"),
        root=str(folder / "root"),
        test=0,
        validation=0,
        batch_size=BATCH,
        workers=WORKERS,
        buffer=BUFFER,
    )
    source.read(0)
    stream = source.open(Placement(torch.device("cpu"), 0))["train"]
    return lambda: (len(batch["target"]) for batch in stream.batches(0))


def decoded(example: dict[str, Any]) -> dict[str, Any]:
    """An example of ``datasets`` or WebDataset as a tensor and a class."""
    import numpy as np
    import torch
    from PIL import Image

    image = example["img"] if "img" in example else Image.open(io.BytesIO(example["jpg"]))
    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)
    label = example["label"] if "label" in example else int(example["cls"])
    return {"input": pixels.float() / 255, "target": label}


def by_datasets(folder: Path) -> Iterator[int]:
    """Examples of each batch of an ``IterableDataset``."""
    from datasets import load_dataset
    from torch.utils.data import DataLoader

    files = sorted(map(str, folder.glob("train-*.parquet")))
    found = load_dataset("parquet", data_files=files, split="train", streaming=True)
    rows = found.shuffle(seed=0, buffer_size=BUFFER).map(decoded, remove_columns=["img", "label"])
    loader = DataLoader(rows, batch_size=BATCH, num_workers=WORKERS)
    yield from (len(batch["target"]) for batch in loader)


def by_webdataset(folder: Path) -> Iterator[int]:
    """Examples of each batch of WebDataset."""
    import webdataset
    from torch.utils.data import DataLoader

    shards = str(folder / "train-{00..19}.tar")
    rows = webdataset.WebDataset(shards, shardshuffle=SHARDS).shuffle(BUFFER).map(decoded)
    loader = DataLoader(rows, batch_size=BATCH, num_workers=WORKERS)
    yield from (len(batch["target"]) for batch in loader)


LOADERS: dict[str, Callable[[Path], Iterator[int]]] = {
    "data=shards": streamed,
    "datasets": by_datasets,
    "webdataset": by_webdataset,
}


def loaded(folder: Path, name: str) -> None:
    """In a process of its own: print the images a second of a loader's epoch."""
    started = time.perf_counter()
    images = sum(LOADERS[name](folder))
    print(images / (time.perf_counter() - started), flush=True)
    os._exit(0)  # arrow's threads need not be waited for


def cost(data: Path, folder: Path, rounds: int) -> None:
    """Print processor seconds for 10,000 images, by what they are spent on."""
    import torch

    from dltrain.engine.malloc import memory_kept

    table = pq.read_table(min((data / "cifar10").glob("train-*.parquet"))).slice(0, 10_000)
    torch.set_num_threads(1)
    for kind in ("jpeg", "png"):
        place = folder / kind
        place.mkdir()
        files = [entry["bytes"] for entry in table.column("img").to_pylist()]
        if kind == "png":
            files = list(map(as_png, files))
        images = pa.array([{"bytes": content, "path": None} for content in files])
        made = pa.table({"img": images, "label": table.column("label")})
        for shard in range(SHARDS):
            each = len(made) // SHARDS
            part = made.slice(shard * each, each)
            pq.write_table(part, place / f"train-{shard:02}.parquet", row_group_size=GROUP)
        encoded = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in files]
        epoch = opened(place)
        ways: dict[str, Callable[[], object]] = {
            "whole stream": lambda epoch=epoch: sum(epoch()),
            "decoder alone": lambda encoded=encoded, kind=kind: decoded_alone(encoded, kind),
            "Parquet alone": lambda place=place: [
                pq.read_table(file, use_threads=False) for file in place.glob("*.parquet")
            ],
        }
        with memory_kept():
            for name, way in ways.items():
                found = []
                for _ in range(rounds):
                    started = time.process_time()
                    way()
                    found.append(time.process_time() - started)
                print(f"{kind:5} {name:14} {min(found):.3f} s for 10,000 images", flush=True)


def trained_cost(folder: Path, model: str, steps: int, data: list[str]) -> float:
    """In this process: processor seconds that training takes for 10,000 images, from step 50 on."""
    from collections.abc import Mapping

    from dltrain import training
    from dltrain.config import compose
    from dltrain.config.punctuation import with_quotes
    from dltrain.contracts.run import Callback, View

    marks: dict[int, float] = {}

    class Clock(Callback):
        def log(self, view: View, values: Mapping[str, float]) -> None:
            marks[view.progress.step] = time.process_time()

    output = tempfile.mkdtemp(dir=folder)
    words = [f"model={model}", *data, "device=cpu", f"data.batch_size={BATCH}", "callbacks=none"]
    words += [f"trainer.steps={steps}", f"trainer.evaluate_every={steps}", "trainer.log_every=50"]
    words += ["data.mean=[0.49,0.48,0.45]", "data.std=[0.25,0.24,0.26]", f"output_dir={output}"]
    typed = with_quotes([*words, f"data.root={folder}/root"])
    training.train(compose.compose(typed), watchers=[Clock()])
    first, last = min(marks), max(marks)
    return (marks[last] - marks[first]) / ((last - first) * BATCH) * 10_000


def as_png(content: bytes) -> bytes:
    """The same image as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(content)).save(file, "png")
    return file.getvalue()


def decoded_alone(encoded: list[Any], kind: str) -> None:
    """What torchvision's decoder does, and nothing else."""
    import torch
    import torchvision.io  # noqa: F401 - it loads the operators

    decode = getattr(torch.ops.image, f"decode_{kind}").default
    for content in encoded:
        decode(content, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="alexnet_small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--loader", help=argparse.SUPPRESS)
    parser.add_argument("--cost", action="store_true", help="processor seconds alone")
    asked = parser.parse_args()
    if asked.loader:
        loaded(asked.data, asked.loader)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if asked.cost:
            cost(asked.data, folder, asked.rounds)
        write(asked.data, folder)
        shards = ["data=shards", f"data.path={folder}/train-{{00..19}}.parquet", "data.test=0"]
        memory = ["data=hub", f"data.path={folder}/hub"]
        ways = {"in memory": memory, "streamed": [*shards, "data.validation=0"]}
        ways["in memory"].append("data.validation=0")
        if asked.cost:
            for name, data in ways.items():
                found = trained_cost(folder, asked.model, asked.steps, data)
                print(f"{asked.model}, {name}: {found:.2f} s for 10,000 images", flush=True)
            return
        speeds: dict[str, list[float]] = {name: [] for name in (*ways, *LOADERS)}
        for _ in range(asked.rounds):
            for name, data in ways.items():
                speeds[name].append(trained(folder, asked.model, asked.steps, data))
        for _ in range(asked.rounds):
            for name in LOADERS:
                command = [sys.executable, __file__, "--data", made, "--loader", name]
                done = subprocess.run(command, capture_output=True, text=True)
                if "No module named" in done.stderr:
                    continue
                done.check_returncode()
                speeds[name].append(float(done.stdout))
    for name, found in speeds.items():
        if found:
            print(f"{name:12} {statistics.median(found):9,.0f} images/s ({len(found)} rounds)")
        else:
            print(f"{name:12} is not installed")
    ratio = statistics.median(speeds["streamed"]) / statistics.median(speeds["in memory"])
    print(f"{asked.model}: streamed {ratio:.3f} of the speed in memory (bound: {BOUND})")


if __name__ == "__main__":
    main()
