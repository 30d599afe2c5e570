"""Exported networks: their files say the same as the run, and work without dltrain."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dltrain import training
from dltrain.cli import dispatch
from dltrain.config import compose as composition
from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.errors import UserError
from dltrain.inference import onnx_format, torch_format
from dltrain.inference.comparison import largest_difference
from dltrain.inference.layers import Averaged, Scanned
from dltrain.inference.network import Network, described, networks_of
from dltrain.inference.predictor import Predictor
from dltrain.models.generative.gan import GAN
from dltrain.models.sequence.ngrams import Ngrams
from dltrain.runs.examples import EXAMPLES, examples_of_run, keep_examples
from dltrain.runs.finding import find_run
from dltrain.runs.folder import RunFolder
from dltrain.tasks.classification import Classification
from dltrain.tasks.gan import AdversarialGame
from dltrain.tasks.regression import Regression
from dltrain.tasks.text import TextClassification
from tests.making import Given, image_spec

pytest.importorskip("onnxruntime", reason="pip install 'dltrain[export]'")

QUICK = ("trainer.steps=2", "callbacks=none", "device=cpu")
ALONE = """
import runpy, sys
for name in ("dltrain", "torch"):
    sys.modules[name] = None  # to import it is an error
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TABLE = "size,color,new,sold,price\n" + "".join(
    f"{n * 1.5 if n % 9 else ''},{['red', 'green', 'blue'][n % 3]},{('yes', 'no')[n % 2]},"
    f"2024-{n % 12 + 1:02}-{n % 28 + 1:02},{100_000 + 950 * n}\n"
    for n in range(60)
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    (root / "houses.csv").write_text(TABLE)
    reviews = "review,stars\n" + "a good film,5\nan awful film,1\n" * 20
    (root / "reviews.csv").write_text(reviews)
    for name, *typed in (
        ("images", "model=mlp", "data=digits"),
        ("texts", "model=rnn", "model.hidden_size=8", "data=text_csv", "data.text=review",
         f"data.path={root / 'reviews.csv'}", "data.label=stars", f"data.root={root}"),
        ("rows", "model=mlp", "data=csv", f"data.path={root / 'houses.csv'}",
         "data.target=price", "data.missing=mean"),
        ("levels", "model=tabular", "data=csv", f"data.path={root / 'houses.csv'}",
         "data.target=price", "data.missing=mean", "data.embed=[color]"),
    ):  # fmt: skip
        config = composition.compose([*QUICK, f"name={name}", *typed])
        training.train({**config, "output_dir": str(root / "outputs")})
    return root


def exported(runs: Path, run: str, out: Path, *words: str) -> dict[str, Any]:
    outputs = ("--output-dir", str(runs / "outputs"))
    assert dispatch(["export", run, "--out", str(out), *words, *outputs]) == 0
    about: dict[str, Any] = json.loads((out / "export.json").read_text())
    return about


def used(out: Path, *words: str | Path) -> list[dict[str, Any]]:
    """What ``use.py`` prints, in a process that has neither dltrain nor torch."""
    command = [sys.executable, "-c", ALONE, out / "use.py", *words]
    printed = subprocess.run(command, cwd=out, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def predicted(runs: Path, run: str, examples: Any) -> Mapping[str, Tensor]:
    return Predictor(find_run(run, runs / "outputs")).predict(examples).tensors


def test_an_image_of_any_size_gets_the_runs_probabilities_without_dltrain(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.png"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 4), np.uint8)
    Image.fromarray(pixels).save(path)
    about = exported(runs, "images", tmp_path / "out")
    said = capsys.readouterr().out
    assert "model.onnx: differs by" in said and "8 examples of the test split" in said
    (row,) = used(tmp_path / "out", path)
    expected = predicted(runs, "images", path)
    assert row["class"] == str(int(expected["class"][0]))
    assert row["probability"] == pytest.approx(expected["probability"][0].tolist(), abs=1e-5)
    assert about["networks"]["model"]["inputs"][0]["dtype"] == "uint8"
    assert about["networks"]["model"]["largest_difference"] < 1e-5


def test_texts_of_any_length_do(runs: Path, tmp_path: Path) -> None:
    exported(runs, "texts", tmp_path / "out")
    texts = ["a fine film", "", "an awful, awful film and a bad plot " * 20]
    rows = used(tmp_path / "out", *texts)
    expected = predicted(runs, "texts", texts)["probability"]
    assert [row["probability"] for row in rows] == [
        pytest.approx(one, abs=1e-5) for one in expected.tolist()
    ]


def test_rows_of_a_table_do_with_levels_dates_and_empty_cells(runs: Path, tmp_path: Path) -> None:
    about = exported(runs, "rows", tmp_path / "out")
    rows = used(tmp_path / "out", runs / "houses.csv")
    expected = predicted(runs, "rows", runs / "houses.csv")["prediction"]
    assert about["networks"]["model"]["outputs"][0]["dtype"] == "float64"
    assert [row["prediction"] for row in rows] == [
        pytest.approx(one, rel=1e-7) for one in expected.tolist()
    ]


def test_rows_with_embedded_columns_do_and_unknown_levels_and_empty_cells(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = exported(runs, "levels", tmp_path / "out")
    inputs = {one["name"]: one["dtype"] for one in about["networks"]["model"]["inputs"]}
    assert inputs == {"input.color": "int32", "features": "float64"}
    path = tmp_path / "new.csv"
    path.write_text(f"{TABLE}7,mauve,yes,2024-01-02,0\n7,,no,2024-01-02,0\n")
    expected = predicted(runs, "levels", path)["prediction"]
    assert [row["prediction"] for row in used(tmp_path / "out", path)] == [
        pytest.approx(one, rel=1e-6) for one in expected.tolist()
    ]
    monkeypatch.setattr(sys, "argv", ["use.py"])
    with pytest.raises(SystemExit, match=r"python use\.py ROWS\.csv"):
        exec((tmp_path / "out" / "use.py").read_text(), {})


def test_a_generator_takes_noise_and_classes(tmp_path: Path) -> None:
    spec = image_spec((1, 4, 4), ("a", "b", "c"))
    model = GAN(spec, noise_size=5, generator_hidden=[6], conditional=True)
    (network,) = networks_of(AdversarialGame(model, spec).eval(), spec, {}, None)
    inputs, (output,) = (described(network, 1)[name] for name in ("inputs", "outputs"))
    assert inputs[0] == {
        **{"name": "noise", "dtype": "float32", "shape": ["batch", 5]},
        "drawn": "normal",
    }
    assert (inputs[1]["name"], inputs[1]["size"], inputs[1]["names"]) == (
        "label",
        3,
        ["a", "b", "c"],
    )
    assert (output["name"], output["shape"]) == ("image", ["batch", 1, 4, 4])
    assert difference(onnx_format, network, tmp_path) < 1e-6


def difference(format: Any, network: Network, folder: Path) -> float:
    """Between a network and its file, written and read."""
    path = folder / f"model{format.SUFFIX}"
    format.write(network, path)
    return largest_difference(network, format.read(path, network))


def test_what_differs_is_refused_and_nothing_is_left(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(path: Path, network: Any) -> Any:
        def program(inputs: Batch) -> list[Tensor]:
            number, probabilities = network.flat(*inputs.values())
            return [number, probabilities + 2e-4]

        return program

    monkeypatch.setattr(onnx_format, "read", wrong)
    with pytest.raises(UserError, match=r"differ from the run by 0.0002 .*more than 0.0001"):
        exported(runs, "images", tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_eight_examples_of_its_test_split(runs: Path, tmp_path: Path) -> None:
    (found,) = (runs / "outputs").glob("images/*")
    kept = examples_of_run(RunFolder(found))
    assert kept.split == "test"
    assert {name: len(column) for name, column in kept.columns.items()} == {"input": 8, "target": 8}
    columns = {"input": torch.arange(30)[:, None], "input_length": torch.arange(30)}
    keep_examples(RunFolder(tmp_path), {"validation": Given([columns]), "train": Given([])})
    content = torch.load(tmp_path / EXAMPLES, weights_only=True)
    assert (content["format"], content["split"]) == (1, "validation")
    rows = content["columns"]["input_length"].tolist()
    assert (rows[0], rows[-1], len(set(rows))) == (0, 29, 8)


def test_a_missing_package_and_a_run_without_examples_cost_one_line(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = (runs / "outputs").glob(f"images/*/{EXAMPLES}")
    content = found.read_bytes()
    found.unlink()
    try:
        with pytest.raises(UserError, match=r"earlier version .*INPUT"):
            exported(runs, "images", tmp_path / "out")
        Image.new("L", (8, 8)).save(tmp_path / "black.png")
        about = exported(runs, "images", tmp_path / "out", str(tmp_path / "black.png"))
        assert about["examples"] == {"split": "given", "count": 1}
    finally:
        found.write_bytes(content)
    monkeypatch.setattr(onnx_format, "LIBRARIES", ("not_there",))
    with pytest.raises(UserError, match=r"not_there is missing: pip install 'dltrain\[export\]'"):
        exported(runs, "images", tmp_path / "out")


def test_a_number_is_compared_in_the_targets_std() -> None:
    spec = DataSpec(
        {
            "input": Field((2,), "number", "input"),
            "target": Field((1,), "number", "target", mean=(1e6,), std=(0.01,)),
        }
    )
    (network,) = networks_of(
        Regression(nn.Linear(2, 1), spec).eval(), spec, {"input": torch.randn(4, 2)}, None
    )
    off = largest_difference(network, lambda i: [c + 1e-3 for c in network.flat(*i.values())])
    assert off == pytest.approx(0.1, rel=1e-3)
    assert largest_difference(network, lambda i: list(network.flat(*i.values()))) == 0
    assert largest_difference(network, lambda i: [network.flat(*i.values())[0].float()]) > 1


def test_another_class_is_a_difference_unless_two_are_equal() -> None:
    spec = image_spec((1, 1, 2), ("a", "b", "c"))
    (network,) = networks_of(
        Classification(nn.Flatten(), spec).eval(), spec, {"input": torch.zeros(2, 1, 1, 3)}, None
    )

    def program(inputs: Batch) -> list[Tensor]:
        number, probabilities = network.flat(*inputs.values())
        return [number + 1, probabilities]

    assert largest_difference(network, program) == 0
    network.batch["input"][0, 0, 0] = torch.tensor([3.0, 0, 1])
    network.inputs["input"][0, 0, 0] = torch.tensor([3.0, 0, 1])
    assert largest_difference(network, program) == pytest.approx(0.8, abs=0.01)


def test_hashes_below_zero_are_the_same(tmp_path: Path) -> None:
    spec = DataSpec(
        {
            "input": Field((None,), "tokens", "input", size=40_000, fill=0, names=("",) * 40_000),
            "target": Field((), "class", "target", size=2, names=("a", "b")),
        }
    )
    model = Ngrams(2, 40_000, 0, length=5, buckets=997)
    assert model.others is not None
    nn.init.normal_(model.others.weight)
    ids = torch.randint(2, 40_000, (8, 12))
    ids[3, 4:] = 0
    (network,) = networks_of(TextClassification(model, spec).eval(), spec, {"input": ids}, None)
    assert difference(onnx_format, network, tmp_path) < 1e-5


def loop(step: Any, carried: Any, inputs: Tensor, dim: int) -> tuple[Any, Tensor]:
    """What torch's scan does, which would compile it."""
    states = []
    for one in inputs:
        carried, state = step(carried, one)
        states.append(state)
    return carried, torch.stack(states)


def test_layers_are_replaced_by_their_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    # A package of torch has a function of the module's name.
    monkeypatch.setattr(import_module("torch._higher_order_ops.scan"), "scan", loop)
    for kind in (nn.RNN, nn.GRU, nn.LSTM):
        layer, values = kind(3, 5, batch_first=True), torch.randn(2, 7, 3)
        with torch.no_grad():
            torch.testing.assert_close(Scanned(layer)(values)[0], layer(values)[0])
    pooling, images = nn.AdaptiveAvgPool2d((3, 7)), torch.randn(2, 4, 5, 4)
    torch.testing.assert_close(Averaged(pooling)(images), pooling(images))


@pytest.mark.slow
def test_a_program_of_torch_export_takes_rows_and_lengths(tmp_path: Path) -> None:
    spec = DataSpec(
        {
            "input": Field((None,), "tokens", "input", size=9, fill=0),
            "target": Field((), "class", "target", size=2),
        }
    )
    ids = torch.randint(2, 9, (3, 11))
    ids[0, 2:] = 0
    task = TextClassification(Ngrams(2, 9, 0, length=2, buckets=7), spec).eval()
    (network,) = networks_of(task, spec, {"input": ids}, None)
    assert difference(torch_format, network, tmp_path) < 1e-6
