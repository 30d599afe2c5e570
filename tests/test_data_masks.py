"""Images with masks: which belong together, what values mean, what is refused, what moves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain.contracts.data import Batch, DataSpec, Placement
from dltrain.contracts.tiles import spans
from dltrain.data.images.source import ImageAugment
from dltrain.data.masks.classes import read_classes
from dltrain.data.masks.pairs import natural
from dltrain.data.masks.source import ImageMasks
from dltrain.data.masks.touching import touching_weights
from dltrain.errors import UserError
from tests.streams import CPU

SIDE = 8


def save(path: Path, pixels: Any, dtype: Any = np.uint8, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, dtype))
    (image if mode is None else image.convert(mode)).save(path)


def pair(folder: Path, name: str, mask: Any = None, side: int = SIDE, split: str = "") -> None:
    """An image whose pixels are 100 times its mask's classes."""
    values = np.indices((side, side)).sum(0) // 4 % 2 if mask is None else np.asarray(mask)
    gray = np.minimum(values if values.ndim == 2 else values[..., 0], 2) * 100
    save(folder / split / "images" / f"{name}.png", gray)
    save(folder / split / "masks" / f"{name}.png", values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        pair(tmp_path / "data", f"cell{number}")
    return tmp_path / "data"


def source(folder: Path, **settings: Any) -> ImageMasks:
    return ImageMasks(folder, root=folder.parent / "root", **{"workers": 0, **settings})


def read(folder: Path, **settings: Any) -> tuple[DataSpec, dict[str, Batch]]:
    """The spec, and the first batch of each split."""
    made = source(folder, **settings)
    spec = made.read(0)
    streams = made.open(Placement(CPU, 0))
    return spec, {name: next(stream.batches(0)) for name, stream in streams.items()}


def refused(folder: Path, **settings: Any) -> str:
    with pytest.raises((ValueError, UserError)) as caught:
        read(folder, **settings)
    return str(caught.value)


@pytest.mark.parametrize("memory_limit", [4, 0])
def test_pixels_and_masks_are_those_of_the_files(folder: Path, memory_limit: float) -> None:
    spec, batches = read(folder, memory_limit=memory_limit)
    assert spec.target.kind == "mask"
    assert (spec.target.names, spec.target.fill) == (("0", "1"), 255)
    assert sum(spec.target.counts) == 7 * SIDE**2, "validation and test pixels do not count"
    assert {name: len(batch["target"]) for name, batch in batches.items()} == {
        "train": 7,
        "validation": 1,
        "test": 2,
    }
    for batch in batches.values():
        pixels = (batch["input"] * 0.25 + 0.5) * 255
        torch.testing.assert_close(pixels[:, 0], batch["target"] * 100.0, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{split}", "masks/{split}"),
        ("{split}/image", "{split}/label"),
        ("{split}", "{split}annot"),
        ("imgs/{split}", "Labels/{split}"),
    ],
)
def test_the_usual_layouts_are_found(tmp_path: Path, images: str, masks: str) -> None:
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for number in range(count):
            ramp = np.indices((SIDE, SIDE))[0] // 4
            for place, factor in ((images, 9), (masks, 1)):
                save(
                    tmp_path / "d" / place.replace("{split}", split) / f"{number}.png",
                    ramp * factor,
                )
    _, batches = read(tmp_path / "d")
    assert [len(batch["target"]) for batch in batches.values()] == [3, 1, 2]
    _, named = read(tmp_path / "d", images=images, masks=masks)
    assert torch.equal(named["test"]["target"], batches["test"]["target"])


def test_masks_may_have_an_ending_and_pages(tmp_path: Path) -> None:
    values = np.indices((SIDE, SIDE))[1] // 4
    for number in range(4):
        save(tmp_path / "d/images" / f"a{number}.png", values)
        save(tmp_path / "d/masks" / f"a{number}_mask.png", values * 255)
    spec, _ = read(tmp_path / "d")
    assert spec.target.names == ("0", "255")
    pages = [Image.fromarray((values * 40 + n * 256).astype(np.uint16)) for n in range(5)]
    pages[0].save(tmp_path / "volume.tif", save_all=True, append_images=pages[1:])
    masks = [Image.fromarray(np.roll(values, n, 1).astype(np.uint8)) for n in range(5)]
    masks[0].save(tmp_path / "labels.tif", save_all=True, append_images=masks[1:])
    settings = {"images": "volume.tif", "masks": "labels.tif", "order": "name", "validation": 0}
    _, batches = read(tmp_path, **settings)
    assert torch.equal(batches["test"]["target"][0], torch.from_numpy(np.roll(values, 4, 1)))
    masks[0].save(tmp_path / "labels.tif", save_all=True, append_images=masks[2:])
    assert "volume.tif has 5 pages, and its mask" in refused(tmp_path, **settings)


