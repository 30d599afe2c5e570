"""All runs below a folder: what each was, how it ended, what came of it. Quick, so no torch here.

Of each run three small files are read: ``config.yaml``, ``overrides.txt`` and ``summary.json``.
YAML is what takes time, a millisecond a file; but runs share most of their config, so each part
of it is parsed once, however many have it. Nothing is written and there is no cache that could be
out of date. Whoever wrote these files, they are read as plain values, within limits of size.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from dltrain.errors import UserError
from dltrain.files import NotAFileError, read_within
from dltrain.runs import checksums
from dltrain.runs.folder import CONFIG, INTERRUPTED, RUNNING, is_held, known_status

SUMMARY, OVERRIDES = "summary.json", "overrides.txt"
DEPTH = 3
"""How far below ``output_dir`` runs are looked for."""
LARGEST = 1 << 20
"""Bytes of a file that is read here; those that dltrain writes have a few thousand."""
MOST_KEYS = 10_000
TOP_KEY = re.compile(r"^(?=\w+:(?:\s|$))", re.MULTILINE)
OTHER_LINE = re.compile(r"^(?!\w+:(?:\s|$)|[ #]|- |$)", re.MULTILINE)
"""A line that neither begins a top-level key nor clearly belongs to one."""
STAMP = re.compile(r"(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)-(\d\d)(_\d+)?")
UNREADABLE = "unreadable"
STATUSES = (RUNNING, "finished", INTERRUPTED, "failed", "diverged", UNREADABLE)
SPLITS = ("test", "validation")
"""Where a metric is looked for, in this order."""

Flat = Mapping[str, Any]
"""A config by whole keys, such as ``optimizer.lr``; lists and empty mappings are values."""


class Unreadable(Exception):
    """Why a file of a run cannot be read."""


@dataclass(frozen=True)
class Listed:
    """A run as its folder tells of it."""

    path: Path
    status: str
    """One of :data:`STATUSES`; of one that was killed ``interrupted``, whatever its files say."""
    config: Flat = field(default_factory=dict)
    overrides: Sequence[str] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why it is unreadable."""

    @property
    def when(self) -> str:
        """When it began, ``YYYY-MM-DD HH:MM:SS``, by the folder's name; empty: it has another."""
        found = STAMP.fullmatch(self.path.name)
        return f"{found[1]} {found[2]}:{found[3]}:{found[4]}" if found else ""

    @property
    def seconds(self) -> float | None:
        """How long it took in all, as far as it has told."""
        return number(mapping(self.summary.get("seconds")).get("total"))

    def chosen(self, group: str) -> list[str]:
        """What the run took of ``group``, by the names one may know it by; the best name first.

        A run folder keeps what was composed and not the choices' names. They are known from what
        was typed; of model and data also from the run's name; and the class has one, too.
        """
        typed = [word.partition("=")[2] for word in self.overrides if word.startswith(f"{group}=")]
        names = [name.strip("[] '\"") for word in typed[-1:] for name in word.split(",")]
        by_default = re.fullmatch(r"([^-]+)-([^-]+)", str(self.config.get("name", "")))
        renamed = any(word.lstrip("+").startswith("name=") for word in self.overrides)
        if by_default and not renamed and group in ("model", "data"):
            names.append(by_default[1 if group == "model" else 2])
        target = self.config.get(f"{group}._target_")
        if isinstance(target, str):
            names.append(target.rpartition(".")[2].lower())
        else:
            inside = (key for key in self.config if key.startswith(f"{group}."))
            names += [key.split(".")[1] for key in inside]
        return list(dict.fromkeys(names))

    def metric(self, name: str, split: str) -> float | None:
        """A metric of ``split``; None where the run has none, or none that is a number."""
        return number(mapping(self.summary.get(split)).get(name))

    @cached_property
    def model(self) -> str:
        """The model's name, as far as it can be told; else nothing."""
        return next(iter(self.chosen("model")), "")

    @cached_property
    def data(self) -> str:
        """The same of the data."""
        return next(iter(self.chosen("data")), "")

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics it has, the one it was monitored by first."""
        names = {n: 0 for s in SPLITS for n in mapping(self.summary.get(s)) if self.has(n, s)}
        monitor = self.summary.get("monitor")
        return sorted(names, key=lambda name: name != monitor)

    def has(self, name: str, split: str) -> bool:
        """Whether there is such a metric, and it is a number."""
        return self.metric(name, split) is not None


def number(value: Any) -> float | None:
    """``value`` if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # JSON's integers have any number of digits
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """``value``; nothing where a file that somebody edited holds something else."""
    return value if isinstance(value, Mapping) else {}


def runs_below(output_dir: Path) -> list[Listed]:
    """All runs in ``output_dir``, the newest first; those without a time in their name last."""
    found = [listed_run(path) for path in run_paths(output_dir)]
    return sorted(found, key=lambda run: (run.when, run.path.name, str(run.path)), reverse=True)


