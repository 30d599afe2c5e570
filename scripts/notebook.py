"""Run the notebooks of docs/notebooks anew, and keep what their cells show.

    python scripts/notebook.py                     # all of them
    python scripts/notebook.py docs/notebooks/python.ipynb

Cells are run in order, in an empty folder, by Python alone: what a cell prints and the value of its
last line are kept, as Jupyter keeps them, but for lines that tell times. Of the cells, the file has
a digest, by which tests/test_notebooks.py knows outputs that are older than they are.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"
COLUMNS = "96"
OF_THE_MACHINE = re.compile(r"Trained |note: .*\(Fitted to ")
"""How lines begin that are left out of what a cell prints: they tell times, which are not kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of them where none is given")
    for file in parser.parse_args().notebooks or sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = read(file)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            os.environ["COLUMNS"] = COLUMNS
            run(notebook)
        notebook["metadata"]["dltrain"] = {"cells": digest(notebook)}
        file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{file.name}: {file.stat().st_size:,} bytes")


def read(file: Path) -> dict[str, Any]:
    """A notebook, as nbformat 4 describes it."""
    notebook: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return notebook


def code_cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The cells that are run."""
    return (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def digest(notebook: dict[str, Any]) -> str:
    """Of the sources of the cells that are run."""
    sources = ["".join(cell["source"]) for cell in code_cells(notebook)]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def run(notebook: dict[str, Any], change: Callable[[str], str] = str) -> None:
    """Run all cells in the working folder, and put their outputs in; ``change`` their sources."""
    known: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(notebook), 1):
        cell["outputs"] = outputs(change("".join(cell["source"])), known, number)
        cell["execution_count"] = number


def outputs(source: str, known: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """What one cell shows: what it prints, and its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        exec(compile(tree, f"cell {number}", "exec"), known)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), known)
    found: list[dict[str, Any]] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        lines = [line for line in lines if not OF_THE_MACHINE.match(line)]
        found.append({"output_type": "stream", "name": "stdout", "text": lines})
    if value is not None:
        found.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": shown(value),
            }
        )
    return found


def shown(value: Any) -> dict[str, Any]:
    """A value by the kinds of media that it can be shown in."""
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
        data["text/plain"] = [f"<{type(value).__name__}>"]
    return data


if __name__ == "__main__":
    main()