def test_numbers_in_names_are_numbers() -> None:
    names = [Path(name) for name in ("s10.png", "s2.png", "s2b.png", "t1.png")]
    assert sorted(names, key=natural) == [names[1], names[2], names[0], names[3]]


def test_colors_palettes_and_gray_values_are_classes(tmp_path: Path) -> None:
    classes = np.indices((SIDE, SIDE))[0] // 3
    colors = np.array([[0, 0, 0], [200, 0, 9], [9, 9, 250]], np.uint8)
    for number in range(4):
        save(tmp_path / "d/images" / f"{number}.png", classes)
        save(tmp_path / "d/masks" / f"{number}.png", colors[classes])
    told = refused(tmp_path / "d")
    assert "1.png has the color [0, 0, 0] (row 1, column 1; 24 pixels), and 2 other unknown" in told
    assert "data.classes_file=FILE" in told
    (tmp_path / "list.txt").write_text("name,r,g,b\nsky,0,0,0\nred thing,200,0,9\nblue,9,9,250\n")
    spec, batches = read(tmp_path / "d", classes_file=str(tmp_path / "list.txt"))
    assert spec.target.names == ("sky", "red thing", "blue")
    assert spec.target.colors[1] == (200, 0, 9)
    assert torch.equal(batches["test"]["target"][0], torch.from_numpy(classes))
    (tmp_path / "two.txt").write_text("sky 0 0 0\nred 200 0 9\n")
    assert "has the color [9, 9, 250]" in refused(
        tmp_path / "d", classes_file=str(tmp_path / "two.txt")
    )
    palette = Image.fromarray(classes.astype(np.uint8))
    palette.putpalette(colors.tobytes())
    for number in range(4):
        palette.save(tmp_path / "d/masks" / f"{number}.png")
    spec, batches = read(tmp_path / "d", classes=["a", "b", "c"], ignore="b")
    assert spec.target.names == ("a", "c")
    assert set(batches["test"]["target"].unique().tolist()) == {0, 1, 255}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,1,2,3\nb,1,2,3", "line 2: 'b' has the color of 'a'"),
        ("a\nb\na", "line 3: the class 'a' comes twice"),
        ("a,1,2,3\nb", "line 2: 'b' has no color"),
        ("a,1,2,300", "line 1: a color is"),
        ('{"a": [1, 2]}', "a: a color is"),
        ("{", "is no JSON"),
    ],
)
def test_a_file_of_classes_is_refused_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / ("c.json" if text[0] == "{" else "c.txt")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"classes|c\.txt|c\.json") as caught:
        read_classes(None, str(path))
    assert said in str(caught.value)


def test_a_file_of_classes_may_be_of_any_usual_form(tmp_path: Path) -> None:
    for text in ("# all\n128 64 0\tcar\n0 0 0 the rest\n", "car:128,64,0::\nthe rest:0,0,0::\n"):
        (tmp_path / "c.txt").write_text(text)
        found = read_classes(None, str(tmp_path / "c.txt"))
        assert found.names == ("car", "the rest")
        assert found.colors == ((128, 64, 0), (0, 0, 0))


