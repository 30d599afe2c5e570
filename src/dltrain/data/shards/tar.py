"""Shards that are tar archives in WebDataset's layout, read in place: nothing is unpacked.

The members of an example lie one behind another and have one name up to its first dot, their key.
Where they lie is looked up once and kept in a cache; a piece is so many of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dltrain.data.cache import made_once, progress, state
from dltrain.data.images.listing import IMAGES
from dltrain.data.shards.labels import LABELS
from dltrain.data.shards.parquet import tell_empty
from dltrain.data.shards.pieces import Piece, Shards, names_of
from dltrain.errors import UserError
from dltrain.files import require_file

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

FORMAT = 2
"""Of the cache."""
EXAMPLES, BYTES = 1024, 1 << 24
"""At most in a piece."""
THREADS = 4
LONGEST = 1 << 20
"""Bytes of a label's member."""
SHOWN = 3
BLOCK = 512


class Member(NamedTuple):
    """Where a file of an archive lies."""

    at: int
    size: int


Members = dict[str, Member]
"""Those of an example, by their ending."""


@dataclass
class Index:
    """What an archive holds: ``rows`` (examples, 4), where image and label lie; and the rest."""

    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Members that are hidden, or no plain files."""
    digest: str = ""


class TarShards(Shards):
    """``files`` whose examples have an image and, where there is a ``label``, its member.

    Raises :class:`UserError` naming the archive and the key of what is no such example, unless
    examples without their pair are to be left out.
    """

    def __init__(
        self,
        key: str,
        files: Sequence[Path],
        image: str | None,
        label: str | None,
        label_needed: bool,
        skip_unpaired: bool,
        root: str,
    ) -> None:
        self.files, self.names = files, names_of(files)
        endings, keys = _first_example(key, files)
        self.image = image or _image_of(key, files[0], endings)
        self.label = label or _label_of(key, files[0], endings, keys, label_needed)
        settings = [FORMAT, "tar index", self.image, self.label, skip_unpaired]
        settings += [[name, *state(file)] for name, file in zip(self.names, files, strict=True)]

        def make(place: Path) -> None:
            self._index(key, place, skip_unpaired)

        folder = Path(root).expanduser() / "cache"
        self._place = made_once(folder, settings, make, "where the examples of archives lie")
        found = json.loads((self._place / "found.json").read_text(encoding="utf-8"))
        self._digest = found["digest"]
        self.pieces = [Piece(*piece) for piece in found["pieces"]]
        tell_empty(found["empty"], len(files))
        for line in found["notes"]:
            logger.warning("%s", line)

    def read(self, piece: Piece, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        index = self._rows(piece.shard, piece.first, piece.rows)
        path = self.files[piece.shard]
        for low in range(0, len(index), self.chunk):
            rows = index[low : low + self.chunk].tolist()
            try:
                with path.open("rb", buffering=1 << 18) as file:
                    cells: dict[str, list[Any]] = {name: [] for name in columns}
                    for image_at, image_size, label_at, label_size in rows:
                        if self.image in cells:
                            cells[self.image].append(_member(file, image_at, image_size))
                        if self.label is not None and self.label in cells:
                            text = _member(file, label_at, label_size)
                            cells[self.label].append(_label(text, self.label))
            except (OSError, ValueError) as error:
                raise UserError(f"{path}: {error}") from error
            kinds = {self.image: pa.large_binary(), self.label: pa.string()}
            arrays = [pa.array(found, kinds[name]) for name, found in cells.items()]
            yield pa.RecordBatch.from_arrays(arrays, list(cells))

    def place(self, shard: int, row: int) -> str:
        at = int(self._rows(shard, row, 1)[0, 0])
        with self.files[shard].open("rb") as file:
            file.seek(at - BLOCK)
            name = file.read(100).partition(b"\0")[0].decode("utf-8", "replace")
        return f"{self.names[shard]}, member {name}"

    def digest(self) -> str:
        """Of all members' names, sizes and times, and of the labels."""
        return str(self._digest)

    def _rows(self, shard: int, first: int, count: int) -> Any:
        wanted = 4 * count
        path = self._place / f"{shard}.i8"
        found = np.fromfile(path, "<i8", wanted, offset=32 * first)
        return found.reshape(-1, 4)

    def _index(self, key: str, place: Path, skip_unpaired: bool) -> None:
        digest = hashlib.blake2b(digest_size=16)
        pieces: list[tuple[int, ...]] = []
        empty, faults, others = [], [], []
        with ThreadPoolExecutor(THREADS) as pool, progress("Looking up members") as bars:
            bar = bars.add_task("", total=len(self.files))
            work = pool.map(lambda file: indexed(file, self.image, self.label), self.files)
            for shard, found in enumerate(work):
                rows = np.array(found.rows, "<i8").reshape(-1, 4)
                rows.tofile(place / f"{shard}.i8")
                pieces += _cut(shard, rows)
                digest.update(f"{self.names[shard]}\0{found.digest}\0".encode())
                faults += found.faults
                others += found.others
                if not len(rows):
                    empty.append(self.names[shard])
                bars.advance(bar)
        if faults and not skip_unpaired:
            rest = len(faults) - SHOWN
            raise UserError(
                "\n".join(faults[:SHOWN])
                + (f"\nand {rest:,} more" if rest > 0 else "")
                + "\nMend them, or set data.skip_unreadable=true."
            )
        if not pieces:
            raise UserError(f"data.{key}: no archive has an example: {', '.join(empty[:SHOWN])}.")
        notes = []
        for what, lines in (("left out", faults), ("not used, hidden or no plain files", others)):
            if lines:
                more = f" and {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else ""
                notes.append(f"{what}: {'; '.join(lines[:SHOWN])}{more}")
        found_json = {"digest": digest.hexdigest(), "pieces": pieces, "empty": empty}
        text = json.dumps(found_json | {"notes": notes})
        (place / "found.json").write_text(text, encoding="utf-8")


