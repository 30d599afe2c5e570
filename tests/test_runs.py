"""``dltrain runs``: what is listed, how it is asked for, and files that somebody else made."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from dltrain.cli import dispatch
from dltrain.config.compose import compose
from dltrain.errors import UserError
from dltrain.runs import finding
from dltrain.runs.folder import RunFolder
from dltrain.runs.listing import flat_config, runs_below

CONFIG: dict[str, Any] = {
    "model": {"_target_": "dltrain.models.mlp.MLP", "hidden": [256, 128], "dropout": 0.0},
    "data": {"_target_": "dltrain.data.images.digits.Digits", "root": None},
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.001, "betas": [0.9, 0.999]},
    "regularizer": {},
    "name": "mlp-digits",
    "seed": 0,
    "output_dir": "outputs",
}


def make(
    output_dir: Path,
    time: str,
    accuracy: float | None = 0.9,
    config: Mapping[str, Any] | None = None,
    overrides: str = "",
    split: str = "test",
    **summary: Any,
) -> Path:
    """A run folder as one would find it, at ``output_dir/<name>/2026-01-01_<time>``."""
    composed = CONFIG | dict(config or {})
    folder = output_dir / str(composed["name"]) / f"2026-01-01_{time}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(composed, sort_keys=False))
    (folder / "overrides.txt").write_text("".join(f"{word}\n" for word in overrides.split()))
    told = {"status": "finished", "monitor": "accuracy", "better": {"accuracy": "max"}}
    told |= {"seconds": {"total": 12.0}, "test": {}, "validation": {}}
    told |= {split: {"loss": 0.5, "accuracy": accuracy}}
    (folder / "summary.json").write_text(json.dumps(told | summary))
    return folder


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """What ``dltrain runs --json`` says."""
    assert dispatch(["runs", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list)
    return found


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four runs; commands are typed where their ``outputs`` lies."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs"
    make(folder, "00-00-01", 0.90, overrides="model=mlp")
    make(folder, "00-00-02", 0.92, {"seed": 1}, "model=mlp seed=1")
    slow = CONFIG["optimizer"] | {"lr": 0.1}
    make(folder, "00-00-03", 0.70, {"optimizer": slow}, "model=mlp optimizer.lr=0.1")
    lenet: dict[str, Any] = {"model": {"_target_": "dltrain.models.vision.lenet.LeNet5"}}
    lenet |= {"data": {"_target_": "dltrain.data.images.mnist.MNIST"}, "name": "lenet5-mnist"}
    make(folder, "00-00-04", 0.80, lenet, split="validation", status="interrupted")
    return folder


def test_runs_are_listed_the_newest_first_with_what_differs(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["runs", "--no-fold"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "what", "status", "accuracy", "loss", "time"]
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines if line.startswith("2026")]
    assert [row[0][-2:] for row in rows] == ["04", "03", "02", "01"]
    assert rows[0][1:3] == ["lenet5", "mnist"]
    assert rows[0][3:] == ["interrupted", "0.8000", "v", "0.5000", "v", "12", "s"]
    assert "optimizer.lr=0.1 seed=0" in " ".join(" ".join(lines).split())
    assert lines[-1].startswith("v: of the validation split")


def test_repeated_seeds_are_one_line_and_a_repeated_run_is_no_second_measurement(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(outputs, "00-00-05", 0.92, {"seed": 1})
    dispatch(["runs"])
    out = capsys.readouterr().out
    assert "0.9100 ± 0.0141 (2)" in out
    assert "Left out: 1 older run" in out
    folded = listed(capsys, "--fold", "--filter", "optimizer.lr=1e-3", "--filter", "model=mlp")
    assert [row["test"]["accuracy"]["n"] for row in folded] == [2]
    assert folded[0]["older"] == 1


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("model=lenet5", ["04"]),
        ("model=lenet5,mlp", ["04", "03", "02", "01"]),
        ("model!=mlp", ["04"]),
        ("model=l*5", ["04"]),
        ("data=digits", ["03", "02", "01"]),
        ("optimizer=adam", ["04", "03", "02", "01"]),
        ("optimizer.lr=1e-1", ["03"]),
        ("optimizer.lr<0.1", ["04", "02", "01"]),
        ("model.hidden=[256,128]", ["03", "02", "01"]),
        ("data.root=null", ["03", "02", "01"]),
        ("seed=1", ["02"]),
        ("status=interrupted", ["04"]),
        ("accuracy>=0.9", ["02", "01"]),
        ("validation.accuracy>0", ["04"]),
        ("time>100", []),
    ],
)
def test_filters_ask_for_any_key_choice_or_metric(
    outputs: Path, capsys: pytest.CaptureFixture[str], asked: str, found: list[str]
) -> None:
    assert [row["when"][-2:] for row in listed(capsys, "--filter", asked)] == found


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("accuracy", ["02", "01", "04", "03"]),
        ("test.accuracy", ["02", "01", "03", "04"]),
        ("optimizer.lr", ["04", "02", "01", "03"]),
        ("model", ["04", "03", "02", "01"]),
        ("when", ["04", "03", "02", "01"]),
    ],
)
def test_a_metric_sorts_the_best_first_and_what_has_none_is_last(
    outputs: Path, capsys: pytest.CaptureFixture[str], key: str, found: list[str]
) -> None:
    assert [row["when"][-2:] for row in listed(capsys, "--sort", key)] == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--filter", "modle=mlp"], "Did you mean 'model'?"),
        (["--sort", "acuracy"], "Did you mean 'accuracy'?"),
        (["--filter", "mlp"], "write KEY=VALUE"),
        (["--filter", "seed>one"], "one is no number"),
        (["--metric", "f2"], "no run has such a key"),
        (["--output-dir", "nowhere"], "no such folder"),
        (["--sorted"], "Did you mean '--sort'?"),
    ],
)
def test_a_mistake_is_told_in_a_line(outputs: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        dispatch(["runs", *arguments])
    assert said in str(error.value)


def test_no_run_yet_is_no_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch(["runs"]) == 0
    assert capsys.readouterr().out == "There is no run in outputs yet.\n"
    assert listed(capsys) == []


def test_csv_has_a_column_for_each_metric(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dispatch(["runs", "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["test.accuracy"] for row in rows] == ["", "0.7", "0.92", "0.9"]
    assert rows[1]["differs"] == "optimizer.lr=0.1 seed=0"


def test_a_run_whose_process_is_gone_was_interrupted(outputs: Path) -> None:
    path = make(outputs, "00-00-06", status="running")
    folder = RunFolder(path)
    folder.hold()
    assert runs_below(outputs)[0].status == "running"
    folder.release()
    assert runs_below(outputs)[0].status == "interrupted"
    assert "00-00-06  interrupted\n" in finding.listed(outputs)
    (path / "summary.json").unlink()
    assert runs_below(outputs)[0].status == "interrupted"


def test_files_that_cannot_be_read_are_listed_as_such(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = "a: &a [" + "x, " * 9 + "]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in pairwise("abcdefghi")
    )  # fmt: skip
    files: dict[str, tuple[str, str | bytes]] = {
        "not JSON": ("summary.json", "{"),
        "no object": ("summary.json", "[]"),
        "no status": ("summary.json", '{"status": ["\\u001b[31m"]}'),
        "deep JSON": ("summary.json", "[" * 100_000),
        "not YAML": ("config.yaml", "model: ["),
        "deep YAML": ("config.yaml", "model: " + "[" * 100_000),
        "a class": ("config.yaml", "model: !!python/object/apply:os.system ['touch hacked']"),
        "no text": ("config.yaml", b"\xff\xfe"),
        "a bomb": ("config.yaml", bomb),
        "itself": ("config.yaml", "a: &a {b: *a}"),
        "large": ("summary.json", " " * (1 << 21)),
    }
    for number, (name, content) in enumerate(files.values()):
        path = make(outputs, f"01-00-{number:02}") / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.mkfifo(make(outputs, "02-00-00") / "pipe")
    pipe = make(outputs, "02-00-01") / "config.yaml"
    pipe.unlink()
    os.mkfifo(pipe)  # whoever opens it waits for its other end
    os.mkfifo(make(outputs, "02-00-02") / "checksums.sha256")
    rows = listed(capsys)
    unreadable = {row["when"][-8:]: row["problem"] for row in rows if row["status"] == "unreadable"}
    assert len(unreadable) == len(files) + 2
    assert len(rows) == len(files) + 3 + 4
    assert "no YAML" in unreadable["01:00:06"]
    assert not Path("hacked").exists()
    assert dispatch(["runs"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_what_a_stranger_wrote_moves_no_cursor(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metric = {"monitor": "\x1b[2J", "test": {"\x1b[2J": 1}}
    for n in range(7, 12):  # the monitor of most runs heads a column
        make(outputs, f"00-00-{n:02}", None, {"name": "\x1b[2Jmodel"}, "\x1b[31m", **metric)
    for form in ([], ["--csv"], ["--json"]):
        dispatch(["runs", "--no-fold", *form])
        shown = capsys.readouterr().out
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert "\x1b[2J" in json.loads(shown)[0]["test"], "the same, in JSON's own escapes"


def test_numbers_that_are_none_are_told_as_words(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(outputs, "00-00-07", config={"seed": float("nan")}, test={"loss": 10**400})
    (row,) = [row for row in listed(capsys) if row["when"].endswith("07")]
    assert "nan" in json.dumps(row)
    assert dispatch(["runs"]) == 0


def test_a_config_read_in_parts_is_the_config() -> None:
    for overrides in (["model=dcgan"], ["data=imdb", "regularizer=[l2,dropout]"]):
        text = yaml.safe_dump(compose(overrides), sort_keys=False, width=100)
        assert flat_config(text) == _flat(yaml.safe_load(text)), overrides
    odd = 'a: "two\nb: lines"\nc: {d:\n  1}\n- x\n'.replace("- x\n", "") + "e: |\n  f: 1\n\n  g\n"
    assert flat_config(odd) == _flat(yaml.safe_load(odd))


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        inside = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return flat


def test_three_hundred_runs_are_listed_in_a_third_of_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make(tmp_path, "00-00-00")
    for number in range(1, 300):
        other = first.with_name(f"2026-01-01_{number // 60:02}-{number % 60:02}-00")
        other.mkdir()
        for file in first.iterdir():
            text = file.read_text().replace("seed: 0", f"seed: {number}")
            (other / file.name).write_text(text)
    begin = time.process_time()  # of ours alone, for other tests run beside this one
    assert len(listed(capsys, "--output-dir", str(tmp_path))) == 300
    assert time.process_time() - begin < 0.33
