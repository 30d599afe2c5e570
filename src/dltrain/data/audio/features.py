"""From samples to frames of features: log-mel spectrograms and their cepstra, batch by batch.

The same numbers as librosa 0.11 gives (``melspectrogram`` with its defaults, ``power_to_db``
without ``top_db``, ``mfcc``); a sound's frames do not depend on what it is batched with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.data.audio.decode import FULL

FeatureKind = Literal["logmel", "mfcc"]

FLOOR = 1e-10
"""Power below which nothing is heard: -100 dB."""
LINEAR, STEP = 1000.0, 200 / 3
"""The mel scale of Slaney 1998 is linear up to so many Hz, a mel every so many of them."""
LOGARITHM = math.log(6.4) / 27
"""Above, each mel is so much more of the logarithm."""


@dataclass(frozen=True)
class FeatureSettings:
    """Frames of ``window`` seconds every ``hop`` seconds, in ``mels`` bands of power in decibels.

    The bands are triangles, evenly spaced on the mel scale from ``low`` to ``high`` Hz (None: half
    the rate). ``mfcc`` are the first ``coefficients`` of each frame's cosine transform: its
    cepstrum (Davis and Mermelstein 1980).

    Raises ValueError for sizes that are none.
    """

    kind: FeatureKind = "logmel"
    mels: int = 40
    coefficients: int = 20
    window: float = 0.025
    hop: float = 0.01
    low: float = 0.0
    high: float | None = None

    def __post_init__(self) -> None:
        """What can be told without the rate."""
        if self.mels < 2:
            raise ValueError(f"mels must be at least 2, got {self.mels}")
        if self.kind == "mfcc" and not 2 <= self.coefficients <= self.mels:
            raise ValueError(
                f"coefficients must be from 2 to mels={self.mels}, got {self.coefficients}"
            )
        if not 0 < self.hop <= 1 or not 0 < self.window <= 1:
            raise ValueError(
                f"window and hop are above 0 and at most 1 second, got {self.window}, {self.hop}"
            )
        if self.low < 0 or (self.high is not None and self.high <= self.low):
            raise ValueError(f"low and high are rising numbers of Hz, got {self.low}, {self.high}")

    @property
    def size(self) -> int:
        """Features of a frame."""
        return self.mels if self.kind == "logmel" else self.coefficients


class Features:
    """Samples (batch, time) at ``rate`` to features (batch, frames, size), on their device.

    Raises ValueError for bands beyond half the rate, and for windows of less than two samples.
    """

    def __init__(self, settings: FeatureSettings, rate: int, device: torch.device) -> None:
        self.settings, self.rate = settings, rate
        high = rate / 2 if settings.high is None else settings.high
        if high > rate / 2 or settings.low >= high:
            raise ValueError(
                f"bands from {settings.low:g} to {high:g} Hz: sounds of {rate:,} samples a second "
                f"have nothing above {rate // 2:,} Hz"
            )
        self.hop, self.window = round(settings.hop * rate), round(settings.window * rate)
        if self.hop < 1 or self.window < 2:
            raise ValueError(
                f"window {settings.window} and hop {settings.hop} are less than a sample of "
                f"{rate:,} a second"
            )
        self.fft = 1 << (self.window - 1).bit_length()
        hann = torch.hann_window(self.window, dtype=torch.float64)
        self._window = hann.float().to(device)
        bands = mel_bands(rate, self.fft, settings.mels, settings.low, high)
        self._bands = bands.float().T.contiguous().to(device)
        self._cosines = cosines(settings.mels, settings.size).float().to(device)

    @property
    def frames_per_second(self) -> float:
        """How many frames a second has."""
        return self.rate / self.hop

    def lengths(self, samples: Tensor) -> Tensor:
        """Frames of sounds of so many ``samples``: one is centered on the first of them."""
        return 1 + torch.div(samples, self.hop, rounding_mode="floor")

    def __call__(self, samples: Tensor) -> Tensor:
        """Features of ``samples``: int16, or in -1..1; what is beyond a sound's end is 0."""
        if not samples.is_floating_point():
            samples = samples.float() / FULL
        padded = functional.pad(samples, (self.fft // 2, self.fft // 2))
        spectrum = torch.stft(
            padded,
            self.fft,
            self.hop,
            self.window,
            self._window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        mels = power.transpose(1, 2) @ self._bands
        decibels = 10 * mels.clamp_min(FLOOR).log10()
        return decibels if self.settings.kind == "logmel" else decibels @ self._cosines


class Normalized:
    """Features of padded batches at mean 0 and std 1 of each, and 0 where a sound is over."""

    def __init__(self, features: Features, mean: Any, std: Any, device: torch.device) -> None:
        self.features = features
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self._std = torch.tensor(std, dtype=torch.float32, device=device)

    def __call__(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, size) of ``samples`` (batch, time), and frames (batch,)."""
        found = (self.features(samples) - self._mean) / self._std
        frames = self.features.lengths(lengths)
        return found * real(frames, found.shape[1])[:, :, None], frames


def real(lengths: Tensor, longest: int) -> Tensor:
    """Which of ``longest`` steps are no padding (batch, longest)."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def mel_bands(rate: int, fft: int, mels: int, low: float, high: float) -> Tensor:
    """The weight of each frequency in each band (mels, fft // 2 + 1), float64.

    Triangles between neighbors on the mel scale, each of area 1 (Slaney's Auditory Toolbox 1998).
    """
    frequencies = torch.linspace(0, rate / 2, fft // 2 + 1, dtype=torch.float64)
    edges = to_hertz(torch.linspace(to_mel(low), to_mel(high), mels + 2, dtype=torch.float64))
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


def to_mel(hertz: float) -> float:
    """A frequency on the mel scale."""
    if hertz < LINEAR:
        return hertz / STEP
    return LINEAR / STEP + math.log(hertz / LINEAR) / LOGARITHM


def to_hertz(mels: Tensor) -> Tensor:
    """The frequencies of places on the mel scale."""
    bend = LINEAR / STEP
    return torch.where(mels < bend, mels * STEP, LINEAR * torch.exp(LOGARITHM * (mels - bend)))


def cosines(mels: int, coefficients: int) -> Tensor:
    """The orthonormal cosine transform of type II (mels, coefficients), float64."""
    places = (torch.arange(mels, dtype=torch.float64) + 0.5) * (math.pi / mels)
    waves = torch.cos(places[:, None] * torch.arange(coefficients, dtype=torch.float64))
    scale = torch.full((coefficients,), math.sqrt(2 / mels), dtype=torch.float64)
    scale[0] = math.sqrt(1 / mels)
    return waves * scale
