"""The files that configs are made of: what there is to choose, and which of them sets a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from dltrain.config.compose.grammar import is_group, parse
from dltrain.config.compose.hydra_setup import (
    PROVIDER,
    ROOT,
    NotComposedError,
    defaults_of,
    group_names,
    inner_groups_of,
    options_of,
    set_up,
    source_of,
    text_of,
)

BUILT_IN_ORIGIN = "built-in"


@dataclass(frozen=True)
class ConfigFile:
    """The text of a config file, and the key that its own keys lie under; empty: the root.

    ``inside`` tells whether a choice brings it, or it is in every run.
    """

    package: str
    text: str
    inside: bool


def groups() -> list[str]:
    """The groups that one can choose a file of, the user's own among them."""
    with set_up():
        return [name for name in group_names() if name != "hydra" and options_of(name)]


def all_groups() -> list[str]:
    """The groups and those inside them, such as ``data/augment``."""
    found = []
    top = groups()
    with set_up():
        for group in top:
            found += [group, *inner_groups_of(group)]
    return found


def choices(group: str) -> dict[str, str]:
    """The choices of ``group`` by name, each with its file's text; empty where there is none."""
    with set_up():
        return {name: text_of(f"{group}/{name}") for name in options_of(group)}


def origin(group: str, choice: str) -> str:
    """Where the file of a choice is from: ``built-in``, its path, or a package's name."""
    with set_up():
        source = source_of(f"{group}/{choice}")
        if source.provider == PROVIDER:
            return BUILT_IN_ORIGIN
        if source.scheme() == "pkg":
            return str(source.path).partition(".")[0]
        return str(Path(source.path) / f"{group}/{choice}.yaml")


def default_choices() -> dict[str, str]:
    """What a run takes of each group where nothing is typed."""
    with set_up():
        # One with defaults of its own has no key by which to override it.
        return {
            default.override_key or str(Path(default.config_path).parent): Path(
                default.config_path
            ).name
            for default in defaults_of([])
            if default.config_path is not None and (default.override_key or default.parent == ROOT)
        }


def files_of(group: str, choice: str) -> list[ConfigFile]:
    """The files of a run with ``group=choice`` and no other choice; later ones win.

    Where that run has no such group, as it has no ``task/loss``, it is added.
    """
    with set_up():
        inside = {f"{group}/{choice}"}
        try:
            defaults = defaults_of([f"{group}={choice}"])
        except NotComposedError:
            defaults = defaults_of([f"+{group}={choice}"])
        for _ in defaults:  # a file stands before or after the one that names it
            inside |= {d.config_path for d in defaults if d.config_path and d.parent in inside}
        return [
            ConfigFile(
                default.package or "", text_of(default.config_path), default.config_path in inside
            )
            for default in defaults
            if default.config_path
        ]


def defining_file(key: str, typed: Sequence[str]) -> str | None:
    """The config file that defines ``key``, such as ``optimizer/adam.yaml``, or None."""
    groups = [o.input_line or "" for o in parse(typed)[0] if is_group(o)]
    with set_up():
        return file_with(key, groups)


def file_with(key: str, lines: list[str]) -> str | None:
    """The last file of the defaults list that has ``key``, relative to its configs folder."""
    loader = GlobalHydra.instance().config_loader()
    try:
        defaults = defaults_of(lines)
    except NotComposedError:
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
