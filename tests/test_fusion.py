"""Several kinds of column in one network: tables with images and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dltrain.cli import dispatch
from dltrain.config.compose.hydra_setup import with_implied
from dltrain.contracts.data import DataSpec, Field, Placement
from dltrain.data.tables.augment import VectorAugment, leave_out
from dltrain.data.tables.csv_file import CsvTable
from dltrain.errors import UserError
from dltrain.from_python import train
from dltrain.inference.predictor import Predictor
from dltrain.models.fusion import Fusion
from tests.photos import write_photos

DATA = (
    *("data=csv", "data.target=kind", "data.images=[photo]", "data.texts=[title]", "device=cpu"),
    *("data.embed=[city]", "callbacks=none", "model.width=8", "model.image_channels=[4]"),
    *("model.text_filters=4", "model.embedding_size=4", "model.hidden=[8]"),
)


def table(path: Path, **settings: Any) -> CsvTable:
    known = {"target": "kind", "images": ["photo"], "texts": ["title"], "embed": ["city"]}
    return CsvTable(str(path), **{**known, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    write_photos(made / "t.csv")
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Predictor:
    """One that may do without any column."""
    return train(
        [
            *(*DATA, f"data.path={folder / 't.csv'}", "data.augment.drop=0.3"),
            *("trainer.epochs=40", "optimizer.lr=0.01", "trainer.evaluate_every=40"),
            f"output_dir={folder / 'runs'}",
        ]
    )


def test_each_column_is_an_input_of_its_kind_learned_from_the_training_rows(folder: Path) -> None:
    made = table(folder / "t.csv", validation=10)
    outline = made.outline()
    assert {name: f.kind for name, f in outline.fields.items()} == {
        "input": "number",
        "input.city": "class",
        "input.photo": "image",
        "input.title": "tokens",
    }
    spec = made.read(0)
    assert spec.fields["input"].names == ("size",)
    assert spec.fields["input.photo"].shape == (1, 8, 8)
    words = {"dim", "black", "shade", "bright", "white", "glow"}
    assert words < set(spec.fields["input.title"].names)
    assert sum(spec.fields["input.title"].counts) > 38
    streams = made.open(Placement(torch.device("cpu"), 0))
    batch = next(streams["train"].batches(0))
    assert batch["input.photo"].shape[1:] == (1, 8, 8)
    pixels = torch.cat([one["input.photo"] for one in streams["train"].plain()])
    assert pixels.mean() == pytest.approx(0, abs=1e-4) and pixels.std() == pytest.approx(1, 0.01)
    assert batch["input.title"].dtype == torch.int32 and batch["input.title"].min() == 0
    again = table(folder / "t.csv", validation=10)
    again.read(0)
    assert made.identity() == again.identity()


def test_another_text_or_image_is_other_data(tmp_path: Path) -> None:
    def identity() -> Any:
        made = table(tmp_path / "t.csv")
        made.read(0)
        return made.identity()["splits"]

    write_photos(tmp_path / "t.csv")
    before = identity()
    write_photos(tmp_path / "t.csv", changed={(3, "title"): "bright"})
    assert identity() != before
    write_photos(tmp_path / "t.csv")
    Image.new("L", (8, 8)).save(tmp_path / "photos" / "3.png")
    assert identity() != before


def test_fusion_is_chosen_where_nobody_chose() -> None:
    typed = ["data=csv", "data.images=[photo]"]
    assert with_implied(typed) == [*typed, "model=fusion"]
    for others in (["model=mlp"], ["experiment=x"]):
        assert with_implied([*typed, *others]) == [*typed, *others]
    assert with_implied(["data=csv", "data.texts=[]"]) == ["data=csv", "data.texts=[]"]


def test_a_run_reads_new_rows_by_its_folder_alone(
    run: Predictor, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type(run.model).__name__ == "Fusion"
    assert run.summary["test"]["accuracy"] == 1
    new = write_photos(folder / "elsewhere" / "new.csv", 8)
    answers = run.predict(new)
    assert answers["class"] == ["dark", "light"] * 4
    assert dispatch(["predict", str(run.path), str(new), "--csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9
    assert (
        run.evaluate(
            data=f"data=csv data.path={new} data.target=kind data.test=0.5 "
            "'data.images=[photo]' 'data.texts=[title]'"
        ).examples
        == 4
    )


def test_any_column_may_be_left_out_where_training_had_it_so(run: Predictor, folder: Path) -> None:
    row: dict[str, Any] = {
        "photo": str(folder / "photos" / "1.png"), "title": "white", "size": 3, "city": "Oslo",
    }  # fmt: skip
    whole = run.predict(row)
    assert whole["class"] == ["light"]
    for name in row:
        less = {key: cell for key, cell in row.items() if key != name}
        assert run.predict(less)["class"] == ["light"], name
        assert run.predict({**row, name: ""})["class"] == ["light"], name
    assert run.predict({"title": "dim shade"})["class"] == ["dark"]
    with pytest.raises(ValueError, match="row 1 has none of size, city, photo, title"):
        run.predict({"kind": "dark"})


def test_a_number_is_predicted_from_texts_alone(folder: Path) -> None:
    found = train(
        [
            *("data=csv", f"data.path={folder / 't.csv'}", "data.target=size", "device=cpu"),
            *("data.texts=[title]", "data.features=[]", "callbacks=none", "trainer.steps=2"),
            *("model.pooling=attention", "model.text=bag", f"output_dir={folder / 'runs'}"),
        ]
    )
    assert 0 < found.predict({"title": "dim"})["prediction"][0] < 7
    with pytest.raises(ValueError, match="has no 'title'"):
        found.predict({"size": 3})


def test_columns_are_needed_where_training_had_them_all(folder: Path) -> None:
    made = table(folder / "t.csv")
    made.read(0)
    reader = made.reader()
    assert reader is not None
    row = {"photo": str(folder / "photos" / "1.png"), "title": "x", "size": 3, "city": "Oslo"}
    batch = reader.read([row, row])
    assert batch["input.photo"].shape == (2, 1, 8, 8) and batch["input.title"].tolist() == [[1]] * 2
    for name, said in (
        ("photo", "has no 'photo'.*only a run that was trained with data.augment.drop"),
        ("title", "has no 'title'"),
        ("size", r"has no column 'size'\. It needs size, city, photo, title\."),
    ):
        with pytest.raises(ValueError, match=said):
            reader.read([{key: cell for key, cell in row.items() if key != name}])
    with pytest.raises(ValueError, match=r"example 0, column 'photo': .*nowhere.png"):
        reader.read([{**row, "photo": "nowhere.png"}])


CHANGES: dict[str, tuple[dict[tuple[int, str], str], dict[str, Any], str]] = {
    "nobody has it": (
        {(4, "photo"): "photos/lost.png"}, {},
        r"line 6, column 'photo' names '.*photos/lost.png', and there is no such file; "
        r"data.missing_images=allow",
    ),
    "no name": ({(4, "photo"): ""}, {}, r"line 6, column 'photo' is empty: it names no image"),
    "no image": (
        {(4, "photo"): "t.csv"}, {}, r"line 6, column 'photo': .*t.csv is no image that can be read"
    ),
    "no column": ({}, {"images": ["foto"]}, r"no column 'foto'\. Did you mean 'photo'"),
    "all lost": (
        {(n, "photo"): "lost" for n in range(60)}, {"missing_images": "allow"},
        "column 'photo' names no image that is there",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_one_message_names_the_row_of_an_image_that_is_not_there(tmp_path: Path, name: str) -> None:
    changed, settings, message = CHANGES[name]
    made = table(write_photos(tmp_path / "t.csv", changed=changed), **settings)
    with pytest.raises(ValueError, match=message) as caught:
        made.read(0)
    assert "\n" not in str(caught.value)


def test_images_of_other_sizes_are_brought_to_one_or_refused(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "t.csv")
    Image.new("RGB", (4, 6), "red").save(tmp_path / "photos" / "4.png")
    with pytest.raises(ValueError, match=r"line 6.*is 4x6 where others are 8x8; data.image_size"):
        table(path).read(0)
    spec = table(path, image_size=10).read(0)
    assert spec.fields["input.photo"].shape == (3, 10, 10)


def test_images_that_lack_are_counted_where_that_is_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_photos(tmp_path / "t.csv", changed={(4, "photo"): "lost", (5, "photo"): ""})
    made = table(path, missing_images="allow", test=0.1, validation=0)
    made.read(0)
    assert "2 of 60 rows have no image 'photo'; it counts as left out there" in caplog.text
    batches = made.open(Placement(torch.device("cpu"), 0))["train"].plain()
    lacking = sum(int(one["input.photo"][:, 0, 0, 0].isnan().sum()) for one in batches)
    assert lacking <= 2
    assert not any("absent" in name for name in next(batches, {}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"texts": ["photo"]}, "texts: 'photo' is in data.images, too"),
        ({"images": ["kind"]}, "images: 'kind' is the target"),
        ({"texts": ["city"]}, r"texts: 'city' is in data.embed, too"),
        ({"exclude": ["title"]}, r"texts: 'title' is in data.exclude, too"),
        ({"image_size": 0}, "image_size must be at least 1"),
        ({"text_length": 0}, "text_length must be at least 1"),
        ({"vocabulary_size": 1}, "vocabulary_size must be at least 3"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(Path("nowhere.csv"), **settings)


def test_a_row_keeps_one_input_at_least_and_each_lacks_as_often() -> None:
    fields = spec().fields

    class Drawing:
        generator = torch.Generator().manual_seed(0)

    batch = {
        "input": torch.ones(4000, 2),
        "input.city": torch.ones(4000, dtype=torch.long),
        "input.photo": torch.ones(4000, 1, 8, 8),
        "input.title": torch.ones(4000, 3, dtype=torch.int32),
        "target": torch.ones(4000),
    }
    found = leave_out(batch, fields, 0.5, Drawing())  # type: ignore[arg-type]
    gone = torch.stack(
        [
            found["input"].isnan().all(1),
            found["input.city"] == 0,
            found["input.photo"].isnan().flatten(1).all(1),
            (found["input.title"] == 0).all(1),
        ]
    )
    assert int(gone.sum(0).max()) == 3
    assert gone.double().mean(1).tolist() == pytest.approx([0.5 - 0.5**4 / 4] * 4, abs=0.03)
    assert torch.equal(found["target"], batch["target"])
    with pytest.raises(ValueError, match=r"augment.drop needs several inputs"):
        VectorAugment(drop=0.1).check({"input": Field((2,), "number", "input")})


def spec() -> DataSpec:
    return DataSpec(
        {
            "input": Field((2,), "number", "input"),
            "input.city": Field((), "category", "input", size=4),
            "input.photo": Field((1, 8, 8), "image", "input"),
            "input.title": Field((None,), "tokens", "input", size=9, fill=0),
            "target": Field((), "class", "target", size=3),
        }
    )


@pytest.mark.parametrize("pooling", ["concat", "attention"])
@pytest.mark.parametrize("text", ["cnn", "bag"])
def test_what_is_left_out_changes_nothing_else(text: Any, pooling: Any) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 6, "image_channels": [2], "text_filters": 3}
    network = Fusion(spec(), 3, text=text, pooling=pooling, embedding_size=5, **sizes).eval()
    numbers, city = torch.randn(2, 2), torch.tensor([1, 2])
    photo, title = torch.randn(2, 1, 8, 8), torch.tensor([[3, 4, 0], [5, 6, 7]])
    whole = network(numbers, city, photo, title)
    assert whole.shape == (2, 3) and whole.isfinite().all()
    padded = network(numbers, city, photo, torch.cat([title, torch.zeros_like(title)], 1))
    assert torch.allclose(whole, padded, atol=1e-6)
    gone = torch.full_like(photo, torch.nan)
    half = torch.cat([gone[:1], photo[1:]])
    less = network(numbers, city, half, title)
    assert torch.allclose(less[1], whole[1], atol=1e-6) and not torch.allclose(less[0], whole[0])
    other = network(numbers, city, torch.cat([gone[:1], gone[1:]]), title)
    assert torch.allclose(other[0], less[0], atol=1e-6)
    bare = network(numbers * torch.nan, city * 0, gone, title * 0)
    assert torch.allclose(bare[0], bare[1], atol=1e-6) and bare.isfinite().all()
    network.train()
    network(numbers, city, half, title).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("fields", "settings", "message"),
    [
        ({"input": Field((4, 2), "number", "input")}, {}, "no encoder for 'input', of kind number"),
        ({"input": Field((0,), "number", "input")}, {}, "fusion needs an input"),
        ({"input": Field((1, None, None), "image", "input")}, {}, "reads images of one size"),
        ({"input": Field((2,), "number", "input")}, {"width": 0}, "width must be at least 1"),
        ({"input": Field((2,), "number", "input")}, {"dropout": 1.0}, "dropout must be a fraction"),
    ],
)
def test_what_fusion_cannot_read_is_refused(fields: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fusion(DataSpec(fields), 2, **settings)


def test_what_goes_wrong_in_a_command_is_one_line(folder: Path) -> None:
    path = write_photos(folder / "lost" / "t.csv", changed={(4, "photo"): "lost.png"})
    with pytest.raises(UserError, match=r"line 6, column 'photo' names .*lost.png"):
        train([*DATA, f"data.path={path}", f"output_dir={folder / 'runs'}"])
