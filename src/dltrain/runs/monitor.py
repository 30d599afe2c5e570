"""Which metric says that one evaluation is better than another."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.metric import Mode
from dltrain.contracts.task import Monitor
from dltrain.errors import UserError


def monitored(summary: Mapping[str, Any]) -> float | None:
    """The monitored validation value of a run's summary: of the weights that it is used with.

    None unless the run has finished, has a validation split and was given a number there: half a
    training is no result.
    """
    found = summary["validation"].get(summary["monitor"])
    if summary["status"] != "finished" or found is None or not math.isfinite(found):
        return None
    return float(found)


def chosen_monitor(
    own: Monitor,
    name: str | None,
    mode: Mode | None,
    metrics: Collection[str],
    better: Mapping[str, Mode],
) -> Monitor:
    """``name`` and ``mode`` as trainer.monitor and trainer.monitor_mode have them; null: ``own``.

    Raises :class:`UserError` unless it is one of ``metrics``, and ``mode`` or ``better`` tells
    which way it is better.
    """
    if name is None:
        return own
    if name not in metrics:
        hint = did_you_mean(name, metrics)
        raise UserError(
            f"trainer.monitor: there is no metric {name!r}. {hint} There are "
            f"{', '.join(metrics)}.".replace("  ", " ")
        )
    found = mode or better.get(name)
    if found is None:
        raise UserError(
            f"trainer.monitor: nobody says whether more of {name} is better; set "
            "trainer.monitor_mode=max or min."
        )
    return Monitor(name, found)
