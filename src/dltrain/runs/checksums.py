"""``checksums.sha256``: what the files of a run folder were when the run wrote them.

In the format of ``sha256sum``, which checks it too (``sha256sum --check checksums.sha256``). A
file that was edited on purpose is accepted once its line is deleted. Checkpoints and
``summary.json``, which a run writes again and again, carry their checksums in themselves. No torch
here: listing must be quick.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dltrain import files
from dltrain.errors import UserError

FILE = "checksums.sha256"
OWN = "sha256"
"""The last key of a JSON file that carries its own checksum."""
LINE = re.compile(r"([0-9a-f]{64})  (.+)")
CHUNK = 1 << 20


def of_files(folder: Path, names: Iterable[str]) -> str:
    """The lines for the files ``names`` of ``folder``, sorted."""
    lines = (f"{_digest(folder, name)}  {name}\n" for name in sorted(names))
    return "".join(lines)


def read(folder: Path) -> dict[str, str]:
    """The checksum of each file that a run folder lists; none where an earlier version wrote it.

    Raises :class:`UserError` where the list is damaged.
    """
    path = folder / FILE
    try:
        text = files.read_within(folder, FILE).decode()
    except FileNotFoundError:
        return {}
    except files.NotAFileError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    found = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        match = LINE.fullmatch(line)
        if match is None:
            raise UserError(
                f"{path}, line {number}: it is damaged, for this is no checksum. Delete the line "
                "to do without it."
            )
        found[match[2]] = match[1]
    if text and not text.endswith("\n"):
        raise UserError(f"{path} is damaged: its last line is not whole.")
    return found


def require(folder: Path, name: str, content: bytes, listed: Mapping[str, str]) -> None:
    """Raise :class:`UserError` where ``content``, of the file ``name``, is not what was written."""
    known = listed.get(name)
    if known is not None and hashlib.sha256(content).hexdigest() != known:
        raise UserError(changed(folder, name))


def require_listed(folder: Path, without: tuple[str, ...], every: bool) -> None:
    """Raise :class:`UserError` where a file that is listed is not what was written.

    Those whose names begin as ``without`` says are not looked at. ``every`` other one has to be
    there; else only what lies in ``folder`` itself, and is there, is looked at.
    """
    for name, digest in read(folder).items():
        if name.startswith(without) or (not every and "/" in name):
            continue
        try:
            found = _digest(folder, name)
        except FileNotFoundError:
            if not every:
                continue
            raise UserError(
                f"{folder / name} is gone: {folder / FILE} lists it. If you removed it, delete its "
                "line."
            ) from None
        if found != digest:
            raise UserError(changed(folder, name))


def changed(folder: Path, name: str) -> str:
    """The message about a file with another checksum, and how it is accepted."""
    return (
        f"{folder / name} is not what the run wrote: it was damaged, or edited. If you edited it, "
        f"delete its line in {folder / FILE}."
    )


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content``, which is to be written as JSON, with a checksum of itself as its last key."""
    rest = {key: value for key, value in content.items() if key != OWN}
    return {**rest, OWN: _of_json(rest)}


def is_whole(content: Mapping[str, Any], required: bool) -> bool:
    """Whether JSON that was read is what was written.

    Without a checksum nobody can tell: it is not where one is ``required``.
    """
    rest = dict(content)
    own = rest.pop(OWN, None)
    return not required if own is None else bool(own == _of_json(rest))


def forget(folder: Path, names: Iterable[str]) -> str:
    """The lines of a run folder's list without those of ``names``."""
    gone = set(names)
    return "".join(
        f"{digest}  {name}\n" for name, digest in read(folder).items() if name not in gone
    )


def _of_json(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(folder: Path, name: str) -> str:
    digest = hashlib.sha256()
    with files.open_within(folder, name, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
