"""Who may import whom, and which words the core does not know; read from the source itself."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from import_graph import DRAWING, circles, drawing, import_graph, package_of, packages, sources, way
from tests.conftest import REPOSITORY

SOURCE = REPOSITORY / "src" / "dltrain"
FILES = sorted(SOURCE.rglob("*.py"))
# Every package of dltrain from the lowest floor up, and what it may know of the others. No arrow
# points upward: what a line names stands in the lines before it.
CONTRACTS = {"contracts", "errors", "files", "tensor_files"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "messages": {"errors"},
    "pages": set(),
    "files": {"errors"},
    "tensor_files": {"errors", "files"},
    "contracts": {"errors"},
    "config": CONTRACTS,
    "engine": CONTRACTS,
    "reports": set(),
    "optim": CONTRACTS | {"config"},
    "metrics": CONTRACTS | {"reports"},
    "models": CONTRACTS | {"config"},
    "tasks": CONTRACTS | {"metrics", "models", "engine"},
    "data": CONTRACTS | {"config"},
    "federated": CONTRACTS | {"data", "engine"},
    "runs": CONTRACTS | {"config", "engine", "optim"},
    "core": CONTRACTS | {"engine", "metrics", "runs"},
    "callbacks": CONTRACTS | {"messages", "engine", "reports", "runs"},
    "assemble": CONTRACTS | {"config", "engine", "optim", "runs", "data", "core", "callbacks"},
    "parallel_checks": CONTRACTS | {"engine", "optim", "assemble"},
    "mistakes": CONTRACTS | {"pages", "config", "engine", "assemble"},
    "training": CONTRACTS
    | {"messages", "config", "engine", "optim", "data", "runs", "core", "callbacks", "assemble"}
    | {"parallel_checks"},
    "federated_client": CONTRACTS
    | {"messages", "config", "engine", "federated", "runs", "core", "assemble", "training"},
    "profiling": CONTRACTS | {"messages", "engine", "assemble", "training"},
    "inference": CONTRACTS
    | {"config", "engine", "optim", "reports", "runs", "data", "core", "assemble"},
    "prolong": CONTRACTS
    | {
        "messages",
        "config",
        "engine",
        "optim",
        "data",
        "runs",
        "callbacks",
        "assemble",
        "training",
    },
    "tuning": CONTRACTS
    | {"messages", "config", "engine", "reports", "data", "runs", "assemble", "training"},
    "commands": CONTRACTS
    | {"messages", "config", "engine", "reports", "runs", "callbacks", "assemble", "training"}
    | {"inference", "prolong", "tuning", "mistakes", "profiling", "pages"},
    "from_python": CONTRACTS | {"config", "engine", "runs", "training", "inference", "mistakes"},
    "cli": CONTRACTS | {"config", "engine", "runs", "assemble", "training", "commands", "mistakes"},
    "__main__": {"cli", "engine"},
    "__init__": {"inference", "from_python", "engine"},
}
# What is used in a run, or to use one, is below what makes one.
BELOW_THE_RUN = ("callbacks", "runs", "data", "tasks", "models")
# In these nothing but torch, numpy and Python itself is known.
PURE = {"models", "optim", "metrics", "tasks", "contracts", "core", "engine"}
# What knows no model, no task and no data set.
KNOWS_NO_MODEL = {"core", "engine", "config", "assemble", "training", "cli"}
# These have such words for something else: random generators, torchvision the package, cuDNN's rnn.
NOISY = {"core/evaluate", "config/build", "engine/runtime"}
# What a query such as --help or completion may load; torch takes seconds.
LIGHT = (
    "__init__",
    "cli",
    "errors",
    "files",
    "mistakes",
    "pages",
    "config/annotations",
    "config/compose/__init__",
    "config/compose/composing",
    "config/offered",
    "config/quoting",
    "config/refusals",
    "config/punctuation",
    "config/space",
    "config/suggest",
    "config/build",
    "config/working_folder",
    "commands/table",
    "commands/candidates",
    "commands/chart",
    "commands/choices",
    "commands/compare",
    "commands/completion",
    "commands/help",
    "commands/list",
    "commands/arguments",
    "commands/config",
    "commands/config_dir",
    "commands/evaluate",
    "commands/export",
    "commands/predict",
    "commands/profile",
    "commands/new",
    "commands/resume",
    "commands/runs",
    "commands/tables",
    "commands/sample",
    "commands/batch_find",
    "commands/lr_find",
    "commands/tour",
    "commands/tune",
    "commands/serve",
    "engine/parallel/environment",
    "engine/runtime",
    "engine/terminal",
    "runs/finding",
    "runs/folder",
    "runs/folding",
    "runs/listing",
    "runs/paired",
    "runs/query",
    "runs/results",
    "runs/sweep",
)


def name_of(file: Path) -> str:
    return file.relative_to(SOURCE).with_suffix("").as_posix()


def top(file: Path) -> str:
    """The room that a source file lies in, or is."""
    return name_of(file).partition("/")[0]


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


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_room_imports_only_what_it_may_know(file: Path) -> None:
    room = top(file)
    found = {
        package_of(module) for module in imports(file) if module.partition(".")[0] == "dltrain"
    }

    # The package itself is known by its version alone.
    assert found <= ROOMS[room] | {room, "", "__version__"}


def test_no_arrow_points_upward() -> None:
    floors = list(ROOMS)
    for room, known in ROOMS.items():
        assert {floors.index(other) for other in known} <= set(range(floors.index(room))), room


def test_every_room_is_named_here() -> None:
    assert {top(file) for file in FILES} == set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_only_the_composition_knows_hydra(file: Path) -> None:
    packages = {module.partition(".")[0] for module in imports(file)}

    knows = bool(packages & {"hydra", "omegaconf"})
    assert not knows or name_of(file).startswith("config/compose/")


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
        names = {module.removeprefix("dltrain.").replace(".", "/") for module in found}
        names |= {f"{name}/__init__" for name in names}
        waiting += [name for name in names - seen if (SOURCE / f"{name}.py").is_file()]


@pytest.fixture(scope="module")
def graph() -> dict[str, list[str]]:
    return import_graph(sources())


def test_imports_have_no_circle(graph: dict[str, list[str]]) -> None:
    assert len(graph) == len(FILES)
    assert "dltrain.config.build" in graph["dltrain.runs.load"]
    assert not circles(graph)


def test_the_drawing_is_of_these_imports(graph: dict[str, list[str]]) -> None:
    assert DRAWING.read_text(encoding="utf-8") == drawing(packages(graph))


def test_a_circle_is_found_wherever_its_imports_stand() -> None:
    written = {
        "dltrain.one": "from dltrain import two, __version__",
        "dltrain.two": "if TYPE_CHECKING:\n    from dltrain.room.three import name",
        "dltrain.room.three": "def late():\n    import dltrain.one",
        "dltrain.room": "import dltrain.two",
        "dltrain": "",
    }
    assert circles(import_graph(written)) == {
        "dltrain.one -> dltrain.two -> dltrain.room.three -> dltrain.one"
    }


@pytest.mark.parametrize("room", BELOW_THE_RUN)
def test_what_is_below_a_run_reaches_none_that_makes_one(
    room: str, graph: dict[str, list[str]]
) -> None:
    makers = {
        f"dltrain.{name}" for name in ("assemble", "training", "core.loop", "cli", "__main__")
    }
    for module in graph:
        if package_of(module) == room:
            found = way(graph, module, makers)
            assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    "file", [f for f in FILES if top(f) in KNOWS_NO_MODEL and name_of(f) not in NOISY], ids=name_of
)
def test_the_core_names_no_model_no_task_and_no_data_set(file: Path) -> None:
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
    tree = ast.parse(file.read_text(encoding="utf-8"))
    known = {
        word.lower()
        for node in ast.walk(tree)
        for text in identifiers(node)
        for word in re.findall(r"[A-Za-z]+", text)
    }

    assert not known & (words - {"line", "parallel", "shards"})


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