def indexed(path: Path, image: str, label: str | None) -> Index:
    """Where the examples of an archive lie. Raises :class:`UserError` for what is none."""
    index = Index()
    digest = hashlib.blake2b(digest_size=16)
    wanted = {image: image, label: None if label is None else label.partition(".")[0]}
    seen: set[str] = set()
    for key, members in _examples(path, index.others, digest):
        if key in seen:
            raise UserError(
                f"{path}: the key {key!r} is there twice; the members of an example lie one behind "
                "another."
            )
        seen.add(key)
        found = members.get(image)
        lacks = [name for name in wanted.values() if name is not None and name not in members]
        if found is None or lacks:
            has = ", ".join(members)
            index.faults.append(f"{path}, {key}: has no .{lacks[0]}, but {has}")
            continue
        ending = wanted[label]
        other = Member(0, 0) if ending is None else members[ending]
        index.rows.append((*found, *other))
    index.digest = digest.hexdigest()
    return index


def _examples(path: Path, others: list[str], digest: Any) -> Iterator[tuple[str, Members]]:
    """Each key with its members by their ending."""
    key, members = "", Members()
    for name, member in _members(path, others, digest):
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        own = f"{folder}{slash}{stem}"
        if own != key and members:
            yield key, members
            members = {}
        key = own
        if ending.lower() in members:
            raise UserError(f"{path}: the member {name!r} is there twice.")
        members[ending.lower()] = member
    if members:
        yield key, members


