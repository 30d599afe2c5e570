"""From any sound file to samples of one channel, at one rate, of 16 bits."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from dltrain.errors import UserError
from dltrain.files import open_file

Samples = npt.NDArray[np.int16]

FULL = 1 << 15
"""Full scale: a sample of 16 bits is from ``-FULL`` to ``FULL - 1``."""
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Samples a second that a file may have."""
MOST_CHANNELS = 64
BLOCK = 1 << 16
"""Samples of each channel that are decoded at a time, so that memory goes with what is kept."""
LIMIT = 0.99
"""Of full scale: beyond it a sample counts as cut by the recorder."""
CLIPPED = 1e-3
"""Fraction of the samples beyond ``LIMIT`` from which a sound is clipped."""
SILENT = 16
"""A sound is silent whose samples are all within this of each other: 66 dB below full scale."""
STEPS = 1000
"""Of the two rates of a conversion, in lowest terms: others are rounded by below a millionth."""
MAGIC = (
    (0, b"RIFF"),
    (0, b"RIFX"),
    (0, b"RF64"),
    (0, b"riff"),  # Sony's Wave64
    (0, b"fLaC"),
    (0, b"OggS"),
    (0, b"FORM"),  # AIFF
    (0, b".snd"),
    (0, b"caff"),
    (0, b"NIST_1A"),  # SPHERE, as TIMIT has it
    (0, b"ID3"),
)
"""What files of sound begin with. MPEG frames have no word of their own: 11 bits that are 1."""
FORMATS = {
    *("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "MPEG", "AIFF", "AU", "CAF", "NIST"),
}
"""What libsndfile may find inside."""
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
"""Of each sample; others are floating point or compressed."""


class UnreadableError(Exception):
    """Bytes that are no sound, or none that is wanted; says why."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself, ``frames`` being samples of each channel."""

    rate: int
    channels: int
    frames: int
    subtype: str

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.rate

    @property
    def wide(self) -> bool:
        """Whether 16 bits do not hold its samples."""
        return BITS.get(self.subtype, 0) > 16 or self.subtype in ("FLOAT", "DOUBLE")


@dataclass(frozen=True)
class Sound:
    """``samples`` (time,) int16, and what its file was.

    ``clipped``: its loudest samples are cut. ``silent``: there is nothing to hear. ``short``: the
    file ends before its header says.
    """

    samples: Samples
    header: Header
    clipped: bool
    silent: bool
    short: bool


def require_soundfile() -> Any:
    """The module that decodes. Raises :class:`UserError` where it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise UserError(
            "data: reading sounds needs soundfile: pip install 'dltrain[audio]'"
        ) from error
    return soundfile


def read_header(file: Path | bytes) -> Header:
    """What ``file`` says of itself. Raises :class:`UnreadableError`."""
    with _opened(file) as stream:
        return _header(stream)


def read_sound(file: Path | bytes, rate: int, most_seconds: float | None = None) -> Sound:
    """The mean of the channels of ``file``, resampled to ``rate``.

    Raises :class:`UnreadableError`, also for a sound that lasts longer than ``most_seconds``.
    """
    with _opened(file) as stream:
        header = _header(stream)
        require_short(header.seconds, most_seconds)
        most = header.frames if most_seconds is None else int(most_seconds * header.rate) + 1
        parts, left = [], most
        try:
            while left > 0 and len(
                block := stream.read(min(BLOCK, left), dtype="float32", always_2d=True)
            ):
                parts.append(block.mean(1, dtype=np.float32))
                left -= len(block)
        except Exception as error:  # whatever a damaged file makes of the decoder
            raise UnreadableError(
                f"is no sound that can be read to its end: {_first_line(error)}"
            ) from error
        short = "should be" in stream.extra_info and header.subtype in BITS
    if not parts:
        raise UnreadableError("has no sample")
    samples = np.concatenate(parts)
    require_short(len(samples) / header.rate, most_seconds)
    if not np.isfinite(samples).all():
        raise UnreadableError("has samples that are no finite numbers")
    clipped = float((np.abs(samples) >= LIMIT).mean()) > CLIPPED
    whole = to_integers(resampled(samples, header.rate, rate))
    silent = int(whole.max()) - int(whole.min()) < SILENT
    return Sound(whole, header, clipped, silent, short)


def resampled(samples: npt.NDArray[np.float32], rate: int, wanted: int) -> npt.NDArray[np.float32]:
    """``samples`` (time,) of ``rate`` a second at ``wanted`` a second; at least one.

    By a polyphase filter with a Kaiser window (scipy's ``resample_poly``), which lets nothing of
    above half the lower rate through.
    """
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly  # type: ignore[import-untyped]

    ratio = Fraction(wanted, rate).limit_denominator(STEPS)
    if not ratio:
        ratio = Fraction(1, math.ceil(rate / wanted))
    found: npt.NDArray[np.float32] = resample_poly(samples, ratio.numerator, ratio.denominator)
    return found.astype(np.float32, copy=False)


def to_integers(samples: npt.NDArray[np.float32]) -> Samples:
    """Samples in -1..1 as 16 bits; what is louder is cut."""
    return np.clip(np.rint(samples * FULL), -FULL, FULL - 1).astype(np.int16)


def require_short(seconds: float, most: float | None) -> None:
    """Raise :class:`UnreadableError` for a sound that lasts too long."""
    if most is not None and seconds > most:
        raise UnreadableError(
            f"lasts {seconds:,.1f} seconds, of {most:g} at most: cut it, or raise data.max_seconds"
        )


def _opened(file: Path | bytes) -> Any:
    """A soundfile.SoundFile. Raises :class:`UnreadableError`."""
    soundfile = require_soundfile()
    try:
        raw: IO[bytes] = io.BytesIO(file) if isinstance(file, bytes) else open_file(file, "rb")
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    try:
        _require_magic(raw)
        found = soundfile.SoundFile(raw)
    except UnreadableError:
        raw.close()
        raise
    except Exception as error:  # libsndfile's message, or whatever soundfile makes of it
        raw.close()
        raise UnreadableError(f"is no sound that can be read: {_first_line(error)}") from error
    return _Closing(found, raw)


class _Closing:
    """A sound file within ``with``, whose own file soundfile leaves open."""

    def __init__(self, sound: Any, raw: IO[bytes]) -> None:
        self._sound, self._raw = sound, raw

    def __enter__(self) -> Any:
        return self._sound

    def __exit__(self, *_: object) -> None:
        self._sound.close()
        self._raw.close()


def _require_magic(raw: IO[bytes]) -> None:
    """Raise :class:`UnreadableError` for what begins as no sound does.

    libsndfile is not asked: it tries formats that are none of sound, such as Matlab's.
    """
    head = raw.read(16)
    raw.seek(0)
    if not head:
        raise UnreadableError("is no sound that can be read: it is empty")
    mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    if not mpeg and not any(head[at : at + len(word)] == word for at, word in MAGIC):
        letters = head.decode("utf-8", "ignore")
        text = bool(letters) and all(one.isprintable() or one.isspace() for one in letters)
        kind = ": it is a text" if text else ""
        raise UnreadableError(f"is no sound that is read (wav, flac, ogg, mp3, aiff, au){kind}")


def _header(stream: Any) -> Header:
    found = Header(
        int(stream.samplerate), int(stream.channels), int(stream.frames), str(stream.subtype)
    )
    if stream.format not in FORMATS:
        raise UnreadableError(f"is a file of {stream.format}, which is not read here")
    if not LOWEST_RATE <= found.rate <= HIGHEST_RATE:
        raise UnreadableError(
            f"has {found.rate:,} samples a second: {LOWEST_RATE:,} to {HIGHEST_RATE:,} are read"
        )
    if found.channels > MOST_CHANNELS:
        raise UnreadableError(f"has {found.channels:,} channels, of {MOST_CHANNELS} at most")
    if found.frames < 1:
        raise UnreadableError("has no sample")
    return found


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line.rpartition(">: ")[2].rstrip(".")  # soundfile names the object that it reads
