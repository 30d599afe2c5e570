"""From a command line to a config: the only file that knows Hydra.

Hydra composes; this file lets a user's folder win over the built-in one, finds every fault of a
command line before a run begins, and knows which file set a key.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from hydra.version import VersionBase, getbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dltrain.config import quoting
from dltrain.config.offered import config_packages
from dltrain.config.renamed import called_now
from dltrain.config.space import (
    FORMS,
    FUNCTIONS,
    Choice,
    Dimension,
    Interval,
    in_hydras_words,
    unknown_function,
)
from dltrain.config.suggest import nearest
from dltrain.errors import ConfigError, Fault, UserError

CONFIGS = "dltrain.configs"
ROOT = "train"
VERSION_BASE = "1.3"
TARGET = "_target_"
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
"""Runs all combinations, whatever comes of them."""
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""Runs them here, one after the other."""
BUILT_IN = "configs"
BUILT_IN_ORIGIN = "built-in"
SHARED = "base"
"""The folder of a group in which lies what its files share: nobody chooses that."""
PROVIDER = "main"
"""What Hydra calls the place of our own files."""
CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Job:
    """One composed run: its config, resolved to plain values, and what was typed for it."""

    config: dict[str, Any]
    overrides: list[str]
    number: int = 1
    """Which of several; counted from 1."""
    needs_value: bool = False
    """Whether a sweeper of the user's waits for what the run has reached."""


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


@dataclass(frozen=True)
class ConfigFile:
    """The text of a config file, and the key that its own keys lie under; empty: the root."""

    package: str
    text: str


@dataclass(frozen=True)
class Blamed:
    """A key of a composed config, its value, and the file or the override that set it."""

    path: tuple[Any, ...]
    """The names on the way to it; any of them may have a dot, or be a number."""
    value: Any
    set_by: str

    @property
    def key(self) -> str:
        """As one types it."""
        return ".".join(map(str, self.path))


class UserFolder(SearchPathPlugin):
    """Puts the user's folder before all others, while there is one."""

    path: Path | None = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Prepend the folder."""
        if self.path is not None:
            search_path.prepend("user", f"file://{self.path}")


class OfferedConfigs(SearchPathPlugin):
    """Puts what installed packages offer behind all others: a built-in choice keeps its name."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the packages."""
        for package in config_packages():
            search_path.append(package, f"pkg://{package}")


def use_folder(folder: str | None) -> None:
    """Let ``folder``'s files win over the built-in ones, and add to them; None: no folder's.

    Raises :class:`UserError` if there is no such folder.
    """
    UserFolder.path = None
    if folder is None:
        return
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise UserError(f"--config-dir {folder}: there is no such folder.")
    UserFolder.path = path
    Plugins.instance().register(UserFolder)


def _use_offered() -> None:
    if config_packages():
        Plugins.instance().register(OfferedConfigs)


@contextmanager
def folder_used(folder: str | None) -> Iterator[None]:
    """As :func:`use_folder` while inside; whatever was used before is, afterwards."""
    before = UserFolder.path
    use_folder(folder)
    try:
        yield
    finally:
        UserFolder.path = before


def launch(arguments: Sequence[str], work: Callable[[Job], object]) -> None:
    """Hand ``arguments`` to Hydra, which calls ``work`` for each run, or answers a query.

    What ``work`` returns is what Hydra's sweepers and callbacks see of a run.
    """

    def job(config: DictConfig) -> object:
        own = HydraConfig.get()
        number = 0 if OmegaConf.is_missing(own.job, "num") else int(own.job.num)
        searching = own.mode == RunMode.MULTIRUN and own.sweeper.get(TARGET) != BASIC_SWEEPER
        return work(Job(_plain(config), list(own.overrides.task), number + 1, searching))

    _use_offered()
    # A traceback that reaches Hydra is a bug: it must arrive whole.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = [sys.argv[0], *arguments]
    logging.getLogger("hydra").setLevel(logging.WARNING)
    hydra.main(config_path=f"pkg://{CONFIGS}", config_name=ROOT, version_base=VERSION_BASE)(job)()


