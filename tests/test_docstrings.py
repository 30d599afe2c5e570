"""Every public method has a docstring; one that overrides has that of what it overrides."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "dltrain"


def classes() -> dict[str, list[ast.ClassDef]]:
    """Every class of dltrain by its name."""
    found: dict[str, list[ast.ClassDef]] = {}
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


def undocumented(known: dict[str, list[ast.ClassDef]]) -> list[str]:
    """Public methods without a docstring, of which no base of dltrain has a documented one."""

    def documented(names: list[str], method: str) -> bool:
        return any(
            (method in methods(base) and ast.get_docstring(methods(base)[method]))
            or documented(bases(base), method)
            # What torch asks for (forward, state_dict, step) is documented there.
            or (name in ("Module", "Optimizer", "Dataset") and method in ("forward", "step"))
            for name in names
            for base in known.get(name, [ast.parse("class _: ...").body[0]])  # type: ignore[list-item]
        )

    return [
        f"{node.name}.{name}"
        for nodes in known.values()
        for node in nodes
        for name, method in methods(node).items()
        if not name.startswith("_") and not node.name.startswith("_")
        if not ast.get_docstring(method) and not documented(bases(node), name)
        # A setter is documented by its property; an overload by what it overloads.
        if not any(ast.unparse(d).endswith((".setter", "overload")) for d in method.decorator_list)
    ]


def test_what_overrides_nothing_is_documented() -> None:
    assert undocumented(classes()) == []


def test_a_method_without_a_docstring_is_found() -> None:
    source = '''
class Contract:
    def act(self):
        """Act."""
    def other(self): ...
class Own(Contract):
    def act(self): ...
    def more(self): ...
'''
    known = {n.name: [n] for n in ast.parse(source).body if isinstance(n, ast.ClassDef)}
    assert undocumented(known) == ["Contract.other", "Own.more"]