def test_what_does_not_fit_is_refused_or_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ramp = np.indices((SIDE, SIDE))[0] // 4
    save(folder / "masks" / "cell3.png", np.zeros((4, 9)))
    assert "cell3.png is 9x4, and its image" in refused(folder)
    _, batches = read(folder, skip_unreadable=True)
    assert sum(len(batch["target"]) for batch in batches.values()) == 9
    assert "left out: " in caplog.text
    (folder / "masks" / "cell3.png").unlink()
    told = refused(folder)
    assert "cell3.png has no mask in" in told
    assert "data.skip_unmatched=true" in told
    read(folder, skip_unmatched=True)
    assert "images without a mask 1 (cell3.png)" in caplog.text
    save(folder / "masks" / "cell3.png", ramp)
    save(folder / "masks" / "other.png", ramp)
    read(folder)
    assert "masks without an image 1 (other.png)" in caplog.text
    save(folder / "masks" / "cell3.png", np.where(ramp == 1, 255, ramp))
    told = refused(folder, classes=["a", "b"])
    assert "cell3.png has the value 255 (row 5, column 1; 32 pixels)" in told
    assert "data.ignore=VALUE" in told
    spec, _ = read(folder, classes=["a", "b"], ignore=255)
    assert spec.target.names == ("a", "b")
    read(folder, classes=["a", "b", "nobody"], ignore=255)
    assert "no training image has a pixel of nobody" in caplog.text
    assert "data.values=[0,1,255]" in refused(folder)
    for mask in (folder / "masks").iterdir():
        save(mask, np.full((SIDE, SIDE), 255))
    with pytest.raises(ValueError, match="ignore leaves no pixel of a training mask"):
        read(folder, classes=["a", "b"], ignore=255)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ignore": "sky"}, "there is no class 'sky'"),
        ({"values": [0, 1], "classes": ["a", "b", "c"]}, "2 for 3 classes"),
        ({"classes": ["a"]}, "less than two classes"),
        ({"crop_size": [3]}, "crop_size is a side"),
        ({"tile": 10, "overlap": 6}, "overlap is from 0 to half of tile"),
        ({"group": "patient"}, "give the file as table"),
        ({"images": "images"}, "give both, or neither"),
        ({"images": "imagez", "masks": "masks"}, "Did you mean"),
        ({"touching_weight": 1, "touching_class": "x", "classes": ["a", "b"]}, "no class 'x'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    folder: Path, settings: dict[str, Any], said: str
) -> None:
    assert said in refused(folder, **settings)


def test_images_are_divided_by_lists_groups_and_order(folder: Path) -> None:
    (folder.parent / "test.txt").write_text("cell7\ncell8.png\n")
    made = source(folder, test=str(folder.parent / "test.txt"), validation=0)
    made.read(0)
    assert len(made.identity()["splits"]) == 2
    rows = "".join(f"cell{n}.png,{'abc'[n % 3]}\n" for n in range(10))
    (folder.parent / "table.csv").write_text(f"file,patient\n{rows}")
    table = str(folder.parent / "table.csv")
    _, batches = read(folder, table=table, group="patient", test=0.3)
    assert sorted(len(batch["target"]) for batch in batches.values()) == [3, 3, 4]
    (folder.parent / "table.csv").write_text(f"file,patient\n{rows[:-12]}")
    assert "has no row of" in refused(folder, table=table, group="patient")


def test_images_of_several_sizes_are_padded_and_cut(tmp_path: Path) -> None:
    sides = [6, 6, 6, 6, 13]
    for number, side in enumerate(sides):
        pair(tmp_path / "d", str(number), side=side)
    settings = {"validation": 0, "order": "name"}
    spec, batches = read(tmp_path / "d", **settings, crop_size=8)
    assert batches["train"]["target"].shape == (4, 8, 8)
    assert int((batches["train"]["target"] == 255).sum()) == 4 * (64 - 36)
    assert batches["test"]["target"].shape == (1, 13, 13)
    _, cut = read(tmp_path / "d", **settings, tile=7, overlap=2)
    assert cut["test"]["target"].shape == (9, 7, 7)
    assert int((cut["test"]["target"] != 255).sum()) == 13**2, "each pixel counts once"
    assert int((cut["test"]["target"] == 1).sum()) == int((batches["test"]["target"] == 1).sum())
    assert spec.input.shape == (1, None, None)


@pytest.mark.parametrize(
    ("length", "side", "overlap"), [(13, 7, 2), (100, 33, 16), (7, 7, 0), (8, 7, 3)]
)
def test_spans_cover_a_length_once(length: int, side: int, overlap: int) -> None:
    found = spans(length, side, overlap)
    assert [place for _, _, low, high in found for place in range(low, high)] == list(range(length))
    assert all(start <= low < high <= end <= length for start, end, low, high in found)
    pairs = pairwise(found)
    assert all(one[1] - other[0] >= overlap for one, other in pairs)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rotate": 180.0, "flip": 0.5, "scale": 0.2, "shear": 5.0},
        {"elastic_alpha": 20.0},
        {"quarter_turns": True},
    ],
)
def test_masks_move_with_the_pixels(tmp_path: Path, changes: dict[str, Any]) -> None:
    for number in range(6):
        mask = np.zeros((32, 32), int)
        mask[4 + number : 20, 6:24] = 1
        pair(tmp_path / "d", str(number), mask=mask)
    augment = ImageAugment(**changes)
    made = source(tmp_path / "d", crop_size=[24, 20], augment=augment, validation=0)
    made.read(0)
    batch = next(made.open(Placement(CPU, 3))["train"].batches(0))
    assert batch["target"].shape == (5, 24, 20)
    pixels = (batch["input"][:, 0] * 0.25 + 0.5) * 255 / 100
    known = batch["target"] != 255
    apart = (pixels - batch["target"]).abs()[known]
    assert float((apart > 0.51).float().mean()) < 0.02, "but for rounding at the borders"
    assert set(batch["target"].unique().tolist()) <= {0, 1, 255}


