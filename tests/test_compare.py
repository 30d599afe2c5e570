"""``dltrain compare``: configs, metrics and curves side by side, and paired tests."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest, bootstrap

from dltrain.cli import dispatch
from dltrain.commands.chart import chart
from dltrain.errors import UserError
from dltrain.runs import paired
from dltrain.runs.results import per_example
from tests.conftest import Train
from tests.test_runs import make

DIGEST = "495493fb7e047bda363922da37f5384a"


def results(
    run: Path, columns: dict[str, Sequence[float]], digest: str = DIGEST, epochs: int = 3
) -> Path:
    """Curves, and the results of single test examples, for a made run."""
    rows = ["step,epoch,split,name,value"]
    for epoch in range(1, epochs + 1):
        rows += [
            f"{epoch * 10},{epoch},{s},accuracy,{0.1 * epoch}" for s in ("train", "validation")
        ]
    (run / "metrics.csv").write_text("\n".join(rows))
    (run / "tables").mkdir()
    lines = [list(columns), *zip(*columns.values(), strict=True)]
    text = "\n".join(",".join(map(str, line)) for line in lines)
    (run / "tables" / "test_examples.csv").write_text(text)
    count = len(next(iter(columns.values())))
    split = {"examples": count, "digest": digest}
    (run / "data.json").write_text(json.dumps({"identity": {"splits": {"test": split}}}))
    return run


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of two runs, of which the second has four more examples right, and one less."""
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    hits = [1.0] * 80 + [0.0] * 20
    others = [0.0] * 1 + [1.0] * 83 + [0.0] * 16
    results(make(outputs, "00-00-01", 0.80), {"accuracy": hits})
    fast = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.5}}
    results(make(outputs, "00-00-02", 0.83, fast), {"accuracy": others})
    return ["00-00-01", "00-00-02"]


def read(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert dispatch(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_two_runs_are_told_apart(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["compare", *two]) == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    rows = [line.split() for line in out.splitlines()]
    assert ["optimizer.lr", "0.001", "0.5"] in rows
    assert ["optimizer", "Adam", "SGD"] in rows
    assert ["accuracy", "0.8000", "0.8300"] in rows
    tested = next(row for row in rows if row[:4] == ["accuracy", "B", "-", "A"])
    assert tested[4] == "+0.0300"
    assert tested[9:12] == ["4", ":", "1"]
    assert tested[12] == f"{binomtest(1, 5).pvalue:.4f}"
    assert "|" in out, "the curves in letters"
    image = tmp_path / "outputs/comparisons/2026-01-01_00-00-01_2026-01-01_00-00-02.png"
    assert image.read_bytes().startswith(b"\x89PNG")
    assert f"Curves: {image.relative_to(tmp_path)}" in out


def test_the_same_for_programs(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    told = read(capsys, *two)
    assert told["differs"]["optimizer.lr"] == [0.001, 0.5]
    assert told["paired"][0]["mcnemar"]["only_second"] == 4
    assert read(capsys, *two) == told, "the same numbers each time"
    assert dispatch(["compare", *two, "--csv", "--out", "curves.png"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["metric"] for row in rows] == ["accuracy", "loss"]
    assert Path("curves.png").exists()


def test_other_test_examples_are_not_paired(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = results(make(tmp_path / "outputs", "00-00-03"), {"accuracy": [1.0] * 90}, "other")
    make(tmp_path / "outputs", "00-00-04")
    told = read(capsys, *two, str(other), "00-00-04", "--out", "curves.png")
    assert [test["second"] for test in told["paired"]] == ["B"]
    assert told["not_paired"] == [
        "no paired test of A and C: their test splits differ, of 100 and 90 examples",
        "no paired test with D: there is no tables/test_examples.csv",
    ]


def test_what_cannot_be_compared_is_refused(two: list[str], tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    gan = make(outputs, "00-00-05", test={"fid": 3.0})
    broken = make(outputs, "00-00-06")
    (broken / "summary.json").write_text("{")
    empty = make(outputs, "00-00-07", test={})
    for arguments, said in (
        ([two[0]], "give two runs or more"),
        ([two[0], two[0]], "is given already"),
        ([two[0], "nothing"], "does not exist"),
        ([two[0], str(gan)], "no metric in common"),
        ([two[0], str(broken)], "summary.json is no JSON"),
        ([two[0], str(empty)], "has no results yet"),
        ([*two, "--out", "outputs"], "cannot be written"),
    ):
        with pytest.raises(UserError) as error:
            dispatch(["compare", *arguments])
        assert said in str(error.value)


def test_the_tests_are_those_of_scipy() -> None:
    for one, other in ((0, 0), (3, 10), (0, 9), (400, 460)):
        first = [1.0] * one + [0.0] * other + [1.0] * 5
        second = [0.0] * one + [1.0] * other + [1.0] * 5
        found = paired.mcnemar(first, second)
        assert (found.only_first, found.only_second) == (one, other)
        expected = binomtest(one, one + other).pvalue if one + other else 1
        assert found.p_value == pytest.approx(expected)
    draw = random.Random(0)
    first = [draw.gauss(0, 1) for _ in range(1200)]
    second = [value + draw.gauss(0.1, 1) for value in first]
    differences = [b - a for a, b in zip(first, second, strict=True)]
    known = bootstrap((differences,), lambda x, axis: x.mean(axis), method="percentile",
                      n_resamples=3000, rng=1).confidence_interval  # fmt: skip
    found_mean = paired.bootstrap(first, second)
    assert (found_mean.low, found_mean.high) == pytest.approx((known.low, known.high), abs=0.01)
    same = paired.bootstrap([0.0, 1.0], [0.0, 1.0])
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_a_chart_has_each_curve_in_its_letter() -> None:
    lines = list(chart({"A": [(1, 0.0), (5, 1.0)], "B": [(1, 1.0), (5, 0.0)]}, 60))
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].startswith("1.0000 |B")
    assert lines[0].endswith("A")
    assert any("*" in line for line in lines), "where they meet"
    assert len(list(chart({"A": [(1, 0.5)]}, 60))) == len(lines)
    assert list(chart({}, 60)) == []


@pytest.mark.parametrize(
    "typed",
    [
        ("model=logreg", "data=iris"),
        ("model=perceptron", "data=iris"),
        ("model=linreg", "data=diabetes"),
    ],
    ids=["classes", "scores", "numbers"],
)
def test_the_mean_of_what_is_kept_of_each_test_example_is_the_metric(
    train: Train, typed: tuple[str, ...]
) -> None:
    trained = train(*typed, "trainer.steps=3")
    columns = per_example(trained.folder)
    examples = json.loads((trained.folder / "data.json").read_text())["identity"]["splits"]
    assert columns
    for name, values in columns.items():
        assert len(values) == examples["test"]["examples"]
        mean = sum(values) / len(values)
        assert mean == pytest.approx(trained.summary["test"][name], rel=1e-5)
    assert not (trained.folder / "tables" / "validation_examples.csv").exists()
