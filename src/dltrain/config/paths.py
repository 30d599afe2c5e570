"""A config whose paths are absolute: it means the same files from whatever folder."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dltrain.contracts.paths import Located

TARGET = "_target_"


def absolute(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """``config``, in which paths that are relative to ``folder`` are absolute.

    An argument is a path if its class says so (:mod:`dltrain.contracts.paths`); the classes have
    been imported. A path that begins with ``~`` depends on no folder and stays.
    """
    output_dir = {"output_dir": _settled(config["output_dir"], Located(), config, folder)}
    return {**_absolute(config, folder), **output_dir}


def _absolute(config: Any, folder: Path) -> Any:
    if isinstance(config, list):
        return [_absolute(item, folder) for item in config]
    if not isinstance(config, Mapping):
        return config
    module, _, name = str(config.get(TARGET)).rpartition(".")
    located = dict(located_arguments(getattr(sys.modules.get(module), name, None)))
    return {
        key: _settled(value, located[key], config, folder)
        if key in located
        else _absolute(value, folder)
        for key, value in config.items()
    }


def _settled(value: Any, place: Located, node: Mapping[str, Any], folder: Path) -> Any:
    if isinstance(value, list):
        return [_settled(item, place, node, folder) for item in value]
    if isinstance(value, Mapping):
        return {key: _settled(item, place, node, folder) for key, item in value.items()}
    if not isinstance(value, str) or value.startswith("~"):
        return value
    if place.within is not None and node.get(place.within) is not None:
        return value
    path = folder / value
    return value if place.or_name and not path.exists() else str(path)


def has_initial_weights(config: Any) -> bool:
    """Whether a run of ``config`` begins with others' weights; its classes have been imported."""
    if isinstance(config, list):
        return any(map(has_initial_weights, config))
    if not isinstance(config, Mapping):
        return False
    module, _, name = str(config.get(TARGET)).rpartition(".")
    located = dict(located_arguments(getattr(sys.modules.get(module), name, None)))
    initial = [config.get(name) for name, place in located.items() if place.initial]
    return any(initial) or any(map(has_initial_weights, config.values()))


def located_arguments(target: Any) -> Iterator[tuple[str, Located]]:
    """The arguments of the class ``target`` that are paths; of what is no class, none."""
    for owner in reversed(getattr(target, "__mro__", ())):
        constructor = vars(owner).get("__init__")
        try:
            hints = typing.get_type_hints(constructor, include_extras=True)
        except (NameError, TypeError):  # for type checkers alone; none of Python's own
            continue
        for argument, annotation in hints.items():
            place = _place(annotation)
            if place is not None:
                yield argument, place


def _place(annotation: Any) -> Located | None:
    for mark in getattr(annotation, "__metadata__", ()):
        if isinstance(mark, Located):
            return mark
    if annotation is Path:
        return Located()
    places = (_place(part) for part in typing.get_args(annotation))
    return next((place for place in places if place is not None), None)
