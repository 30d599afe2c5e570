"""What set each value of a config last: a file, or an override."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from dltrain.config.compose.composing import compose
from dltrain.config.compose.grammar import is_group, parse
from dltrain.config.compose.hydra_setup import (
    PROVIDER,
    defaults_of,
    keys_of,
    set_up,
    source_of,
)


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


def blamed(typed: Sequence[str]) -> list[Blamed]:
    """Each value of the config that ``typed`` composes to, with what set it last.

    Raises :class:`UserError` where it does not compose.
    """
    config = compose(typed)
    overrides = parse(typed)[0]
    with set_up():
        loader = GlobalHydra.instance().config_loader()
        set_by: dict[str, str] = {}
        for default in defaults_of([o.input_line or "" for o in overrides if is_group(o)]):
            loaded = loader.repository.load_config(str(default.config_path))
            if loaded is not None:
                package = f"{default.package}." if default.package else ""
                where = _place(str(default.config_path))
                set_by |= {f"{package}{key}": where for key in keys_of(loaded.config)}
        for override in overrides:
            if not is_group(override):
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
    source = source_of(path)
    if source.provider == PROVIDER:
        return f"{path}.yaml"
    if source.scheme() == "pkg":
        return f"{str(source.path).partition('.')[0]}: {path}.yaml"
    return str(Path(source.path) / f"{path}.yaml")
