"""New sounds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, singledispatchmethod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Reader
from dltrain.contracts.preprocessing import Preprocessing
from dltrain.data.audio.decode import (
    HIGHEST_RATE,
    LOWEST_RATE,
    Samples,
    UnreadableError,
    read_sound,
    require_short,
    to_integers,
)
from dltrain.data.audio.features import FeatureKind, Features, FeatureSettings, Normalized
from dltrain.data.audio.listing import sound_files
from dltrain.data.audio.stored import Tally, facts_told
from dltrain.data.images.listing import expanded
from dltrain.data.streams.reader import require_scale, several
from dltrain.errors import UserError

logger = logging.getLogger(__name__)


class AudioReader(Reader):
    """Reads sounds into normalized frames of features, as the run's were.

    An example is the path of a file, its content as bytes, or an array or tensor of samples (time,)
    at ``rate`` a second: int16, or floating point in -1..1. ``max_seconds`` is the longest that is
    read; null: any. The other arguments are those of
    :class:`~dltrain.data.audio.features.FeatureSettings`, ``mean`` and ``std`` the training
    split's, one a feature.
    """

    example = "sound"
    at_once = 32
    """The spectra of many minutes take gigabytes."""

    def __init__(
        self,
        rate: int,
        mean: Sequence[float],
        std: Sequence[float],
        features: FeatureKind = "logmel",
        mels: int = 40,
        coefficients: int = 20,
        window: float = 0.025,
        hop: float = 0.01,
        low: float = 0.0,
        high: float | None = None,
        max_seconds: float | None = None,
    ) -> None:
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(f"rate must be from {LOWEST_RATE:,} to {HIGHEST_RATE:,}, got {rate:,}")
        self.settings = FeatureSettings(features, mels, coefficients, window, hop, low, high)
        require_scale(mean, std, self.settings.size)
        self.rate, self.max_seconds = rate, max_seconds
        self.mean, self.std = list(mean), list(std)
        self._features = Features(self.settings, rate, torch.device("cpu"))
        self._tally = Tally()

    @cached_property
    def _normalized(self) -> Normalized:
        return Normalized(self._features, self.mean, self.std, torch.device("cpu"))

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """A folder is all sounds in it, at any depth; a pattern the files that it matches.

        An open text file has a path a line. What is left out of a folder is logged.
        """
        if isinstance(inputs, (np.ndarray, Tensor)):
            inputs = [inputs] if inputs.ndim == 1 else list(inputs)
        yield from expanded(inputs, sound_files, "sound")

    def read(self, examples: Sequence[Any]) -> Batch:
        """Frames (batch, frames, features), how many are real (batch,), and the samples.

        Of files it is logged what is doubtful in them, and what is changed.
        """
        self._tally = Tally()
        sounds = [self._sound(number, one) for number, one in enumerate(several(examples))]
        for level, line in facts_told([self._tally]):
            logger.log(level, "%s", line)
        lengths = torch.tensor([len(one) for one in sounds])
        samples = torch.zeros(len(sounds), int(lengths.max()), dtype=torch.int16)
        for row, one in enumerate(sounds):
            samples[row, : len(one)] = torch.from_numpy(one)
        frames, real = self._normalized(samples, lengths)
        return {
            "input": frames,
            "input_length": real,
            "sound": samples,
            "sound_length": lengths,
        }

    def node(self, folder: Path) -> dict[str, Any]:
        settings = {
            ("features" if name == "kind" else name): value
            for name, value in vars(self.settings).items()
        }
        return {
            "_target_": f"{__name__}.AudioReader",
            "rate": self.rate,
            "mean": self.mean,
            "std": self.std,
            **settings,
            "max_seconds": self.max_seconds,
        }

    def preprocessing(self) -> Preprocessing | None:
        """Raise :class:`UserError`: no exported file makes frames of sounds."""
        raise UserError(
            "export: networks that hear are not exported: what makes frames of sounds, and masks "
            "their ends, is in dltrain. dltrain predict and dltrain serve use the run."
        )

    def _sound(self, number: int, example: Any) -> Samples:
        name = f", {example}," if isinstance(example, (str, PathLike)) else ""
        try:
            return self._samples(example)
        except UnreadableError as error:
            raise ValueError(f"example {number}{name} {error}") from error

    @singledispatchmethod
    def _samples(self, example: Any) -> Samples:
        raise UnreadableError(f"is no sound, but of type {type(example).__name__}")

    @_samples.register(str)
    def _(self, example: str) -> Samples:
        return self._samples(Path(example).expanduser())

    @_samples.register(Path)
    @_samples.register(bytes)
    def _(self, example: Path | bytes) -> Samples:
        sound = read_sound(example, self.rate, self.max_seconds)
        self._tally.add(example.name if isinstance(example, Path) else "bytes", sound)
        return sound.samples

    @_samples.register(Tensor)
    def _(self, example: Tensor) -> Samples:
        whole = example.dtype == torch.int16
        return self._samples((example if whole else example.float()).numpy(force=True))

    @_samples.register(np.ndarray)
    def _(self, example: np.ndarray[Any, Any]) -> Samples:
        integers = example.dtype == np.int16
        if example.ndim != 1 or not example.size or not (integers or example.dtype.kind == "f"):
            raise UnreadableError(
                f"is an array of {example.dtype} of shape {example.shape}, not samples (time,) of "
                "int16 or of floating point in -1..1"
            )
        require_short(len(example) / self.rate, self.max_seconds)
        if integers:
            return example
        if not np.isfinite(example).all():
            raise UnreadableError("has samples that are no finite numbers")
        return to_integers(example.astype(np.float32))
