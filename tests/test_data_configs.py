"""Every data set's YAML: it composes, says what it is, and feeds a model."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from dltrain import training as run
from dltrain.config.build import build
from dltrain.contracts.data import Source
from tests.asking import answers, assembled
from tests.boxes import Boxes, write_coco, write_voc, write_yolo
from tests.conftest import REPOSITORY, Compose, two_inputs
from tests.sounds import write_folder
from tests.streams import first, opened, read_what_is_not_known

FOLDER = REPOSITORY / "configs" / "data"
# Games of the Atari 2600 need an extra that tests do without.
NAMES = sorted({path.stem for path in FOLDER.glob("*.yaml")} - {"atari"})
COMMON = {"root", "batch_size", "validation", "limit", "evaluation_batch_size"}
BUNDLED = [
    *("adding", "breast_cancer", "circles", "diabetes", "digits", "gates", "iris", "line"),
    "moons",
]
BOXES = {"voc": write_voc, "coco": write_coco, "yolo_txt": write_yolo}
# What is no class or number an image: a network of its own reads it.
SOUNDS = {"audio_folder", "audio_strings", "audio_transcripts"}
SPATIAL = {
    *("gym", "image_masks", "style", "text_file", "parallel", "ratings", "series"),
    *BOXES,
    *SOUNDS,
}
IMAGES = {
    *BOXES,
    "cifar10",
    "digits",
    "fashion_mnist",
    "hub",
    "image_folder",
    "image_masks",
    "mnist",
    "shards",
    "style",
}
TEXTS = {"hub_text", "imdb", "text_csv", "toy_reviews", "trec"}
KINDS = {
    **dict.fromkeys({*TEXTS, "parallel", "text_file"}, "tokens"),
    **dict.fromkeys(IMAGES, "image"),
    **dict.fromkeys(SOUNDS, "audio"),
    "ratings": "category",
}
REVIEWS = "text,label\ngood,1\nbad,0\na good one,1\na bad one,0\n"


def overrides(name: str, tmp_path: Path) -> list[str]:
    """What a data set needs beyond its name."""
    table = tmp_path / "table" / "table.csv"
    table.parent.mkdir()
    table.write_text("a,b,y\n1,2,u\n3,4,v\n1,2,u\n3,4,v\n", encoding="utf-8")
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("".join(f"text {n}\tsatz {n}\n" for n in range(20)), encoding="utf-8")
    rated = tmp_path / "rated.tsv"
    rated.write_text("".join(f"{n % 7}\t{n % 6}\t{n % 5}\n" for n in range(42)), encoding="utf-8")
    series = tmp_path / "series.csv"
    days = [f"2024-01-{day:02},{day % 7},{day}\n" for day in range(1, 31)]
    series.write_text("date,a,b\n" + "".join(days), encoding="utf-8")
    reviews = tmp_path / "reviews"
    reviews.mkdir()
    for split in ("train", "test"):
        (reviews / f"{split}.csv").write_text(REVIEWS, encoding="utf-8")
    for label in ("u", "v"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("L", (16, 16)).save(folder / f"{number}.png")
    for place in ("images", "masks"):
        for number in range(4):
            path = tmp_path / "masked" / place / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.linear_gradient("L").resize((16, 16)).point(lambda x: x // 128).save(path)
    if name in ("shards", "table_shards"):
        path = tmp_path / "0.parquet"
        image = (tmp_path / "images" / "u" / "0.png").read_bytes()
        columns = {"image": [image] * 8, "label": ["u", "v"] * 4}
        numbers = {"a": range(8), "y": ["u", "v"] * 4}
        pq.write_table(pa.table(columns if name == "shards" else numbers), path)
        target = [] if name == "shards" else ["data.target=y"]
        aside = ["data.test=0", "data.validation=0"]
        return [f"data.path={path}", f"data.root={tmp_path}", *aside, *target]
    if name == "gym":
        return ["data.environment=CartPole-v1"]
    if name in BOXES:
        boxed: dict[str, Boxes] = {f"{n}": [("cat", 2, 2, 9, 9)] for n in range(4)}
        (tmp_path / name).mkdir()
        BOXES[name](tmp_path / name, boxed)
        return [f"data.path={tmp_path / name}", f"data.root={tmp_path}", "data.validation=1"]
    if name in SOUNDS:
        pattern = {"audio_transcripts": ["data.pattern='{text}'"], "audio_folder": []}
        strings = ["data.pattern='{label}'", "data.by=label", "data.strings=4"]
        chosen = pattern.get(name, [*strings, "data.test_strings=2"])
        return [f"data.path={write_folder(tmp_path / name)}", f"data.root={tmp_path}", *chosen]
    images = [f"data.path={tmp_path / 'images'}", "data.test=0.5", f"data.root={tmp_path}"]
    for part in ("train_5500.label", "TREC_10.label"):
        lines = "".join(
            f"{label} what is {n} ?\n" for n in "abc" for label in ("HUM:ind", "NUM:date")
        )
        (tmp_path / part).write_text(lines, encoding="latin-1")
    given = {
        "csv": [f"data.path={table}", "data.target=y", "data.test=0.5"],
        "hub": [*images, "data.image=image", "data.label=label"],
        "hub_table": [f"data.path={table.parent}", "data.target=y", "data.test=0.5"],
        "image_folder": images,
        "image_masks": [f"data.path={tmp_path / 'masked'}", f"data.root={tmp_path}"],
        "style": [f"data.{n}={tmp_path / 'images/u/0.png'}" for n in ("content", "style")],
        "hub_text": [f"data.path={reviews}", f"data.root={tmp_path}"],
        "text_file": [f"data.path={reviews / 'train.csv'}"],
        "imdb": [f"data.path={reviews}", f"data.root={tmp_path}", "data.validation=1"],
        "text_csv": [
            *(f"data.path={reviews / 'train.csv'}", f"data.root={tmp_path}"),
            *("data.text=text", "data.label=label", "data.test=0.5"),
        ],
        "ratings": [f"data.path={rated}"],
        "series": [
            *(f"data.path={series}", "data.target=all", "data.history=4", "data.horizon=2"),
            "data.validation=4",
        ],
        "parallel": [f"data.path={pairs}", "data.source=1", "data.target=2"],
        "trec": [f"data.path={tmp_path}", f"data.root={tmp_path}"],
    }
    return given.get(name, [])


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``datasets`` converts goes with the test."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SPATIAL])
def test_a_data_set_has_the_common_keys_and_makes_a_network(
    name: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "model=lstm" if name in TEXTS else "model=mlp"
    config = compose(f"data={name}", model, "device=cpu", *overrides(name, tmp_path))
    augmented = set() if name in {"adding", *TEXTS} else {"augment"}
    assert set(config["data"]) >= COMMON | augmented

    read_what_is_not_known(config["data"], monkeypatch)
    parts = assembled(config)
    facts = parts.spec.facts()
    inputs = two_inputs(facts)
    assert answers(parts.task, inputs).shape == (2, facts["outputs"])


@pytest.mark.parametrize("name", BUNDLED)
def test_a_spec_says_what_the_batches_are(name: str, compose: Compose) -> None:
    config = compose(f"data={name}")
    source: Source = build(config["data"], Source, "data")
    outline = source.outline()
    streams = opened(source)
    batch = first(streams["train"])
    spec = source.read(0)

    assert outline.complete and outline.facts() == spec.facts()
    assert tuple(batch["input"].shape[1:]) == spec.input.shape
    assert batch["input"].dtype == torch.float32
    if spec.class_names:
        assert len(spec.class_names) == len(spec.target.counts) == spec.target.size
        assert sum(spec.target.counts) == streams["train"].examples
        assert int(batch["target"].max()) < len(spec.class_names)
    else:
        assert tuple(batch["target"].shape[1:]) == spec.target.shape


@pytest.mark.parametrize("name", NAMES)
def test_making_a_source_and_its_outline_read_nothing(
    name: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(f"data={name}", *overrides(name, tmp_path))
    data = dict(config["data"])
    for key in ("path", "copies", "root"):
        data |= {key: str(tmp_path / "nowhere")} if key in data else {}
    monkeypatch.setattr(Path, "open", None)
    monkeypatch.setattr("datasets.load_dataset", None)
    source: Source = build(data, Source, "data")
    spec = source.outline()
    assert {field.kind for field in spec.of("input")} == {KINDS.get(name, "number")}
    assert not (tmp_path / "nowhere").exists()


def test_the_imagenet_recipe_reads_a_folder_and_trains(compose: Compose, tmp_path: Path) -> None:
    # Its own size of 224 and batch of 256 would take minutes; the network must fit the smaller one.
    config = compose(
        *("experiment=alexnet_imagenet", "data.size=64", "device=cpu"),
        *("callbacks=none", "trainer.epochs=1", f"output_dir={tmp_path / 'outputs'}"),
        *overrides("image_folder", tmp_path),
    )
    assert run.train(config)["status"] == "finished"
