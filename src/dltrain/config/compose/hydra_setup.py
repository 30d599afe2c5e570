"""Hydra, set up for composing by hand: where it finds files, and what it knows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from hydra.version import VersionBase, getbase
from omegaconf import DictConfig, OmegaConf
from yaml import MarkedYAMLError

from dltrain.config.offered import config_packages
from dltrain.errors import UserError

if TYPE_CHECKING:
    from hydra._internal.config_repository import IConfigRepository

CONFIGS = "dltrain.configs"
ROOT = "train"
VERSION_BASE = "1.3"
TARGET = "_target_"
BUILT_IN = "configs"
SHARED = "base"
"""The folder of a group in which lies what its files share: nobody chooses that."""
PROVIDER = "main"
"""What Hydra calls the place of our own files."""


class NotComposedError(Exception):
    """What overrides that compose to nothing are told of: one line."""


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


class KnownConfigs:
    """Hydra's ``repository`` of files, of which those of packages are read once a process.

    They do not change. Hydra reads each anew for every config that it composes, and copies the
    repository with all that it has whenever it is asked for anything: together a third of the time.
    What is typed wrong is composed once for every choice that may be meant instead.
    """

    _read: ClassVar[dict[tuple[str, str, str], tuple[ConfigResult, Any]]] = {}

    def __init__(self, repository: Any) -> None:
        self._repository = repository

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> KnownConfigs:
        """With a list of sources of its own, which is all that Hydra changes."""
        copied = copy(self._repository)
        copied.sources = list(copied.sources)
        return KnownConfigs(copied)

    def load_config(self, config_path: str) -> ConfigResult | None:
        """As it stands in the file, and nobody else's: Hydra puts its nodes into what it makes."""
        sources: list[ConfigSource] = self._repository.get_sources()
        source = next((one for one in sources if one.is_config(config_path)), None)
        if source is None or source.scheme() != "pkg":
            found: ConfigResult | None = self._repository.load_config(config_path)
            return found
        key = (source.provider, source.path, config_path)
        if key not in self._read:
            found = self._repository.load_config(config_path)
            assert found is not None
            self._read[key] = found, OmegaConf.to_container(found.config)
        known, plain = self._read[key]
        return replace(known, config=OmegaConf.create(plain))


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


def use_offered() -> None:
    """Let what installed packages offer be found."""
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


@contextmanager
def set_up() -> Iterator[None]:
    """Hydra set up for composing by hand; its globals are as they were before, afterwards."""
    use_offered()
    globally, of_job, version = GlobalHydra.instance(), HydraConfig.instance(), getbase()
    before, job = globally.hydra, of_job.cfg
    globally.clear()
    try:
        with hydra.initialize_config_module(CONFIGS, version_base=VERSION_BASE):
            loader: Any = GlobalHydra.instance().config_loader()
            # Hydra's own affair, which may change: where it has, each file is read anew.
            if hasattr(getattr(loader, "repository", None), "sources"):
                loader.repository = KnownConfigs(loader.repository)
            yield
    finally:
        globally.hydra, of_job.cfg = before, job
        VersionBase.instance().version_base = version


