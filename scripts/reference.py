"""The reference pages of the documentation, made from the code and the YAML files.

    python scripts/reference.py FOLDER    # write them there, to be read

scripts/build_site.py has them from here: nothing generated is kept in docs/.
There is a page for every config group (each choice with its keys: type, default, meaning), one for
all commands, one for the contracts, one for what Python calls.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from dltrain.commands.choices import Choice, described, head, keys_in
from dltrain.commands.help import GROUPS
from dltrain.commands.table import COMMANDS
from dltrain.config.compose import choices, groups, use_folder

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "dltrain"
INNER = {
    "data/augment": "how training examples are varied",
    "task/loss": "what is minimized of numbers",
    "task/attack": "what misleads a network",
}
"""Groups within groups, which one types in full: ``task/loss=mae``."""
PUBLIC = {
    "from_python": ["train"],
    "inference/predictor": ["load", "Predictor"],
    "inference/answers": ["Answers"],
    "errors": ["UserError", "ConfigError", "Fault"],
}
"""What Python programs call, by module."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, text in pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Each page's text, by its path in docs/."""
    use_folder(None)
    every = GROUPS | {name: "" for name in groups() if name not in GROUPS} | INNER
    made = {f"reference/config/{slug(name)}.md": group_page(name, every[name]) for name in every}
    made["reference/config/index.md"] = index_page(every)
    made["reference/commands.md"] = commands_page()
    made["reference/contracts.md"] = contracts_page()
    made["reference/python.md"] = python_page()
    return made


def slug(group: str) -> str:
    """A group's page: ``task/loss`` is ``task_loss``."""
    return group.replace("/", "_")


def index_page(every: dict[str, str]) -> str:
    """What there is to choose, and the keys that belong to no choice."""
    lines = [
        "# Config keys",
        "",
        "A command chooses one file of each group and changes single values. The same is told "
        "in the terminal by `dltrain help`, `dltrain help model`, `dltrain help model=mlp`.",
        "",
        "| group | chooses | choices |",
        "|---|---|---|",
    ]
    for name, meaning in every.items():
        lines.append(f"| [`{name}=`]({slug(name)}.md) | {meaning} | {len(choices(name))} |")
    rows = list(keys_in((ROOT / "configs" / "train.yaml").read_text(encoding="utf-8"), ""))
    return "\n".join([*lines, "", "## Of every run", "", *key_table(rows), ""])


def group_page(group: str, meaning: str) -> str:
    """A group: its choices in a table, and each with its keys."""
    of = choices(group)
    lines = [f"# {group}=", "", *([f"{meaning[0].upper()}{meaning[1:]}.", ""] if meaning else [])]
    lines += ["| choice | what it is |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {cell(head(text)[0])} |" for name, text in of.items()]
    for name, text in of.items():
        lines += ["", *choice_section(described(group, name, text))]
    return "\n".join([*lines, ""])


def choice_section(choice: Choice) -> Iterator[str]:
    """A choice as ``dltrain help GROUP=NAME`` tells it."""
    yield f"## {choice.name} {{ #{choice.name} }}"
    yield ""
    yield f"`{choice.group}={choice.name}`" + (f", `{choice.target}`" if choice.target else "")
    yield ""
    indented = False
    for line in choice.about:
        if line.startswith(" ") and not indented:
            yield from ("", "```")
        elif not line.startswith(" ") and indented:
            yield from ("```", "")
        indented = line.startswith(" ")
        yield textwrap.dedent(line) if indented else escaped(line)
    if indented:
        yield "```"
    if choice.chooses:
        yield from ("", "Chooses " + ", ".join(f"`{line}`" for line in choice.chooses) + ".")
    if choice.keys:
        yield from ("", *key_table(choice.keys))


def key_table(keys: Sequence) -> list[str]:
    """Keys with type, default and meaning."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        default = "must be given" if key.required else code(key.value)
        rows.append(f"| `{key.name}` | {cell(key.type)} | {default} | {cell(key.comment)} |")
    return rows


def code(text: str) -> str:
    """A value as code in a table's cell; nothing where there is none."""
    return f"`{cell(text, escape=False)}`" if text else ""


