"""The one door for opening files that may be a stranger's: a run folder's, and those of data.

A run folder may hold links that somebody else made. What is opened through one of them is a file of
the user's: read, shown in an error, cut to a length, written over. So a run's files are opened step
by step from the run folder, and no step is a link. A pipe or a device in place of a file would be
waited for, or read, without an end: it is refused by its kind, before a byte of it is read.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import IO, Any, Literal, overload

from dltrain.errors import UserError

LARGEST = 1 << 28
"""Bytes of a text that is read whole: a config, a summary, a vocabulary."""
_FOLLOWS_NOT = getattr(os, "O_NOFOLLOW", 0)
_PLAIN = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FLAGS = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT,  # cut only once it is known what it is
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+": os.O_RDWR | os.O_CREAT | os.O_APPEND,
}
_STEPWISE = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


SEEN, COMMON = 1 << 20, 0.8
"""Bytes of a text by which its encoding is told, and how many of its letters must be common."""
UNPACKED, RATIO = 1 << 28, 100
"""Bytes that anything may unpack to; beyond that, how many times its own size at most."""


_FORMATS = (
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"PAR1", "Parquet, which is read by the ending .parquet"),
    (b"PK\3\4", "a zip archive; a workbook of Excel is read by the ending .xlsx"),
    (b"\xd0\xcf\x11\xe0", "of an old Microsoft Office: save it as .xlsx or .csv"),
    (b"SQLite format 3", "an SQLite database"),
    (b"ID3", "a sound (MP3)"),
    (b"fLaC", "a sound (FLAC)"),
    (b"OggS", "a sound (Ogg)"),
)
"""How files that are no text begin, and what they are."""
START = 16
"""Bytes that tell."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Its byte order marks."""


