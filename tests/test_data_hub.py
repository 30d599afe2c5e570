"""Data sets that ``datasets`` reads, from local files: images and tables."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from dltrain.contracts.data import Stream, Streams
from dltrain.data.hub import HubImages, HubTable
from dltrain.errors import UserError
from tests.streams import opened, whole

NAMED = datasets.ClassLabel(names=["cat", "dog"])


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``datasets`` converts goes with the test."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")


def png(value: int) -> dict[str, bytes]:
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "png")
    return {"bytes": file.getvalue()}


def write(
    place: Path, split: str, values: Sequence[int], labels: Sequence[Any], feature: Any = NAMED
) -> Path:
    """Images of one value each as a parquet file, as data sets lie on the hub."""
    place.mkdir(exist_ok=True)
    features = datasets.Features({"img": datasets.Image(), "label": feature})
    columns = {"img": [png(value) for value in values], "label": list(labels)}
    rows = datasets.Dataset.from_dict(columns, features)
    rows.to_parquet(place / f"{split}-00000-of-00001.parquet")
    return place


def images(path: Path, **settings: Any) -> Streams:
    return opened(source(path, **settings), 0)


def source(path: Path, **settings: Any) -> HubImages:
    given: dict[str, Any] = {"image": "img", "label": "label", "validation": 0}
    given |= {"mean": [0.0], "std": [1.0], "root": str(path.parent / "own")}
    return HubImages(path=str(path), **given | settings)


def pairs(loader: Stream) -> list[tuple[int, int]]:
    split = whole(loader)
    values = (255 * split["input"][:, 0, 0, 0]).round().int().tolist()
    return sorted(zip(values, split["target"].tolist(), strict=True))


def test_images_labels_and_names_come_as_the_files_have_them(tmp_path: Path) -> None:
    write(tmp_path / "pets", "train", [1, 2, 3], [0, 1, 1])
    path = write(tmp_path / "pets", "test", [4, 5], [1, 0])
    spec = source(path).read(0)
    assert spec.class_names == ("cat", "dog")
    assert spec.input.shape == (1, 4, 4)
    loaders = images(path)
    assert pairs(loaders["train"]) == [(1, 0), (2, 1), (3, 1)]
    assert pairs(loaders["test"]) == [(4, 1), (5, 0)]
    assert whole(images(path, size=2, channels=3)["test"])["input"].shape[1:] == (3, 2, 2)


def test_a_test_split_is_made_where_there_is_none_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write(tmp_path / "pets", "train", range(20), [0, 1] * 10)
    loaders = images(path)
    assert "4 of 20 images are set aside" in caplog.text
    assert sorted(pairs(loaders["train"]) + pairs(loaders["test"])) == [
        (i, i % 2) for i in range(20)
    ]


def test_what_was_decoded_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "pets", "train", range(10), [0, 1] * 5)
    expected = pairs(images(path)["train"])
    monkeypatch.delattr("dltrain.data.cache.decode")
    assert pairs(images(path)["train"]) == expected


@pytest.mark.parametrize("labels", [["b", "a", "b", "c"], [10, 2, 10, 30]])
def test_labels_without_names_are_classes_in_order(labels: list[Any], tmp_path: Path) -> None:
    kind = datasets.Value("string" if isinstance(labels[0], str) else "int64")
    path = write(tmp_path / "pets", "train", [1, 2, 3, 4], labels, kind)
    write(path, "test", [5], labels[:1], kind)
    expected = tuple(str(label) for label in sorted(set(labels)))
    assert source(path).read(0).class_names == expected
    assert pairs(images(path)["train"]) == [(1, 1), (2, 0), (3, 1), (4, 2)]


def test_missing_columns_and_splits_list_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "pets", "train", [1, 2], [0, 1])
    with pytest.raises(ValueError, match=r"no column 'image'.*It has img \(Image\), label \(Cl"):
        source(path, image="image").read(0)
    with pytest.raises(ValueError, match=r"no column 'labels'.*Did you mean 'label'\?"):
        source(path, label="labels").read(0)
    with pytest.raises(ValueError, match=r"'label' holds no images; img does"):
        source(path, image="label").read(0)
    with pytest.raises(ValueError, match=r"no split 'training'.*It has train\."):
        source(path, train_split="training").read(0)
    with pytest.raises(UserError, match=r"data\.path: .*none cannot be read: "):
        source(tmp_path / "none").read(0)


def test_the_only_columns_of_images_and_labels_are_found_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write(tmp_path / "pets", "train", [1, 2, 3], [0, 1, 1])
    write(path, "validation", [6, 7], [1, 0])
    write(path, "extra", [6, 7, 8], [1, 0, 0])
    write(path, "test", [4, 5], [1, 0])
    loaders = images(path, image=None, label=None)
    assert pairs(loaders["train"]) == [(1, 0), (2, 1), (3, 1)]
    assert pairs(loaders["validation"]) == [(6, 1), (7, 0)]
    assert "images of column 'img', labels of column 'label'" in caplog.text
    assert "splits train 3, validation 2, test 2." in caplog.text
    assert "1 files are in no split: extra-00000-of-00001.parquet." in caplog.text
    caplog.clear()
    source(path, validation_split="valid").read(0)
    assert "splits train 3, test 2; not used: splits validation 2." in caplog.text


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"label": "int64", "id": "int64"}, "label"),
        ({"kind": "string"}, "kind"),
        ({"fine": NAMED, "coarse": NAMED}, "several columns that may be the labels: fine, coarse"),
        ({"one": "string", "two": "string"}, "several columns that may be the labels: one, two"),
        ({"photo": datasets.Image(), "label": "int64"}, "several columns of images: img, photo"),
        ({}, "no column of labels. It has img (Image)"),
    ],
)
def test_a_column_is_chosen_only_where_no_other_might_be_meant(
    columns: dict[str, Any], found: str, tmp_path: Path
) -> None:
    kinds = {n: datasets.Value(k) if isinstance(k, str) else k for n, k in columns.items()}
    features = datasets.Features({"img": datasets.Image(), **kinds})
    cells: dict[str, list[Any]] = {"img": [png(1), png(2)] * 3}
    for name, kind in kinds.items():
        one, two = ("a", "b") if columns[name] == "string" else (0, 1)
        cells[name] = [one, two] * 3 if not isinstance(kind, datasets.Image) else cells["img"]
    place = tmp_path / "pets"
    place.mkdir()
    rows = datasets.Dataset.from_dict(cells, features)
    rows.to_parquet(place / "train-00000-of-00001.parquet")
    data = source(place, image=None, label=None, test=0.4)
    if found in columns:
        assert len(data.read(0).class_names) == 2
    else:
        with pytest.raises(ValueError, match=re.escape(found)):
            data.read(0)


def test_labels_that_cannot_be_learned_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "one", "train", [1, 2], [1, 1])
    with pytest.raises(ValueError, match="'label' has one value"):
        source(path).read(0)
    path = write(tmp_path / "other", "train", [1, 2], [1, 2], datasets.Value("int64"))
    write(path, "test", [1, 2], [1, 3], datasets.Value("int64"))
    with pytest.raises(ValueError, match=r"test, row 2: the label 3 is none of the 2 classes"):
        source(path).read(0)


def test_a_row_that_is_no_image_is_named(tmp_path: Path) -> None:
    place = tmp_path / "pets"
    place.mkdir()
    features = datasets.Features({"img": datasets.Image(), "label": NAMED})
    rows = {"img": [png(1), {"bytes": b"no image"}, None], "label": [0, 1, 1]}
    datasets.Dataset.from_dict(rows, features).to_parquet(place / "train-00000-of-00001.parquet")
    write(place, "test", [4], [1])
    with pytest.raises(UserError, match=r"train, row 2 is no image[\s\S]*row 3 is no image"):
        images(place)
    assert pairs(images(place, skip_unreadable=True)["train"]) == [(1, 0)]


def test_a_table_is_read_as_a_file_would_be(tmp_path: Path) -> None:
    place = tmp_path / "table"
    place.mkdir()
    (place / "train.csv").write_text("a,b,y\n1,u,0.5\n2,v,1\n3,u,1.5\n,v,9\n")
    (place / "test.csv").write_text("a,b,y\n4,v,2\n")
    table = HubTable(str(place), target="y", missing="drop", validation=0, standardize=False)
    assert table.read(0).input.names == ("a", "b=u", "b=v")
    loaders = opened(table, 0)
    assert loaders["train"].examples == 3
    assert whole(loaders["test"])["input"].tolist() == [[4, 0, 1]]
    assert whole(loaders["test"])["target"].tolist() == [[2]]
    with pytest.raises(ValueError, match=r"table \(train\) has no column 'z'. It has a, b, y\."):
        HubTable(str(place), target="z").read(0)


def test_the_labels_of_a_table_keep_their_names(tmp_path: Path) -> None:
    place = tmp_path / "table"
    place.mkdir()
    features = datasets.Features({"a": datasets.Value("float32"), "y": NAMED})
    rows = datasets.Dataset.from_dict({"a": [1.0, 2.0, 3.0, 4.0], "y": [0, 1, 0, 1]}, features)
    rows.to_parquet(place / "train-00000-of-00001.parquet")
    table = HubTable(str(place), target="y", test=0.5)
    assert table.read(0).class_names == ("cat", "dog")
    assert opened(table, 0)["test"].examples == 2


def test_pickles_in_the_working_folder_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.pkl").write_bytes(b"no pickle")
    with pytest.raises(UserError, match="pandas means pickles"):
        HubImages(path="pandas", image="img", label="label", root=str(tmp_path)).read(0)


def test_a_data_set_is_streamed_as_it_is_read(tmp_path: Path) -> None:
    place = write(tmp_path / "set", "train", range(40), [n % 2 for n in range(40)])
    write(place, "test", range(100, 110), [n % 2 for n in range(10)])
    given = {"validation": 0.25, "mean": [0.0], "std": [1.0], "batch_size": 8}
    made = source(place, streaming=True, **given)
    streams = opened(made)
    assert made.outline().class_names == ("cat", "dog")
    assert pairs(streams["test"]) == pairs(images(place)["test"])
    parts = [pairs(streams[name]) for name in ("train", "validation")]
    assert sorted(parts[0] + parts[1]) == pairs(images(place)["train"])
    batches = [batch["target"].tolist() for batch in streams["train"].batches(1)]
    assert [batch["target"].tolist() for batch in streams["train"].batches(1, 2)] == batches[2:]
    again = source(place, streaming=True, **given)
    again.read(0)
    assert made.identity() == again.identity() != {}


@pytest.mark.parametrize("given", [{"balance": True}, {"folds": 2}, {"validation": 3}])
def test_what_needs_all_examples_is_refused_of_a_stream(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    place = write(tmp_path / "set", "train", range(4), [0, 1, 0, 1])
    with pytest.raises(ValueError, match=f"{next(iter(given))}.* needs all examples at once"):
        source(place, streaming=True, **given)


def test_a_data_set_that_is_nowhere_is_no_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"cannot be streamed: .* Streaming needs a network") as e:
        HubImages(path="no-one/nothing", root=str(tmp_path), streaming=True).read(0)
    assert "\n" not in str(e.value)
