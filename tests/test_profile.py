"""``dltrain profile``: what a step costs, told and written, and no run left behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dltrain.cli import dispatch
from dltrain.errors import UserError
from dltrain.runs.finding import find_run

QUICK = ("model=mlp", "model.hidden=[512]", "data=digits", "device=cpu", "--steps", "3")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


def test_it_tells_of_parts_layers_and_operations_in_80_columns(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["profile", *QUICK, f"output_dir={outputs}"]) == 0
    said = capsys.readouterr().out
    (folder,) = outputs.glob("profiles/mlp-digits/*")
    assert all(len(line) <= 80 for line in said.splitlines() if str(folder) not in line)
    tables = {
        name: list(csv.DictReader((folder / f"{name}.csv").open()))
        for name in ("parts", "layers", "operations")
    }
    parts = {row["part"]: float(row["ms"]) for row in tables["parts"]}
    assert list(parts) == ["data", "forward, loss, rest", "backward", "optimizer"]
    assert min(parts.values()) > 0
    layers = {row["layer"].partition(" ")[0]: row for row in tables["layers"]}
    first = next(row for name, row in layers.items() if "Linear" in row["layer"])
    # 32 examples a batch, 512 float32 each: what a dense layer keeps for its backward pass.
    assert float(first["KiB"]) == 32 * 512 * 4 / 1024
    assert float(first["forward ms"]) > 0 < float(first["backw. ms"])
    calls = {row["operation"]: float(row["calls"]) for row in tables["operations"]}
    assert calls["addmm"] == 2
    assert calls["_fused_adam_"] == 1
    assert "traceEvents" in json.loads((folder / "trace.json").read_text())
    with pytest.raises(UserError, match="does not exist"):
        find_run("mlp-digits", outputs)


def test_as_json(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["profile", *QUICK, f"output_dir={outputs}", "--json", "--warmup", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 3
    assert found["milliseconds"] > 0
    assert found["parts"][0]["part"] == "data"
    assert Path(found["folder"], "trace.json").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--steps 0", "--steps must be at least 1, got 0"),
        ("--warmup -1", "--warmup must be at least 0, got -1"),
        ("lenet5", "lenet5: not a key=value"),
        ("model=lenet", "Did you mean 'lenet5'"),
    ],
)
def test_mistakes_are_told_in_a_line(words: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        dispatch(["profile", *words.split()])
    assert "\n" not in str(error.value)
