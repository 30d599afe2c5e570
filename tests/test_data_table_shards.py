"""Tables that stay in shards: what is learned of them, and that rows are read alike ever after."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dltrain.contracts.data import Batch, Placement, Streams
from dltrain.data.shards.passes import Moments
from dltrain.data.shards.tables import TableShards
from dltrain.data.tables.encoding import learn_scaling
from dltrain.errors import UserError
from tests.streams import whole

ROWS = 60


def column(name: str, rows: range) -> pa.Array:
    numbers = np.arange(rows.start, rows.stop)
    return {
        "a": lambda: pa.array(numbers * 0.5 - 3),
        "b": lambda: pa.array((numbers * 7 % 11).astype("i2")),
        "color": lambda: pa.array([["red", "green", "blue"][n % 3] for n in numbers]),
        "flag": lambda: pa.array(numbers % 2 == 0),
        "day": lambda: pa.array([datetime.date(2024, 1, 1 + n % 28) for n in numbers.tolist()]),
        "y": lambda: pa.array(numbers * 2.0 + 1),
        "name": lambda: pa.array([f"class {n % 2}" for n in numbers]),
    }[name]()


NAMES = ("a", "b", "color", "flag", "day", "y", "name")


def write(folder: Path, shards: int = 3, **other: Any) -> str:
    for shard in range(shards):
        rows = range(shard * ROWS, (shard + 1) * ROWS)
        table = pa.table({name: column(name, rows) for name in NAMES} | other)
        pq.write_table(table, folder / f"{shard}.parquet", row_group_size=25)
    return str(folder / "*.parquet")


def source(path: str, folder: Path, **given: Any) -> TableShards:
    settings: dict[str, Any] = {"target": "y", "exclude": ["name"], "batch_size": 8}
    return TableShards(path, **settings | {"root": str(folder / "root"), "buffer": 30} | given)


def streams(made: TableShards, seed: int = 0) -> Streams:
    made.read(seed)
    return made.open(Placement(torch.device("cpu"), seed))


def sorted_rows(batch: Batch) -> torch.Tensor:
    order = batch["target"].flatten().argsort()
    return batch["input"][order]


def test_means_and_deviations_are_those_of_the_training_rows(tmp_path: Path) -> None:
    made = source(write(tmp_path), tmp_path)
    opened = streams(made)
    spec = made.outline()
    train = whole(opened["train"])
    assert spec.input.names[:3] == ("a", "b", "color=blue")
    numbers = [0, 1, *range(6, 10)]
    inputs = train["input"][:, numbers]
    constant = inputs.std(0, correction=0) == 0
    torch.testing.assert_close(inputs.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    assert torch.allclose(
        inputs.std(0, correction=0)[~constant], torch.ones(int((~constant).sum()))
    )
    targets = train["target"].double()
    assert spec.target.mean == pytest.approx((float(targets.mean()),))
    assert spec.target.std == pytest.approx((float(targets.std()),))
    known = sum(stream.examples or 0 for stream in opened.values())
    assert known == 3 * ROWS


def test_a_reader_reads_rows_as_the_stream_does(tmp_path: Path) -> None:
    made = source(write(tmp_path), tmp_path, embed=["color"])
    opened, reader = streams(made), made.reader()
    parts = list(made.labeled("test"))
    read = [reader.read(part.examples) for part in parts]
    tested = whole(opened["test"])
    for name in ("input", "input.color"):
        assert torch.equal(torch.cat([batch[name] for batch in read]), tested[name]), name
    assert torch.equal(torch.cat([part.target for part in parts]), tested["target"])


def test_classes_have_names_and_counts(tmp_path: Path) -> None:
    made = source(write(tmp_path), tmp_path, target="name", exclude=["y"])
    train = whole(streams(made)["train"])
    spec = made.outline()
    assert spec.class_names == ("class 0", "class 1")
    assert spec.target.counts == tuple(train["target"].bincount().tolist())


def test_what_a_pass_told_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dltrain")
    path = write(tmp_path)
    first = source(path, tmp_path).read(0)
    assert "are read first, of all training rows" in caplog.text
    caplog.clear()
    assert source(path, tmp_path).read(0) == first
    assert "are read first" not in caplog.text
    assert source(path, tmp_path).read(1) != first


def test_a_table_of_texts_alone(tmp_path: Path) -> None:
    given = {"target": "name", "features": ["color", "flag"], "exclude": []}
    assert streams(source(write(tmp_path), tmp_path, **given))["train"].examples


def test_one_pass_learns_what_two_passes_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    chunks = [torch.randn(n, 4, generator=generator, dtype=torch.float64) + 1e6 for n in (7, 1, 90)]
    for chunk in chunks:
        chunk[:, 2] = 3.0
        chunk[0, 1] = torch.nan
    chunks[1][:] = torch.nan
    one = sum(map(Moments.of, chunks[1:]), Moments.of(chunks[0])).scaling([3], True)
    two = learn_scaling(lambda: chunks, [3], True)
    assert one.mean == pytest.approx(two.mean)
    assert one.std == pytest.approx(two.std)
    assert one.fill == pytest.approx(two.fill)


@pytest.mark.parametrize(
    ("other", "given", "said"),
    [
        ({"a": [None, *[1.0] * 59]}, {}, r"row \d+, column 'a' has no value; data.missing=mean"),
        ({"y": [None, *[1.0] * 59]}, {"missing": "mean"}, r"'y' has no value; a target cannot be"),
        ({"y": [4.0] * 60}, {}, "data.target: 'y' is 4 in all training rows"),
        ({"when": pa.array([0] * 60, pa.timestamp("us"))}, {"features": ["when"]}, "timestamp"),
        ({"c": [f"{n}x{n}" for n in range(60)]}, {"max_levels": 20}, "has .. different texts"),
        ({}, {"target": "z"}, "has no column 'z'. It has a, b, color"),
        ({}, {"features": ["aa"]}, "has no column 'aa'"),
        ({}, {"exclude": ["nam"]}, "data.exclude: .* has no column 'nam'. Did you mean 'name'"),
        ({}, {"path": "0.csv"}, "0.csv is no .parquet file; data=csv reads others"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(
    tmp_path: Path, other: Any, given: dict[str, Any], said: str
) -> None:
    path = write(tmp_path, **other)
    (tmp_path / "0.csv").touch()
    path = str(tmp_path / given["path"]) if "path" in given else path
    made = source(path, tmp_path, **{k: v for k, v in given.items() if k != "path"})
    with pytest.raises(ValueError, match=said) as error:
        streams(made)
    assert "\n" not in str(error.value)


def test_a_column_that_one_shard_lacks_is_told(tmp_path: Path) -> None:
    path = write(tmp_path)
    table = pq.read_table(tmp_path / "1.parquet").drop_columns("b")
    pq.write_table(table, tmp_path / "1.parquet")
    with pytest.raises(UserError, match=re.escape("1.parquet lacks the column 'b'")):
        source(path, tmp_path).read(0)


def test_missing_values_are_filled_and_read_alike(tmp_path: Path) -> None:
    made = source(
        write(tmp_path, a=[None, *[float(n) for n in range(59)]]), tmp_path, missing="mean"
    )
    opened, reader = streams(made), made.reader()
    for part in made.labeled("train"):
        assert not reader.read(part.examples)["input"].isnan().any()
    assert not whole(opened["train"])["input"].isnan().any()
