"""A power cut at any write of a run: what was not flushed to the disk is lost, and the run goes on.

    python scripts/lose_writes.py                     # 20 cuts
    python scripts/lose_writes.py --count 600 --jobs 2
    python scripts/lose_writes.py --only lenet5 --at 120 --loses names

While a run trains, scripts/disk.c notes each write, fsync, rename, unlink and new name below its
output folder. From that the folder is made anew as a cut would have left it right after one of
these, on a file system that keeps no more than it must:

data     what was written to a file since its last fsync is zeros; names and sizes are there
sizes    and so are the sizes: such a file ends where it did at its last fsync
names    new names, renamings and removals since the last fsync of their folder are lost too
mixed    each file and each folder by chance: all that was written, nothing since the fsync, or half

Then the run is resumed, or begun again where there is none. It must leave what an undisturbed run
does, or be refused in a line that names a file; and what was written by a checkpoint that was
complete before the cut must be there.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import disk
import forks
import tiny_runs
from reliability import gathered, unless_a_word, write_result

KINDS = ("lenet5", "mlp_modified", "csv_classes", "gan")
LOSES = ("data", "sizes", "names", "mixed")
HEAD = struct.Struct("<cqII")
MOST_LINES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Print failures and a last line; 1 where there was a failure, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20, help="cuts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=list(KINDS), help="kinds of run")
    parser.add_argument("--at", type=int, help="after this operation alone, told step by step")
    parser.add_argument("--loses", choices=LOSES)
    parser.add_argument("--record", action="store_true", help="write scripts/reliability.json")
    asked = parser.parse_args(arguments)
    disk.with_disk()
    began = time.perf_counter()
    forks.import_everything()
    with tempfile.TemporaryDirectory(prefix="lose-writes-") as folder:
        outcomes = lose(asked, Path(folder))
    failures = [*filter(unless_a_word, outcomes)]
    counts = Counter(outcome for outcome in outcomes if not unless_a_word(outcome))
    told = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
    seconds = time.perf_counter() - began
    print(f"{len(outcomes)} power cuts in {seconds:.0f} s ({told}): {len(failures)} failures")
    if asked.record:
        result = {"power cuts": len(outcomes), **counts, "failures": len(failures)}
        write_result("lose_writes", {**result, "seed": asked.seed, "seconds": round(seconds)})
    return int(bool(failures))


def lose(asked: argparse.Namespace, place: Path) -> list[str]:
    with ProcessPoolExecutor(asked.jobs) as pool:
        made = place / "made"
        pool.submit(tiny_runs.make, made, asked.only).result()
        draw = random.Random(asked.seed)
        lengths = {n: pool.submit(logged, n, made, place).result() for n in asked.only}
        cuts = []
        for number in range(1 if asked.at else asked.count):
            name = asked.only[number % len(asked.only)]
            loses = asked.loses or LOSES[number // len(asked.only) % len(LOSES)]
            at = asked.at or draw.randint(1, lengths[name])
            told = asked.at is not None
            cuts.append(pool.submit(cut, name, at, loses, asked.seed, made, place, told))
        return gathered(cuts, unless_a_word)


@dataclass(frozen=True)
class Operation:
    """What was done to a file or folder: a letter of scripts/disk.c, and to what."""

    kind: str
    number: int
    one: bytes
    other: bytes


def logged(name: str, made: Path, place: Path) -> int:
    """Train a run and note its operations; how many there were."""
    own = place / name
    (own / "outputs").mkdir(parents=True)
    log = os.open(place / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    words = tiny_runs.words(name, made, own, "trainer.checkpoint_seconds=0")

    def before() -> None:
        mark_checkpoints(log)
        disk.log(own / "outputs", log)

    ended = forks.run(words, own, before)
    os.close(log)
    if ended.code:
        raise RuntimeError(f"undisturbed, {name} ends with {ended.code}: {ended.text[-2000:]}")
    return len(operations(name, place))


def mark_checkpoints(log: int) -> None:
    """Have runs of this process note in the log which step's checkpoint is complete."""
    from dltrain.core.loop import Trainer

    save = Trainer._save

    @functools.wraps(save)
    def saving(self: Trainer) -> None:
        save(self)
        os.write(log, HEAD.pack(b"m", self.state.step, 0, 0))

    Trainer._save = saving  # type: ignore[method-assign]


@functools.cache
def operations(name: str, place: Path) -> Sequence[Operation]:
    """Those of the run ``name``."""
    content, at = (place / f"{name}.log").read_bytes(), 0
    found = []
    while at < len(content):
        kind, number, length, rest = HEAD.unpack_from(content, at)
        at += HEAD.size
        one, other = content[at : at + length], content[at + length : at + length + rest]
        at += length + rest
        found.append(Operation(kind.decode(), number, one, other))
    return found


@functools.cache
def undisturbed(name: str, place: Path) -> dict[str, Any]:
    folder = tiny_runs.run_folder(place / name / "outputs")
    assert folder is not None
    return tiny_runs.contents(folder)


@dataclass
class File:
    """What a file holds, and what of it is on the disk for good."""

    content: bytearray = field(default_factory=bytearray)
    kept: bytes = b""


