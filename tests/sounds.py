"""Sounds made for tests, without the package that reads them: wav files of 16 bits."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np


def tone(hertz: float, seconds: float = 0.2, rate: int = 8000) -> np.ndarray:
    """A sine, int16 (time,)."""
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("<i2")


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    """Samples (time,) or (time, channels), int16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def write_folder(place: Path, count: int = 6, step: float = 0.03) -> Path:
    """``count`` low and as many high sounds, each ``step`` seconds longer, a folder a class."""
    for number in range(count):
        for name, hertz in (("low", 300), ("high", 1500)):
            seconds = 0.05 + step * number
            write_wav(place / name / f"{number}.wav", tone(hertz + 20 * number, seconds))
    return place
