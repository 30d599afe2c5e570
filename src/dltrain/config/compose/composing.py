"""From overrides to a config, and from a command line to runs."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import (
    Override,
)
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dltrain.config.compose.explaining import explained
from dltrain.config.compose.grammar import is_group, parse, several, variants
from dltrain.config.compose.hydra_setup import (
    CONFIGS,
    ROOT,
    TARGET,
    VERSION_BASE,
    NotComposedError,
    UserFolder,
    composed,
    first_line,
    options_of,
    set_up,
    text_of,
    use_offered,
    with_implied,
)
from dltrain.config.compose.meant import files_meant, is_like_a_group
from dltrain.config.compose.sweeps import faults_of_number
from dltrain.config.offered import config_packages
from dltrain.errors import ConfigError, Fault, UserError

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
"""Runs all combinations, whatever comes of them."""
MODE = Fault("hydra.mode", "is said by -m: with it several runs, without it one.", joint=" ")


@dataclass(frozen=True)
class Job:
    """One composed run: its config, resolved to plain values, and what was typed for it."""

    config: dict[str, Any]
    overrides: list[str]
    number: int = 1
    """Which of several; counted from 1."""
    needs_value: bool = False
    """Whether a sweeper of the user's waits for what the run has reached."""


def launch(arguments: Sequence[str], work: Callable[[Job], object]) -> None:
    """Hand ``arguments`` to Hydra, which calls ``work`` for each run, or answers a query.

    What ``work`` returns is what Hydra's sweepers and callbacks see of a run.
    """
    ours: list[Exception] = []
    began = False

    def job(config: DictConfig) -> object:
        nonlocal began
        began = True
        own = HydraConfig.get()
        number = 0 if OmegaConf.is_missing(own.job, "num") else int(own.job.num)
        searching = own.mode == RunMode.MULTIRUN and own.sweeper.get(TARGET) != BASIC_SWEEPER
        try:
            return work(Job(_plain(config), list(own.overrides.task), number + 1, searching))
        except Exception as error:
            ours.append(error)
            if own.mode == RunMode.MULTIRUN:
                raise
            return None  # Hydra would add a line of its own

    use_offered()
    # A traceback that reaches Hydra is a bug: it must arrive whole.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = [sys.argv[0], *with_implied(arguments)]
    logging.getLogger("hydra").setLevel(logging.WARNING)
    start = hydra.main(config_path=f"pkg://{CONFIGS}", config_name=ROOT, version_base=VERSION_BASE)
    try:
        start(job)()
    except ConfigError:
        raise
    except SystemExit as end:
        # Hydra's 1 is of what was typed: a --package that there is not.
        raise SystemExit(2 if end.code == 1 and not began else end.code) from end
    except Exception as error:
        if ours or not _is_hydras(error, arguments):
            raise
        told = first_line(error.__cause__ or error) or type(error).__name__
        raise ConfigError([Fault("hydra", told)]) from error
    if ours:
        raise ours[0]


def _is_hydras(error: Exception, arguments: Sequence[str]) -> bool:
    """Whether an error that was not raised in a run is of what was typed for Hydra."""
    typed = any(argument.lstrip("+~-").startswith("hydra") for argument in arguments)
    return typed or isinstance(error, (HydraException, OmegaConfBaseException, OSError))


def check(typed: Sequence[str], multirun: bool) -> DictConfig:
    """Return the config that ``typed`` composes to; of a sweep, its first run's.

    With ``multirun`` each value of a sweep is tried by itself. Raises :class:`ConfigError` with
    everything that is wrong with the overrides.
    """
    overrides, faults = parse(typed)
    faults += [MODE for override in overrides if override.key_or_group == MODE.key]
    if not multirun:
        faults += [several(override) for override in overrides if override.is_sweep_override()]
        overrides = [override for override in overrides if not override.is_sweep_override()]
    elif number := faults_of_number(overrides):
        raise ConfigError([*faults, *number])
    with set_up():
        configs = []
        for variant in variants(overrides):
            try:
                configs.append(composed(variant))
                found = _files_for_keys(variant)
            except NotComposedError as error:
                found = explained(variant, error)
            faults += [fault for fault in found if fault not in faults]
        if multirun and not faults:
            faults = [_drawn(one) for one in overrides if _is_drawn(one)]
            if faults and _sweeper(variants(overrides)[0]) != BASIC_SWEEPER:
                faults = []
        if faults:
            raise ConfigError(faults)
        return configs[0]


