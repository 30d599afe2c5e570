"""Random changes of training sounds: of their samples, and of their frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dltrain.contracts.data import Augment, Batch, Draw, Field
from dltrain.data.audio.decode import FULL
from dltrain.data.audio.features import real
from dltrain.errors import require_between, require_fraction


class AudioAugment(Augment):
    """Random changes, others for every sound, as tensor work on the device.

    Of the samples (batch, time): ``speed`` a fraction (0.1 plays at 90 to 110 %, which moves pitch
    and length alike; Ko et al. 2015); ``shift`` seconds each way, what comes in being silence;
    ``gain`` decibels each way; ``noise`` the probability of white noise, at ``snr`` decibels below
    the sound, drawn evenly between the two.

    Of the frames (batch, frames, features): SpecAugment (Park et al. 2019) sets ``time_masks``
    stretches of up to ``time_width`` seconds, but of at most ``time_fraction`` of the sound, and
    ``feature_masks`` bands of up to ``feature_width`` features to the mean, which is 0.
    """

    def __init__(
        self,
        speed: float = 0.0,
        shift: float = 0.0,
        gain: float = 0.0,
        noise: float = 0.0,
        snr: Sequence[float] = (10.0, 30.0),
        time_masks: int = 0,
        time_width: float = 0.1,
        time_fraction: float = 0.2,
        feature_masks: int = 0,
        feature_width: int = 8,
    ) -> None:
        require_fraction(speed=speed)
        require_between(0, 1, noise=noise, time_fraction=time_fraction)
        least = {"shift": shift, "gain": gain, "time_masks": time_masks, "time_width": time_width}
        least |= {"feature_masks": feature_masks, "feature_width": feature_width}
        for name, value in least.items():
            if value < 0:
                raise ValueError(f"{name} is not negative, got {value}")
        if len(snr) != 2 or not snr[0] <= snr[1]:
            raise ValueError(f"snr is [low, high] in decibels, got {list(snr)}")
        self.speed, self.shift, self.gain, self.noise = speed, shift, gain, noise
        self.snr = (float(snr[0]), float(snr[1]))
        self.time_masks, self.time_width, self.time_fraction = time_masks, time_width, time_fraction
        self.feature_masks, self.feature_width = feature_masks, feature_width

    def check(self, fields: Mapping[str, Field]) -> None:
        """Raise :class:`ValueError` for bands wider than there are features."""
        size = fields["input"].shape[1]
        if size is not None and self.feature_masks and self.feature_width > size:
            raise ValueError(
                f"augment.feature_width={self.feature_width} is more than the {size} features"
            )

    def __call__(self, batch: Batch, draw: Draw, fields: Mapping[str, Field]) -> Batch:
        """Change the columns of ``fields`` that are sounds: samples, or frames of them."""
        for name, field in fields.items():
            if field.kind != "audio":
                continue
            column, lengths = batch[name], batch[f"{name}_length"]
            rate = field.rate or 1.0
            if column.ndim == 2:
                column, lengths = self._samples(column, lengths, draw.generator, rate)
            else:
                column = self._masked(column, lengths, draw.generator, rate)
            batch = batch | {name: column, f"{name}_length": lengths}
        return batch

    def _samples(
        self, samples: Tensor, lengths: Tensor, generator: torch.Generator, rate: float
    ) -> tuple[Tensor, Tensor]:
        if not (self.speed or self.shift or self.gain or self.noise):
            return samples, lengths
        samples = samples.float() / FULL
        if self.speed:
            samples, lengths = self._played(samples, lengths, generator)
        if self.shift:
            samples = self._shifted(samples, lengths, generator, rate)
        count, device = len(samples), samples.device
        if self.gain:
            decibels = _between(-self.gain, self.gain, count, generator, device)
            samples = samples * (10 ** (decibels / 20))[:, None]
        if self.noise:
            samples = self._noisy(samples, lengths, generator)
        return samples, lengths

    def _played(
        self, samples: Tensor, lengths: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Faster or slower, between samples by straight lines."""
        count, longest = samples.shape
        factors = _between(1 - self.speed, 1 + self.speed, count, generator, samples.device)
        # By the slowest that there may be, so that nobody waits for what was drawn.
        most = math.ceil(longest / (1 - self.speed))
        changed = (lengths / factors).floor().long().clamp_min(1)
        places = torch.arange(most, device=samples.device) * factors[:, None]
        low = places.floor().long().clamp_max(longest - 1)
        high = (low + 1).clamp_max(longest - 1)
        part = places - low
        found = samples.gather(1, low) * (1 - part) + samples.gather(1, high) * part
        return found * real(changed, most), changed

    def _shifted(
        self, samples: Tensor, lengths: Tensor, generator: torch.Generator, rate: float
    ) -> Tensor:
        count, longest = samples.shape
        most = self.shift * rate
        shifts = _between(-most, most, count, generator, samples.device).round().long()
        places = torch.arange(longest, device=samples.device) - shifts[:, None]
        inside = (places >= 0) & (places < lengths[:, None]) & real(lengths, longest)
        return samples.gather(1, places.clamp(0, longest - 1)) * inside

    def _noisy(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        count, device = len(samples), samples.device
        power = samples.square().sum(1) / lengths
        decibels = _between(*self.snr, count, generator, device)
        chosen = torch.rand(count, generator=generator, device=device) < self.noise
        loudness = (power * 10 ** (-decibels / 10)).sqrt() * chosen
        noise = torch.randn(samples.shape, generator=generator, device=device)
        return samples + noise * loudness[:, None] * real(lengths, samples.shape[1])

    def _masked(
        self, frames: Tensor, lengths: Tensor, generator: torch.Generator, rate: float
    ) -> Tensor:
        count, longest, size = frames.shape
        widest = (lengths * self.time_fraction).clamp_max(self.time_width * rate)
        for _ in range(self.time_masks):
            hidden = _stretches(widest, lengths, longest, generator)
            frames = frames.masked_fill(hidden[:, :, None], 0.0)
        features = lengths.new_full((count,), size)
        for _ in range(self.feature_masks):
            widest = features.clamp_max(self.feature_width)
            hidden = _stretches(widest, features, size, generator)
            frames = frames.masked_fill(hidden[:, None, :], 0.0)
        return frames


def _between(
    low: float, high: float, count: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Numbers (count,) drawn evenly."""
    return low + (high - low) * torch.rand(count, generator=generator, device=device)


def _stretches(widest: Tensor, lengths: Tensor, longest: int, generator: torch.Generator) -> Tensor:
    """For each row a stretch (rows, longest) of up to ``widest`` (rows,) of its ``lengths``."""
    drawn = torch.rand(2, len(lengths), generator=generator, device=lengths.device)
    widths = (drawn[0] * (widest + 1)).floor()
    starts = (drawn[1] * (lengths - widths + 1)).floor()
    places = torch.arange(longest, device=lengths.device)
    return (places >= starts[:, None]) & (places < (starts + widths)[:, None])
