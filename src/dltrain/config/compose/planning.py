"""What ``-m`` trains, before the first of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from dltrain.config.compose.composing import BASIC_SWEEPER
from dltrain.config.compose.grammar import parse, variants
from dltrain.config.compose.hydra_setup import TARGET, composed, first_line, set_up
from dltrain.errors import ConfigError, Fault

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""Runs them here, one after the other."""


@dataclass(frozen=True)
class Plan:
    """What ``-m`` trains: the classes of Hydra's sweeper and launcher, and each run's overrides."""

    sweeper: str
    launcher: str
    jobs: list[list[str]] | None
    """None where a sweeper of the user's draws them as it goes."""

    @property
    def in_this_process(self) -> bool:
        """Whether the runs are trained here, one after the other."""
        return self.launcher == BASIC_LAUNCHER


def planned(typed: Sequence[str]) -> Plan:
    """What ``-m`` trains, and by whom, with overrides that ``check`` has found right.

    Raises :class:`ConfigError` where Hydra's own settings are impossible.
    """
    overrides = parse(typed)[0]
    try:
        return _planned(overrides, typed)
    except Exception as error:  # of Hydra's own settings, which nobody has checked
        told = first_line(error.__cause__ or error) or type(error).__name__
        raise ConfigError([Fault("hydra", told)]) from error


def _planned(overrides: list[Override], typed: Sequence[str]) -> Plan:
    with set_up():
        config = composed(variants(overrides)[0], with_hydra=True).hydra
        sweeper, launcher = str(config.sweeper.get(TARGET)), str(config.launcher.get(TARGET))
        if sweeper != BASIC_SWEEPER:
            return Plan(sweeper, launcher, None)
        lines = [f"{key}={value}" for key, value in (config.sweeper.params or {}).items()]
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        read = parser.parse_overrides([*lines, *typed])
        ((*jobs,),) = BasicSweeper.split_arguments(read, None)
    own = ("hydra.", "hydra/")
    kept = [[line for line in job if not line.lstrip("+~").startswith(own)] for job in jobs]
    return Plan(sweeper, launcher, kept)
