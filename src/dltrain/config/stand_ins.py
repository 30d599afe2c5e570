"""Data that might be meant by an outline: enough to see that a network never reads such data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from dltrain.contracts.data import DataSpec, Field

SIDES = (28, 8, 64, 224)
CHANNELS = (1, 3)
LENGTHS = (4, 1, 16)
WORDS = 1000
CLASSES = (2, 3)


def stand_ins(outline: DataSpec) -> Iterator[DataSpec]:
    """Specs of the kinds and dimensions that ``outline`` tells; none where it has no input.

    First those of which networks are small.
    """
    if not outline.of("input"):
        return
    fields = dict(outline.fields)
    if not outline.of("target"):
        fields["target"] = Field((None,), "number", "target")
    choices = [list(_possible(field)) for field in fields.values()]
    if not outline.of("target"):
        choices[-1] += _possible(Field((), "class", "target"))
    for chosen in product(*choices):
        yield DataSpec(dict(zip(fields, chosen, strict=True)))


def shown(outline: DataSpec) -> dict[str, str]:
    """How a shape of :func:`stand_ins` is told: by what is known of it."""
    found: dict[str, str] = {}
    for field in outline.of("input"):
        if field.kind == "tokens":
            continue
        known = f"({', '.join('?' if side is None else str(side) for side in field.shape)}"
        told = known + (",)" if len(field.shape) == 1 else ")")
        for possible in _possible(field):
            found[str(possible.shape)] = told
            if len(possible.shape) > 1:  # a number alone may be any
                found["x".join(map(str, possible.shape))] = told
    return found


def _possible(field: Field) -> Iterator[Field]:
    if field.kind == "tokens":
        size = field.size or WORDS
        names = field.names or tuple(map(str, range(size)))
        yield replace(field, size=size, names=names, counts=field.counts or (1,) * size)
    elif field.kind in ("class", "mask") and field.size is None:
        for size in CLASSES:
            yield replace(field, size=size, names=tuple(map(str, range(size))), counts=(1,) * size)
    elif field.role == "target":
        yield replace(field, shape=tuple(side or 1 for side in field.shape))
    elif field.kind == "image" and len(field.shape) == 3:
        for side, channels in product(SIDES, CHANNELS):
            known = zip(field.shape, (channels, side, side), strict=True)
            yield replace(field, shape=tuple(given or other for given, other in known))
    else:
        for length in LENGTHS:
            yield replace(field, shape=tuple(side or length for side in field.shape))