def composed(lines: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """What ``lines`` compose to; ``with_hydra``: Hydra's own settings beside it.

    Raises :class:`NotComposedError` for whatever keeps them from it.
    """
    try:
        return hydra.compose(ROOT, with_implied(lines), return_hydra_config=with_hydra)
    except Exception as error:
        # Hydra has no kind for it: what it does not foresee ends in any of Python's errors.
        raise NotComposedError(_why(error)) from error


def with_implied(typed: Sequence[str]) -> list[str]:
    """What was typed, and the choices that follow from it: ``IMPLIED`` of the config package.

    A choice of a group inside one without choices may be typed as a key: ``trainer.parallel=fsdp``.
    """
    package = import_module(CONFIGS)
    implied: Mapping[str, Sequence[str]] = package.IMPLIED
    typed = [_as_choice(one, Path(str(package.__file__)).parent) for one in typed]
    keys = {one.partition("=")[0].lstrip("+") for one in typed if not one.endswith("=[]")}
    return [
        *typed,
        *(
            choice
            for choice, by in implied.items()
            if keys & {*by} and not keys & {choice.partition("=")[0], "experiment"}
        ),
    ]


def _as_choice(line: str, folder: Path) -> str:
    """``line``; where its key and its value are a file's in ``folder``, as the choice of that.

    Only where the group around it has one choice: of several, one may have such a key that holds
    a text, as ``task.loss`` of a reconstruction does.
    """
    key, _, value = line.partition("=")
    group = key.replace(".", "/")
    chosen = "." in key and value.isidentifier() and (folder / group / f"{value}.yaml").is_file()
    alone = chosen and len(list((folder / group).parent.glob("*.yaml"))) == 1
    return f"{group}={value}" if alone else line


def _why(error: Exception) -> str:
    """The line that says most: Hydra's own is often about its cause."""
    cause = error.__cause__ or error
    if isinstance(cause, MarkedYAMLError) and cause.problem_mark is not None:
        mark = cause.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {cause.problem}"
    return first_line(cause) or type(error).__name__


def options_of(group: str) -> list[str]:
    """What there is to choose from in ``group``; nothing where there is no such group."""
    if not group.strip("/"):  # where the files that are in no group lie
        return []
    if not GlobalHydra.instance().is_initialized():
        with set_up():
            return options_of(group)
    try:
        return _repository().get_group_options(group, results_filter=ObjectType.CONFIG)
    except (OSError, ValueError):  # too long a name for any file
        return []


def _repository() -> IConfigRepository:
    """Hydra's files: its loader copies all it knows of them before it answers a question."""
    found: IConfigRepository = GlobalHydra.instance().config_loader().repository
    return found


def group_names() -> list[str]:
    """The groups that stand in no other."""
    return _repository().get_group_options("", results_filter=ObjectType.GROUP)


def inner_groups_of(group: str) -> list[str]:
    """The groups that stand in ``group``, such as ``data/augment``."""
    inside = _repository().get_group_options(group, results_filter=ObjectType.GROUP)
    return [f"{group}/{name}" for name in inside if name != SHARED]


def defaults_of(lines: list[str]) -> list[ResultDefault]:
    """The files that make up the config of ``lines``, in the order in which they win.

    Raises :class:`NotComposedError` as :func:`composed` does.
    """
    loader = GlobalHydra.instance().config_loader()
    try:
        found = loader.compute_defaults_list(ROOT, lines, RunMode.RUN).defaults
    except Exception as error:
        raise NotComposedError(_why(error)) from error
    return [one for one in found if not (one.config_path or "hydra").startswith("hydra")]


def config_of(path: str) -> DictConfig:
    """What the config file ``path``, such as ``model/mlp``, sets by itself."""
    loaded = _repository().load_config(path)
    return loaded.config if loaded is not None else DictConfig({})


def source_of(path: str) -> Any:
    """The first of Hydra's places that has the config file ``path``."""
    sources = GlobalHydra.instance().config_loader().get_sources()
    return next(source for source in sources if source.is_config(path))


def text_of(path: str) -> str:
    """The text of the config file that Hydra reads for ``path``, such as ``model/mlp``.

    Empty of what is no file: Hydra keeps some of its own in memory.
    """
    source = source_of(path)
    if source.scheme() == "structured":
        return ""
    root = files(source.path) if source.scheme() == "pkg" else Path(source.path)
    try:
        return (root / f"{path}.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{root / path}.yaml cannot be read: {error}.") from error


def keys_of(config: DictConfig) -> Iterator[str]:
    """The keys of a config and of all inside it, dotted."""
    for name in config:
        key = str(name)
        yield key
        node = config._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from (f"{key}.{inner}" for inner in keys_of(node))


def first_line(error: BaseException) -> str:
    """An error's message without what a library adds for itself."""
    return str(error).strip().partition("\n")[0]