def _files_for_keys(lines: Sequence[str]) -> list[Fault]:
    """The faults of overrides such as ``modifiers=prune``, which composes and means a file."""
    keys = [one for one in parse(lines)[0] if is_like_a_group(one.key_or_group)]
    faults = [files_meant(one) for one in keys if not is_group(one)]
    return [fault for fault in faults if fault is not None]


def _is_drawn(override: Override) -> bool:
    return override.is_sweep_override() and not override.is_discrete_sweep()


def _drawn(override: Override) -> Fault:
    """The fault of an interval, of which there are no combinations."""
    typed = override.input_line or ""
    hint = f"Values are drawn from it by dltrain tune: dltrain tune {shlex.quote(typed)}"
    return Fault(override.get_key_element(), "an interval has no list of values for -m.", hint)


def _sweeper(lines: Sequence[str]) -> str:
    """The class of the sweeper that -m takes."""
    config = composed(lines, with_hydra=True)
    return str(config.hydra.sweeper.get(TARGET))


def compose(typed: Sequence[str]) -> dict[str, Any]:
    """The plain config of a command line without sweeps, as a run would get it.

    Raises :class:`UserError` where it does not compose.
    """
    return job_of(typed).config


def job_of(typed: Sequence[str]) -> Job:
    """The one run of a command line without sweeps, composed once.

    :func:`launch` has Hydra compose it twice more, at a tenth of a second each. Where
    :func:`is_plain`, both give the same. Raises :class:`UserError` where it does not compose.
    """
    try:
        with set_up():
            made = composed(typed, with_hydra=True)
            job = Job(_resolved(made), list(made.hydra.overrides.task))
            faults = _files_for_keys(typed)
    except NotComposedError as error:
        check(typed, multirun=False)  # tells what is wrong
        raise ConfigError([Fault("config", str(error))]) from error
    if faults:
        raise ConfigError(faults)
    return job


def is_plain(typed: Sequence[str]) -> bool:
    """Whether nothing but dltrain's own files and keys is in it: Hydra has only to compose.

    Other files may set what Hydra does around a run, or refer to it.
    """
    others = UserFolder.path is not None or config_packages()
    return not others and not any("hydra" in word for word in typed)


def unresolved(typed: Sequence[str]) -> dict[str, Any]:
    """As :func:`compose`, with references as they are written: quicker, for the keys alone."""
    plain = OmegaConf.to_container(check(typed, multirun=False))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def compose_each(typed: Sequence[str], group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The config of ``typed`` with each choice of ``group``, by name; without what is at fault.

    Composing takes a tenth of a second. Choices whose files are the same but for their own values
    differ in these, and in what is named after them (``hydra:runtime.choices``): they are put in
    the place of another's, and the names may be the other's.
    """
    with set_up():
        others: dict[str, dict[str, Any]] = {}
        for name in options_of(group):
            alone, beside = _values_and_the_rest(group, name)
            try:
                if alone is not None and beside in others:
                    yield name, {**others[beside], group: alone}
                    continue
                made = composed([*typed, f"{group}={name}"], with_hydra=True)
                config = _resolved(made)
            except (NotComposedError, ConfigError):
                continue
            elsewhere = re.search(rf"\$\{{(?!hydra:)[^}}]*\b{group}\b", OmegaConf.to_yaml(made))
            if alone is not None and alone == config.get(group) and not elsewhere:
                others[beside] = config
            yield name, config


def _values_and_the_rest(group: str, name: str) -> tuple[dict[str, Any] | None, str]:
    """What the file of a choice sets of its own, if it asks for no other's value; all else in it.

    The rest is a text, to be compared.
    """
    try:
        text = text_of(f"{group}/{name}")
        if not text.startswith("# @package _global_\n") or "${" in text:
            return None, ""
        content = OmegaConf.to_container(OmegaConf.create(text))  # which reads 1e-3 as a number
    except (UserError, YAMLError, OmegaConfBaseException, ValueError):
        return None, ""  # to compose it tells why
    values = content.pop(group, None) if isinstance(content, dict) else None
    return (values, repr(content)) if isinstance(values, dict) else (None, "")


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        HydraConfig.instance().set_config(config)
    except Exception as error:  # an assertion, or OmegaConf's: of what only Hydra needs
        raise NotComposedError(f"hydra: {first_line(error)}") from error
    return _plain(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except Exception as error:  # a reference that leads nowhere, in a circle, or fails there
        key = getattr(error, "full_key", None) or "config"
        raise ConfigError([Fault(key, first_line(error) or type(error).__name__)]) from error
    assert isinstance(plain, dict)
    if isinstance(plain.get("name"), (str, int, float)):
        plain["name"] = str(plain["name"]).replace("/", "-")
    return {str(key): value for key, value in plain.items()}
