"""Images: from uint8 to normalized floats, with augmentation, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.data import Augment, Batch, DataSpec, Draw, Field, Reader
from dltrain.data.images.decode import Fit
from dltrain.data.images.mixing import Beta, boxes, mix
from dltrain.data.images.normalize import Normalize
from dltrain.data.images.reader import ImageReader
from dltrain.data.images.warp import affine, places, sample, sample_mask, smooth
from dltrain.data.streams.in_memory import Prepare
from dltrain.data.streams.source import ArraySource
from dltrain.errors import require_at_least, require_between, require_fraction

LUMINANCE = (0.299, 0.587, 0.114)
"""What red, green and blue give to gray (ITU-R BT.601)."""

HASH = -7046029254386353131
"""2^64 over the golden ratio, as int64 has it: its multiples' middle bits look drawn by lot."""


class ImageAugment(Augment):
    """Random changes, others for every image, as tensor work on the device.

    Of place, all in one sampling: ``shift`` in pixels each way; ``crop`` in whole pixels each way
    (a crop of the image after padding it by so many); ``rotate`` and ``shear`` in degrees each
    way; ``scale`` a fraction (0.1 is 90 to 110 %); ``flip`` the probability of a left-right mirror
    image; with ``alternating_flip`` each image is mirrored every other epoch instead, half of
    them in the first (Jordan 2024, section 3.6); elastic deformation (Simard et al. 2003): each
    pixel displaced at random by the numbers -1 to 1, smoothed by a Gaussian of ``elastic_sigma``
    pixels and multiplied by ``elastic_alpha``. What comes in from beyond the border is the
    background, pixel value 0.

    Of color: ``brightness``, ``contrast`` and (three channels only) ``saturation`` are fractions
    as ``scale`` is.

    Of content: ``cutout`` replaces a square of so many pixels by the mean (DeVries and Taylor
    2017); ``mixup`` (Zhang et al. 2018) and ``cutmix`` (Yun et al. 2019) are the parameter of the
    Beta distribution that says how much of an image is its own, the rest being another's; with
    both, each image gets one of them. Those two make targets (batch,) into probabilities
    (batch, classes).

    Images and masks of an example move together; a mask's pixels are the nearest, and its ``fill``
    beyond the border. All zero costs nothing.
    """

    def __init__(
        self,
        shift: float = 0.0,
        rotate: float = 0.0,
        scale: float = 0.0,
        flip: float = 0.0,
        alternating_flip: bool = False,
        crop: int = 0,
        shear: float = 0.0,
        elastic_alpha: float = 0.0,
        elastic_sigma: float = 4.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        cutout: int = 0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        require_at_least(0, shift=shift, crop=crop, elastic_alpha=elastic_alpha, cutout=cutout)
        require_at_least(0, mixup=mixup, cutmix=cutmix)
        require_fraction(scale=scale, brightness=brightness, contrast=contrast)
        require_fraction(saturation=saturation)
        require_between(0, 1, flip=flip)
        require_between(0, 360, rotate=rotate)
        if not 0 <= shear < 90:
            raise ValueError(f"shear must be from 0 to below 90 degrees, got {shear}")
        if flip and alternating_flip:
            raise ValueError("an image is mirrored by chance or every other epoch: flip=0")
        if elastic_sigma <= 0:
            raise ValueError(f"elastic_sigma is above 0 pixels, got {elastic_sigma}")
        self.shift, self.rotate, self.scale, self.flip = shift, rotate, scale, flip
        self.alternating_flip = alternating_flip
        self.crop, self.shear = crop, shear
        self.elastic_alpha, self.elastic_sigma = elastic_alpha, elastic_sigma
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.cutout, self.mixup, self.cutmix = cutout, mixup, cutmix
        self._mixup = Beta(mixup) if mixup else None
        self._cutmix = Beta(cutmix) if cutmix else None
        moving = ("shift", "rotate", "scale", "flip", "alternating_flip", "crop", "shear")
        self._moving = [n for n in (*moving, "elastic_alpha") if getattr(self, n)]
        self._warps = bool(self._moving)
        self._colors = any((brightness, contrast, saturation))

    @property
    def active(self) -> bool:
        """Whether any image's pixels would move or change color."""
        return self._warps or self._colors

    def check(self, fields: Mapping[str, Field]) -> None:
        """Raise :class:`ValueError` where a field cannot be changed as is asked."""
        boxed = [name for name, field in fields.items() if field.kind == "boxes"]
        if boxed and self._moving:
            raise ValueError(
                f"{', '.join(self._moving)} cannot move the boxes of {boxed[0]!r}: set to 0"
            )
        for name in _of_kind(fields, "image"):
            channels, *sides = fields[name].shape
            for size in ("shift", "crop", "cutout"):
                known = [side for side in sides if side is not None]
                if known and getattr(self, size) > max(known):
                    raise ValueError(
                        f"{size} must be at most {max(known)}, the images' longer side, "
                        f"got {getattr(self, size)}"
                    )
            if self.saturation and channels != 3:
                raise ValueError(
                    f"saturation is of red, green and blue; here are {channels} channels"
                )
        targets = [field for field in fields.values() if field.role == "target"]
        if (self.mixup or self.cutmix) and [field.kind for field in targets] != ["class"]:
            raise ValueError("mixup and cutmix mix classes: they need one target, a class")

    def __call__(self, batch: Batch, draw: Draw, fields: Mapping[str, Field]) -> Batch:
        """Change place and color of images (batch, c, h, w) with values 0..255, made float.

        Masks (batch, h, w) change place with them.
        """
        images = {name: batch[name].float() for name in _of_kind(fields, "image")}
        masks = {name: batch[name] for name in _of_kind(fields, "mask")}
        if self._warps:
            grid = self._places(next(iter(images.values())), draw)
            images = {name: sample(image, grid) for name, image in images.items()}
            masks = {n: sample_mask(m, grid, fields[n].fill or 0) for n, m in masks.items()}
        if self._colors:
            images = {n: self._recolor(image, draw.generator) for n, image in images.items()}
        return batch | images | masks

    def after(self, batch: Batch, draw: Draw, fields: Mapping[str, Field]) -> Batch:
        """Cut out of, and mix, a batch of normalized images, in which 0 is the mean."""
        names = _of_kind(fields, "image")
        if self.cutout:
            first = batch[names[0]]
            x, y = _uniform(2, first, draw.generator)
            side = torch.full_like(x, self.cutout)
            kept = 1 - boxes(x, y, side, side, _size(first))
            batch = batch | {name: batch[name] * kept for name in names}
        if self._mixup or self._cutmix:
            weights = self._own_fractions(batch[names[0]], draw.generator)
            (target,) = _of_kind(fields, "class")
            batch = mix(batch, weights, names, target, fields[target].size or 0)
        return batch

    def _places(self, images: Tensor, draw: Draw) -> Tensor:
        """Where each pixel comes from."""
        generator = draw.generator
        draws = _uniform(8, images, generator, low=-1)
        angle, zoom, x, y, mirror, shear, left, up = draws
        whole = 2 * self.crop + 1
        matrix = affine(
            angle=angle * math.radians(self.rotate),
            zoom=1 / (1 + zoom * self.scale),
            shear=(shear * math.radians(self.shear)).tan(),
            mirror=1 - 2 * self._mirrored((mirror + 1) / 2, draw).to(images.dtype),
            x=x * self.shift + _step(left, whole),
            y=y * self.shift + _step(up, whole),
        )
        if not self.elastic_alpha:
            return places(_size(images), matrix)
        noise = torch.empty(len(images), 2, *_size(images), device=images.device)
        noise.uniform_(-self.elastic_alpha, self.elastic_alpha, generator=generator)
        return places(_size(images), matrix, smooth(noise, self.elastic_sigma))

    def _mirrored(self, chance: Tensor, draw: Draw) -> Tensor:
        """Whether each image is, given numbers (batch,) in 0..1."""
        if not self.alternating_flip:
            return chance < self.flip
        return ((((draw.rows + draw.seed) * HASH) >> 32) + draw.epoch) & 1 == 1

    def _recolor(self, images: Tensor, generator: torch.Generator) -> Tensor:
        draws = _uniform(3, images, generator, low=-1)[:, :, None, None, None]
        images = images * (1 + self.brightness * draws[0])
        mean = images.mean((1, 2, 3), keepdim=True)
        images = torch.lerp(mean, images, 1 + self.contrast * draws[1])
        if self.saturation:
            red, green, blue = (s * images[:, i] for i, s in enumerate(LUMINANCE))
            gray = (red + green + blue)[:, None]
            images = torch.lerp(gray, images, 1 + self.saturation * draws[2])
        return images.clamp_(0, 255)

    def _own_fractions(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """How much of each pixel (batch, 1, h, w) is to be the image's own."""
        draw, x, y, coin = _uniform(4, images, generator)
        height, width = _size(images)
        fractions = []
        if self._mixup is not None:
            own = self._mixup(draw)[:, None, None, None]
            fractions.append(own.expand(-1, 1, height, width))
        if self._cutmix is not None:
            side = (1 - self._cutmix(draw)).sqrt()
            wide, high = (side * width).round(), (side * height).round()
            fractions.append(1 - boxes(x, y, wide, high, (height, width)))
        return torch.where(coin[:, None, None, None] < 0.5, fractions[0], fractions[-1])


def _uniform(rows: int, images: Tensor, generator: torch.Generator, low: float = 0.0) -> Tensor:
    """Numbers (rows, batch) from ``low`` to 1."""
    drawn = torch.empty(rows, len(images), device=images.device)
    return drawn.uniform_(low, 1, generator=generator)


def _step(uniform: Tensor, whole: int) -> Tensor:
    """Whole numbers around 0, ``whole`` of them alike likely, from numbers in -1..1."""
    return ((uniform + 1) / 2 * whole).floor().clamp(max=whole - 1) - (whole - 1) / 2


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _of_kind(fields: Mapping[str, Field], kind: str) -> list[str]:
    return [name for name, field in fields.items() if field.kind == kind]


class ImageSource(ArraySource):
    """Images as columns ``input`` (n, c, h, w) uint8 and ``target`` (n,) of classes.

    ``mean`` and ``std`` of each channel (or one for all), of pixels in 0..1, normalize them.
    """

    input_shape: tuple[int | None, int | None, int | None]
    """Channels, height, width; None: not known before the data is read."""
    class_names: Sequence[str] = ()
    """What the targets 0, 1, … are called; empty before the data is read, where it tells."""

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        augment: ImageAugment | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if min(std, default=0) <= 0:
            raise ValueError(f"std must be above 0 in each channel, got {list(std)}")
        self.mean, self.std = tuple(mean), tuple(std)
        self.augment = augment or ImageAugment()
        if self.input_shape[0] is not None:
            self.check_channels()

    @property
    def fit(self) -> Fit:
        """How a new image of another shape becomes one of these."""
        return "crop"

    def check_channels(self) -> None:
        """Raise :class:`ValueError` where settings are for another number of channels."""
        channels = self.input_shape[0]
        if not {len(self.mean), len(self.std)} <= {1, channels}:
            raise ValueError(
                f"mean and std have {len(self.mean)} and {len(self.std)} numbers; the images "
                f"have {channels} channels"
            )
        try:
            self.augment.check(self.outline().fields)
        except ValueError as error:
            raise ValueError(f"augment.{error}") from error

    def outline(self) -> DataSpec:
        """Shape and classes, as far as they are known, and what undoes the normalization."""
        names = tuple(self.class_names)
        return DataSpec(
            {
                "input": Field(self.input_shape, "image", "input", mean=self.mean, std=self.std),
                "target": Field((), "class", "target", size=len(names) or None, names=names),
            },
            complete=bool(names) and None not in self.input_shape,
        )

    def prepare(self, device: torch.device) -> Prepare:
        """Normalize, and augment when asked."""
        return prepare_images(self.outline().fields, self.augment, device)

    def raw(self, inputs: Tensor) -> Sequence[Any]:
        """Arrays (height, width, channels)."""
        return list(inputs.permute(0, 2, 3, 1).contiguous().numpy())

    def reader(self) -> Reader:
        channels, height, width = self.input_shape
        assert channels and height and width, "read() comes first"
        return ImageReader(channels, height, width, self.mean, self.std, self.fit)


def prepare_images(
    fields: Mapping[str, Field], augment: ImageAugment, device: torch.device
) -> Prepare:
    """Normalize uint8 images, and augment them, with all that belongs to them.

    Raises :class:`ValueError` for a field that cannot be augmented so.
    """
    augment.check(fields)
    scales = {
        name: Normalize(fields[name].mean, fields[name].std, device)
        for name in _of_kind(fields, "image")
    }

    def prepare(batch: Batch, draw: Draw | None) -> Batch:
        if draw is not None and augment.active:
            batch = augment(batch, draw, fields)
        for name, normalize in scales.items():
            batch[name] = normalize(batch[name])
        return batch if draw is None else augment.after(batch, draw, fields)

    return prepare
