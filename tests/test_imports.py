"""Who may import whom, and which words the core does not know; read from the source itself."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SOURCE = REPOSITORY / "src" / "dltrain"
FILES = sorted(SOURCE.rglob("*.py"))
# Every room, and what it may know of the others; a room that is not named knows nothing.
CONTRACTS = {"types", "errors", "contracts"}
ROOMS: dict[str, set[str]] = {
    "models": CONTRACTS | {"nearest"},
    "optim": CONTRACTS,
    "metrics": CONTRACTS | {"figures"},
    "tasks": CONTRACTS | {"metrics", "figures", "eval_mode", "evaluate"},
    "data": CONTRACTS | {"nearest"},
    "callbacks": CONTRACTS | {"trainer", "summary", "figures", "checkpoint", "judge"},
    # It loads a run, lazily: run imports callbacks.
    "judge": CONTRACTS | {"checkpoint", "folder", "run"},
    "trainer": CONTRACTS
    | {"checkpoint", "compilation", "environment", "folder", "history", "optimize"}
    | {"recording", "signals"},
    "compilation": CONTRACTS,
    "recording": CONTRACTS | {"compilation", "optimize"},
    "optimize": CONTRACTS | {"uncompiled"},
    "uncompiled": set(),
    "allocator": set(),
    "runtime": {"allocator", "checkpoint", "uncompiled"},
    "history": CONTRACTS,
    "summary": CONTRACTS | {"uncompiled"},
    # A callback is handed the trainer: its type is known, for type checkers only.
    "types": {"contracts", "evaluate", "trainer"},
    "contracts": set(),
    "evaluate": {"contracts"},
    "eval_mode": set(),
    "errors": set(),
    "nearest": set(),
    "signals": set(),
    "figures": CONTRACTS,
    "folder": {"errors"},
    "checkpoint": {"errors", "folder"},
    "build": {"errors", "nearest"},
    "composition": {"errors", "nearest"},
    "environment": {"errors"},
    "help": {"commands"},
    "commands": {"errors", "nearest"},
    "arguments": {"errors", "nearest"},
    "resume": {"arguments", "signals", "run"},
    "sweep": {"errors"},
    "sample": CONTRACTS | {"figures", "folder", "loading", "nearest", "arguments", "runtime"},
    "working_folder": set(),
}
# What puts the rooms together, and the doors to it, know them all.
ASSEMBLERS = {"__init__", "__main__", "cli", "run"}
# Rooms in which nothing but torch, numpy and Python itself is known.
PURE = {"models", "optim", "metrics", "types", "optimize", "history", "trainer", "checkpoint"}
PURE |= {"compilation", "recording", "uncompiled", "contracts", "evaluate", "eval_mode"}
# What a query such as --help or completion may load; torch takes seconds.
LIGHT = (
    "__init__",
    "cli",
    "composition",
    "help",
    "sweep",
    "nearest",
    "errors",
    "runtime",
    "commands",
    "arguments",
    "resume",
    "build",
    "folder",
    "sample",
    "working_folder",
)


def name_of(file: Path) -> str:
    return file.relative_to(SOURCE).with_suffix("").as_posix()


def top(file: Path) -> str:
    """The room that a source file lies in, or is."""
    return name_of(file).partition("/")[0]


def room_of(module: str) -> str:
    """The part of dltrain that a module such as ``dltrain.models.mlp`` belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(node: ast.AST, at_once: bool = False) -> Iterator[str]:
    """Modules imported below ``node``; with ``at_once``, only those that importing it loads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "absolute imports only"
            assert child.module is not None
            if child.module == "dltrain":
                yield from (f"dltrain.{alias.name}" for alias in child.names)
            else:
                yield child.module
        elif at_once and (
            is_for_type_checkers(child)
            or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        ):
            continue
        else:
            yield from imported(child, at_once)


def imports(file: Path, at_once: bool = False) -> set[str]:
    return set(imported(ast.parse(file.read_text(encoding="utf-8")), at_once))


@pytest.mark.parametrize("file", [f for f in FILES if top(f) not in ASSEMBLERS], ids=name_of)
def test_a_room_imports_only_what_it_may_know(file: Path) -> None:
    room = top(file)
    found = {room_of(module) for module in imports(file) if module.partition(".")[0] == "dltrain"}

    # The package itself is known by its version alone.
    versions = {"", "__version__"} if room == "environment" else set()
    assert found <= ROOMS[room] | {room} | versions


def test_every_room_is_named_here() -> None:
    assert {top(file) for file in FILES} == set(ROOMS) | ASSEMBLERS


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_only_the_composition_knows_hydra(file: Path) -> None:
    packages = {module.partition(".")[0] for module in imports(file)}

    knows = bool(packages & {"hydra", "omegaconf"})
    assert knows == (name_of(file) == "composition")


@pytest.mark.parametrize("file", [f for f in FILES if top(f) in PURE], ids=name_of)
def test_mathematics_needs_torch_and_python_alone(file: Path) -> None:
    packages = {module.partition(".")[0] for module in imports(file, at_once=True)}

    assert packages <= {"torch", "numpy", "dltrain", *sys.stdlib_module_names}


@pytest.mark.parametrize("name", LIGHT)
def test_queries_load_nothing_heavy(name: str) -> None:
    """By the source, so that it names the way; test_cli sees it happen."""
    heavy = {"torch", "torchvision", "numpy", "sklearn", "matplotlib", "tensorboard", "datasets"}
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        seen.add(current)
        found = imports(SOURCE / f"{current}.py", at_once=True)
        assert not {module.partition(".")[0] for module in found} & heavy, current
        rooms = {module.removeprefix("dltrain.") for module in found if "dltrain." in module}
        waiting += [room for room in rooms - seen if (SOURCE / f"{room}.py").is_file()]


@pytest.mark.parametrize("name", ["trainer", "run", "cli", "optimize"])
def test_the_core_names_no_model_no_task_and_no_data_set(name: str) -> None:
    choices = {
        path.stem.rstrip("0123456789")
        for group in ("model", "task", "data")
        for path in (REPOSITORY / "configs" / group).glob("*.yaml")
    } - {"none"}
    words = choices | {
        *("gan", "wgan", "vae", "generator", "discriminator", "critic", "latent", "noise"),
        *("regression", "classifier"),
    }
    # A sentence may give an example of what is typed, and "line" is a word; code may not.
    tree = ast.parse((SOURCE / f"{name}.py").read_text(encoding="utf-8"))
    known = {
        word.lower()
        for node in ast.walk(tree)
        for text in identifiers(node)
        for word in re.findall(r"[A-Za-z]+", text)
    }

    assert not known & (words - {"line"})


def identifiers(node: ast.AST) -> Iterator[str]:
    """The names and the strings of code: what a branch on a name would have to mention."""
    for field in ("id", "attr", "name", "arg", "module"):
        value = getattr(node, field, None)
        if isinstance(value, str):
            yield value
    if isinstance(node, ast.Compare | ast.Call | ast.Subscript | ast.Dict | ast.MatchValue):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, str):
                yield child.value