@dataclass
class Folder:
    """What is in a folder, and what was at its last fsync."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    kept: dict[str, File | Folder] = field(default_factory=dict)


class Disk:
    """The folder ``root`` and all below it, while a run works there."""

    def __init__(self, root: str) -> None:
        self.root, self.folder = root, Folder()
        self.step = -1
        """Of the last checkpoint that was complete; -1 before there was one."""
        self._files: dict[int, File] = {}

    def do(self, done: Operation) -> None:
        """One more operation."""
        path = os.fsdecode(done.one)
        if done.kind == "c":
            folder, name = self._place(path)
            folder.names[name] = self._files[done.number] = File()
        elif done.kind == "d":
            folder, name = self._place(path)
            folder.names[name] = Folder()
        elif done.kind == "u":
            folder, name = self._place(path)
            folder.names.pop(name, None)
        elif done.kind == "r":
            folder, name = self._place(path)
            target, new = self._place(os.fsdecode(done.other))
            target.names[new] = folder.names.pop(name)
        elif done.kind == "l":
            folder, name = self._place(path)
            target, new = self._place(os.fsdecode(done.other))
            target.names[new] = folder.names[name]
        elif done.kind == "m":
            self.step = done.number
        elif done.kind == "s" and done.number not in self._files:
            found = self._folder(path)
            found.kept = dict(found.names)
        else:
            self._change(self._files[done.number], done)

    def _folder(self, path: str) -> Folder:
        found = self.folder
        for part in filter(None, path.removeprefix(self.root).split("/")):
            inner = found.names[part]
            assert isinstance(inner, Folder), path
            found = inner
        return found

    def _place(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        return self._folder(above), name

    def _change(self, file: File, done: Operation) -> None:
        content = file.content
        if done.kind == "s":
            file.kept = bytes(content)
            return
        (offset,) = struct.unpack("<q", done.one)
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        if done.kind == "t":
            del content[offset:]
        else:
            content[offset : offset + len(done.other)] = done.other

    def write(self, place: Path, loses: str, draw: random.Random) -> None:
        """Make the folder anew in ``place`` as a power cut leaves it."""
        _write(self.folder, place, loses, draw)


def _write(folder: Folder, place: Path, loses: str, draw: random.Random) -> None:
    place.mkdir(exist_ok=True)
    lost = loses == "names" or (loses == "mixed" and draw.random() < 0.5)
    for name, found in sorted((folder.kept if lost else folder.names).items()):
        if isinstance(found, Folder):
            _write(found, place / name, loses, draw)
        else:
            (place / name).write_bytes(_content(found, loses, draw))


def _content(file: File, loses: str, draw: random.Random) -> bytes:
    kept, now = file.kept, bytes(file.content)
    zeros = kept[: len(now)] + bytes(max(len(now) - len(kept), 0))
    if loses == "data":
        return zeros
    if loses == "mixed" and now != kept:
        half = now[: max(len(kept), len(now) // 2)]
        return draw.choice((kept, now, zeros, half))
    return kept


def cut(name: str, at: int, loses: str, seed: int, made: Path, place: Path, told: bool) -> str:
    """Cut the power after the operation ``at`` of a run; what came of it."""
    again = f"python scripts/lose_writes.py --only {name} --at {at} --loses {loses} --seed {seed}"
    root = str(place / name / "outputs")
    state = Disk(root)
    for done in operations(name, place)[:at]:
        state.do(done)
    own = Path(tempfile.mkdtemp(prefix=f"{name}-{at}-", dir=place))
    try:
        state.write(own / "outputs", loses, random.Random(f"{seed}/{name}/{at}"))
        if told:
            for path in sorted((own / "outputs").rglob("*")):
                print(path.relative_to(own), path.stat().st_size if path.is_file() else "")
        new = tiny_runs.words(name, made, own, "trainer.checkpoint_seconds=0")
        lost = state.step > _step(own)
        for _ in range(3):
            folder = tiny_runs.run_folder(own / "outputs")
            if folder is not None and tiny_runs.status(folder) == "finished":
                break
            tiny_runs.a_day_later(own / "outputs")
            ended = forks.run(new if folder is None else ["resume", str(folder)], own)
            if told:
                print(f"{'begun again' if folder is None else 'resumed'}: exit {ended.code}")
                print(ended.text)
            if ended.code:
                fault = _fault(ended)
                return f"{name}: after losing {loses}, {fault}: {again}" if fault else "refused"
        wrong = tiny_runs.told(tiny_runs.wrong(own, undisturbed(name, place), new, place / name))
        if wrong:
            return f"{name}: after losing {loses}, {wrong}: {again}"
        if lost:
            return f"{name}: after losing {loses}, the checkpoint of step {state.step} is: {again}"
        return "completed"
    except Exception as error:
        return f"{name}: after losing {loses}, {type(error).__name__}: {error}: {again}"
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _step(own: Path) -> int:
    """Of the latest checkpoint that can be read; -1 where there is none."""
    from dltrain.errors import UserError
    from dltrain.runs import checkpoint

    found = [-1]
    for path in (own / "outputs").glob("*/*/checkpoints/[lp]*.pt"):
        try:
            found.append(checkpoint.load(path)["loop"]["step"])
        except UserError:
            continue
    return max(found)


def _fault(ended: forks.Ended) -> str:
    """What is wrong with how a run was refused; empty where nothing is."""
    lines = [line for line in ended.text.splitlines() if line.startswith("dltrain:")]
    if ended.code != 2 or "Traceback" in ended.text or len(lines) > MOST_LINES:
        return f"exit {ended.code}: {ended.last_line}"
    return "" if "outputs" in "".join(lines) else f"no file is named: {ended.last_line}"


if __name__ == "__main__":
    sys.exit(main())