def check(typed: Sequence[str], multirun: bool) -> DictConfig:
    """Return the config that ``typed`` composes to; of a sweep, its first run's.

    With ``multirun`` each value of a sweep is tried by itself. Raises :class:`ConfigError` with
    everything that is wrong with the overrides.
    """
    overrides, faults = _parse(typed)
    if not multirun:
        faults += [_several(override) for override in overrides if override.is_sweep_override()]
        overrides = [override for override in overrides if not override.is_sweep_override()]
    with _hydra():
        configs = []
        for variant in _variants(overrides):
            try:
                configs.append(hydra.compose(ROOT, variant))
            except (HydraException, OmegaConfBaseException) as error:
                found = list(_explained(variant))
                found = found or [Fault("config", _first_line(error.__cause__ or error))]
                faults += [fault for fault in found if fault not in faults]
        if multirun and not faults:
            faults = [_drawn(one) for one in overrides if _is_drawn(one)]
            if faults and _sweeper(_variants(overrides)[0]) != BASIC_SWEEPER:
                faults = []
        if faults:
            raise ConfigError(faults)
        return configs[0]


def planned(typed: Sequence[str]) -> Plan:
    """What ``-m`` with overrides that :func:`check` has found right trains, and by whom."""
    overrides = _parse(typed)[0]
    with _hydra():
        config = hydra.compose(ROOT, _variants(overrides)[0], return_hydra_config=True).hydra
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


def compose(typed: Sequence[str]) -> dict[str, Any]:
    """The plain config of a command line without sweeps, as a run would get it.

    Raises :class:`UserError` where it does not compose.
    """
    try:
        with _hydra():
            return _composed(typed)
    except (HydraException, OmegaConfBaseException):
        check(typed, multirun=False)  # tells what is wrong
        raise


def separate(typed: Sequence[str]) -> tuple[list[str], dict[str, Dimension]]:
    """The overrides that set one value, and what each other key may be given.

    Raises :class:`ConfigError` for those that cannot be read.
    """
    fixed: list[str] = []
    space: dict[str, Dimension] = {}
    faults = []
    for line in typed:
        key, equals, value = line.partition("=")
        try:
            read = _read(f"{key}{equals}{in_hydras_words(value)}")
            if read is None:
                raise ValueError(_unknown_form(value))
            found = _dimension(read)
        except ValueError as error:
            faults.append(Fault(key, f"{value}: {error}.") if str(error) else _unreadable(line))
            continue
        if found is not None:
            faults += [Fault(key, "is given twice.", joint=" ")] if key in space else []
            space[key] = found
        else:
            fixed.append(line)
    faults += [
        Fault(key, "is given twice, once as a range.", joint=" ")
        for key in {line.partition("=")[0] for line in fixed} & {*space}
    ]
    if faults:
        raise ConfigError(faults)
    return fixed, space


def _unknown_form(value: str) -> str:
    """Why Hydra cannot read a value that begins as a range does; empty where it does not."""
    name = unknown_function(value)
    if name is not None:
        hint = nearest(name, FUNCTIONS)
        meant = f" (did you mean {hint}?)" if hint else ""
        return f"there is no {name}(…){meant}; write {FORMS}"
    if re.match(r"(log|uniform|int|interval|range)\(", value.strip()):
        return f"this is no range; write {FORMS}"
    return ""


