"""What data may be, for networks that are built without any."""

from __future__ import annotations

from collections.abc import Sequence

from dltrain.contracts.data import DataSpec, Field


def images(*shape: int, classes: int | None = None) -> DataSpec:
    """Images (channels, height, width), of so many classes; None: of none."""
    fields = {"input": Field(shape, "image", "input")}
    if classes is not None:
        fields["target"] = Field((), "class", "target", size=classes)
    return DataSpec(fields)


def words(size: int, counts: Sequence[int] = ()) -> DataSpec:
    """Texts in a vocabulary of ``size`` words, padded with 0."""
    return DataSpec(
        {"input": Field((None,), "tokens", "input", size, counts=tuple(counts), fill=0)}
    )


def numbers(*shape: int) -> DataSpec:
    """Examples of numbers, such as (time, features)."""
    return DataSpec({"input": Field(shape, "number", "input")})