class NotAFileError(OSError, UserError):
    """What has the name is no plain file of its folder; ``strerror`` says what it is."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}."


def kind_of(mode: int) -> str:
    """What is no plain file, in words (``a pipe``); empty of one that is."""
    return next((name for is_one, name in _KINDS if is_one(mode)), "")


def require_text(path: Path, start: bytes) -> None:
    """Raise :class:`ValueError` where a file that begins with ``start`` is known to be no text."""
    found = next((name for mark, name in _FORMATS if start.startswith(mark)), "")
    if start[:4] == b"RIFF":
        found = {b"WAVE": "a sound (WAV)", b"WEBP": "a WebP image"}.get(start[8:12], "")
    if found:
        raise ValueError(f"{path} is no text: it is {found}")


def require_file(path: Path) -> None:
    """Raise :class:`OSError` unless ``path``, which may be a link, is a file that has an end."""
    kind = kind_of(path.stat().st_mode)
    if kind:
        raise _no_file(path, f"it is {kind}, and no file")


@overload
def open_file(path: Path, mode: Literal["rb"]) -> IO[bytes]: ...
@overload
def open_file(
    path: Path, mode: Literal["r"] = "r", encoding: str = "utf-8", newline: str | None = None
) -> IO[str]: ...
def open_file(
    path: Path, mode: str = "r", encoding: str = "utf-8", newline: str | None = None
) -> IO[Any]:
    """Open a file to be read. Raises :class:`OSError` at once where it is none, such as a pipe."""
    # To open a pipe waits for whoever writes to it, unless it is asked not to.
    handle = os.open(path, os.O_RDONLY | _PLAIN)
    try:
        kind = kind_of(os.fstat(handle).st_mode)
        if kind:
            raise _no_file(path, f"it is {kind}, and no file")
    except BaseException:
        os.close(handle)
        raise
    return _as_file(handle, mode, encoding, newline)


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """All of a file. Raises :class:`OSError` also where it has more than ``largest`` bytes."""
    with open_file(path, "rb") as file:
        return _whole(path, file, largest)


def read_text(path: Path, largest: int = LARGEST, encoding: str = "utf-8") -> str:
    """The text of a file, read as :func:`read_bytes` does."""
    return read_bytes(path, largest).decode(encoding)


ENCODED = ", such as data.encoding=cp1252 (Western European Windows)"


def encoding_meant(path: Path) -> str | None:
    """``gb18030`` for a file that is no UTF-8 and may be Chinese; None: nobody can say.

    Other encodings can be read by it, too; of their letters few are among the 3,755 characters that
    are common in Chinese (level 1 of GB 2312), but for Korean ones of EUC-KR.
    """
    with open_file(path, "rb") as file:
        start = file.read(SEEN)
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(start)
    except UnicodeDecodeError:
        return None
    letters = [letter.encode("gb18030") for letter in text if not letter.isascii()]
    common = sum(len(pair) == 2 and 0xB0 <= pair[0] <= 0xD7 and pair[1] > 0xA0 for pair in letters)
    marks = sum(len(pair) == 2 and 0xA1 <= pair[0] <= 0xA3 for pair in letters)
    return "gb18030" if common and common + marks >= COMMON * len(letters) else None


def save_as_utf8(path: Path) -> str:
    """What to do with a text that is no UTF-8."""
    meant = encoding_meant(path)
    known = "" if meant is None else f"; if it is Chinese, by iconv -f {meant} -t utf-8"
    return f"save it as UTF-8{known}"


def say_encoding(path: Path) -> str:
    """What to do with a table that is not in the encoding it is read by, where it may be set."""
    meant = encoding_meant(path)
    said = ENCODED if meant is None else f": if it is Chinese, data.encoding={meant}"
    return f"save it as UTF-8, or say what it is{said}"


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text in UTF-8, without their ends, read as they are asked for.

    Raises :class:`ValueError` naming file and line where it is none, and :class:`OSError`.
    """
    with open_file(path, "rb") as file:
        start = file.read(START)
        require_text(path, start)
        if start.startswith(UTF_16):
            raise ValueError(f"{path} is UTF-16: save it as UTF-8")
        file.seek(0)
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number} is no UTF-8 text: it has the byte "
                    f"{line[error.start]:#04x}; {save_as_utf8(path)}"
                ) from error
            yield from text.removesuffix("\n").removesuffix("\r").split("\r")


def too_much(size: int, packed: int) -> str:
    """Why ``packed`` bytes that would unpack to ``size`` are not unpacked; empty where they are.

    What is made to fill a memory shrinks a thousandfold, images and tables some tenfold.
    """
    if size <= max(UNPACKED, RATIO * packed):
        return ""
    return f"would unpack to {size:,} bytes, from {packed:,}, which is not done"


def open_within(
    folder: Path, name: str, mode: str = "r", encoding: str = "utf-8", newline: str | None = None
) -> IO[Any]:
    """Open the file ``name``, a relative path with ``/``, of a run's ``folder``.

    ``mode`` is ``r``, ``r+``, ``w``, ``a`` or ``a+``, with ``b`` for bytes. Nothing is opened
    through a link, in no part of ``name``; nor is what is no plain file. One that has a second name
    elsewhere (a hard link) is read, but not written to. Raises :class:`OSError`.
    """
    kind = mode.replace("b", "")
    handle = _opened(folder, _parts(name), _FLAGS[kind] | _FOLLOWS_NOT | _PLAIN)
    try:
        _require_own(folder / name, os.fstat(handle), kind != "r")
        if kind == "w":
            os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return _as_file(handle, mode, encoding, newline)


def read_within(folder: Path, name: str, largest: int = LARGEST) -> bytes:
    """The content of the file ``name`` of a run's ``folder``; see :func:`open_within`."""
    with open_within(folder, name, "rb") as file:
        return _whole(folder / name, file, largest)


