"""One study: what is searched, where its trials are kept, and by what they are compared."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from dltrain.config.quoting import in_grammar
from dltrain.config.space import Choice, Dimension
from dltrain.contracts.task import Monitor
from dltrain.errors import UserError

JOURNAL = "study.journal"
PAUSES = (0.1, 0.3, 1.0)
"""Seconds before a database that another process may be making is opened again."""
SETTINGS = "settings"
"""The attribute of a study that says what it was begun with."""


@dataclass(frozen=True)
class Order:
    """What was asked for: everything that a process of the search has to know."""

    name: str
    folder: Path
    """Of the study: its journal, its runs, its figures."""
    output_dir: Path
    """Where the user's other runs lie, for ``init_from``."""
    fixed: tuple[str, ...]
    """Overrides that all trials share."""
    space: Mapping[str, Dimension]
    trials: int
    jobs: int = 1
    seed: int = 0
    prune: bool = True
    storage: str | None = None
    """The URL of a database; None: a file in ``folder``."""
    config_dir: str | None = None
    json: bool = False
    """Whether standard output is for the result alone."""

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The command line of a trial: what all share, and ``values`` by key."""
        return [*self.fixed, *(f"{key}={typed(value)}" for key, value in values.items())]

    def require_asked(self, values: Mapping[str, Any]) -> None:
        """Raise :class:`UserError` unless a trial's ``values`` are of this search.

        The study's file tells them, and whoever wrote it.
        """
        for key, value in values.items():
            if key not in self.space or not self.space[key].has(value):
                raise UserError(
                    f"tune: a trial of the study {self.name} has {key}={value!r}, which is not "
                    "what this search is over. Give --study another name."
                )


def typed(value: Any) -> str:
    """A trial's value as an override has it; choices are kept as they were typed."""
    return value if isinstance(value, str) else in_grammar(value)


def distributions(space: Mapping[str, Dimension]) -> dict[str, BaseDistribution]:
    """Optuna's words for the space."""
    return {key: _distribution(dimension) for key, dimension in space.items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.whole:
        return IntDistribution(int(low), int(high), dimension.log, int(step or 1))
    return FloatDistribution(low, high, dimension.log, step)


def open_study(order: Order, monitor: Monitor, data: str) -> optuna.Study:
    """The study of ``order``, new or gone on with. ``data`` identifies the examples.

    Raises :class:`UserError` where its storage cannot be opened, or it was begun with something
    else, so that its trials could not be compared.
    """
    storage = open_storage(order)
    study = optuna.create_study(
        storage=storage,
        study_name=order.name,
        direction="maximize" if monitor.mode == "max" else "minimize",
        load_if_exists=True,
    )
    now = {
        "the overrides": " ".join(order.fixed),
        "the ranges and choices": {key: repr(one) for key, one in sorted(order.space.items())},
        "the metric": list(monitor),
        "the data": data,
        "--seed": order.seed,
    }
    before = study.user_attrs.get(SETTINGS)
    if before is None:
        study.set_user_attr(SETTINGS, now)
        return study
    other = [
        what for what, value in now.items() if before.get(what) != json.loads(json.dumps(value))
    ]
    if other:
        raise UserError(
            f"tune: the study {order.name} was begun with something else: {', '.join(other)}. "
            "Its trials cannot be compared with these; give --study another name."
        )
    return study


def _database(url: str) -> RDBStorage:
    """Another process may be making the same tables: then they are there a moment later."""
    for pause in PAUSES:
        try:
            return RDBStorage(url)
        except DatabaseError:
            time.sleep(pause)
    return RDBStorage(url)


def open_storage(order: Order) -> BaseStorage:
    """Where the trials are kept, which several processes may have open.

    Raises :class:`UserError` where it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if order.storage is None:
        try:
            order.folder.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(order.folder / JOURNAL)))
        except (OSError, ValueError) as error:
            raise UserError(f"{order.folder / JOURNAL} cannot be opened: {error}.") from error
    try:
        return _database(order.storage)
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"--storage: the database cannot be opened: {reason}") from error
