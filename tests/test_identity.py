"""A run goes on with the data it began with, from whatever folder, or says what has changed."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dltrain import training as run
from dltrain.config.build import TARGET
from dltrain.config.paths import absolute
from dltrain.contracts.paths import Located
from dltrain.data.identity import changes, describe
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.streams.hashes import digest, hashes_of, hashes_of_ragged, tell_duplicates
from dltrain.data.streams.in_memory import InMemory
from dltrain.data.streams.on_disk import InFiles
from dltrain.data.streams.ragged import Ragged
from dltrain.data.tables.csv_file import CsvTable
from dltrain.data.tables.points import Moons
from dltrain.data.text.text_csv import TextCsv
from dltrain.errors import UserError
from dltrain.inference.evaluate import evaluate_run
from dltrain.runs.finding import latest
from dltrain.runs.folder import RunFolder
from tests.conftest import REPOSITORY, Compose
from tests.interrupting import interrupt_after
from tests.making import edit
from tests.test_configs import NAMES, nodes, read

ROWS = [f"{i % 7},{i * i % 11},{'ab'[i % 2]}" for i in range(80)]


def write(path: Path, rows: list[str], head: str = "x,z,y") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


@pytest.fixture
def begun(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """An interrupted run on ``home/a.csv``, which was begun in ``home`` and names it so."""

    def interrupted(*overrides: str) -> Path:
        (tmp_path / "home").mkdir()
        (tmp_path / "elsewhere").mkdir()
        write(tmp_path / "home" / "a.csv", ROWS)
        config = compose(
            *("model=logreg", "data=csv", "data.path=a.csv", "data.target=y", "callbacks=none"),
            *("device=cpu", "trainer.epochs=3", "trainer.evaluate_every=3", *overrides),
        )
        monkeypatch.chdir(tmp_path / "home")
        with monkeypatch.context() as patch:
            interrupt_after(patch, 3, signal.SIGTERM)
            run.train(config | {"output_dir": "outputs"})
        monkeypatch.chdir(tmp_path / "elsewhere")
        return latest(tmp_path / "home" / "outputs")

    return interrupted


def resumed(folder: Path, **settings: Any) -> dict[str, Any]:
    return run.resume(str(folder), Path("outputs"), **settings)


def test_a_run_goes_on_from_any_folder_with_its_own_file(begun: Any, tmp_path: Path) -> None:
    folder = begun()
    write(tmp_path / "elsewhere" / "a.csv", [row[:-1] + "ba"[i % 2] for i, row in enumerate(ROWS)])

    assert resumed(folder)["status"] == "finished"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["path"] == str(tmp_path / "home" / "a.csv")
    assert config["output_dir"] == str(tmp_path / "home" / "outputs")


def test_rows_added_are_counted_and_may_be_allowed(begun: Any, tmp_path: Path) -> None:
    folder = begun()
    write(tmp_path / "home" / "a.csv", ROWS + ROWS[:5])

    with pytest.raises(UserError) as refused:
        resumed(folder)
    assert "a.csv has 5 more lines at its end" in str(refused.value)
    assert "has 64 examples" not in str(refused.value)
    assert "--changed-data" in str(refused.value)
    with pytest.raises(UserError, match=r"dltrain evaluate .* --changed-data"):
        evaluate_run(RunFolder(folder))
    assert resumed(folder, changed_data=True)["status"] == "finished"
    assert "warning: goes on with data that has changed" in (folder / "train.log").read_text()
    kept = json.loads((folder / "data.json").read_text())["identity"]
    assert sum(split["examples"] for split in kept["splits"].values()) == 85


def one_cell(path: Path) -> None:
    """Same size, same time."""
    before = path.stat()
    write(path, ["6,0,a", *ROWS[1:]])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_cell, "a.csv has another content, of 486 bytes"),
        (lambda path: path.unlink(), "a.csv is no longer there"),
        (lambda path: write(path, ROWS[:-20]), r"the test split has 12 examples \(16 before\)"),
        (lambda path: write(path, [f"{r}c" for r in ROWS]), "'ac' stands where 'a' was"),
        (lambda path: write(path, [f"1,{r}" for r in ROWS], "w,x,z,y"), r"its shape is \(3,\)"),
        (lambda path: write(path, ["1,,a", *ROWS]), "since the run began, .*a.csv has another"),
    ],
    ids=["one cell", "no file", "fewer rows", "classes", "a column", "an empty cell"],
)
def test_what_has_changed_is_said(begun: Any, tmp_path: Path, change: Any, message: str) -> None:
    folder = begun()
    change(tmp_path / "home" / "a.csv")

    with pytest.raises(UserError, match=message):
        resumed(folder)


def test_a_network_that_would_not_fit_is_refused_all_the_same(begun: Any, tmp_path: Path) -> None:
    folder = begun()
    write(tmp_path / "home" / "a.csv", [*ROWS, "1,1,c", "2,2,c"])

    with pytest.raises(UserError, match="target: its size is 3, not 2"):
        resumed(folder, changed_data=True)


def test_what_the_run_does_not_read_may_change(begun: Any, tmp_path: Path) -> None:
    folder = begun("data.features=[x]")
    write(tmp_path / "home" / "a.csv", [f"{r[0]},5,{r[-1]}" for r in ROWS])

    assert resumed(folder)["status"] == "finished"


def test_a_run_of_before_goes_on_with_a_note(begun: Any, tmp_path: Path) -> None:
    folder = begun()
    kept = json.loads((folder / "data.json").read_text())
    del kept["identity"]
    edit(folder, "data.json", json.dumps(kept))
    write(tmp_path / "home" / "a.csv", ROWS + ROWS[:5])

    assert resumed(folder)["status"] == "finished"
    assert "does not say which examples the run began with" in (folder / "train.log").read_text()


def pictures(folder: Path, value: int = 0) -> ImageFolder:
    for name in ("cat", "dog"):
        (folder / "pics" / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            pixels = np.full((4, 4), 40 * number + value + 9 * (name == "dog"), np.uint8)
            Image.fromarray(pixels).save(folder / "pics" / name / f"{number}.png")
    return ImageFolder(str(folder / "pics"), root=str(folder / "root"), test=0.25, validation=0)


def texts(folder: Path, last: str = "good") -> TextCsv:
    rows = [f"film {i} is {'good' if i % 2 else 'bad'},{i % 2}" for i in range(19)]
    path = write(folder / "t.csv", [*rows, f"film 19 is {last},1"], "text,label")
    return TextCsv(str(path), "text", "label", root=None, validation=0)


def test_every_kind_of_source_can_tell_one_changed_example(tmp_path: Path) -> None:
    def identity(source: Any) -> Any:
        source.read(0)
        return source.identity()

    for make in (pictures, texts):
        same = [identity(make(tmp_path)) for _ in range(2)]
        other = identity(make(tmp_path, 1 if make is pictures else "bad"))
        assert changes(*same) == []
        assert changes(same[0], other)
    assert changes(identity(Moons()), identity(Moons())) == []
    assert changes(identity(Moons()), identity(Moons(data_seed=1)))


def test_a_folder_tells_which_files_are_others(tmp_path: Path) -> None:
    pictures(tmp_path)
    before = {"splits": {}, "files": describe([tmp_path / "pics"])}
    shutil.move(tmp_path / "pics/cat/0.png", tmp_path / "pics/cat/9.png")

    (line,) = changes(before, {"splits": {"train": {}}})[:1]
    assert "1 new (cat/9.png); 1 gone (cat/0.png)" in line


def test_rows_have_one_hash_wherever_they_lie(tmp_path: Path) -> None:
    whole = torch.arange(60_000, dtype=torch.int32).reshape(-1, 3) % 1000
    rows = torch.randperm(len(whole))[:50]
    assert (hashes_of(whole)[rows] == hashes_of(whole[rows])).all()
    assert len(np.unique(hashes_of(whole))) == len(whole.unique(dim=0))
    lengths = torch.randint(0, 9, (300,))
    ragged = Ragged.joined(torch.randint(0, 3, (int(lengths.sum()),)), lengths)
    some = ragged.only(torch.tensor([7, 3, 290]))
    all_of_them = hashes_of_ragged(ragged.values, ragged.starts, ragged.lengths)
    assert (
        hashes_of_ragged(some.values, some.starts, some.lengths) == all_of_them[[7, 3, 290]]
    ).all()
    values = [tuple(v.tolist()) for v in ragged.values.split(lengths.tolist())]
    assert len(np.unique(all_of_them)) == len(set(values))
    for name, column in {"input": whole, "target": whole[:, 0]}.items():
        np.save(tmp_path / f"{name}.npy", column.numpy())
    files = {name: tmp_path / f"{name}.npy" for name in ("input", "target")}
    held = InMemory({"input": whole, "target": whole[:, 0]})
    for _ in range(2):  # computed, and kept
        streamed = InFiles(files, None, 0).only(rows)
        assert digest(streamed.hashes()) == digest(held.only(rows).hashes())


def test_a_column_of_one_number_a_row_is_hashed_however_it_lies() -> None:
    for count in (1, 5):
        column = torch.from_numpy(np.arange(float(count))[:, None])
        assert (hashes_of(column) == hashes_of(torch.arange(float(count)).double())).all()


def test_two_pixels_that_change_places_are_another_image() -> None:
    images = torch.zeros(64 * 63 // 2, 64, dtype=torch.uint8)
    pairs = torch.combinations(torch.arange(64))
    images.scatter_(1, pairs, 255)
    assert len(np.unique(hashes_of(images))) == len(images)


def test_examples_in_two_splits_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dltrain")
    test = write(tmp_path / "b.csv", [*ROWS[:3], *(f"{i},99,a" for i in range(97))])
    CsvTable(str(write(tmp_path / "a.csv", ROWS)), target="y", test=str(test), validation=0).read(0)
    said = "3 of 100 test examples have the same input as a training example."
    assert [one.levelname for one in caplog.records if one.message == said] == ["WARNING"]

    caplog.clear()
    few = {
        "train": {"input": hashes_of(torch.arange(9))},
        "test": {"input": hashes_of(torch.arange(8, 999))},
    }
    tell_duplicates(few)
    assert [record.levelname for record in caplog.records] == ["INFO"]


class Owner:
    def __init__(
        self, file: Path | None, several: list[Path], name: Annotated[str, Located(or_name=True)]
    ) -> None:
        pass


def test_paths_are_absolute_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    node = {
        TARGET: f"{__name__}.Owner",
        "file": "a",
        "several": ["b", "/c", "~/d"],
        "name": "there",
    }
    found = absolute({"output_dir": "~/out", "part": [node], "name": "a"}, tmp_path)

    assert found["output_dir"] == "~/out" and found["name"] == "a"
    assert found["part"][0] == node | {
        "file": str(tmp_path / "a"),
        "several": [str(tmp_path / "b"), "/c", "~/d"],
        "name": str(tmp_path / "there"),
    }
    csv = {TARGET: "dltrain.data.tables.csv_file.CsvTable", "path": "a", "test": 0.2, "root": None}
    assert absolute({"output_dir": "o", "data": csv}, tmp_path)["data"]["path"] == str(
        tmp_path / "a"
    )
    rooted = absolute({"output_dir": "o", "data": csv | {"root": "r"}}, tmp_path)["data"]
    assert (rooted["root"], rooted["path"]) == (str(tmp_path / "r"), "a")


@pytest.mark.parametrize("name", [name for name in NAMES if list(nodes(read(name)))])
def test_every_key_that_names_a_file_is_known_as_a_path(name: str) -> None:
    for _, node in nodes(read(name)):
        module, _, cls = node[TARGET].rpartition(".")
        importlib.import_module(module)
        keys = {"root", "path", "copies", "run", "pretrained"} & node.keys()
        given = {TARGET: node[TARGET], **dict.fromkeys(keys, "tests")}
        found = absolute({"output_dir": "o", "part": given}, REPOSITORY)["part"]
        in_root = "root" in keys and cls in ("CsvTable", "Ratings", "SeriesFile")
        expected = "tests" if in_root else str(REPOSITORY / "tests")
        assert {key: found[key] for key in keys - {"root"}} == dict.fromkeys(
            keys - {"root"}, expected
        )
