"""Sounds decoded once, in parallel, to samples in files that later runs read in no time."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from dltrain.data.audio.decode import (
    Header,
    Samples,
    Sound,
    UnreadableError,
    read_header,
    read_sound,
    require_soundfile,
)
from dltrain.data.cache import made_once, progress, refuse_unreadable, state
from dltrain.data.streams.ragged import Ragged
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = 1
"""Of the cache; another number makes every cache anew."""
COMMON_RATE = 16_000
"""Samples a second that speech needs: what is above is not kept unless it is asked for."""
CHUNK = 16
SHOWN = 5
GIB = 1 << 30
CHANGED = {"several channels": "their mean is used", "more than 16 bits": "kept with 16"}
DOUBTFUL = {
    "clipped": "their loudest samples are cut",
    "silent": "there is nothing to hear",
    "cut short": "the file ends before its header says",
}
"""What is found in files, and what becomes of it."""


@dataclass(frozen=True)
class Asked:
    """Settings that decide what is kept of a sound.

    ``rate`` None: that of most files, and at most ``COMMON_RATE``. ``max_seconds`` None: any.
    ``memory_limit`` is in GiB, of all samples together.
    """

    rate: int | None
    max_seconds: float | None
    skip_unreadable: bool
    memory_limit: float


@dataclass
class Tally:
    """What the sounds of a split were: counts, with a name that stands for each."""

    rates: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def add(self, name: str, sound: Sound) -> None:
        """Take in one that is kept."""
        header = sound.header
        rate = str(header.rate)
        self.rates[rate] = self.rates.get(rate, 0) + 1
        facts = {
            "several channels": header.channels > 1,
            "more than 16 bits": header.wide,
            "clipped": sound.clipped,
            "silent": sound.silent,
            "cut short": sound.short,
        }
        for fact in (fact for fact, holds in facts.items() if holds):
            self.counts[fact] = self.counts.get(fact, 0) + 1
            self.examples.setdefault(fact, name)


@dataclass(frozen=True)
class Stored:
    """A split's samples, which of its files they are of, and what was found."""

    sounds: Ragged
    rows: Sequence[int]
    tally: Tally


def stored(
    folder: Path, splits: Mapping[str, Sequence[Path]], asked: Asked
) -> tuple[int, dict[str, Stored]]:
    """The rate, and the sounds of each split, from ``folder`` where they were decoded before.

    Raises :class:`UserError` naming files that cannot be read, unless they are to be skipped, and
    for more than the memory limit.
    """
    files = {name: [(str(path), *state(path)) for path in paths] for name, paths in splits.items()}
    settings = [FORMAT, "sound", files, asdict(asked)]
    place = made_once(
        folder, settings, lambda to: _decode_all(to, splits, asked), "the decoded sounds"
    )
    found = json.loads((place / "found.json").read_text(encoding="utf-8"))
    return found["rate"], {
        name: Stored(
            Ragged.joined(
                torch.from_numpy(np.load(place / f"{name}-samples.npy")),
                torch.from_numpy(np.load(place / f"{name}-lengths.npy")),
            ),
            found["splits"][name]["rows"],
            Tally(**found["splits"][name]["tally"]),
        )
        for name in splits
    }


def facts_told(tallies: Sequence[Tally]) -> Iterator[tuple[int, str]]:
    """What of the sounds is changed, and what is doubtful: levels of messages, and their words."""
    for level, facts in ((logging.INFO, CHANGED), (logging.WARNING, DOUBTFUL)):
        for fact, what in facts.items():
            own = [tally for tally in tallies if fact in tally.counts]
            if own:
                number = sum(tally.counts[fact] for tally in own)
                more = ", …" if number > 1 else ""
                yield level, f"{fact}: {number:,} ({own[0].examples[fact]}{more}): {what}."


