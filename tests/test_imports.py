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
CONTRACTS = {"contracts", "errors"}
ROOMS: dict[str, set[str]] = {
    "contracts": set(),
    "errors": set(),
    "nearest": set(),
    "eval_mode": set(),
    "figures": CONTRACTS,
    "evaluate": CONTRACTS,
    "models": CONTRACTS | {"nearest"},
    "optim": CONTRACTS,
    "metrics": CONTRACTS | {"figures"},
    "tasks": CONTRACTS | {"metrics", "figures", "eval_mode", "evaluate"},
    "data": CONTRACTS | {"nearest"},
    # Below the callbacks, so that one of them may use another run.
    "loading": CONTRACTS | {"build", "checkpoint", "folder", "optimize", "runtime"},
    "judge": CONTRACTS | {"checkpoint", "folder", "loading"},
    "callbacks": CONTRACTS | {"figures", "judge", "loading", "messages"},
    "history": CONTRACTS,
    "compilation": CONTRACTS,
    "optimize": CONTRACTS | {"uncompiled"},
    "recording": CONTRACTS | {"compilation", "optimize"},
    "settings": CONTRACTS | {"compilation", "environment", "recording"},
    "state": CONTRACTS | {"compilation"},
    "view": CONTRACTS | {"folder", "settings", "state"},
    "trainer": CONTRACTS
    | {"checkpoint", "compilation", "eval_mode", "evaluate", "folder", "history", "optimize"}
    | {"recording", "settings", "signals", "state", "view"},
    "summary": CONTRACTS | {"uncompiled"},
    "messages": set(),
    "signals": set(),
    "allocator": set(),
    "uncompiled": set(),
    "runtime": {"allocator", "checkpoint", "uncompiled"},
    "folder": {"errors"},
    "checkpoint": {"errors", "folder"},
    "build": CONTRACTS | {"nearest"},
    "composition": {"errors", "nearest"},
    "environment": {"errors"},
    "working_folder": set(),
    "sweep": {"errors"},
    # The commands.
    "commands": {"errors", "nearest"},
    "arguments": {"errors", "nearest"},
    "help": {"commands"},
    "resume": {"arguments", "signals", "run"},
    "sample": CONTRACTS | {"arguments", "figures", "folder", "loading", "nearest", "runtime"},
}
# What puts the rooms together, and the doors to it, know them all.
ASSEMBLERS = {"__init__", "__main__", "cli", "run"}
# Rooms in which nothing but torch, numpy and Python itself is known.
PURE = {"models", "optim", "metrics", "optimize", "history", "trainer", "checkpoint", "settings"}
PURE |= {"compilation", "recording", "uncompiled", "contracts", "evaluate", "eval_mode", "state"}
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


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    named = {}
    for file in FILES:
        parts = ("dltrain", *file.relative_to(SOURCE).with_suffix("").parts)
        named[".".join(parts).removesuffix(".__init__")] = file
    return named


def import_graph() -> dict[str, set[str]]:
    """Which module imports which: at once, in a function, or for type checkers alone."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, file in known.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & known.keys()
            elif isinstance(node, ast.ImportFrom) and node.module in known:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name] |= (whole & known.keys()) or {node.module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The ways along ``graph`` that come back to where they began, one for each first found."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for other in sorted(graph[name]):
                walk(other, [*way, name])
            done.add(name)

    for name in sorted(graph):
        walk(name, [])
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set()}) == [["b", "c", "b"]]
    assert circles({"a": {"a"}}) == [["a", "a"]]


def test_no_module_imports_what_imports_it() -> None:
    graph = import_graph()
    assert graph["dltrain.trainer"] >= {"dltrain.view", "dltrain.contracts.task"}
    assert graph["dltrain.build"] >= {"dltrain.contracts.data"}, "for type checkers alone"

    assert circles(graph) == []


def test_no_room_knows_what_knows_it() -> None:
    rooms: dict[str, set[str]] = {}
    for name, others in import_graph().items():
        room = room_of(name)
        rooms.setdefault(room, set()).update({room_of(other) for other in others} - {room})

    assert circles(rooms) == []


def test_only_commands_know_what_puts_a_run_together() -> None:
    graph = import_graph()
    for whole, who in (("run", {"cli", "resume"}), ("trainer", {"run"}), ("cli", {"__main__"})):
        found = {name for name, others in graph.items() if f"dltrain.{whole}" in others}
        assert found == {f"dltrain.{name}" for name in who}, whole


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
