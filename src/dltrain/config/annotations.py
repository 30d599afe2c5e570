"""The types of a constructor's parameters, read from its source file: nothing is imported.

Importing a class to ask it would take seconds, since most of them import torch.
"""

from __future__ import annotations

import ast
import collections.abc
import importlib.util
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal, Optional, Union

PLAIN: dict[str, Any] = {
    **{kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict, Path)},
    **{kind.__name__.capitalize(): kind for kind in (list, tuple, dict)},  # typing's names
    **{name: getattr(collections.abc, name) for name in ("Sequence", "Iterable", "Mapping")},
    "Any": Any,
}


class Other:
    """Stands for a class that no plain value of a config could be."""


@dataclass(frozen=True)
class _Module:
    name: str
    is_package: bool
    tree: ast.Module

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module that ``from … import`` names in here."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        parts = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*parts, node.module] if node.module else parts)


def types_of(target: str) -> dict[str, Any]:
    """The annotation of each parameter of the class ``target``, such as ``package.module.Class``.

    A constructor with ``**rest`` hands the rest on, so that its parents' parameters are its own.
    A parameter without annotation, or a class whose source is not found, is left out.
    """
    module, _, name = target.rpartition(".")
    found: dict[str, Any] = {}
    for hints, open_ended in _constructors(module, name):
        found = {**hints, **found}
        if not open_ended:
            break
    return found


def _constructors(module: str, name: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Hints of the class's constructor and of its parents', nearest first; whether there's more."""
    defined = _definition(module, name)
    if defined is None or not isinstance(defined[1], ast.ClassDef):
        return
    home, node = defined[0], defined[1]
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        yield {ast.unparse(f.target): _type(f.annotation, home) for f in fields}, True
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            given = [*item.args.args[1:], *item.args.kwonlyargs]
            hints = {a.arg: _type(a.annotation, home) for a in given if a.annotation is not None}
            yield hints, item.args.kwarg is not None
    for base in node.bases:
        if isinstance(base, ast.Name):
            yield from _constructors(home.name, base.id)


@cache
def _module(name: str) -> _Module | None:
    first, *rest = name.split(".")
    try:
        # Of a top-level module this runs nothing; of a submodule it would run the packages above.
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    spec = spec or PathFinder.find_spec(first, [str(Path.cwd()), *sys.path])
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    if rest:
        place = file.parent.joinpath(*rest)
        file = place / "__init__.py" if place.is_dir() else place.with_name(f"{place.name}.py")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
    return _Module(name, file.name == "__init__.py", tree)


@cache
def _definition(module: str, name: str) -> tuple[_Module, ast.ClassDef | ast.expr] | None:
    """The class, or the value of the alias, that ``name`` is in ``module``; and where it stands."""
    home = _module(module)
    if home is None:
        return None
    for node in ast.walk(home.tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return home, node
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == [name]:
            return home, node.value
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name and node.value:
            return home, node.value
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name and home.absolute(node) != module:
                    return _definition(home.absolute(node), alias.name)
    return None


def _type(node: ast.expr | None, home: _Module) -> Any:
    """The annotation ``node`` of ``home`` as an object; :class:`Other` for what is not plain."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return _type(ast.parse(text, mode="eval").body, home)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_type(left, home), _type(right, home)]  # noqa: UP007
        case ast.Name(id=name) if name in PLAIN:
            return PLAIN[name]
        case ast.Name(id=name):
            defined = _definition(home.name, name)
            if defined is None or isinstance(defined[1], ast.ClassDef):
                return Other
            return _type(defined[1], defined[0])
        case ast.Attribute(attr=name):
            return PLAIN.get(name, Other)
        case ast.Subscript(value=value, slice=inside):
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            return _generic(ast.unparse(value).rpartition(".")[2], parts, home)
    return Other


def _generic(name: str, parts: list[ast.expr], home: _Module) -> Any:
    if name == "Literal":
        return Literal[tuple(ast.literal_eval(part) for part in parts)]
    inside = tuple(
        ... if isinstance(part, ast.Constant) and part.value is ... else _type(part, home)
        for part in parts
    )
    if name == "Annotated":
        return inside[0]
    if name == "Optional":
        return Optional[inside[0]]  # noqa: UP045
    if name == "Union":
        return Union[inside]  # noqa: UP007
    origin = PLAIN.get(name)
    return typing.cast(Any, origin)[inside] if origin is not None else Other
