"""Columns of many levels: an input of indices each, and a network that learns a vector of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import dltrain
from dltrain.assemble import Assembly, fits_together
from dltrain.contracts.data import DataSpec, Field
from dltrain.data.tables.csv_file import CsvTable
from dltrain.errors import ConfigError
from dltrain.models.tabular import Tabular, width_of
from dltrain.runs.load import reader_of_run
from tests.conftest import Compose, Train
from tests.streams import opened, whole


def cities(path: Path, seed: int = 0) -> Path:
    """A number that the city decides; its cities are c0 to c39, all but empty cells."""
    generator = np.random.default_rng(seed)
    city = generator.integers(0, 40, 400)
    frame = pd.DataFrame(
        {
            "x": generator.normal(size=400),
            "city": [f"c{number}" for number in city],
            "zip": [f"0{number % 7}" for number in city],
            "y": 10.0 * (city % 5) + generator.normal(size=400) / 10,
        }
    )
    frame.loc[::50, "city"] = None
    frame.to_csv(path, index=False)
    return path


def table(path: Path, **settings: Any) -> CsvTable:
    return CsvTable(str(path), target="y", validation=0, missing="mean", **settings)


def test_levels_are_indices_and_what_training_lacks_is_none_of_them(tmp_path: Path) -> None:
    path, second = tmp_path / "train.csv", tmp_path / "test.csv"
    path.write_text("x,id,y\n" + "".join(f"{i},{i % 3},{i}\n" for i in range(9)) + "1,,2\n")
    second.write_text("x,id,y\n1,2,1\n2,1.0,1\n3,77,1\n4,,1\n")
    source = table(path, test=str(second), embed=["id"])
    streams = opened(source)
    rows = whole(streams["test"])
    assert rows["input.id"].tolist() == [3, 2, 0, 0]
    assert rows["input"].shape == (4, 1)
    field = source.outline().fields["input.id"]
    assert (field.kind, field.role, field.size) == ("class", "input", 4)
    assert field.names == ("(none of them)", "0", "1", "2")
    assert list(source.outline().fields) == ["input", "input.id", "target"]
    assert [line["type"] for line in source.report()] == [
        "number",
        "category (embedded)",
        "number",
    ]


def test_other_columns_are_the_features_that_they_were(tmp_path: Path) -> None:
    path = cities(tmp_path / "t.csv")
    plain, own = (opened(table(path, **own)) for own in ({}, {"embed": ["city"]}))
    source = table(path)
    source.read(0)
    kept = [i for i, name in enumerate(source.feature_names) if not name.startswith("city=")]
    for split in ("train", "test"):
        assert torch.equal(whole(plain[split])["input"][:, kept], whole(own[split])["input"])


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        (
            {"max_levels": 9},
            r"'city' has 40 different texts, .*model=tabular 'data.embed=\[city\]'",
        ),
        ({"embed": ["town"]}, "has no column 'town'"),
        ({"embed": ["y"]}, "embed: 'y' is the target"),
        ({"embed": ["city"], "exclude": ["city"]}, "embed: 'city' is in exclude, too"),
        ({"embed": ["city"], "categorical": ["city"]}, "embed: 'city' is in categorical, too"),
        ({"embed": ["city"], "features": ["x"]}, "embed: 'city' is not among the features"),
        ({"embed": ["zip"], "group": "zip"}, "embed: 'zip' splits the rows"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    settings: dict[str, Any], refusal: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=refusal):
        table(cities(tmp_path / "t.csv"), **settings).read(0)


def test_a_run_learns_vectors_and_predicts_raw_rows(tmp_path: Path, train: Train) -> None:
    path, second = cities(tmp_path / "train.csv"), cities(tmp_path / "test.csv", 1)
    done = train(
        *("data=csv", f"data.path={path}", f"data.test={second}", "data.target=y"),
        *("data.missing=mean", "data.embed=[city,zip]", "model=tabular", "trainer.epochs=20"),
        *("trainer.evaluate_every=20", "model.hidden=[32]", "callbacks=baseline"),
    )
    summary = done.summary["test"]
    assert summary["r2"] > 0.7
    assert summary["rmse"] < summary["baseline_linear_rmse"]
    raw = pd.read_csv(second, dtype=str, keep_default_na=False).to_dict("records")
    batch = reader_of_run(done.folder).read(raw)
    assert batch["input.city"].count_nonzero() == 392
    said = dltrain.load(done.folder).predict(raw).tensors["prediction"].flatten()
    truth = torch.tensor([float(row["y"]) for row in raw], dtype=torch.float64)
    assert float((said - truth).square().mean()) == pytest.approx(summary["mse"], rel=1e-12)


def test_networks_of_one_input_are_refused_before_the_data_is_read(
    compose: Compose,
) -> None:
    config = compose("data=csv", "data.path=FILE", "data.target=y", "data.embed=[city]")
    config["model"] = {"_target_": "dltrain.models.mlp.MLP"}
    told = r"MLP needs 'input_shape', .* it has several inputs \(input, input.city\)\."
    with pytest.raises(ConfigError, match=told), Assembly(config):
        pass
    assert not fits_together(config)
    config["model"] = {"_target_": "dltrain.models.tabular.Tabular"}
    assert fits_together(config)


def test_sizes_of_vectors_and_the_index_of_no_level() -> None:
    assert [width_of(size) for size in (2, 10, 1000, 10**6)] == [2, 6, 77, 600]
    fields = {
        "input": Field((0,), "number", "input"),
        "input.city": Field((), "class", "input", size=41),
        "target": Field((1,), "number", "target"),
    }
    network = Tabular(DataSpec(fields), outputs=1, hidden=[])
    numbers, none = torch.empty(3, 0), torch.zeros(3, dtype=torch.int32)
    assert torch.equal(network(numbers, none), network.layers.layers[-1].bias.expand(3, 1))
    with pytest.raises(ValueError, match="Tabular reads numbers"):
        Tabular(DataSpec({**fields, "input": Field((3, 8, 8), "image", "input")}), outputs=1)
