"""A disk that is full from some write of a run on: it is said once, and nothing is lost.

    python scripts/fill_disk.py                    # 20 positions, evenly spread
    python scripts/fill_disk.py --count 0 --jobs 2 # every position; and real, small file systems
    python scripts/fill_disk.py --only csv_classes --at 17

A run is begun on a disk that is full from its n-th call on that changes a file or a folder:
opening for writing, write, fsync, close, rename, mkdir; scripts/disk.c counts them and fails them
with "no space left", every other time after half of a write. The command must exit with 2 after
one message that says so and names the place, without a traceback. With room again it is resumed, or
begun again where there is no run yet, and must then leave what an undisturbed run does. The same
is asked of a tmpfs of several sizes, which is as full as a disk can be.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import mmap
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import disk
import forks
import tiny_runs
from reliability import gathered, unless_a_word, write_result

FILLED = {
    "lstm_adding": "outputs",
    "lenet5": "outputs",
    "mlp_modified": "outputs",
    "csv_classes": "outputs",
    "ngrams": "outputs",
    "ngrams_bpe": "cache",
    "image_folder": "cache",
}
"""Runs, and which folder is on the disk that fills up."""
MOST_LINES = 4
KIB = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Print failures and a last line; 1 where there was a failure, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20, help="positions of a run; 0: every one")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=list(FILLED), help="kinds of run")
    parser.add_argument("--no-mount", action="store_true", help="no small file systems")
    parser.add_argument("--at", type=int, help="this position alone, told step by step")
    parser.add_argument("--record", action="store_true", help="write scripts/reliability.json")
    asked = parser.parse_args(arguments)
    disk.with_disk(mounting=True)
    began = time.perf_counter()
    forks.import_everything()
    with tempfile.TemporaryDirectory(prefix="fill-disk-") as folder:
        outcomes = fill(asked, Path(folder))
    failures = [*filter(unless_a_word, outcomes)]
    counts = Counter(outcome for outcome in outcomes if not unless_a_word(outcome))
    told = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
    seconds = time.perf_counter() - began
    print(f"{len(outcomes)} full disks in {seconds:.0f} s ({told}): {len(failures)} failures")
    if asked.record:
        result = {"full disks": len(outcomes), **counts, "failures": len(failures)}
        write_result("fill_disk", {**result, "seconds": round(seconds)})
    return int(bool(failures))


def fill(asked: argparse.Namespace, place: Path) -> list[str]:
    """What came of each position: a word, or a failure with the command that shows it again."""
    with ProcessPoolExecutor(asked.jobs) as pool:
        made = place / "made"
        pool.submit(tiny_runs.make, made, asked.only).result()
        waiting = []
        for name in asked.only:
            _, calls = pool.submit(undisturbed, name, made, place).result()
            chosen: Any = [asked.at] if asked.at else spread(calls, asked.count)
            for number in chosen:
                told = asked.at is not None
                waiting.append(pool.submit(position, name, number, made, place, told))
            if asked.at is None and not asked.no_mount and can_mount(place):
                most = 1500 if FILLED[name] == "outputs" else 80
                sizes = range(16, most, most // 4 if asked.count else most // 24)
                for size in sizes:
                    waiting.append(pool.submit(small_disk, name, size, made, place))
        return gathered(waiting, unless_a_word)


def spread(calls: int, count: int) -> list[int]:
    """So many of the numbers from 1 to ``calls``, the first and the last among them."""
    if not count or count >= calls:
        return list(range(1, calls + 1))
    return sorted({1 + round(n * (calls - 1) / max(count - 1, 1)) for n in range(count)})


@functools.cache
def undisturbed(name: str, made: Path, place: Path) -> tuple[dict[str, Any], int]:
    """What a run leaves where there is room, and how many calls that took."""
    own = new_folder(place, name)
    shared = mmap.mmap(-1, 8)

    counting = functools.partial(disk.count, own / FILLED[name])

    def tell() -> None:
        shared[:8] = disk.counted().to_bytes(8, "little")

    ended = forks.run(words(name, made, own), own, counting, tell)
    if ended.code:
        raise RuntimeError(f"undisturbed, {name} ends with {ended.code}: {ended.text[-2000:]}")
    folder = tiny_runs.run_folder(own / "outputs")
    assert folder is not None
    return tiny_runs.contents(folder), int.from_bytes(shared[:8], "little")


def words(name: str, made: Path, own: Path) -> list[str]:
    """The command; a checkpoint after every step."""
    return tiny_runs.words(name, made, own, "trainer.checkpoint_seconds=0")


def position(name: str, number: int, made: Path, place: Path, told: bool) -> str:
    """Fill the disk at the call ``number`` of a run."""
    own = new_folder(place, f"{name}-{number}")
    full = functools.partial(disk.fill, own / FILLED[name], number, number % 2 == 0)
    again = f"python scripts/fill_disk.py --only {name} --at {number}"
    return full_disk(name, made, place, own, full, lambda: None, again, told)


def small_disk(name: str, kib: int, made: Path, place: Path) -> str:
    """Run on a file system of that size, and again when it has grown."""
    own = new_folder(place, f"{name}-{kib}-kib")
    small = own / FILLED[name]
    small.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={kib}k,mode=755", "tmpfs", small)

    def make_room() -> None:
        mount("-o", "remount,size=64m", small)

    again = f"python scripts/fill_disk.py --only {name}  (on {kib} KiB)"
    try:
        return full_disk(name, made, place, own, lambda: None, make_room, again, False)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def full_disk(
    name: str,
    made: Path,
    place: Path,
    own: Path,
    full: Callable[[], object],
    make_room: Callable[[], object],
    again: str,
    told: bool,
) -> str:
    """Begin a run where it gets ``full``; after ``make_room`` it must end as an undisturbed one."""
    expected, _ = undisturbed(name, made, place)
    try:
        new = words(name, made, own)
        ended = forks.run(new, own, full)
        if told:
            print(f"exit {ended.code}\n{ended.text}")
        fault = fault_of(ended, own)
        make_room()
        for _ in range(3):
            folder = tiny_runs.run_folder(own / "outputs")
            if folder is not None and tiny_runs.status(folder) == "finished":
                break
            tiny_runs.a_day_later(own / "outputs")
            later = forks.run(new if folder is None else ["resume", str(folder)], own)
            if told:
                print(f"then {'begun again' if folder is None else 'resumed'}: exit {later.code}")
                print(later.text)
            if later.code:
                return f"{name}: with room again, exit {later.code}: {later.last_line}: {again}"
        wrong = tiny_runs.told(tiny_runs.wrong(own, expected, new))
        if wrong:
            return f"{name}: with room again, {wrong}: {again}"
        if fault:
            return f"{name}: {fault}: {again}"
        return "refused, then completed" if ended.code else "completed at once"
    finally:
        shutil.rmtree(own, ignore_errors=True)


def fault_of(ended: forks.Ended, own: Path) -> str:
    """What is wrong with how a command ended on a full disk; empty where nothing is."""
    if ended.code == 0:
        return ""
    lines = [line for line in ended.text.splitlines() if line.strip()]
    said = list(itertools.dropwhile(lambda line: not line.startswith("dltrain:"), lines))
    if "Traceback" in ended.text:
        return f"a traceback: {ended.last_line}"
    if ended.code != 2:
        return f"exit {ended.code}: {ended.last_line}"
    if len(said) > MOST_LINES:
        return f"{len(said)} lines: {' / '.join(said)}"
    if "space" not in "".join(said).lower() or not any(n in "".join(said) for n in FILLED.values()):
        return f"it does not say what is full: {' / '.join(said) or ended.last_line}"
    return ""


def new_folder(place: Path, name: str) -> Path:
    own = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place))
    (own / "cache").mkdir()
    return own


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


@functools.cache
def can_mount(place: Path) -> bool:
    """Whether this process may mount a file system."""
    probe = Path(tempfile.mkdtemp(dir=place))
    try:
        mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", probe)
    except (subprocess.CalledProcessError, FileNotFoundError):
        print("no file system can be mounted here: disks fill up by scripts/disk.c alone")
        return False
    subprocess.run(["umount", "--lazy", str(probe)], check=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
