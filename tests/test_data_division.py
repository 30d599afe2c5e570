"""Which training rows are set aside: by class, by group, in order, in folds."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.assemble import Assembly
from dltrain.data.images.digits import Digits
from dltrain.data.streams.division import (
    Division,
    Grouped,
    Ordered,
    Stratified,
    Wanted,
    apportioned,
    hold_out,
)
from dltrain.data.tables.csv_file import CsvTable
from dltrain.data.text.text_csv import TextCsv
from dltrain.errors import ConfigError, UserError
from tests.conftest import Compose
from tests.streams import opened, whole

CLASSES = torch.tensor([0] * 50 + [1] * 30 + [2] * 3 + [3])


def held(division: Division, seed: int = 0, **wanted: Any) -> tuple[Counter[int], Counter[int]]:
    """How many of each class are trained on, and how many are set aside."""
    rows, aside = hold_out(len(CLASSES), division, Wanted(**wanted), seed)
    assert rows is not None and aside is not None
    assert not set(rows.tolist()) & set(aside.tolist())
    return Counter(CLASSES[rows].tolist()), Counter(CLASSES[aside].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_each_class_gives_its_fraction_and_keeps_one(seed: int) -> None:
    train, aside = held(Stratified(CLASSES), seed, validation=0.25)
    assert aside == {0: 13, 1: 7, 2: 1} and train == {0: 37, 1: 23, 2: 2, 3: 1}
    train, aside = held(Stratified(CLASSES), seed, validation=82)
    assert train == {0: 1, 1: 1, 2: 1, 3: 1}, "as many as leave one of each"
    train, aside = held(Stratified(CLASSES), seed, validation=0.2, limit=10)
    assert train + aside == {0: 5, 1: 3, 2: 1, 3: 1} and aside == {0: 1, 1: 1}


def test_the_largest_remainder_is_exact() -> None:
    assert apportioned([50, 30, 20], 10, [(0, 50), (0, 30), (0, 20)]) == [5, 3, 2]
    assert apportioned([1, 1, 1], 2, [(0, 1)] * 3) == [1, 1, 0]
    assert apportioned([96, 2, 2], 50, [(0, 95), (0, 1), (0, 1)]) == [48, 1, 1]
    assert apportioned([90, 9, 1], 4, [(1, 90), (1, 9), (1, 1)]) == [2, 1, 1]


def test_a_seed_without_classes_draws_what_it_always_drew() -> None:
    rows, aside = hold_out(20, Division(), Wanted(0.25, 8), 3)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    assert rows is not None and aside is not None
    assert aside.tolist() == sorted(order[:2].tolist())
    assert rows.tolist() == sorted(order[2:8].tolist())
    assert hold_out(20, Division(), Wanted(0), 3) == (None, None)


def test_folds_are_disjoint_complete_and_stratified() -> None:
    parts = [hold_out(84, Stratified(CLASSES), Wanted(0, None, 4, k), 7)[1] for k in range(4)]
    together = torch.cat([part for part in parts if part is not None])
    assert sorted(together.tolist()) == list(range(84))
    for part in parts:
        assert part is not None and len(part) == 21
        counts = Counter(CLASSES[part].tolist())
        assert counts[0] in (12, 13) and counts[1] in (7, 8)
    with pytest.raises(UserError, match="folds is 6, but there are 5"):
        hold_out(84, Division(), Wanted(0, 5, 6), 0)


def test_a_group_is_never_in_two_parts() -> None:
    groups = torch.tensor([7, 7, 7, 1, 1, 5, 5, 5, 5, 9] * 3)
    for seed in range(5):
        rows, aside = hold_out(30, Grouped(groups), Wanted(0.3), seed)
        assert rows is not None and aside is not None
        assert not set(groups[rows].tolist()) & set(groups[aside].tolist())
        assert 6 <= len(aside) <= 12
    folds = [hold_out(30, Grouped(groups), Wanted(0, None, 2, k), 0)[1] for k in range(2)]
    assert {len(fold) for fold in folds if fold is not None} == {15}
    with pytest.raises(UserError, match="folds is 5, but there are 4 groups"):
        hold_out(30, Grouped(groups), Wanted(0, None, 5), 0)
    with pytest.raises(UserError, match="all rows are of one group"):
        hold_out(30, Grouped(torch.ones(30)), Wanted(0.2), 0)


def test_rows_in_order_give_the_last() -> None:
    rows, aside = hold_out(20, Ordered(), Wanted(0.25, 8), 3)
    assert (rows is not None and rows.tolist(), aside is not None and aside.tolist()) == (
        [12, 13, 14, 15, 16, 17],
        [18, 19],
    )
    with pytest.raises(UserError, match="are not dealt"):
        hold_out(20, Ordered(), Wanted(0, None, 2), 0)


def table(folder: Path) -> str:
    rows = [f"{i},{'rare' if i in (3, 40) else 'ab'[i % 2]}" for i in range(60)]
    (folder / "a.csv").write_text("\n".join(["x,y", *rows]) + "\n")
    return str(folder / "a.csv")


@pytest.mark.parametrize("seed", range(4))
def test_a_rare_class_is_trained_on(tmp_path: Path, seed: int) -> None:
    source = CsvTable(table(tmp_path), target="y", test=0.1, validation=0.5, stratify=True)
    spec = source.read(seed)
    assert min(spec.target.counts) >= 1


def test_a_class_that_is_lost_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(20):
        caplog.clear()
        source = CsvTable(table(tmp_path), target="y", test=0.1, validation=0.5)
        if min(source.read(seed).target.counts) == 0:
            break
    assert "every training example of 'rare' is set aside" in caplog.text


def test_a_fold_that_would_lose_a_class_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"word {i} of it,{'one' if i == 9 else 'ab'[i % 2]}" for i in range(40)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")

    told = []
    for fold in range(2):
        try:
            TextCsv(str(path), "text", "label", root=None, folds=2, fold=fold).read(0)
        except UserError as error:
            told.append(str(error))
    (message,) = told
    assert "has every training example of 'one'" in message


def test_folds_share_the_test_split_and_no_validation_row() -> None:
    seen, tests = [], []
    for fold in range(3):
        streams = opened(Digits(folds=3, fold=fold, limit=300))
        seen += [row.numpy().tobytes() for row in whole(streams["validation"])["input"]]
        tests.append(whole(streams["test"])["input"])
    assert len(set(seen)) == 300
    assert all(torch.equal(tests[0], test) for test in tests[1:])


def test_targets_are_scaled_by_the_rows_that_are_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i**3}\n" for i in range(50)))
    source = CsvTable(str(path), target="y", validation=0.3, limit=25)
    spec = source.read(1)
    targets = whole(opened(source, 1)["train"])["target"].double()
    assert len(targets) == 17
    assert spec.target.mean == pytest.approx([float(targets.mean())])
    assert spec.target.std == pytest.approx([float(targets.std())])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 1}, "folds must be at least 2"),
        ({"folds": 3, "fold": 3}, "fold must be from 0 to 2"),
        ({"fold": 1}, "fold must be 0 without data.folds"),
        ({"validation": 1.5}, "validation is a fraction below 1 or a whole number"),
    ],
)
def test_impossible_divisions_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Digits(**settings)


@pytest.mark.parametrize("name", ["adding", "cifar10", "fashion_mnist", "imdb", "mnist"])
def test_data_that_sets_many_aside_takes_any_limit(name: str, compose: Compose) -> None:
    counts = {"adding": 20_000, "cifar10": 50_000, "imdb": 25_000}
    expected = {"adding": 1000, "imdb": 2500}
    validation = compose(f"data={name}")["data"]["validation"]
    count = counts.get(name, 60_000)

    for limit, number in ((None, expected.get(name, 5000)), (50, round(50 * validation))):
        aside = hold_out(count, Division(), Wanted(validation, limit), 0)[1]
        assert aside is not None and len(aside) == number


@pytest.mark.parametrize(
    ("data", "unfit", "fit"),
    [
        ("imdb", {"lenet5": "input_shape", "gan": "images"}, "attention"),
        ("csv data.path=a data.target=b", {"cnn": r"shape \(\?,\)", "lstm": "sequences"}, "mlp"),
        ("image_folder data.path=a", {"gru": r"inputs are \(\?, \?, \?\)"}, "alexnet_small"),
    ],
)
def test_a_network_for_other_data_is_refused_before_these_are_read(
    data: str, unfit: dict[str, str], fit: str, compose: Compose
) -> None:
    typed = f"data={data} callbacks=none device=cpu".split()
    for model, message in unfit.items():
        with pytest.raises(ConfigError, match=message):
            Assembly(compose(f"model={model}", *typed))
    with Assembly(compose(f"model={fit}", *typed)):
        pass  # what is left is known when they are read


def test_too_many_to_set_aside_names_what_fits() -> None:
    with pytest.raises(UserError, match=r"data.validation=0.1 sets a tenth aside"):
        Digits(validation=500, limit=400).read(0)


def test_what_is_set_aside_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dltrain")
    Digits(folds=3, fold=1).read(0)
    assert "fold 1 of 3 is the validation split (all of them: dltrain -m" in caplog.text


def split_by(folder: Path, **by: Any) -> dict[str, list[int]]:
    """The numbers of the rows in each split of a table whose columns say much of each row."""
    rows = [
        f"{i},{i * 7 % 30},2024-01-{i * 7 % 30 + 1:02},p{i % 6},{('train', 'dev', 'test')[i % 3]},"
        f"{i * i}"
        for i in range(30)
    ]
    path = folder / "by.csv"
    path.write_text("\n".join(["x,time,date,who,part,y", *rows]) + "\n")
    settings = {"features": ["x"], "standardize": False, "validation": 0.2, **by}
    streams = opened(CsvTable(str(path), target="y", **settings))
    return {
        name: sorted(int(x) for x in whole(stream)["input"][:, 0])
        for name, stream in streams.items()
    }


def test_rows_are_split_by_a_column_of_the_table(tmp_path: Path) -> None:
    parts = split_by(tmp_path, group="who")
    groups = [{row % 6 for row in rows} for rows in parts.values()]
    assert sum(len(rows) for rows in parts.values()) == 30
    assert (
        len(groups) == 3
        and not groups[0] & groups[1] | groups[1] & groups[2] | groups[0] & groups[2]
    )

    times = {
        n: {row * 7 % 30 for row in rows} for n, rows in split_by(tmp_path, order="time").items()
    }
    assert times == {
        "train": set(range(19)),
        "validation": set(range(19, 24)),
        "test": set(range(24, 30)),
    }
    assert split_by(tmp_path, order="date") == split_by(tmp_path, order="time")

    parts = split_by(tmp_path, split_column="part")
    assert parts == {
        "train": list(range(0, 30, 3)),
        "validation": list(range(1, 30, 3)),
        "test": list(range(2, 30, 3)),
    }
    assert (
        "part"
        not in CsvTable(
            str(tmp_path / "by.csv"),
            target="y",
            max_levels=100,
            split_column="part",
            kind="regression",
        )
        .read(0)
        .input.names
    )


def test_groups_in_a_test_file_of_its_own_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split_by(tmp_path, group="who")
    (tmp_path / "test.csv").write_text("x,time,date,who,part,y\n1,2,,p3,,4\n2,3,,new,,5\n")
    parts = split_by(tmp_path, group="who", test=str(tmp_path / "test.csv"))
    assert "1 groups of 'who' are in" in caplog.text and parts["test"] == [1, 2]
    assert len({row % 6 for row in parts["train"]} & {row % 6 for row in parts["validation"]}) == 0


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ({"group": "who", "order": "time"}, "group and order are given"),
        ({"split_column": "who"}, "column 'who' says 'p0', which is no split"),
        ({"group": "whom"}, "Did you mean 'who'"),
        ({"order": "y"}, "cannot split the rows"),
    ],
)
def test_a_column_that_cannot_split_is_refused(tmp_path: Path, by: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_by(tmp_path, **by)
