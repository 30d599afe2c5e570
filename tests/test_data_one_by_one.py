"""Rows of a table one by one: the same from every kind of file, and what is none."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from dltrain.data.tables.one_by_one import rows_of

FRAME = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})


def test_every_kind_of_table_gives_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl", reason="pip install 'dltrain[excel]'")
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    FRAME.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    FRAME.to_parquet(tmp_path / "t.parquet")
    FRAME.to_excel(tmp_path / "t.xlsx", index=False)
    (tmp_path / "t.jsonl").write_text(FRAME.to_json(orient="records", lines=True) + "\n\n")
    (tmp_path / "t.json").write_text(FRAME.to_json(orient="records"))
    right = [(1, "x"), (2, "y"), (3, "z")]
    stream = io.StringIO((tmp_path / "t.csv").read_text())
    for table in (FRAME, stream, *sorted(tmp_path.iterdir())):
        rows = list(rows_of(table))
        assert [(int(row["a"]), row["b"]) for row in rows] == right, table


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("t.parquet", "PAR1", "no Parquet file"),
        ("t.jsonl", '{"a": 1}\n{', "line 2: "),
        ("t.jsonl", "[1]", "line 1: not an object, but "),
        ("t.json", "{", "is no JSON"),
        ("t.json", "[1]", "element 0: not an object, but 1"),
        ("t.csv", "a,b\n1\n", "line 2: 1 cells, but the header names 2 columns"),
        ("t.csv", "", "is empty"),
    ],
)
def test_what_is_no_table_is_told_by_file_and_line(
    name: str, content: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=why) as told:
        list(rows_of(path))
    assert str(path) in str(told.value)


def test_a_folder_and_a_missing_file_are_no_tables(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "is a folder"), (tmp_path / "t.csv", "does not exist")):
        with pytest.raises(ValueError, match=why):
            list(rows_of(path))
