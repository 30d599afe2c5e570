"""Texts and images split by a column, as tables are; and images by lists of files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.text.text_csv import TextCsv
from tests.streams import opened, whole

Log = pytest.LogCaptureFixture


def written(path: Path, numbers: range = range(60)) -> Path:
    """Text ``w{i}`` is of writer i modulo 12, of day i, of class i modulo 2; the last first."""
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
    with pytest.raises(ValueError, match=r"'part' names test rows, and data\.test is a file"):
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


def images(folder: Path, count: int = 24) -> Path:
    """Images ``i00.png`` …, all different, in the folders of their classes a and b."""
    for i in range(count):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4), i * 10, np.uint8)
        pixels[0] = 255 - pixels[0]
        Image.fromarray(pixels).save(place / f"i{i:02}.png")
    return folder


def labels(path: Path, count: int = 24) -> Path:
    """Image i is of patient i modulo 6, taken on day 30 - i."""
    rows = (
        f"i{i:02},{'ab'[i % 2]},p{i % 6},2024-01-{30 - i:02},{('train', 'test')[i % 3 == 0]}\n"
        for i in range(count)
    )
    path.write_text("file,label,Patient,day,part\n" + "".join(rows))
    return path


def split_of(folder: Path, seed: int = 0, **settings: Any) -> dict[str, set[int]]:
    """Which images are in each split, by their first pixel but one row."""
    settings = {"root": str(folder.parent / "cache"), "mean": [0], "std": [1]} | settings
    streams = opened(ImageFolder(str(folder), **settings), seed)
    return {
        name: {round(value * 25.5) for value in whole(stream)["input"][:, 0, 1, 0].tolist()}
        for name, stream in streams.items()
    }


def test_images_are_split_by_columns_of_their_table(tmp_path: Path) -> None:
    folder, table = images(tmp_path / "data"), labels(tmp_path / "labels.csv")
    for seed in (0, 1):  # the second time from the cache
        found = split_of(folder, seed, labels=str(table), group="Patient", validation=0.3)
        assert set.union(*found.values()) == set(range(24))
        patients = {name: {i % 6 for i in own} for name, own in found.items()}
        assert [len(found[name]) for name in ("train", "validation", "test")] == [16, 4, 4]
        assert sum(map(len, patients.values())) == 6
    found = split_of(folder, labels=str(table), order="day", test=0.25, validation=6)
    assert found["test"] == set(range(6))
    assert found["validation"] == set(range(6, 12))
    found = split_of(folder, labels=str(table), split_column="part", validation=0)
    assert found["test"] == set(range(0, 24, 3))
    with pytest.raises(ValueError, match=r"no column 'patient'\. Did you mean 'Patient'"):
        split_of(folder, labels=str(table), group="patient")
    with pytest.raises(ValueError, match="the column 'label' names files or labels already"):
        split_of(folder, labels=str(table), group="label")
    with pytest.raises(ValueError, match="group is a column of a table: give the file as labels"):
        split_of(folder, group="Patient")


def test_an_image_that_is_skipped_moves_no_group(tmp_path: Path) -> None:
    folder, table = images(tmp_path / "data"), labels(tmp_path / "labels.csv")
    (folder / "a" / "i02.png").write_bytes(b"no image")
    settings = {"labels": str(table), "group": "Patient", "skip_unreadable": True, "size": 4}
    found = split_of(folder, validation=0.3, **settings)
    assert set.union(*found.values()) == set(range(24)) - {2}
    assert sum(len({i % 6 for i in own}) for own in found.values()) == 6


def test_lists_say_which_images_test_and_validate(tmp_path: Path, caplog: Log) -> None:
    folder = images(tmp_path / "data")
    test, validation = tmp_path / "test.txt", tmp_path / "val.txt"
    test.write_text("a/i00.png\n\nb\\i01.png\ni05\na/i06\n")
    validation.write_text("i10.png\ni11.png\n")
    found = split_of(folder, test=str(test), validation=str(validation))
    assert (found["test"], found["validation"]) == ({0, 1, 5, 6}, {10, 11})
    assert found["train"] == set(range(24)) - {0, 1, 5, 6, 10, 11}
    table = labels(tmp_path / "labels.csv")
    found = split_of(folder, test=str(test), labels=str(table), group="Patient")
    assert found["test"] == {0, 1, 5, 6}
    assert "3 groups of 'Patient' are in train and in test" in caplog.text
    assert {i % 6 for i in found["train"]}.isdisjoint(i % 6 for i in found["validation"])
    validation.write_text("i10.png\ni05.png\n")
    with pytest.raises(ValueError, match=r"i05.png is listed for validation and for the test"):
        split_of(folder, test=str(test), validation=str(validation))
    with pytest.raises(ValueError, match=r"'part' names test rows, and data\.test is a file"):
        split_of(folder, test=str(test), labels=str(table), split_column="part")
    validation.write_text("i10.png\ni99.png\n")
    with pytest.raises(ValueError, match=r"val.txt, line 2: .*data has no image 'i99.png'"):
        split_of(folder, validation=str(validation))
    with pytest.raises(ValueError, match=r"test: .*absent.txt cannot be read: No such file"):
        split_of(folder, test=str(tmp_path / "absent.txt"))