def _members(path: Path, others: list[str], digest: Any) -> Iterator[tuple[str, Member]]:
    try:
        require_file(path)
        size = path.stat().st_size
        if not size:
            raise UserError(f"{path} is empty.")
        with tarfile.open(path, "r:") as archive:
            while True:
                found = archive.next()
                archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                if found is None:
                    break
                digest.update(f"{found.name}\0{found.size}\0{found.mtime}\0".encode())
                if found.isdir():
                    continue
                if not found.isreg() or found.issparse():
                    others.append(f"{path}, {found.name}")
                    continue
                if found.offset_data + found.size > size:
                    raise UserError(f"{path} is cut off within its member {found.name}.")
                if found.name.rpartition("/")[2].startswith("."):
                    others.append(f"{path}, {found.name}")
                    continue
                yield found.name, Member(found.offset_data, found.size)
            end = archive.offset
        _require_end(path, end)
    except tarfile.TarError as error:
        raise UserError(f"{path} is no tar archive that can be read to its end: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _require_end(path: Path, at: int) -> None:
    """Raise :class:`UserError` where an archive does not end at a byte where its reader ended.

    The reader ends in silence also at a header that is damaged.
    """
    with path.open("rb") as file:
        file.seek(at)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise UserError(f"{path} is cut off: it has no end.")
        if block.strip(b"\0"):
            raise UserError(f"{path} is damaged: at byte {at:,} there is no member's header.")
        while more := file.read(1 << 20):
            if more.strip(b"\0"):
                raise UserError(
                    f"{path} goes on behind its end: it is damaged, or was put together by cat. "
                    "tar -A puts archives together; or leave them apart."
                )


def _first_example(key: str, files: Sequence[Path]) -> tuple[Members, list[str]]:
    """The members of the first example that there is, and the keys of its JSON object."""
    for path in files:
        for _, members in _examples(path, [], hashlib.blake2b()):
            keys: list[str] = []
            if "json" in members and members["json"].size <= LONGEST:
                with path.open("rb") as file:
                    found = _json(_member(file, *members["json"]))
                keys = list(found) if isinstance(found, dict) else []
            return members, keys
    raise UserError(f"data.{key}: no archive has an example: {files[0]}.")


def _image_of(key: str, path: Path, endings: Members) -> str:
    found = [ending for ending in endings if f".{ending}" in IMAGES]
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"data.{key}: the first example of {path} has {len(found)} images: "
        f"{', '.join(endings)}. " + ("Choose one by data.image=ENDING." if found else "")
    )


def _label_of(key: str, path: Path, endings: Members, keys: list[str], needed: bool) -> str | None:
    if "cls" in endings:
        return "cls"
    named = [name for name in keys if name.lower() in LABELS]
    if len(named) == 1:
        return f"json.{named[0]}"
    if "txt" in endings and not named:
        return "txt"
    if not needed:
        return None
    raise UserError(
        f"data.{key}: the first example of {path} has no member that is the label, but "
        f"{', '.join([*endings, *(f'json.{name}' for name in keys)])}; data.label names one."
    )


def _member(file: Any, at: int, size: int) -> bytes:
    file.seek(at)
    found: bytes = file.read(size)
    if len(found) < size:
        raise ValueError("it is cut off, or has changed since it was looked up")
    return found


def _label(content: bytes, label: str) -> str:
    """The label that a member holds, as text. Raises ValueError."""
    ending, _, key = label.partition(".")
    if len(content) > LONGEST:
        raise ValueError(f"a member .{ending} of {len(content):,} bytes is no label")
    if ending != "json":
        return content.decode("utf-8").strip()
    found = _json(content)
    if not isinstance(found, dict) or not isinstance(found.get(key), (str, int, float)):
        raise ValueError(f"a member .json has no text or number {key!r}")
    return str(found[key])


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a member .json is no JSON: {error}") from error


def _cut(shard: int, rows: np.ndarray[Any, Any]) -> Iterator[tuple[int, ...]]:
    """The pieces of a shard: so many examples, or bytes."""
    first = size = number = 0
    for row, (_, image, _, label) in enumerate(rows.tolist()):
        size += image + label
        if row + 1 - first >= EXAMPLES or size >= BYTES or row + 1 == len(rows):
            yield shard, number, first, row + 1 - first, size
            first, size, number = row + 1, 0, number + 1
