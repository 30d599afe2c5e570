"""Series over time: how a file becomes windows, and what is said of one that does not fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.contracts.data import Placement
from dltrain.data.series.reader import SeriesReader
from dltrain.data.series.source import SeriesFile
from dltrain.data.series.steps import DAY, HOUR, Step, step_of, written

Rows = Sequence[tuple[Any, ...]]
HEAD = "date,a,b"


def hours(count: int, leave_out: Sequence[int] = ()) -> list[tuple[Any, ...]]:
    """Rows of hours: ``a`` counts them, ``b`` is their hour of the day."""
    return [
        (f"2024-03-{1 + n // 24:02} {n % 24:02}:00", n, n % 24)
        for n in range(count)
        if n not in leave_out
    ]


def written_to(path: Path, rows: Rows, head: str = HEAD) -> Path:
    lines = [head, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def source(path: Path, **settings: Any) -> SeriesFile:
    small = {"history": 4, "horizon": 2, "validation": 8, "test": 8, "target": "a", "batch_size": 5}
    return SeriesFile(str(path), **{**small, **settings})


def streams(made: SeriesFile) -> Any:
    made.read(0)
    return made.open(Placement(torch.device("cpu"), 0))


def targets(stream: Any) -> list[list[float]]:
    """Horizons of the first target; those that are trained on are in random order."""
    return sorted(row for batch in stream.plain() for row in batch["target"][..., 0].tolist())


def test_windows_are_in_time_and_horizons_stay_within_their_split(tmp_path: Path) -> None:
    made = source(written_to(tmp_path / "s.csv", hours(40)))
    found = streams(made)

    assert targets(found["train"])[0] == [4, 5] and targets(found["train"])[-1] == [22, 23]
    # The first horizon begins with the split; its history is of the split before.
    assert targets(found["validation"]) == [[n, n + 1] for n in range(24, 31)]
    assert targets(found["test"])[0] == [32, 33] and targets(found["test"])[-1] == [38, 39]
    # Training windows are shuffled, others are not.
    drawn, lying = (next(found[split].batches(1)) for split in ("train", "test"))
    assert drawn["target"].diff(dim=0).unique().numel() > 1 == lying["target"].diff(dim=0).max()


def test_the_scale_is_that_of_the_training_part_alone(tmp_path: Path) -> None:
    rows = [(when, a if n < 24 else 1e6, b) for n, (when, a, b) in enumerate(hours(40))]
    made = source(written_to(tmp_path / "s.csv", rows))
    spec = made.read(0)

    assert spec.target.mean == (11.5,) and spec.target.std == pytest.approx((np.arange(24).std(),))
    assert spec.input.names == ("a", "b") and spec.target.names == ("a",)
    assert spec.target.period == 24
    batch = next(made.open(Placement(torch.device("cpu"), 0))["validation"].plain())
    scaled = (np.arange(20, 24) - 11.5) / np.arange(24).std()
    assert batch["input"][0, :, 0].tolist() == pytest.approx(scaled.tolist())


def test_a_given_training_part_begins_the_file_and_the_rest_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = source(written_to(tmp_path / "s.csv", hours(60)), train=24, stride=3)
    with caplog.at_level(logging.INFO):
        found = streams(made)
    assert targets(found["test"])[-1] == [38, 39]
    assert [row[0] for row in targets(found["train"])] == [4, 7, 10, 13, 16, 19, 22]
    assert "the last 20 steps are in no split" in caplog.text


@pytest.mark.parametrize(
    ("target", "features", "inputs", "outputs"),
    [
        ("all", None, ("a", "b"), ("a", "b")),
        (["b"], None, ("b", "a"), ("b",)),
        ("b", [], ("b",), ("b",)),
        (["b", "a"], ["a"], ("b", "a"), ("b", "a")),
    ],
)
def test_targets_come_first_and_features_are_beside_them(
    tmp_path: Path, target: Any, features: Any, inputs: Any, outputs: Any
) -> None:
    path = written_to(tmp_path / "s.csv", hours(40))
    spec = source(path, target=target, features=features).read(0)
    assert (spec.input.names, spec.target.names) == (inputs, outputs)


def changed(*changes: tuple[int, int, Any]) -> list[tuple[Any, ...]]:
    """Rows of hours with other cells: (row, column, cell)."""
    rows = [list(row) for row in hours(40)]
    for row, column, cell in changes:
        rows[row][column] = cell
    return [tuple(row) for row in rows]


FAULTS: dict[str, tuple[Rows, str, dict[str, Any], str]] = {
    "gap": (
        hours(40, [5, 6, 9]), HEAD, {},
        r"line 7: steps are missing before it \(2024-03-01 04:00:00 … 2024-03-01 07:00:00\), 3 in "
        r"all.*data.gaps=fill.*data.gaps=split",
    ),
    "empty cell": (changed((7, 1, "")), HEAD, {}, r"line 9, column 'a' is empty.*data.gaps=fill"),
    "far": (
        changed((39, 0, "2044-01-01 00:00")), HEAD, {"gaps": "fill"},
        r"line 41: steps are missing.*are these times right\?",
    ),
    "doubled": (
        [*hours(20), *hours(40)[19:]], HEAD, {},
        r"line 22: a second row of one time, as 1 rows are; data.duplicates=first, last or mean",
    ),
    "unordered": (
        hours(40)[::-1], HEAD, {}, r"line 3: its time is before.*and so in 39 rows; data.sort=true"
    ),
    "uneven": (
        changed((9, 0, "2024-03-01 09:20")), HEAD, {},
        r"line 11: the series has a value each 1 hour, and 2024-03-01 09:20:00 is none",
    ),
    "short": (hours(20), HEAD, {}, r"the train split has 4 steps, and no window of data.history=4"),
    "shorter": (hours(10), HEAD, {}, r"has 10 steps; they cannot be divided by data.validation=8"),
    "one": (hours(1), HEAD, {}, "has 1 point in time"),
    "no time": (
        [row[1:] for row in hours(40)], "a,b", {},
        r"no column of dates among a, b\. data.time=COLUMN.*data.by_row=true",
    ),
    "two times": (
        [(row[0], *row) for row in hours(40)], "day,date,a,b", {},
        r"several columns of dates, day, date: data.time says",
    ),
    "decimal commas": (
        [(when, f'"{a},5"', b) for when, a, b in hours(40)], HEAD, {},
        r"line 2, column 'a': '0,5' is no number; all of the column may have a decimal comma: set "
        r"data.decimal=,",
    ),
    "text": (
        changed((7, 2, "broken")), HEAD, {},
        r"line 9, column 'b': 'broken' is no number; data.exclude=\[b\]",
    ),
    "text time": (changed((7, 0, "noon")), HEAD, {}, r"line 9, column 'date': 'noon' is no date"),
    "empty time": (changed((7, 0, "")), HEAD, {}, r"line 9, column 'date' is empty: it says no"),
    "no value": (
        [(row[0], row[1], "") for row in hours(40)], HEAD, {}, r"column 'b' has no value"
    ),
    "infinite": (changed((7, 1, "inf")), HEAD, {}, r"line 9, column 'a'.*not a \(finite\) number"),
    "unknown": (hours(40), HEAD, {"target": "A"}, r"no column 'A'\. Did you mean 'a'"),
    "time as target": (hours(40), HEAD, {"target": "date"}, r"'date' holds the times"),
    "excluded": (hours(40), HEAD, {"exclude": ["a"]}, r"column 'a' is excluded"),
    "twice": (hours(40), HEAD, {"target": ["a", "a"]}, r"names a series twice"),
    "all and a column": ([*hours(40)], "date,all,b", {"target": "all"}, r"data.target=\[all\]"),
    "long horizon": (
        hours(40), HEAD, {"horizon": 9},
        r"the validation split has 8 steps, and no window of data.horizon=9.*data.validation=0",
    ),
    "fractional time": (
        [(n / 2, n, n) for n in range(40)], HEAD, {"time": "date"}, r"no whole number and no date"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_one_message_says_where_a_file_does_not_fit(tmp_path: Path, name: str) -> None:
    rows, head, settings, message = FAULTS[name]
    made = source(written_to(tmp_path / "s.csv", rows, head), **settings)
    with pytest.raises(ValueError, match=message) as caught:
        made.read(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history": 0}, "history must be at least 1, got 0"),
        ({"season": 0}, "season must be at least 1"),
        ({"test": 1.5}, "test is a fraction below 1 or a number of steps, got 1.5"),
        ({"validation": -1}, "validation is a fraction"),
        ({"train": 0}, "train must be above 0"),
        ({"by_row": True, "time": "date"}, "not both"),
        ({"target": []}, "target names a series"),
        ({"decimal": ";"}, "decimal is a point or a comma"),
    ],
)
def test_settings_are_checked_before_anything_is_read(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        source(Path("nowhere.csv"), **settings)


@pytest.mark.parametrize("gaps", ["fill", "split"])
def test_no_horizon_has_a_value_that_nobody_measured(
    tmp_path: Path, gaps: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row for row in changed((15, 1, "")) if not row[0].endswith("01 09:00")]
    made = source(written_to(tmp_path / "s.csv", rows), gaps=gaps)
    found = streams(made)

    forecast = targets(found["train"])
    assert not {9.0, 15.0} & {value for row in forecast for value in row}
    wanted = [n for n in range(4, 23) if not {n, n + 1} & {9, 15}]
    if gaps == "split":
        wanted = [n for n in wanted if not {*range(n - 4, n)} & {9, 15}]
    assert [row[0] for row in forecast] == wanted
    assert "1 steps are missing and 1 cells are empty" in caplog.text
    if gaps == "fill":  # the last value before it, not one that came later
        (part, *_) = made.labeled("train")
        assert part.examples[wanted.index(10)]["a"].tolist() == [6, 7, 8, 8]


@pytest.mark.parametrize(("how", "value"), [("first", 19), ("last", 100), ("mean", 59.5)])
def test_rows_of_one_time_become_one(
    tmp_path: Path, how: Any, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [*hours(20), (hours(20)[-1][0], 100, 0), *hours(40)[20:]]
    made = source(written_to(tmp_path / "s.csv", rows), duplicates=how)
    made.read(0)
    (part, *_) = made.labeled("train")
    assert part.target[14:17, :, 0].tolist() == [[18, value], [value, 20], [20, 21]]
    assert f"1 rows have the time of another row; of each time the {how} counts" in caplog.text


def test_rows_are_sorted_where_that_is_asked_for(tmp_path: Path) -> None:
    found = streams(source(written_to(tmp_path / "s.csv", hours(40)[::-1]), sort=True))
    assert targets(found["train"])[0] == [4, 5]


def test_a_constant_column_is_told_and_scaled_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(when, 7, b) for when, _, b in hours(40)]
    spec = source(written_to(tmp_path / "s.csv", rows)).read(0)
    assert spec.target.std == (1.0,)
    assert "'a' has one value in all training steps: nothing can be learned" in caplog.text


def test_rows_or_whole_numbers_may_be_the_time(tmp_path: Path) -> None:
    path = written_to(tmp_path / "s.csv", [row[1:] for row in hours(40)], "a,b")
    by_row = source(path, by_row=True)
    assert by_row.read(0).fields["time"].names == ("step",)
    assert by_row.reader().step == Step(1, "row")
    by_number = source(path, time="a", target="b")
    assert by_number.read(0).target.period is None
    assert by_number.reader().step == Step(1, "number")


DATES: list[tuple[list[str], Step, list[str]]] = [
    (["2024-01-31", "2024-02-29", "2024-03-31"], Step(1, "month"), ["2024-04-30", "2024-05-31"]),
    (["2024-01-01", "2024-04-01", "2024-07-01"], Step(3, "month"), ["2024-10-01", "2025-01-01"]),
    (["2022-06-15", "2023-06-15", "2024-06-15"], Step(12, "month"), ["2025-06-15", "2026-06-15"]),
    (["2024-02-27", "2024-02-28", "2024-02-29"], Step(DAY, "microsecond"), ["2024-03-01"]),
    (["2024-03-31T22:00", "2024-03-31T23:00"], Step(HOUR, "microsecond"), ["2024-04-01"]),
]


@pytest.mark.parametrize(("texts", "step", "following"), DATES)
def test_steps_of_calendars(texts: list[str], step: Step, following: list[str]) -> None:
    times = np.array(texts, "datetime64[us]").astype(np.int64)
    assert step_of(times, "microsecond") == step
    assert step.places(times).tolist() == list(range(len(texts)))
    ahead = step.after(int(times[-1]), len(following))
    assert written(ahead.tolist(), "microsecond") == following


@pytest.mark.parametrize(
    ("step", "season", "words"),
    [
        (Step(HOUR, "microsecond"), 24, "1 hour"),
        (Step(HOUR // 4, "microsecond"), 96, "15 minutes"),
        (Step(DAY, "microsecond"), 7, "1 day"),
        (Step(7 * DAY, "microsecond"), 52, "1 week"),
        (Step(3, "month"), 4, "3 months"),
        (Step(12, "month"), None, "12 months"),
        (Step(7 * HOUR, "microsecond"), None, "7 hours"),
        (Step(500_000, "microsecond"), 172_800, "0.5 seconds"),
        (Step(1, "row"), None, "1 row"),
    ],
)
def test_seasons_and_words_of_steps(step: Step, season: int | None, words: str) -> None:
    assert (step.season, str(step)) == (season, words)


@pytest.fixture
def reader(tmp_path: Path) -> SeriesReader:
    made = source(written_to(tmp_path / "s.csv", hours(40)))
    made.read(0)
    found = made.reader()
    assert isinstance(found, SeriesReader)
    again = found.node(tmp_path)
    return SeriesReader(**{name: value for name, value in again.items() if name != "_target_"})


def test_a_reader_reads_the_end_of_a_file_and_says_when_it_goes_on(
    reader: SeriesReader, tmp_path: Path
) -> None:
    (history,) = reader.expand([written_to(tmp_path / "new.csv", hours(9), HEAD)])
    batch = reader.read([history])
    assert history.values[:, 0].tolist() == [5, 6, 7, 8]
    assert written(batch["time"][0].tolist(), "microsecond") == [
        *("2024-03-01 09:00:00", "2024-03-01 10:00:00"),
    ]
    # Nothing follows from a gap before what is read.
    (after,) = reader.expand([written_to(tmp_path / "gap.csv", hours(9, [3]), HEAD)])
    assert np.array_equal(after.values, history.values)
    (frame,) = reader.expand([_frame(tmp_path / "new.csv")])
    assert torch.equal(reader.read([frame])["time"], batch["time"])
    plain = reader.read([history.values.tolist()])
    assert torch.equal(plain["input"], batch["input"]) and "time" not in plain


def _frame(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path, parse_dates=["date"])


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        (hours(3), HEAD, "has 3 steps; the network reads the last 4"),
        ([row[:2] for row in hours(9)], "date,a", "has no column 'b'"),
        ([row[1:] for row in hours(9)], "a,b", "has no column 'date'"),
        (
            hours(20, [17]), HEAD,
            "of the last 4 steps, which the network reads, 1 lack a value, .* 2024-03-01 17:00:00",
        ),
        (
            [(f"2024-03-{n + 1:02}", n, n) for n in range(9)], HEAD,
            r"steps are missing.*184 in all where 9 are there: are these times right",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_continued_is_refused(
    reader: SeriesReader, tmp_path: Path, rows: Rows, head: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list(reader.expand([written_to(tmp_path / "new.csv", rows, head)]))


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"a": 1, "b": 2}, "example 0 is one row; give a file of rows"),
        ([[1, 2]], r"example 0 is of shape \(1, 2\), not \(4, 2\): 4 steps of a, b"),
        ({"a": [1, 2, 3, 4]}, "example 0 has no series 'b'; it needs a, b"),
        ({"a": [1, 2, 3], "b": [1]}, "example 0 has series of different lengths"),
        ([["x"]], "example 0 is no array of numbers"),
        ([[1, float("nan")]] * 4, "example 0 has a number that is not finite"),
    ],
)
def test_arrays_that_are_no_history_are_refused(
    reader: SeriesReader, example: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reader.read([example])


def test_another_file_is_evaluated_by_its_windows(tmp_path: Path) -> None:
    made = source(written_to(tmp_path / "s.csv", hours(40)))
    made.read(0)
    (part, *_) = made.labeled("test")
    assert part.examples[0]["a"].tolist() == [28, 29, 30, 31]
    assert part.target[0, :, 0].tolist() == [32, 33]
    assert made.identity()["splits"]["test"]["examples"] == 7
    assert [line["role"] for line in made.report()] == ["target", "feature"]
