"""Texts and images split by a column, as tables are; and images by lists of files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from dltrain.data.text.text_csv import TextCsv
from tests.streams import opened, whole

Log = pytest.LogCaptureFixture


def written(path: Path, numbers: range = range(60)) -> Path:
    """Text ``w{i}`` is of writer i modulo 12, of day i, of class i modulo 2; the last come first."""
    rows = (
        f"w{i},{'ab'[i % 2]},p{i % 12},{1000 + i},{('train', 'VAL', 'test')[i % 3]}\n"
        for i in reversed(numbers)
    )
    path.write_text("text,label,writer,day,part\n" + "".join(rows))
    return path


def source_of(path: Path, **settings: Any) -> TextCsv:
    return TextCsv(str(path), text="text", label="label", root=None, **settings)


def counts(source: TextCsv, seed: int = 0) -> dict[str, int]:
    """How many texts of each split there are, once some are set aside for validation."""
    return {name: len(whole(stream)["target"]) for name, stream in opened(source, seed).items()}


def test_texts_of_one_group_are_in_one_split_also_from_the_cache(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv")
    for _ in range(2):  # the second time from the cache
        source = TextCsv(str(path), text="text", label="label", root=str(tmp_path), group="writer")
        train = source.splits()["train"]
        assert len(train) == 50
        groups = source._known().groups
        division = source.division(train)
        aside = set(division.aside(division.order(50, seed=3), 10).tolist())
        assert len(aside) == 10
        assert {groups[row] for row in aside}.isdisjoint(
            groups[row] for row in range(50) if row not in aside
        )
    plain = TextCsv(str(path), text="text", label="label", root=str(tmp_path)).splits()
    assert len(plain["train"]) == 48


def test_the_last_texts_test_and_those_before_them_validate(tmp_path: Path) -> None:
    source = source_of(written(tmp_path / "t.csv"), order="day", test=0.25, validation=0.2)
    streams = opened(source)
    words = source.outline().fields["input"].names
    known = {words[row[0]] for row in whole(streams["train"])["input"].tolist()}
    assert known == {f"w{i}" for i in range(36)}
    assert counts(source) == {"train": 36, "validation": 9, "test": 15}


def test_a_column_says_which_split_a_text_is_in(tmp_path: Path, caplog: Log) -> None:
    path = written(tmp_path / "t.csv")
    assert counts(source_of(path, split_column="part")) == {
        "train": 20,
        "validation": 20,
        "test": 20,
    }
    second = written(tmp_path / "second.csv", range(48, 70))
    with pytest.raises(ValueError, match="'part' names test rows, and data.test is a file"):
        source_of(path, split_column="part", test=str(second)).splits()
    with pytest.raises(ValueError, match="'part' names rows of the split 'validation', which is"):
        source_of(path, split_column="part", validation=str(second)).splits()
    with pytest.raises(ValueError, match="'writer' says 'p11', which is no split"):
        source_of(path, split_column="writer").splits()
    with caplog.at_level(logging.WARNING):
        source_of(path, group="writer", test=str(second)).splits()
    assert "12 groups of 'writer' are in" in caplog.text
    path.write_text(path.read_text().replace("w0,a,p0,1000,train", "w0,c,p0,1000,test"))
    source_of(path, split_column="part").splits()
    assert "column 'part' leaves no training row of 'c'" in caplog.text


def test_what_cannot_split_texts_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv")
    with pytest.raises(ValueError, match="group and order are given"):
        source_of(path, group="writer", order="day")
    with pytest.raises(ValueError, match="'label' is text or label"):
        source_of(path, group="label")
    with pytest.raises(ValueError, match="has no column 'writers'"):
        source_of(path, group="writers").splits()
    path.write_text(path.read_text().replace("p5,", ",", 1))
    with pytest.raises(ValueError, match=r"line \d+, column 'writer': there is no value"):
        source_of(path, group="writer").splits()
