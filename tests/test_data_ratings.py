"""Files of ratings: what is read, set aside, numbered and refused."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from dltrain.contracts.data import KnowsUsers
from dltrain.data.ratings.reader import RatingReader, RunReader
from dltrain.data.ratings.source import Ratings
from dltrain.errors import UserError
from tests.conftest import REPOSITORY
from tests.streams import opened, whole

Rows = list[tuple[Any, ...]]
ROWS: Rows = [
    (user, item, (user * item) % 5 + 1, 10 * user + item)
    for user in range(6)
    for item in range(1, 5)
]


def write(path: Path, rows: Rows = ROWS, separator: str = "\t", header: str = "") -> Path:
    lines = [separator.join(map(str, row)) for row in rows]
    path.write_text("\n".join([*([header] if header else []), *lines]) + "\n", encoding="utf-8")
    return path


def source(path: Path, **settings: Any) -> Ratings:
    return Ratings(str(path), **{"validation": 0, "test": 4 / 24} | settings)


def named(one: Ratings, split: str) -> list[tuple[str, str, float]]:
    """Users, items and values of a split by their names."""
    batch = whole(opened(one)[split])
    users, items = (one.outline().fields[side].names for side in ("user", "item"))
    columns = (batch[name].flatten().tolist() for name in ("user", "item", "target"))
    return [(users[u], items[i], v) for u, i, v in zip(*columns, strict=True)]


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises((ValueError, UserError)) as error:
        source(path, **settings).read(0)
    return str(error.value)


HEADER = "user,item,rating,timestamp"


@pytest.mark.parametrize(
    ("name", "separator", "header", "settings"),
    [
        ("u.data", "\t", "", {}),
        ("r.dat", "::", "", {}),
        ("r.csv", ",", "userId,movieId,rating,timestamp", {}),
        ("r.tsv", "\t", "User-ID\tISBN\tBook-Rating", {"rows": 3}),
        ("r.csv", ";", "wer;was;wie", {"rows": 3, "user": "wer", "item": "was", "value": "wie"}),
        ("r.csv", ",", "", {"header": ["user", "item", "value", "time"]}),
    ],
)
def test_a_file_says_who_has_rated_what_however_it_is_written(
    name: str, separator: str, header: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    wide = settings.pop("rows", 4)
    path = write(tmp_path / name, [row[:wide] for row in ROWS], separator, header)
    one = source(path, **settings)

    found = named(one, "train") + named(one, "test")

    assert sorted(found) == sorted((str(u), str(i), float(v)) for u, i, v, _ in ROWS)
    assert (one.outline().target.low, one.outline().target.high) == ((1,), (5,))


def test_parquet_and_dates_are_read(tmp_path: Path) -> None:
    dates = [f"2026-01-{row[3] % 28 + 1:02}" for row in ROWS]
    columns = dict(zip(("user", "item", "rating"), list(zip(*ROWS, strict=True))[:3], strict=True))
    pa.parquet.write_table(pa.table(columns | {"date": dates}), tmp_path / "r.parquet")

    assert len(named(source(tmp_path / "r.parquet", split="time"), "test")) == 4


def test_what_a_test_file_has_is_not_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tested = [(0, 1, 9, 1), *ROWS[5:8], (99, 1, 3, 1)]
    write(tmp_path / "u1.test", tested)
    with caplog.at_level(logging.INFO):
        one = source(write(tmp_path / "u.data"), test=str(tmp_path / "u1.test"))
        train = {pair[:2] for pair in named(one, "train")}
        test = named(one, "test")

    both = ({(str(u), str(i)) for u, i, *_ in rows} for rows in (ROWS, tested))
    assert train == next(both) - next(both)
    # The user that training lacks is number 0.
    assert [user for user, _, value in test if value == 3.0][-1] == "<unk>"
    assert "4 of 24 rows are those of" in caplog.text
    assert "1 of these have another value" in caplog.text
    assert "1 of 5 ratings (20 %) are of a user or an item that training does" in caplog.text
    assert one.report()[-1]["of new users"] == 1


def test_the_last_of_each_user_is_tested_on_and_that_before_validated_on(tmp_path: Path) -> None:
    rows = [*ROWS, (7, 1, 3, 1), (7, 2, 3, 2)]
    one = source(write(tmp_path / "u.data", rows), split="leave_one_out", validation=0.1)

    # Nobody has the items 3 and 4 in training: they are number 0.
    for split, item in (("test", 4), ("validation", 3)):
        wanted = [(str(u), "<unk>", float(u * item % 5 + 1)) for u in range(6)]
        assert named(one, split) == wanted
    reader = one.reader()
    assert isinstance(reader, KnowsUsers)
    assert sorted(reader.known(reader.user("2"))) == [1, 2]
    assert len(named(one, "train")) == 14


def test_by_time_no_training_row_is_later_than_one_set_aside(tmp_path: Path) -> None:
    one = source(write(tmp_path / "u.data", ROWS[::-1]), split="time", validation=4)

    assert {pair[0] for pair in named(one, "test")} == {"<unk>"}  # user 5 is last
    assert len(named(one, "validation")) == 4
    assert {pair[0] for pair in named(one, "train")} == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("how", "value"), [("last", 2.0), ("first", 5.0), ("mean", 3.5), ("keep", None)]
)
def test_a_pair_that_stands_there_twice_is_one_as_it_is_said(
    how: str, value: float | None, tmp_path: Path
) -> None:
    rows = [("a", "x", 2, 9), ("a", "x", 5, 1), *ROWS]
    path = write(tmp_path / "u.data", rows, header="user\titem\tvalue\ttime")

    assert "such as line 2 and line 3 (a, x); data.duplicates=last" in refusal(path)
    one = source(path, duplicates=how, test=0.01)
    found = [v for u, _, v in named(one, "train") + named(one, "test") if u == "a"]
    assert found == ([value] if value is not None else [2.0, 5.0])


def test_positive_keeps_what_users_like(tmp_path: Path) -> None:
    one = source(write(tmp_path / "u.data"), positive=4)

    assert {pair[2] for pair in named(one, "train")} == {4.0, 5.0}
    # Who liked it first and not at last, does not like it.
    rows = [("a", "x", 2, 9), ("a", "x", 5, 1), ("a", "y", 5, 2), *ROWS]
    path = write(tmp_path / "r.tsv", rows, header="user\titem\tvalue\ttime")
    for how, liked in (("last", ["y"]), ("first", ["x", "y"]), ("mean", ["y"])):
        one = source(path, positive=4, duplicates=how, test=0.01)
        pairs = named(one, "train") + named(one, "test")
        assert sorted(i for u, i, _ in pairs if u == "a") == liked
    assert "stand there before" in refusal(path, positive=4)
    assert "no value is at least 6 (data.positive); the greatest is 5" in refusal(
        write(tmp_path / "u.data"), positive=6
    )


BAD: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "empty": ("", {}, "is empty"),
    "header alone": ("user,item,rating\n", {}, "has a header but no row"),
    "no value": ("user,item\n1,2\n1,3\n", {}, "no column for the value .* data.value=NAME"),
    "no user": ("who,item,rating\n1,2,3\n", {}, "no column for the user .* data.user=NAME"),
    "two items": ("user,movie,item,rating\n1,2,2,3\n", {}, "'movie' and 'item' may both be"),
    "no such column": ("user,item,rating\n1,2,3\n", {"value": "ratng"}, "Did you mean 'rating'"),
    "a text": ("user,item,rating\n1,2,3\n1,3,good\n", {}, "line 3, column 'rating': 'good' is no"),
    "infinite": ("user,item,rating\n1,2,3\n1,3,inf\n", {}, "line 3, column 'rating'"),
    "outside": ("user,item,rating\n1,2,3\n2,3,9\n", {"range": [1, 5]}, "line 3: the value 9 is"),
    "one user": ("user,item,rating\n1,2,3\n1,3,4\n1,4,5\n", {}, "all ratings are of one user"),
    "one item": ("user,item,rating\n1,2,3\n2,2,4\n3,2,5\n", {}, "all ratings are of one item"),
    "constant": ("user,item,rating\n1,2,3\n2,3,3\n3,4,3\n1,3,3\n", {}, "every value is 3"),
    "missing": ("user,item,rating\n1,2,3\n,3,4\n", {}, "line 3 lacks a user.*missing=drop"),
    "ragged": ("1\t2\t3\n1\t3\n", {}, "line 2 has 2 cells, and there are 3 columns"),
    "many cells": ("1\t2\t3\t4\t5\n", {}, "its first line has 5 cells"),
    "no times": ("user,item,rating\n1,2,3\n2,3,4\n", {"split": "time"}, "no column of times"),
    "bad times": ("user,item,rating,time\n1,2,3,noon\n2,3,4,x\n", {}, "'noon' is no number, and"),
    "few each": ("user,item,rating\n1,2,3\n2,3,4\n", {"split": "leave_one_out"}, "no user has"),
    "no titles": ("1\t2\t3\n2\t3\t4\n3\t2\t1\n", {"titles": "t"}, "names none of the items"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_ratings_are_refused_in_one_line(what: str, tmp_path: Path) -> None:
    content, settings, said = BAD[what]
    path = tmp_path / ("r.tsv" if "\t" in content else "r.csv")
    path.write_text(content, encoding="utf-8")
    (tmp_path / "t").write_text("99|A film\n", encoding="utf-8")
    if "titles" in settings:
        settings = {"titles": str(tmp_path / "t"), "test": 0.3}

    found = refusal(path, **settings)

    assert "\n" not in found
    assert re.search(said, found), found


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere.csv").startswith("path: ")
    assert "cannot be read: No such file" in refusal(tmp_path / "nowhere.csv")
    assert "folder" in refusal(tmp_path)
    path = write(tmp_path / "u.data")
    for name in ("titles", "test"):
        found = refusal(path, **{name: str(tmp_path / "nowhere")})
        assert found.startswith(f"{name}: ") and "cannot be read" in found


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"test": 1.5}, "test is a fraction"),
        ({"range": [5, 1]}, "range is the least"),
        ({"user": "a", "item": "a"}, "columns of their own"),
        ({"header": ["a", "a"]}, "header is a different name"),
        ({"split": "leave_one_out", "folds": 3}, "folds: with split=leave_one_out"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        source(Path("nowhere"), **settings)


def test_rows_that_lack_something_are_left_out_if_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "r.csv", [*ROWS, ("", 1, 2, 3)], ",", HEADER)

    assert len(named(source(path, missing="drop", test=1 / 24), "train")) == 23
    assert "1 of 25 rows lack a user" in caplog.text


def test_without_a_target_that_is_needed_pairs_alone_will_do(tmp_path: Path) -> None:
    one = source(write(tmp_path / "r.csv", [row[:2] for row in ROWS], ",", "user,item"))
    one.target_needed = False

    assert one.read(0).of("target") == []


def test_a_reader_keeps_names_titles_and_what_users_have(tmp_path: Path) -> None:
    lines = [f"{item}|Film number {item}|1995" for item in (1, 2, 3, 4)]
    (tmp_path / "u.item").write_bytes("\n".join([*lines, "5|Amélie"]).encode("latin-1"))
    one = source(write(tmp_path / "u.data"), titles=str(tmp_path / "u.item"))
    opened(one)
    reader = one.reader()
    assert isinstance(reader, RatingReader)
    node = reader.node(tmp_path)
    again = RunReader(tmp_path, *(node[n] for n in ("user", "item", "users", "items", "titles")))

    assert again.titled([2, 4]) == ["Film number 2", "Film number 4"]
    assert again.known(3) == reader.known(3) != []
    batch = again.read([{"user": 4, "item": "2"}, ("nobody", 1)])
    assert torch.equal(batch["user"], torch.tensor([5, 0]))
    with pytest.raises(ValueError, match="no column 'item'"):
        again.read([{"user": 1, "itm": 2}])
    with pytest.raises(ValueError, match="no pair"):
        again.read(["42"])
    for content in (b"", b"no array", (tmp_path / "known_items.npy").read_bytes()[:-1]):
        (tmp_path / "known_items.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"known_items\.npy is no"):
            RunReader(tmp_path, "user", "item", node["users"], node["items"])


def test_movielens_and_a_test_file_are_a_fold(caplog: pytest.LogCaptureFixture) -> None:
    root = Path(os.environ.get("DLTRAIN_DATA") or REPOSITORY.parent / "shared" / "data")
    path = root / "ml-100k"
    if not path.is_dir():
        pytest.skip(f"no MovieLens: there is no {path}; DLTRAIN_DATA names the folder above")
    one = Ratings("u.data", root=str(path), test="u1.test", titles="u.item", validation=0)
    spec = one.read(0)

    assert [line["ratings"] for line in one.report()] == [80_000, 20_000]
    assert (spec.fields["user"].size, spec.fields["item"].size) == (944, 1651)
    assert one.report()[1]["of new items"] == 32
    reader = one.reader()
    assert isinstance(reader, RatingReader)
    assert reader.titled([1]) == ["Toy Story (1995)"]
