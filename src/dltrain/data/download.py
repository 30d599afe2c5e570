"""Fetch a file once, whole and checked, or say in one message how else to get it."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from dltrain.data.lock import lock_for
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

CHUNK = 1 << 16
LARGEST = 1 << 28
"""Bytes of a file, unpacked; of those that are fetched none has so many."""
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Remote:
    """A file behind several addresses, tried in order.

    ``sha256`` is that of a gzipped file's content, which is then unpacked. Where only the
    ``md5`` of the file as it lies there is published, give that: it is then kept as it is.
    ``alternatives`` says how to do without.
    """

    urls: Sequence[str]
    sha256: str | None = None
    alternatives: str = ""
    md5: str | None = None


def fetch(remote: Remote, path: Path) -> Path:
    """Download to ``path``, unpacked where it is gzipped, unless it is there; return ``path``.

    ``path`` appears whole and checked or not at all, also when several runs ask at once.
    Raises :class:`UserError` when no address gives the file.
    """
    try:
        with lock_for(path):
            if not path.exists():
                _download(remote, path)
    except OSError as error:
        raise UserError(
            f"{path.name} is missing and cannot be saved in {path.parent}: {error.strerror}. "
            f"{remote.alternatives}"
        ) from error
    return path


def _download(remote: Remote, path: Path) -> None:
    failures = []
    partial = path.with_name(f".{path.name}.partial")
    for url in remote.urls:
        logger.info("fetching %s", url)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
                path.parent.mkdir(parents=True, exist_ok=True)
                right = _save(response, partial, remote)
            if not right:
                raise ValueError("its checksum is wrong: the file is damaged or another one")
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
            EOFError,
            gzip.BadGzipFile,
            zlib.error,
            ValueError,
        ) as error:
            failures.append(f"  {url}: {getattr(error, 'reason', None) or error}")
        else:
            partial.replace(path)
            return
        finally:
            partial.unlink(missing_ok=True)
    raise UserError(
        f"{path.name} is missing from {path.parent} and could not be fetched:\n"
        + "\n".join(failures)
        + f"\n{remote.alternatives}"
    )


def _save(response: BinaryIO, to: Path, remote: Remote) -> bool:
    """Write what comes to ``to``; return whether its checksum is the published one."""
    if remote.md5 is not None:
        # Against damage; nobody publishes a better one of these files.
        digest = hashlib.md5(usedforsecurity=False)
        _copy(response, to, digest)
        return digest.hexdigest() == remote.md5
    digest = hashlib.sha256()
    with gzip.open(response) as unpacked:
        _copy(cast(BinaryIO, unpacked), to, digest)
    return digest.hexdigest() == remote.sha256


def _copy(source: BinaryIO, to: Path, digest: hashlib._Hash) -> None:
    with to.open("wb") as file:
        while chunk := source.read(CHUNK):
            if file.tell() > LARGEST:
                raise ValueError(f"it has more than {LARGEST:,} bytes, and no such file has")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