def _dimension(override: Override) -> Dimension | None:
    """The values of an override as Hydra has read it; None where it has one value."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return Interval(sweep.start, sweep.end, "log" in sweep.tags)
    if isinstance(sweep, RangeSweep):
        values = list(sweep.range())
        if len(values) < 2:
            raise ValueError("a range has two values at least; its end is not among them")
        step = None if sweep.step == 1 and isinstance(values[0], int) else sweep.step
        return Interval(values[0], values[-1], "log" in sweep.tags, step)
    if isinstance(sweep, ChoiceSweep):
        sweep = replace(sweep, shuffle=False)
        return Choice(tuple(replace(override, _value=sweep).sweep_string_iterator()))
    if override.is_sweep_override():
        raise ValueError("the choices must be listed: a,b,c")
    return None


def assignments(typed: Sequence[str]) -> dict[str, Any]:
    """The plain value that each override sets its key to, in the order in which they were typed.

    Raises :class:`ConfigError` for what cannot be read, adds or deletes a key, or has several
    values.
    """
    overrides, faults = _parse(typed)
    faults += [_several(override) for override in overrides if override.is_sweep_override()]
    faults += [
        Fault(override.key_or_group, "keys can be set here, not added or taken out.")
        for override in overrides
        if override.is_add() or override.is_force_add() or override.is_delete()
    ]
    if faults:
        raise ConfigError(faults)
    return {override.get_key_element(): override.value() for override in overrides}


def assigned(typed: Sequence[str], group: str) -> tuple[str | None, dict[str, Any]]:
    """The choice of ``group`` in overrides, if any, and the values by key of all below it.

    Raises :class:`ConfigError` for what cannot be read, and for any other key.
    """
    overrides, faults = _parse(typed)
    choice, values = None, {}
    for override in overrides:
        key = override.key_or_group
        if key == group and _is_group(override):
            choice = str(override.value())
        elif key.startswith(f"{group}."):
            values[key] = override.value()
        else:
            faults.append(Fault(key, f"only {group}=… and {group}.KEY=… can be given here."))
    if faults:
        raise ConfigError(faults)
    return choice, values


def unresolved(typed: Sequence[str]) -> dict[str, Any]:
    """As :func:`compose`, with references as they are written: quicker, for the keys alone."""
    plain = OmegaConf.to_container(check(typed, multirun=False))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def first_of(typed: Sequence[str]) -> list[str]:
    """The overrides with each sweep at its first value; without those that cannot be read."""
    return _variants(_parse(typed)[0])[0]


def compose_each(typed: Sequence[str], group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The config of ``typed`` with each choice of ``group``, by name; without what is at fault."""
    with _hydra():
        for name in _options(group):
            try:
                yield name, _composed([*typed, f"{group}={name}"])
            except (HydraException, OmegaConfBaseException, ConfigError):
                continue


def _composed(lines: Sequence[str]) -> dict[str, Any]:
    config = hydra.compose(ROOT, list(lines), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return _plain(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))


def defining_file(key: str, typed: Sequence[str]) -> str | None:
    """The config file that defines ``key``, such as ``optimizer/adam.yaml``, or None."""
    groups = [o.input_line or "" for o in _parse(typed)[0] if _is_group(o)]
    with _hydra():
        return _defining_file(key, groups)


def blamed(typed: Sequence[str]) -> list[Blamed]:
    """Each value of the config that ``typed`` composes to, with what set it last.

    Raises :class:`UserError` where it does not compose.
    """
    config = compose(typed)
    overrides = _parse(typed)[0]
    with _hydra():
        loader = GlobalHydra.instance().config_loader()
        set_by: dict[str, str] = {}
        for default in _defaults([o.input_line or "" for o in overrides if _is_group(o)]):
            loaded = loader.repository.load_config(str(default.config_path))
            if loaded is not None:
                package = f"{default.package}." if default.package else ""
                where = _place(str(default.config_path))
                set_by |= {f"{package}{key}": where for key in _keys(loaded.config)}
        for override in overrides:
            if not _is_group(override):
                key, value = override.get_key_element().lstrip("+~"), override.value()
                inside = _leaves(value, (key,)) if isinstance(value, dict) else ()
                line = override.input_line or ""
                set_by |= {".".join(map(str, path)): line for path, _ in inside} | {key: line}
    found = []
    for path, value in _leaves(config, ()):
        above = (".".join(map(str, path[:end])) for end in range(len(path), 0, -1))
        found.append(Blamed(path, value, next((set_by[key] for key in above if key in set_by), "")))
    return found


