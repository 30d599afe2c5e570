"""See that memory does not grow with the data: a large set in shards beside one of 1,000 examples.

    python scripts/stream_memory.py                            # 10 GiB each: images, tar, tables
    python scripts/stream_memory.py --gib 1 --only tables --steps 100

Makes the sets in a temporary folder (``--folder``: one with room), trains a small network on each
for so many steps by ``dltrain`` as a user would, and samples every 50 ms the resident memory of
that process and of all its children. Prints the peak of each run and by how much the large set's is
above the small one's; the bound is 300 MiB. The exit code is 1 where one is beyond it.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

BOUND = 300
"""MiB above the run on few examples."""
FEW = 1_000
EVALUATED = 500
SHARD = 128 << 20
SIDE, DIFFERENT = 224, 200
ROWS, FEATURES = 200_000, 24
COMMON = ["device=cpu", "data.buffer=10000", "trainer.log_every=50"]


def images() -> list[bytes]:
    """JPEG files of photographs' size and about their weight, of two classes of brightness."""
    generator, found = np.random.default_rng(0), []
    for number in range(DIFFERENT):
        noise = generator.integers(0, 128, (SIDE, SIDE, 3), np.uint8) + 100 * (number % 2)
        file = io.BytesIO()
        Image.fromarray(noise.astype(np.uint8)).save(file, "JPEG", quality=85)
        found.append(file.getvalue())
    return found


def write_images(path: Path, files: list[bytes], count: int, first: int) -> None:
    chosen = [(first + row) % DIFFERENT for row in range(count)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = pa.array([{"bytes": files[n], "path": None} for n in chosen], kind)
    table = pa.table({"image": cells, "label": [n % 2 for n in chosen]})
    pq.write_table(table, path, row_group_size=200, use_dictionary=False, compression="none")


def write_tar(path: Path, files: list[bytes], count: int, first: int) -> None:
    with tarfile.open(path, "w") as archive:
        for row in range(count):
            number = (first + row) % DIFFERENT
            for ending, content in (("jpg", files[number]), ("cls", b"%d" % (number % 2))):
                member = tarfile.TarInfo(f"{row:08}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_table(path: Path, rows: np.ndarray, count: int, first: int) -> None:
    turned = np.roll(rows, first, 0)[np.arange(count) % ROWS]
    columns = {f"x{n}": turned[:, n] for n in range(FEATURES)}
    columns["y"] = turned @ np.linspace(-1, 1, FEATURES, dtype=np.float32)
    pq.write_table(
        pa.table(columns), path, row_group_size=50_000, use_dictionary=False, compression="none"
    )


class Kind:
    """How a set is written, and how it is trained on."""

    def __init__(
        self, write: Callable[[Path, int, int], None], ending: str, size: int, command: list[str]
    ) -> None:
        self.write, self.ending, self.size, self.command = write, ending, size, command


def kinds() -> dict[str, Kind]:
    files = images()
    size = sum(map(len, files)) // DIFFERENT
    rows = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    network = ["model=cnn", "model.channels=[8]", "data.size=64", "data.batch_size=32"]
    shards = ["data=shards", *network]
    return {
        "images": Kind(lambda *of: write_images(of[0], files, *of[1:]), "parquet", size, shards),
        "tar": Kind(lambda *of: write_tar(of[0], files, *of[1:]), "tar", size, shards),
        "tables": Kind(
            lambda *of: write_table(of[0], rows, *of[1:]),
            "parquet",
            4 * (FEATURES + 1),
            ["data=table_shards", "data.target=y", "model=mlp", "model.hidden=[32]"],
        ),
    }


def make(folder: Path, kind: Kind, gib: float) -> None:
    """``large/*`` of so many GiB, ``small/*`` of few examples, and what is evaluated."""
    for name in ("large", "small"):
        (folder / name).mkdir(parents=True)
    each = SHARD // kind.size
    left, shard = int(gib * (1 << 30)) // kind.size, 0
    while left > 0:
        kind.write(folder / "large" / f"{shard:05}.{kind.ending}", min(each, left), shard * each)
        left, shard = left - each, shard + 1
    kind.write(folder / "small" / f"0.{kind.ending}", FEW, 0)
    for split in ("validation", "test"):
        kind.write(folder / f"{split}.{kind.ending}", EVALUATED, 7)


def tree(process: int) -> Iterator[int]:
    """A process and all its children, and theirs."""
    yield process
    try:
        text = "".join(
            path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")
        )
    except OSError:
        return
    for child in text.split():
        yield from tree(int(child))


def resident(process: int) -> int:
    """Bytes of all of them, what they share counted for each."""
    total = 0
    for one in tree(process):
        try:
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        total += pages * 4096
    return total


def peak(command: list[str]) -> tuple[int, float]:
    """The largest resident memory of a command, and its seconds."""
    started, most = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            most = max(most, resident(process.pid))
            time.sleep(0.05)
        assert process.stderr is not None
        if process.returncode:
            sys.exit(f"{' '.join(command)}\n{process.stderr.read().decode()}")
    return most, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gib", type=float, default=10.0, help="of each large set")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--folder", help="where the sets are made; null: the system's")
    parser.add_argument("--only", nargs="+", default=["images", "tar", "tables"])
    asked = parser.parse_args()
    beyond = False
    for name, kind in kinds().items():
        if name not in asked.only:
            continue
        folder = Path(tempfile.mkdtemp(dir=asked.folder))
        try:
            make(folder, kind, asked.gib)
            found = {}
            for size in ("small", "large"):
                command = [sys.executable, "-m", "dltrain", *kind.command, *COMMON]
                command += [f"data.path={folder}/{size}/*.{kind.ending}"]
                command += [f"data.{s}={folder}/{s}.{kind.ending}" for s in ("validation", "test")]
                command += [f"trainer.steps={asked.steps}", f"trainer.evaluate_every={asked.steps}"]
                command += [f"data.root={folder}/root", f"output_dir={folder}/outputs"]
                found[size], seconds = peak(command)
                bytes_ = sum(file.stat().st_size for file in (folder / size).iterdir())
                print(
                    f"{name}: {size} set of {bytes_ / (1 << 30):.2f} GiB: peak "
                    f"{found[size] / (1 << 20):,.0f} MiB, {seconds:.0f} s",
                    flush=True,
                )
            above = (found["large"] - found["small"]) / (1 << 20)
            beyond |= above > BOUND
            print(f"{name}: {above:+,.0f} MiB (bound: {BOUND})", flush=True)
        finally:
            shutil.rmtree(folder)
    sys.exit(int(beyond))


if __name__ == "__main__":
    main()