def told(place: str, rate: int, parts: Mapping[str, Stored]) -> Iterator[tuple[int, str]]:
    """What to say of what was read: the level of the message, and its words."""
    count = sum(len(part.rows) for part in parts.values())
    lengths = torch.cat([part.sounds.lengths for part in parts.values()]).double() / rate
    minutes = float(lengths.sum()) / 60
    yield (
        logging.INFO,
        f"{place}: {count:,} sounds of {float(lengths.min()):.2g} to {float(lengths.max()):.3g} "
        f"seconds, together {minutes:.1f} minutes, at {rate:,} samples a second.",
    )
    rates: Counter[str] = Counter()
    for part in parts.values():
        rates.update(part.tally.rates)
    if set(rates) != {str(rate)}:
        listed = ", ".join(f"{int(one):,} ({n:,})" for one, n in rates.most_common(SHOWN))
        yield logging.INFO, f"resampled to {rate:,}: files have {listed} samples a second."
    yield from facts_told([part.tally for part in parts.values()])
    for name, part in parts.items():
        if skipped := part.tally.skipped:
            lines = "\n  ".join(skipped[:SHOWN])
            yield logging.WARNING, f"left out of the {name} split: {len(skipped):,}\n  {lines}"


def _decode_all(place: Path, splits: Mapping[str, Sequence[Path]], asked: Asked) -> None:
    require_soundfile()
    faults: dict[str, dict[int, str]] = {name: {} for name in splits}
    headers: dict[str, dict[int, Header]] = {name: {} for name in splits}
    total = sum(map(len, splits.values()))
    with progress("Reading headers", transient=True) as bars:
        bar = bars.add_task("", total=total)
        for name, paths in splits.items():
            for row, result in enumerate(_each(read_header, paths)):
                if isinstance(result, UnreadableError):
                    faults[name][row] = str(result)
                else:
                    headers[name][row] = result
                bars.advance(bar)
    if not any(headers.values()):
        refuse_unreadable(splits, faults, False)
    rate = asked.rate or _common_rate(headers)
    seconds = sum(header.seconds for part in headers.values() for header in part.values())
    if asked.max_seconds is not None:
        seconds = min(seconds, total * asked.max_seconds)
    size = seconds * rate * 2 / GIB
    if size > asked.memory_limit:
        raise UserError(
            f"data: the sounds last {seconds / 3600:.1f} hours, {size:.1f} GiB at {rate:,} samples "
            f"a second, more than data.memory_limit={asked.memory_limit:g}: raise it, or lower "
            "data.rate."
        )
    found: dict[str, Any] = {}
    with progress("Decoding sounds") as bars:
        bar = bars.add_task("", total=total)
        for name, paths in splits.items():
            tally, kept, rows = Tally(), list[Samples](), list[int]()
            readable = list(headers[name])

            def read(path: Path) -> Sound:
                return read_sound(path, rate, asked.max_seconds)

            bars.advance(bar, len(faults[name]))
            for row, sound in zip(
                readable, _each(read, [paths[row] for row in readable]), strict=True
            ):
                if isinstance(sound, UnreadableError):
                    faults[name][row] = str(sound)
                else:
                    tally.add(paths[row].name, sound)
                    kept.append(sound.samples)
                    rows.append(row)
                bars.advance(bar)
            tally.skipped = [f"{paths[row]} {why}" for row, why in sorted(faults[name].items())]
            whole = np.concatenate(kept) if kept else np.empty(0, np.int16)
            np.save(place / f"{name}-samples.npy", whole)
            np.save(place / f"{name}-lengths.npy", np.array([len(one) for one in kept], np.int64))
            found[name] = {"rows": rows, "tally": asdict(tally)}
    refuse_unreadable(splits, faults, asked.skip_unreadable)
    content = json.dumps({"rate": rate, "splits": found})
    (place / "found.json").write_text(content, encoding="utf-8")


def _common_rate(headers: Mapping[str, Mapping[int, Header]]) -> int:
    """What most files have; of equally many, the lower."""
    counts = Counter(header.rate for part in headers.values() for header in part.values())
    most = max(counts.values())
    return min(COMMON_RATE, min(rate for rate, count in counts.items() if count == most))


def _each(work: Callable[[Path], T], paths: Sequence[Path]) -> Iterator[T | UnreadableError]:
    """``work`` on each, in threads: libsndfile lets go of Python's lock."""

    def one(path: Path) -> T | UnreadableError:
        try:
            return work(path)
        except UnreadableError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(paths), CHUNK):
            yield from pool.map(one, paths[first : first + CHUNK])
