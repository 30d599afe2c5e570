"""What cells mean, however they are written: numbers, words for nothing, levels, dates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from dltrain.contracts.data import DataSpec
from dltrain.data.tables.csv_file import CsvTable
from dltrain.data.tables.encoding import learn_scaling
from dltrain.data.tables.reader import TableReader
from tests.streams import opened, whole

Read = Callable[..., tuple[CsvTable, DataSpec]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """A table of the lines given, repeated; and what is known of it."""

    def found(*lines: str, times: int = 4, **settings: Any) -> tuple[CsvTable, DataSpec]:
        header, *rows = lines
        path = tmp_path / "t.csv"
        path.write_text("\n".join([header, *(times * rows)]), encoding="utf-8")
        source = CsvTable(str(path), **{"target": "y", "validation": 0} | settings)
        return source, source.read(0)

    return found


def inputs(source: CsvTable) -> torch.Tensor:
    streams = opened(source, 0)
    return torch.cat([whole(streams[name])["input"] for name in ("train", "test")])


@pytest.mark.parametrize("count", [3, 53, 60])
def test_spread_below_rounding_error_is_none_as_for_scikit_learn(count: int) -> None:
    generator = np.random.default_rng(0)
    columns = [np.full(count, value) for value in (0.0, 0.1, 14.62, 1e9 + 0.1, -1e-8)]
    columns += [1e8 + 1e-9 * generator.random(count), 5 + 1e-15 * generator.random(count)]
    columns += [generator.random(count), 1e6 + generator.random(count)]
    table = np.stack(columns, 1)
    scaler = StandardScaler().fit(table)
    found = learn_scaling(lambda: [torch.from_numpy(table)], [], True)
    np.testing.assert_array_equal(np.array(found.std) == 1, scaler.scale_ == 1)
    expected = torch.from_numpy(scaler.transform(table + 0.01)).float()
    torch.testing.assert_close(found(torch.from_numpy(table + 0.01)), expected)


def test_targets_are_float64_until_they_are_scaled(read: Read) -> None:
    source, spec = read("x,y", *(f"{i},{1_700_000_000 + i}" for i in range(20)), times=1)
    targets = whole(opened(source, 0)["train"])["target"]
    assert targets.dtype == torch.float64
    assert len(targets.unique()) == 16
    assert spec.target.std[0] == pytest.approx(float(targets.std()))


def test_a_target_that_is_constant_in_training_has_no_spread(read: Read) -> None:
    _, spec = read("x,y", *(f"{i},{0.1 if i else 5}" for i in range(60)), times=1, test=0.98)
    assert spec.target.std == (1.0,)


@pytest.mark.parametrize(
    ("cells", "switch"),
    [
        (["1,5", "2,25"], r"decimal comma: set data\.decimal=,;"),
        (["1,234", "2,250"], r"decimal comma: set data\.decimal=, or, .*data\.thousands=,;"),
        (["1.234,5", "2"], r"data\.decimal=, data\.thousands=\."),
        (["1 234", "2 250"], r"blanks between thousands: set data\.thousands=blank"),
        (["1'234", "2'250"], r"data\.thousands=apostrophe"),
        (["$1,200.50", "$5"], r"data\.thousands=,"),
        (["$5", "€7"], r"marks or units that are not the same"),
    ],
)
@pytest.mark.parametrize("header", ["x;y", "y;x"])
def test_what_looks_like_numbers_is_no_category(
    cells: list[str], switch: str, header: str, read: Read
) -> None:
    with pytest.raises(ValueError, match=rf"line \d, column .*looks like a number.*{switch}"):
        read(header, *(f"{cell};{n}" for n, cell in enumerate(cells)))


@pytest.mark.parametrize(
    ("cells", "marks", "values"),
    [
        (["1,5", "-2", "3,25e2", "NA"], {"decimal": ","}, [1.5, -2, 325, None]),
        (["1.234,5", "12", "NA"], {"decimal": "comma", "thousands": "."}, [1234.5, 12, None]),
        (["1'234.5", "12"], {"thousands": "apostrophe"}, [1234.5, 12]),
        (["$1,200.50", "-$5"], {"thousands": ","}, [1200.5, -5]),
        (["5 %", "7.5%"], {}, [5, 7.5]),
        (["12 kg", "7 kg"], {}, [12, 7]),
        (["+4", " 5 ", "6\u200b", "1e3", ".5"], {}, [4, 5, 6, 1000, 0.5]),
    ],
)
def test_numbers_are_read_as_they_are_written(
    cells: list[str], marks: dict[str, str], values: list[float | None], read: Read
) -> None:
    rows = [f'"{cell}";{n}' for n, cell in enumerate(cells)]
    source, _ = read("x;y", *rows, **marks, missing="mean", standardize=False)
    known = [value for value in values if value is not None]
    assert {*inputs(source).flatten().tolist()} >= {*known}
    read_again = source.reader().read([{"x": cell} for cell in cells])["input"]
    as_numbers = source.reader().read([[value] for value in values])["input"]
    assert torch.equal(read_again, as_numbers)
    assert [v for v in read_again.flatten().tolist() if v in known] == known


def test_marks_that_cannot_be_are_refused(read: Read) -> None:
    for marks, message in (
        ({"decimal": "x"}, "decimal is a point or a comma"),
        ({"decimal": ",", "thousands": ","}, "not the decimal mark"),
        ({"decimal": ","}, r"'1.5' looks like .* a decimal point: set data.decimal=\.;"),
    ):
        with pytest.raises(ValueError, match=message):
            read("x;y", "1.5;1", "2;3", **marks)


@pytest.mark.parametrize(
    ("spellings", "names"),
    [
        (["1", "1.0", "01", "1e0", " 1"], ("0", "1")),
        (["True", "true", "TRUE", "yes"], ("0", "TRUE")),
        (["caf\u00e9", "cafe\u0301"], ("0", "caf\u00e9")),
        (["a\u200bb", "ab", "\ufeffab", "ab\u00a0"], ("0", "ab")),
        (["a b", "a\u00a0b", "a  b"], ("0", "a b")),
    ],
)
def test_spellings_of_a_level_are_one_class_and_one_feature(
    spellings: list[str], names: tuple[str, str], read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    other = "false" if "yes" in spellings else "0"
    rows = [f"{i},{level}" for i, level in enumerate([*spellings, *[other] * len(spellings)])]
    settings: dict[str, Any] = {"kind": "classification", "test": 0.5}
    _, spec = read("x,y", *rows, **settings)
    assert spec.class_names == tuple(sorted({other, names[1]}))
    assert "other spellings of a level" in caplog.text
    _, apart = read("x,y", *rows, **settings, merge_spellings=False, case="keep")
    assert len(apart.class_names) > 2
    source, spec = read("y,x", *rows, categorical=["x"])
    own = set(spec.input.names)
    assert own == {f"x={other}", f"x={names[1]}"}
    again = source.reader().read([{"x": level} for level in spellings])["input"]
    assert len(again.unique(dim=0)) == 1


def test_levels_that_differ_in_case_are_refused_merged_or_kept(read: Read) -> None:
    rows = ["x,y", "1,Red", "2,red", "3,blue"]
    with pytest.raises(ValueError, match=r"'red' differs from 'Red' only in case: say data\.case"):
        read(*rows)
    assert read(*rows, case="merge")[1].class_names == ("Red", "blue")
    assert read(*rows, case="keep")[1].class_names == ("Red", "blue", "red")


def test_long_numbers_are_told_apart_to_the_last_digit(read: Read) -> None:
    _, spec = read("x,y", "1,9007199254740993", "2,9007199254740992", kind="classification")
    assert len(spec.class_names) == 2


def test_what_is_missing_can_be_said(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["x,y", "1,None", "2,Major", "-999,Minor"]
    with pytest.raises(ValueError, match=r"line 2, column 'y' counts.*'None'.*missing_values=\["):
        read(*rows)
    assert read(*rows, missing_values=[])[1].class_names == ("Major", "Minor", "None")
    rows[1] = "1,Major"
    source, _ = read(*rows, missing_values=["-999"], missing="mean", standardize=False)
    assert inputs(source).min() == 1
    read("x,y", "1,None", "2,Major", "3,Minor", missing="drop")
    assert "4 rows with missing values dropped: 4 in 'y' ('None')" in caplog.text


def test_truth_values_are_one_feature(read: Read) -> None:
    source, spec = read("x,y", "Yes,1", "no,2", "TRUE,3", "F,4", standardize=True)
    assert (spec.input.names, spec.input.std) == (("x",), (1.0,))
    read_again = source.reader().read([["yes"], [False], [True], ["NO"]])["input"]
    assert read_again.flatten().tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="example 0, column 'x': 'maybe' is not true or false"):
        source.reader().read([["maybe"]])


@pytest.mark.parametrize(
    ("texts", "format"),
    [
        (["2024-02-29", "2023-12-31"], None),
        (["2024/2/29", "2023/12/31"], None),
        (["29.02.2024", "31.12.2023"], None),
        (["2/29/2024", "12/31/2023"], None),
        (["29/2/2024", "31/12/2023"], None),
        (["29 Feb 24", "31 Dec 23"], "%d %b %y"),
        (["20240229", "20231231"], "%Y%m%d"),
    ],
)
def test_dates_become_numbers(texts: list[str], format: str | None, read: Read) -> None:
    rows = [f"{text},{n}" for n, text in enumerate(texts)]
    source, spec = read("x,y", *rows, standardize=False, date_format=format)
    assert spec.input.names == ("x.year", "x.month", "x.weekday", "x.days")
    expected = [[2024, 2, 3, 19782], [2023, 12, 6, 19722]]
    assert source.reader().read([{"x": text} for text in texts])["input"].tolist() == expected
    if format == "%Y%m%d":
        assert source.reader().read([[20240229]])["input"].tolist() == expected[:1]
    date = np.datetime64("2024-02-29")
    assert source.reader().read([[date]])["input"].tolist() == expected[:1]


def test_dates_that_have_a_time_have_an_hour(read: Read) -> None:
    source, spec = read("x,y", "2024-02-29 06:30,1", "2024-03-01T18:00:00Z,2", standardize=False)
    assert spec.input.names[-1] == "x.hour"
    found = source.reader().read([["2024-02-29 06:30"]])["input"][0, 3:]
    assert found.tolist() == pytest.approx([19782 + 6.5 / 24, 6.5])


def test_dates_that_could_be_two_are_refused_and_targets_of_dates_too(read: Read) -> None:
    rows = ["x,y", "01/02/2024,1", "03/04/2024,2"]
    with pytest.raises(ValueError, match=r"its day or its month: say data\.date_format=%d/%m/%Y"):
        read(*rows)
    assert len(read(*rows, date_format="%m/%d/%Y")[1].input.names) == 4
    with pytest.raises(ValueError, match="the target 'y' holds dates"):
        read("x,y", "1,2024-01-01", "2,2024-01-02")


def test_numbers_that_are_no_classes_are_refused_or_said(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{i},{i / 7}" for i in range(40)]
    with pytest.raises(ValueError, match=r"40 different values in 40 rows.*these are no classes"):
        read("x,y", *rows, times=1, kind="classification")
    read("x,y", "1,1.5", "2,2.5", kind="classification")
    assert "the classes of 'y' are numbers with fractions" in caplog.text


def test_a_target_can_be_learned_as_its_logarithm(read: Read) -> None:
    rows = [f"{i},{10**i}" for i in range(5)]
    _, spec = read("x,y", *rows, times=1, target_transform="log")
    assert spec.target.transform == "log"
    assert 0 < spec.target.mean[0] < np.log(10**4)
    with pytest.raises(ValueError, match=r"line 2, column 'y' is 0. log1p takes 0, too"):
        read("x,y", "1,0", *rows, target_transform="log")
    with pytest.raises(ValueError, match="target_transform is of numbers"):
        read("x,y", "1,a", "2,b", target_transform="log")


def test_the_reader_of_an_earlier_run_keeps_its_levels_apart() -> None:
    reader = TableReader(["a"], {"a": ["1", "1.0"]}, fill=[0.5, 0.5])
    found = reader.read([["1"], ["1.0"], [1], [None]])["input"]
    assert found.tolist() == [[1, 0], [0, 1], [1, 0], [0.5, 0.5]]