def cell(text: str, escape: bool = True) -> str:
    """Text that stays within its cell."""
    return (escaped(text) if escape else text).replace("|", "\\|").replace("\n", " ")


def escaped(text: str) -> str:
    """Text in which nothing is a mark of Markdown, but for what stands in backquotes."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_<>\[\]{}$])", r"\\\1", part)
        for part in parts
    )


def commands_page() -> str:
    """What ``dltrain COMMAND --help`` prints, for each."""
    lines = ["# Commands", "", "| command | what it does |", "|---|---|"]
    for name, command in COMMANDS.items():
        lines.append(f"| [`dltrain {name} {cell(command.arguments, False)}`](#{name}) "
                     f"| {cell(command.summary)} |")  # fmt: skip
    for name in COMMANDS:
        lines += ["", f"## {name} {{ #{name} }}", "", "```text", said_of(name).rstrip(), "```"]
    return "\n".join([*lines, ""])


def said_of(command: str) -> str:
    """The help of a command, 100 letters wide."""
    out, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            # What train and federate are told is the page of help itself.
            COMMANDS["help"]([command] if command not in ("train", "help") else [])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return out.getvalue()


def contracts_page() -> str:
    """Every class of the contracts, with its methods' docstrings."""
    lines = [
        "# Contracts in the code",
        "",
        "What data, a task, a metric and a run are to each other: `dltrain.contracts`, made "
        "from its docstrings. [How each family fits](../contracts.md) is another page.",
    ]
    for file in sorted((SOURCE / "contracts").glob("*.py")):
        if file.stem != "__init__":
            lines += ["", f"## dltrain.contracts.{file.stem}", "", *members(file, None)]
    return "\n".join([*lines, ""])


def python_page() -> str:
    """What a program or a notebook calls."""
    lines = [
        "# Python",
        "",
        "`import dltrain` is quick; torch is imported by the first call. Examples are in "
        "[Using a trained run](../using.md).",
    ]
    for module, names in PUBLIC.items():
        lines += ["", f"## dltrain.{module.replace('/', '.')}", ""]
        lines += members(SOURCE / f"{module}.py", names)
    return "\n".join([*lines, ""])


def members(file: Path, names: Sequence[str] | None) -> Iterator[str]:
    """The public classes and functions of a module, or those of ``names``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield prose(ast.get_docstring(tree) or "")
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        if node.name.startswith("_") or (names is not None and node.name not in names):
            continue
        yield from ("", f"### {escaped(node.name)}", "", "```python", signature(node), "```", "")
        yield prose(ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef):
            yield from methods(node)


def methods(owner: ast.ClassDef) -> Iterator[str]:
    """The public methods and fields of a class that have a docstring."""
    for node, after in zip(owner.body, [*owner.body[1:], None], strict=True):
        match node, after:
            case ast.FunctionDef(name=name), _ if not name.startswith("_"):
                doc = ast.get_docstring(node)
            case ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(doc))):
                pass
            case _:
                continue
        if doc:
            yield from ("", "```python", signature(node), "```", "", prose(doc))


def signature(node: ast.stmt) -> str:
    """A definition's head, without its body."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"def {node.name}({ast.unparse(node.args)}){returns}"
    return ast.unparse(node)


def prose(docstring: str) -> str:
    """A docstring as Markdown: its names as code, its examples as blocks."""
    text = re.sub(r":\w+:`~?([\w.]+)`", lambda found: f"`{found[1].rpartition('.')[2]}`", docstring)
    text = re.sub(r"``(.+?)``", r"`\1`", text, flags=re.S)
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith("    "):
            blocks.append(f"```python\n{textwrap.dedent(block)}\n```")
        else:
            blocks.append(re.sub(r"::$", ":", escaped(block)))
    return "\n\n".join(blocks)


if __name__ == "__main__":
    main()
