"""What a run's folder says of the data it began with, against what is read when it goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.contracts.data import DataSpec, Source
from dltrain.data.identity import changed_files, changes
from dltrain.errors import ConfigError, Fault, UserError

logger = logging.getLogger(__name__)

IDENTITY = "identity"
"""The key of ``data.json``, beside the fields."""
SWITCH = "--changed-data"


def identity_of(source: Source) -> dict[str, Any]:
    """As it will be once it was written and read again. Raises TypeError for what JSON lacks."""
    found: dict[str, Any] = json.loads(json.dumps(dict(source.identity())))
    return found


@dataclass(frozen=True)
class KeptData:
    """``spec`` and ``identity`` of the data that the run in ``folder`` began with.

    ``allowed``: it may go on with other examples. An identity that is no mapping is none.
    ``command`` is what takes the switch that allows it.
    """

    folder: Path
    spec: DataSpec
    identity: Mapping[str, Any]
    allowed: bool = False

    command: str = "resume"

    def __post_init__(self) -> None:
        """Anybody may have edited the file."""
        if not isinstance(self.identity, Mapping):
            object.__setattr__(self, "identity", {})

    def confirm(self, source: Source, found: DataSpec) -> DataSpec:
        """The spec to go on with, given what ``source`` has read.

        Where nothing has changed it is that of the beginning. Raises :class:`UserError` saying
        what has changed, unless that is allowed; and always where the network would not fit.
        """
        if not self.identity:
            logger.info(
                "%s does not say which examples the run began with (an earlier version wrote it): "
                "whether they have changed is not checked.",
                self.folder,
            )
            lines = []
        else:
            lines = changes(self.identity, identity_of(source))
        other = _other_fields(self.spec, found)
        if other:
            told = "\n  ".join([*lines, *other])
            raise UserError(
                f"{self.folder}: the data is not what the run began with, and its network cannot "
                f"go on:\n  {told}\nPut the data back, or train a new run."
            )
        if not lines:
            return self.spec
        told = "\n  ".join(lines)
        if not self.allowed:
            raise UserError(
                f"{self.folder}: the data has changed since the run began:\n  {told}\n"
                "Put it back; or go on with what is there now, though the test split may then hold "
                f"what was trained on: dltrain {self.command} {self.folder} {SWITCH}"
            )
        logger.warning(
            "goes on with data that has changed, so examples of the validation and the test split "
            "may have been trained on:\n  %s",
            told,
        )
        return found

    def explain(self, error: UserError) -> UserError:
        """``error``, which reading the data gave, and what has happened to its files."""
        lines = list(changed_files(self.identity))
        if isinstance(error, ConfigError):
            since = [Fault("data", f"since the run began, {line}.") for line in lines]
            return ConfigError([*error.faults, *since])
        return UserError(
            "\n".join([str(error), *(f"Since the run began, {line}." for line in lines)])
        )


def _other_fields(before: DataSpec, now: DataSpec) -> list[str]:
    """Fields whose sizes, shapes or names are not those of the beginning."""
    lines = []
    for name in {**before.fields, **now.fields}:
        old, new = before.fields.get(name), now.fields.get(name)
        if old is None or new is None:
            lines.append(f"the field {name!r} is {'new' if old is None else 'gone'}")
            continue
        for what in ("kind", "shape", "size"):
            one, other = getattr(old, what), getattr(new, what)
            if one != other:
                lines.append(f"{name}: its {what} is {other}, not {one}")
        if old.names != new.names and old.size == new.size and old.shape == new.shape:
            lines.append(f"{name}: {_first_difference(old.names, new.names)}")
    return lines


def _first_difference(before: tuple[str, ...], now: tuple[str, ...]) -> str:
    old, new = next((a, b) for a, b in zip((*before, ""), (*now, ""), strict=False) if a != b)
    return f"{new!r} stands where {old!r} was"