def _leaves(config: Any, above: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _place(path: str) -> str:
    """A config file as one looks for it: below our configs, in the user's folder, in a package."""
    source = _source(path)
    if source.provider == PROVIDER:
        return f"{path}.yaml"
    if source.scheme() == "pkg":
        return f"{str(source.path).partition('.')[0]}: {path}.yaml"
    return str(Path(source.path) / f"{path}.yaml")


def groups() -> list[str]:
    """The groups that one can choose a file of, the user's own among them."""
    with _hydra():
        return [name for name in _groups() if name != "hydra" and _options(name)]


def all_groups() -> list[str]:
    """The groups and those inside them, such as ``data/augment``."""
    found = []
    top = groups()
    with _hydra():
        loader = GlobalHydra.instance().config_loader()
        for group in top:
            inside = loader.get_group_options(group, results_filter=ObjectType.GROUP)
            found += [group, *(f"{group}/{name}" for name in inside if name != SHARED)]
    return found


def choices(group: str) -> dict[str, str]:
    """The choices of ``group`` by name, each with its file's text; empty where there is none."""
    with _hydra():
        return {name: _text(f"{group}/{name}") for name in _options(group)}


def origin(group: str, choice: str) -> str:
    """Where the file of a choice is from: ``built-in``, its path, or a package's name."""
    with _hydra():
        source = _source(f"{group}/{choice}")
        if source.provider == PROVIDER:
            return BUILT_IN_ORIGIN
        if source.scheme() == "pkg":
            return str(source.path).partition(".")[0]
        return str(Path(source.path) / f"{group}/{choice}.yaml")


def default_choices() -> dict[str, str]:
    """What a run takes of each group where nothing is typed."""
    with _hydra():
        # One with defaults of its own has no key by which to override it.
        return {
            default.override_key or str(Path(default.config_path).parent): Path(
                default.config_path
            ).name
            for default in _defaults([])
            if default.config_path is not None and (default.override_key or default.parent == ROOT)
        }


def files_of(group: str, choice: str) -> list[ConfigFile]:
    """The files that ``group=choice`` brings, itself among them; later ones win."""
    with _hydra():
        inside = {f"{group}/{choice}"}
        defaults = _defaults([f"{group}={choice}"])
        for _ in defaults:  # a file stands before or after the one that names it
            inside |= {d.config_path for d in defaults if d.config_path and d.parent in inside}
        return [
            ConfigFile(default.package or "", _text(default.config_path))
            for default in defaults
            if default.config_path in inside
        ]


def targets(group: str, choice: str) -> dict[str, str]:
    """The class that each key names in a run with ``group=choice`` and no other choice."""
    with _hydra():
        config = hydra.compose(ROOT, [f"{group}={choice}"])
        ends = [key for key in _keys(config) if key.endswith("._target_")]
        return {key.removesuffix("._target_"): OmegaConf.select(config, key) for key in ends}


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError([Fault(error.full_key or "config", _first_line(error))]) from error
    assert isinstance(plain, dict)
    plain["name"] = str(plain["name"]).replace("/", "-")
    return {str(key): value for key, value in plain.items()}


def as_text(key: str, typed: Sequence[str]) -> str | None:
    """What to type so that ``key`` is the text that it was given in ``typed``; None: it was not.

    For what Hydra's grammar has read as a number, true, false or null.
    """
    for line in reversed(typed):  # the last of a key's values wins
        if line.lstrip("+").partition("=")[0] == key:
            return quoting.override_as_text(line, _is_text)
    return None


def _parse(typed: Sequence[str]) -> tuple[list[Override], list[Fault]]:
    """The overrides that can be read, and a fault for each other one."""
    read = {line: _read(line) for line in typed}
    overrides = [override for override in read.values() if override is not None]
    return overrides, [_unreadable(line) for line, override in read.items() if override is None]


@cache
def _read(line: str) -> Override | None:
    """An override, or None where the grammar has no such line."""
    version = getbase()
    try:
        return OverridesParser.create().parse_override(line)
    except HydraException:
        return None
    finally:
        VersionBase.instance().version_base = version  # parsing settles on one where there is none


def _is_text(value: str) -> bool:
    override = _read(f"key={value}")
    return override is not None and isinstance(override.value(), (str, QuotedString))


def _unreadable(line: str) -> Fault:
    """Why Hydra's grammar cannot read an override, and what it can read."""
    key, _, value = line.partition("=")
    if _read(f"{key}=1") is None:
        return Fault(
            key,
            "this cannot be read as a key.",
            "A key is words of a to z, 0 to 9, _ and -, joined by dots.",
        )
    problem, opened = f"{value} cannot be read as a value", value.strip()[:1]
    if opened in CLOSING and not value.strip().endswith(CLOSING[opened]):
        problem += f": {opened} has no {CLOSING[opened]}"
    meant = quoting.override_as_text(line, _is_text)
    return Fault(key, f"{problem}.", f"If it is text, write {meant}")


def _several(override: Override) -> Fault:
    """The fault of giving a sweep's values to one run."""
    key, value = override.get_key_element(), override.get_value_string()
    hint = "To run them all, add -m"
    if isinstance(override.value(), ChoiceSweep):
        hint += f"; to give one list, write {shlex.quote(f'{key}=[{value}]')}"
    hint += f"; for one text, {quoting.override(key, value)}"
    return Fault(key, f"{value} is several values.", hint)


def _is_drawn(override: Override) -> bool:
    return override.is_sweep_override() and not override.is_discrete_sweep()


def _drawn(override: Override) -> Fault:
    """The fault of an interval, of which there are no combinations."""
    typed = override.input_line or ""
    hint = f"Values are drawn from it by dltrain tune: dltrain tune {shlex.quote(typed)}"
    return Fault(override.get_key_element(), "an interval has no list of values for -m.", hint)


def _sweeper(lines: Sequence[str]) -> str:
    """The class of the sweeper that -m takes."""
    config = hydra.compose(ROOT, list(lines), return_hydra_config=True)
    return str(config.hydra.sweeper.get(TARGET))


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra set up for composing by hand; its globals are as they were before, afterwards."""
    _use_offered()
    globally, of_job, version = GlobalHydra.instance(), HydraConfig.instance(), getbase()
    before, job = globally.hydra, of_job.cfg
    globally.clear()
    try:
        with hydra.initialize_config_module(CONFIGS, version_base=VERSION_BASE):
            yield
    finally:
        globally.hydra, of_job.cfg = before, job
        VersionBase.instance().version_base = version


def _variants(overrides: Sequence[Override]) -> list[list[str]]:
    """The overrides with every sweep at its first value, and then each other value by itself."""
    first: list[str] = []
    others: list[tuple[int, str]] = []
    for index, override in enumerate(overrides):
        if override.is_sweep_override() and override.is_discrete_sweep():
            values = [
                f"{override.get_key_element()}={value}"
                for value in override.sweep_string_iterator()
            ]
            first.append(values[0])
            others += [(index, value) for value in values[1:]]
        elif not override.is_sweep_override():
            first.append(override.input_line or "")
        else:
            first.append("")  # a range that only its sweeper can draw from
    variants = [first, *([*first[:i], value, *first[i + 1 :]] for i, value in others)]
    return [[line for line in variant if line] for variant in variants]


def _explained(lines: list[str]) -> Iterator[Fault]:
    """The faults of each override by itself: groups first, for keys depend on what they choose."""
    overrides = OverridesParser.create().parse_overrides(lines)
    good_groups = []
    for override in overrides:
        if not _is_group(override):
            continue
        problem = _group_fault(override)
        if problem is None:
            good_groups.append(override.input_line or "")
        else:
            yield problem
    try:
        base = hydra.compose(ROOT, good_groups)
    except (HydraException, OmegaConfBaseException) as error:
        yield Fault("config", _first_line(error.__cause__ or error))
        return
    keys = list(_keys(base))
    for override in overrides:
        key = override.get_key_element().lstrip("+~")
        if _is_group(override) or override.is_add() or override.is_force_add():
            continue
        if key in keys or key.startswith("hydra."):
            continue
        if called_now(key):
            yield Fault(key, called_now(key))
            continue
        groups = [group for group in _groups() if "/" not in group]
        found = nearest(key, [*keys, *groups])
        if found is None:
            yield Fault(key, "there is no such key.", _listed_beside(key, keys))
        else:
            file = None if found in groups else _defining_file(found, good_groups)
            where = f" ({file})" if file else ""
            hint = f"Did you mean {found!r}{where}?"
            meant = (override.input_line or "").replace(key, found, 1)
            yield Fault(key, "there is no such key.", hint, instead=meant)


def _listed_beside(key: str, keys: Sequence[str]) -> str:
    """What there is where ``key`` was looked for: in its group, or at the top."""
    group = key.rpartition(".")[0]
    while group and group not in keys:
        group = group.rpartition(".")[0]
    inside = [k[len(group) + 1 :] for k in keys if k.startswith(f"{group}.")] if group else keys
    names = sorted({name.partition(".")[0] for name in inside} - {"_target_"})
    return f"{f'{group} has' if group else 'There are'} {', '.join(names)}."


def _group_fault(override: Override) -> Fault | None:
    group = override.key_or_group
    options = _options(group)
    value = override.value()
    for choice in value if isinstance(value, list) else [value]:
        if choice is not None and str(choice) not in options:
            renamed = called_now(f"{group}={choice}")
            if renamed:
                return Fault(f"{group}={choice}", renamed)
            found = nearest(str(choice), options)
            hint = f"Did you mean {found!r}?" if found else f"There are {', '.join(options)}."
            problem = f"there is no {group}/{choice}.yaml in {BUILT_IN}."
            line = override.input_line or ""
            meant = line.replace(f"{choice}", found, 1) if found and line.endswith(choice) else ""
            return Fault(f"{group}={choice}", problem, hint, instead=meant)
    return None


def _is_group(override: Override) -> bool:
    return bool(_options(override.key_or_group))


def _options(group: str) -> list[str]:
    if not GlobalHydra.instance().is_initialized():
        with _hydra():
            return _options(group)
    loader = GlobalHydra.instance().config_loader()
    return loader.get_group_options(group, results_filter=ObjectType.CONFIG)


def _groups() -> list[str]:
    loader = GlobalHydra.instance().config_loader()
    return loader.get_group_options("", results_filter=ObjectType.GROUP)


def _defaults(lines: list[str]) -> list[ResultDefault]:
    """The files that make up the config of ``lines``, in the order in which they win."""
    loader = GlobalHydra.instance().config_loader()
    found = loader.compute_defaults_list(ROOT, lines, RunMode.RUN).defaults
    return [one for one in found if not (one.config_path or "hydra").startswith("hydra")]


def _source(path: str) -> Any:
    """The first of Hydra's places that has the config file ``path``."""
    sources = GlobalHydra.instance().config_loader().get_sources()
    return next(source for source in sources if source.is_config(path))


def _text(path: str) -> str:
    """The text of the config file that Hydra reads for ``path``, such as ``model/mlp``."""
    source = _source(path)
    root = files(source.path) if source.scheme() == "pkg" else Path(source.path)
    return (root / f"{path}.yaml").read_text(encoding="utf-8")


def _keys(config: DictConfig) -> Iterator[str]:
    for name in config:
        key = str(name)
        yield key
        node = config._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from (f"{key}.{inner}" for inner in _keys(node))


def _defining_file(key: str, lines: list[str]) -> str | None:
    """The last file of the defaults list that has ``key``, relative to its configs folder."""
    loader = GlobalHydra.instance().config_loader()
    try:
        defaults = _defaults(lines)
    except HydraException:
        return None
    found = None
    for default in defaults:
        path, package = default.config_path, default.package or ""
        assert path is not None
        inside = key
        if package:
            if not f"{key}.".startswith(f"{package}."):
                continue
            inside = key[len(package) + 1 :]
        loaded = loader.repository.load_config(path)
        if loaded is not None and (not inside or _has(loaded.config, inside)):
            found = f"{path}.yaml"
    return found


def _has(config: Any, key: str) -> bool:
    for part in key.split("."):
        # OmegaConf's "in" denies a value that must be given.
        if not isinstance(config, DictConfig) or part not in list(config):
            return False
        config = config._get_node(part)
    return True


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
