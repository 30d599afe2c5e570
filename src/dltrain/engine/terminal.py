"""Standard output and standard error that take any text, and outlive their reader."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO

PLAIN = {"×": "x", "±": "+-", "…": "...", "–": "-", "‖": "||", "∂": "d", "▯": "?", "━": "-"}
"""Letters of ours, for a terminal that has none but ASCII's."""
REPLACE = "dltrain.plain"
LEFT = errno.EPIPE, errno.EIO
"""What a write fails with once its reader has left: the end of a pipe, a terminal."""


def make_writable() -> None:
    """Have what is printed never end a command: neither a letter nor a reader who has left."""
    _open_closed()
    codecs.register_error(REPLACE, _plain)
    sys.stdout = _lasting(sys.stdout, sys.__stdout__)
    sys.stderr = _lasting(sys.stderr, sys.__stderr__)


def _open_closed() -> None:
    """Put the null device in the place of what the shell has closed (``>&-``).

    Else the next file that is opened, such as a checkpoint, is the standard output, and what any
    library prints goes into it.
    """
    for handle, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(handle)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != handle:
                os.dup2(nowhere, handle)
                os.close(nowhere)
            os.set_inheritable(handle, True)
        if getattr(sys, name) is None:
            mode = "w" if handle else "r"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for letters that an encoding lacks: our own in ASCII, others as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    escapes = [letter.encode("ascii", "backslashreplace").decode() for letter in letters]
    shown = [PLAIN.get(letter, escape) for letter, escape in zip(letters, escapes, strict=True)]
    return "".join(shown), error.end


def _lasting(stream: TextIO, original: TextIO | None) -> TextIO:
    """The stream over a file that outlives its reader; one that is not the process's own as is."""
    if not (isinstance(stream, io.TextIOWrapper) and stream is original):
        return stream  # a notebook's, a test's, or none
    stream.flush()
    file = io.BufferedWriter(_Lasting(stream.fileno(), "wb", closefd=False))
    return io.TextIOWrapper(
        file,
        stream.encoding,
        REPLACE,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def reader_has_left(stream: TextIO) -> bool:
    """Whether what is printed to ``stream`` is dropped, for nobody can have it any more."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return isinstance(raw, _Lasting) and raw.dropped


def is_cut(stream: TextIO) -> bool:
    """Whether what was printed to ``stream`` is not whole, although nobody has left."""
    stream.flush()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return isinstance(raw, _Lasting) and raw.is_cut


class _Lasting(io.FileIO):
    """A file that swallows what is written once nobody can have it any more."""

    dropped = False
    is_cut = False
    """Whether somebody still waits for what was dropped: a file on a full disk."""

    def write(self, data: Any) -> int:
        """Write all of ``data``, or drop it where the reader has gone or the disk is full."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise
            self.is_cut = error.errno not in LEFT
            if self.is_cut and self.fileno() != 2:
                with contextlib.suppress(OSError):
                    os.write(2, f"dltrain: standard output: {error.strerror}\n".encode())
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            self.dropped = True
            return len(data)
