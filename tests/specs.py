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


def pairs(source: int, target: int) -> DataSpec:
    """Texts and translations in vocabularies of so many tokens, the first of them special."""
    special = ("<pad>", "<unk>", "<s>", "</s>")
    names = {
        "input": (*special, *(f"▁a{n}" for n in range(source - 4))),
        "target": (*special, *(f"▁b{n}" for n in range(target - 4))),
    }
    return DataSpec(
        {
            "input": Field((None,), "tokens", "input", source, names["input"], fill=0),
            "target": Field((None,), "tokens", "target", target, names["target"], fill=0),
        }
    )