def test_a_quarter_turn_changes_no_pixel() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4).repeat(50, 1, 1, 1)
    from tests.test_augment import drawing_from, image_field

    augment = ImageAugment(quarter_turns=True)
    found = augment({"input": images}, drawing_from(0, 50), {"input": image_field(images)})["input"]
    turned = [torch.rot90(images[0], turn, (1, 2)) for turn in range(4)]
    seen = [
        [torch.allclose(one, other, atol=1e-4) for other in turned].index(True) for one in found
    ]
    assert set(seen) == {0, 1, 2, 3}


def test_the_gap_between_two_objects_weighs_most() -> None:
    objects = np.zeros((9, 20), bool)
    objects[2:7, 2:8] = objects[2:7, 10:18] = True
    weights = touching_weights(objects, 10.0, 5.0)
    expected = 10 * np.exp(-((1 + 2) ** 2) / (2 * 5.0**2))
    assert weights[4, 8] == pytest.approx(expected)
    assert weights[objects].max() == 0
    assert weights.max() == pytest.approx(expected)
    assert touching_weights(objects[:, :9], 10.0, 5.0).max() == 0, "one object touches none"


def test_a_new_image_is_read_at_its_own_size(folder: Path) -> None:
    made = source(folder)
    made.read(0)
    reader = made.reader()
    assert reader.at_once == 1
    (path,) = reader.expand([folder / "images" / "cell0.png"])
    assert reader.read([path])["input"].shape == (1, 1, SIDE, SIDE)
    with pytest.raises(ValueError, match="read one by one"):
        reader.read([np.zeros((3, 3), np.uint8), np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize("turn", [3, 6])
def test_a_mask_of_a_palette_is_turned_as_its_image_is(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    values = np.zeros((4, 6), np.uint8)
    values[0, :2] = 1
    for number in range(4):
        pair(tmp_path / "d", str(number))
        image, mask = (Image.fromarray(values * scale) for scale in (200, 1))
        mask.putpalette([0, 0, 0, 90, 90, 90])
        image.save(tmp_path / "d" / "images" / f"{number}.png", exif=exif)
        mask.save(tmp_path / "d" / "masks" / f"{number}.png", exif=exif)
    _, batches = read(tmp_path / "d", validation=0)
    pixels, target = batches["train"]["input"][:, 0], batches["train"]["target"]
    assert torch.equal(pixels == pixels.max(), target == 1)


def test_what_decoding_takes_away_from_images_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)
    save(folder / "images" / "cell1.png", pixels * 40, np.uint16)
    save(folder / "images" / "cell2.png", np.full((SIDE, SIDE, 3), (200, 9, 9)))
    read(folder, channels=1)
    assert "1 images have pixels of more than 8 bits, from 0 to " in caplog.text
    assert "1 of 10 images have colors, which data.channels=1 makes gray" in caplog.text
    caplog.clear()
    read(folder, window=[0, 100], channels=1)
    assert "1 images have pixels beyond data.window=[0,100]" in caplog.text


def test_a_crop_beyond_the_images_is_told_as_that(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(folder, crop_size=2 * SIDE)
    side = SIDE
    assert (
        f"data.crop_size=[{2 * side}, {2 * side}] is more than the train images have, {side}x"
        in (caplog.text)
    )
    assert "many sizes" not in caplog.text


def test_nothing_to_learn_or_to_test_is_told_as_that(folder: Path) -> None:
    assert "ignore leaves no pixel of a training mask" in refused(folder, ignore=[0, 1])
    for number in range(2, 10):
        (folder / "images" / f"cell{number}.png").unlink()
    assert "test=0.2 of 2 images is none: a larger fraction" in refused(folder)
