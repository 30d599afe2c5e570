"""Each notebook runs from its first cell to its last, and shows what its cells show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import notebook

FILES = sorted(notebook.NOTEBOOKS.glob("*.ipynb"))


def of_few_epochs(source: str) -> str:
    """The same cell, in seconds less."""
    return re.sub(r"trainer\.epochs=\d+", "trainer.epochs=1", source)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_cell_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = notebook.read(file)
    before = [cell["outputs"] for cell in notebook.code_cells(content)]

    notebook.run(content, of_few_epochs)

    kinds = [[one["output_type"] for one in outputs] for outputs in before]
    assert any(kinds)
    assert kinds == [
        [one["output_type"] for one in cell["outputs"]] for cell in notebook.code_cells(content)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_outputs_are_those_of_the_cells(file: Path) -> None:
    content = notebook.read(file)
    known = content["metadata"]["dltrain"]["cells"]
    assert notebook.digest(content) == known, "run scripts/notebook.py"
    counts = [cell["execution_count"] for cell in notebook.code_cells(content)]
    assert counts == list(range(1, len(counts) + 1))
    assert "/tmp" not in file.read_text(encoding="utf-8")
    assert "/home/" not in file.read_text(encoding="utf-8")