def run_paths(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The run folders below ``folder``, whole or not, each once, however many links lead to it."""
    seen: set[tuple[int, int]] = set()

    def look(folder: Path, depth: int) -> Iterator[Path]:
        try:
            with os.scandir(folder) as entries:
                inside = sorted((e for e in entries), key=lambda e: (e.is_symlink(), e.name))
        except OSError:
            return
        names = {entry.name for entry in inside}
        is_run = bool(names & {CONFIG, SUMMARY}) or {"checkpoints", "figures"} <= names
        if (is_run and STAMP.fullmatch(folder.name)) or {CONFIG, SUMMARY} <= names:
            yield folder
            return
        for entry in inside if depth else ():
            if entry.name.startswith(".") or not _is_folder(entry):
                continue
            known = entry.stat()
            if (known.st_dev, known.st_ino) not in seen:
                seen.add((known.st_dev, known.st_ino))
                yield from look(folder / entry.name, depth - 1)

    yield from look(folder, depth)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def listed_run(path: Path) -> Listed:
    """A run by its path; whatever is wrong with its files is told in ``problem``."""
    try:
        listed = _checksums(path)
        config = flat_config(read_text(path, CONFIG, listed=listed), CONFIG)
        has_overrides = (path / OVERRIDES).exists()
        typed = read_text(path, OVERRIDES, listed=listed) if has_overrides else ""
        overrides = typed.splitlines()
        if not (path / SUMMARY).exists():  # the moments before a run's first summary
            return Listed(path, known_status(path, RUNNING), config, overrides)
        summary = _summary(read_text(path, SUMMARY, listed=listed), bool(listed))
    except Unreadable as error:
        if not (path / CONFIG).exists() and is_held(path):
            return Listed(path, RUNNING)  # it has only begun
        return Listed(path, UNREADABLE, problem=str(error))
    return Listed(path, known_status(path, summary["status"]), config, overrides, summary)


def read_text(
    run: Path, name: str, largest: int = LARGEST, listed: Mapping[str, str] | None = None
) -> str:
    """A text file of a run. Whatever else has its name, such as a link or a pipe, is not opened.

    ``listed`` are the run's checksums, where the caller has them. Raises :class:`Unreadable` where
    there is none, it has more than ``largest`` bytes, or another checksum.
    """
    try:
        content = read_within(run, name, largest)
        checksums.require(run, name, content, _checksums(run) if listed is None else listed)
        return content.decode()
    except NotAFileError as error:
        raise Unreadable(f"{name}: {error.strerror}") from error
    except UserError as error:
        listing = checksums.FILE
        raise Unreadable(f"{name} (or {listing}) is damaged, or was edited") from error
    except FileNotFoundError:
        raise Unreadable(f"it has no {name}") from None
    except OSError as error:
        raise Unreadable(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{name} is no text in UTF-8") from error


def _checksums(run: Path) -> Mapping[str, str]:
    try:
        return checksums.read(run)
    except UserError as error:
        raise Unreadable(f"{checksums.FILE} is damaged") from error


def _summary(text: str, is_listed: bool) -> Mapping[str, Any]:
    try:
        summary = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{SUMMARY} is no JSON") from error
    if not isinstance(summary, dict) or summary.get("status") not in STATUSES:
        raise Unreadable(f"{SUMMARY} is not the summary of a run")
    if not checksums.is_whole(summary, is_listed):
        raise Unreadable(f"{SUMMARY} is damaged")
    return summary


def flat_config(text: str, name: str = CONFIG) -> Flat:
    """The config that ``text`` holds, by whole keys. Raises :class:`Unreadable`."""
    parts = _parts(text)
    try:
        if parts is not None:
            return {key: value for part in parts for key, value in _flat_part(part).items()}
    except Unreadable:
        pass  # what is no YAML in part may be as a whole: quotes that go over lines
    return _flat_part(text, name)


def _parts(text: str) -> list[str] | None:
    """The text of each top-level key; None where they cannot be told apart by their looks."""
    if any(mark in text for mark in ("&", "*", "<<", "\t")):  # references from one to another
        return None
    if OTHER_LINE.search(text):
        return None
    parts = TOP_KEY.split(text)
    keys = [part.partition(":")[0] for part in parts]
    return [part for part in parts if part] if len(set(keys)) == len(keys) else None


@cache
def _flat_part(text: str, name: str = CONFIG) -> Flat:
    import yaml

    try:
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"{name} is no YAML") from error
    if not isinstance(content, dict):
        raise Unreadable(f"{name} is not the config of a run")
    flat: dict[str, Any] = {}
    try:
        require_few(content, name)
        _flatten(content, "", flat)
    except RecursionError as error:
        raise Unreadable(f"{name} is nested too deeply") from error
    return flat


def require_few(content: Any, name: str) -> None:
    """Raise :class:`Unreadable` for more values than anybody wrote, and RecursionError."""
    if sum(1 for _ in islice(_nodes(content), MOST_KEYS + 1)) > MOST_KEYS:
        raise Unreadable(f"{name} has more than {MOST_KEYS:,} values")


def _nodes(value: Any) -> Iterator[Any]:
    """All that is in ``value``, as often as it is referred to: a few lines can hold a billion."""
    yield value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inside:
        yield from _nodes(one)


def _flatten(value: Mapping[Any, Any], prefix: str, flat: dict[str, Any]) -> None:
    for key, inside in value.items():
        if isinstance(inside, dict) and inside:
            _flatten(inside, f"{prefix}{key}.", flat)
        else:
            flat[f"{prefix}{key}"] = inside