def own(folder: Path, name: str, written: bool = False) -> Path:
    """The path of ``name`` in a run's ``folder``, for libraries that open files by themselves.

    Raises :class:`OSError` where it, or a folder on the way, is there and is a link or the like;
    where it is ``written`` to, also for a hard link.
    """
    place = folder
    for part in _parts(name):
        if place is not folder:
            _require_folder(place)
        place = place / part
    try:
        found = place.lstat()
    except FileNotFoundError:
        return place
    _require_own(place, found, written)
    return place


def require_plain(folder: Path) -> None:
    """Raise :class:`NotAFileError` unless all that a run's ``folder`` holds are folders and files.

    For what opens its files by itself, such as a callback of the user's own: before it is asked.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                require_plain(Path(entry.path))
            elif not stat.S_ISREG(mode):
                what = f"it is {kind_of(mode)}: a run's files lie in its folder"
                raise _no_file(Path(entry.path), f"{what}; remove it, or put what is meant there")


def make_room(folder: Path, name: str) -> Path:
    """The path of ``name`` in a run's ``folder``, which is to be written, and its folders made.

    For a file that is written beside and renamed to it, which follows no link. Raises
    :class:`OSError` where a folder on the way is none, or a link.
    """
    place = folder
    *folders, last = _parts(name)
    for part in folders:
        place = place / part
        place.mkdir(exist_ok=True)
        _require_folder(place)
    return place / last


def _opened(folder: Path, parts: tuple[str, ...], flags: int) -> int:
    """A handle of the file that ``parts`` lead to, none of which is a link."""
    if not _STEPWISE:  # Windows: between this look and the opening nobody but the user is there
        own(folder, "/".join(parts))
        return os.open(folder.joinpath(*parts), flags, 0o644)
    *folders, last = parts
    place, at = folder, os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            place = place / part
            try:
                step = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            except OSError as error:
                raise _told(place, error) from error
            os.close(at)
            at = step
        try:
            return os.open(last, flags, 0o644, dir_fd=at)
        except OSError as error:
            raise _told(place / last, error) from error
    finally:
        os.close(at)


def _told(path: Path, error: OSError) -> OSError:
    """``error`` with the whole path; of a link, what it is."""
    try:
        kind = kind_of(path.lstat().st_mode)
    except OSError:
        kind = ""
    by_kind = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.ENXIO, errno.EISDIR)
    if kind and error.errno in by_kind:
        return _no_file(path, f"it is {kind}: a run's files lie in its folder")
    return type(error)(error.errno, error.strerror, str(path))


def _require_own(path: Path, found: os.stat_result, written: bool) -> None:
    kind = kind_of(found.st_mode)
    if kind:
        raise _no_file(path, f"it is {kind}: a run's files lie in its folder")
    if written and found.st_nlink > 1:
        raise _no_file(
            path,
            "it is also another file (a hard link), which would be written to; "
            "copy the run folder and use the copy",
        )


def _require_folder(place: Path) -> None:
    try:
        mode = place.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        kind = kind_of(mode) or "a file"
        raise _no_file(place, f"it is {kind}: a run's folders lie in its folder")


def _parts(name: str) -> tuple[str, ...]:
    parts = PurePath(name).parts
    if not parts or PurePath(name).is_absolute() or ".." in parts:
        raise _no_file(Path(name), "it lies outside of the run folder")
    return parts


def _no_file(path: Path, what: str) -> NotAFileError:
    return NotAFileError(errno.EINVAL, what, str(path))


def _whole(path: Path, file: IO[bytes], largest: int) -> bytes:
    content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"it has more than {largest:,} bytes", str(path))
    return content


def _as_file(handle: int, mode: str, encoding: str, newline: str | None) -> IO[Any]:
    if hasattr(os, "set_blocking"):
        os.set_blocking(handle, True)
    if "b" in mode:
        return os.fdopen(handle, mode)
    # A file's name may be no UTF-8; what is written of it is its escape.
    errors = "strict" if mode == "r" else "backslashreplace"
    return os.fdopen(handle, mode, encoding=encoding, newline=newline, errors=errors)
