"""Anyone's own images: what every kind of file becomes, what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dltrain.contracts.data import Stream, Streams
from dltrain.data.images.decode import OtherSizeError, Shape, decode
from dltrain.data.images.digits import Digits
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.images.survey import Asked, find_shape, read_header
from dltrain.data.streams.on_disk import FileStream
from dltrain.errors import UserError
from tests.conftest import Train
from tests.streams import opened, whole

Pixels = np.ndarray[Any, Any]
PLAIN: dict[str, Any] = {"mean": [0.0], "std": [1.0], "batch_size": 8}


def bytes_of(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


GRAY = Shape(1, 2, 3, None)
COLOR = Shape(3, 2, 3, None)
RAMP = np.arange(0, 240, 40, dtype=np.uint8).reshape(2, 3)


def transparent() -> Image.Image:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    return Image.fromarray(pixels)


def palette() -> Image.Image:
    return Image.fromarray(np.stack([RAMP, RAMP, RAMP], 2)).quantize(8)


@pytest.mark.parametrize(
    ("image", "shape", "expected"),
    [
        (Image.fromarray(RAMP), GRAY, RAMP[None]),
        (Image.fromarray(RAMP), COLOR, np.stack([RAMP] * 3)),
        (Image.fromarray(np.stack([RAMP] * 3, 2)), GRAY, RAMP[None]),
        (Image.fromarray(RAMP.astype(np.uint16) * 257), GRAY, RAMP[None]),
        (palette(), COLOR, np.stack([RAMP] * 3)),
        (Image.fromarray(RAMP > 100), GRAY, (RAMP > 100)[None] * 255),
    ],
    ids=["gray", "gray to color", "color to gray", "16 bits", "palette", "1 bit"],
)
def test_every_mode_becomes_bytes(
    image: Image.Image, shape: Shape, expected: Pixels, tmp_path: Path
) -> None:
    found = decode(bytes_of(image, tmp_path / "a.png"), shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    found = decode(bytes_of(transparent(), tmp_path / "a.png"), COLOR)
    assert found[:, 0, 0].tolist() == [10, 20, 30]
    assert (found.reshape(3, -1)[:, 1:] == 255).all()


def test_cmyk_is_read_as_color(tmp_path: Path) -> None:
    cyan = Image.new("CMYK", (3, 2), (255, 0, 0, 0))
    found = decode(bytes_of(cyan, tmp_path / "a.jpg"), COLOR)
    assert found[0].max() < 40 and found[2].min() > 200


def test_an_image_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter to the right
    path = bytes_of(Image.fromarray(RAMP), tmp_path / "a.png", exif=exif)
    found = decode(path, Shape(1, 3, 2, None))
    np.testing.assert_array_equal(found[0], np.rot90(RAMP, -1))
    asked = Asked(None, None, "crop")
    assert find_shape(asked, {"train": {0: read_header(path)}}, {"train": ["a"]}) == Shape(
        1, 3, 2, None
    )


def test_other_shapes_are_cropped_padded_or_stretched(tmp_path: Path) -> None:
    wide = np.full((4, 8), 200, np.uint8)
    wide[:, :2] = 0
    path = bytes_of(Image.fromarray(wide), tmp_path / "a.png")

    crop = decode(path, Shape(1, 4, 4, "crop"))[0]
    pad = decode(path, Shape(1, 8, 8, "pad"))[0]
    stretch = decode(path, Shape(1, 4, 4, "stretch"))[0]
    assert (crop == 200).all()
    assert (pad[:2] == 0).all() and (pad[6:] == 0).all()
    np.testing.assert_array_equal(pad[2:6], wide)
    assert stretch[0, 0] < 50 and (stretch[:, 2:] == 200).all()
    with pytest.raises(OtherSizeError, match="8x4 where others are 4x4"):
        decode(path, Shape(1, 4, 4, None))


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write("train/cat", 3, 0)``: three images of a class, each of one value of its own."""

    def written(folder: str, count: int, first: int = 0, size: int = 4) -> Path:
        place = tmp_path / "images" / folder
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            gray = Image.new("L", (size, size), first + number)
            gray.save(place / f"{number:03}.png")
        return tmp_path / "images"

    return written


def folder(path: Path, seed: int = 0, **settings: Any) -> Streams:
    settings = PLAIN | {"root": str(path.parent / "own")} | settings
    return opened(ImageFolder(path=str(path), **settings), seed)


def values(loader: Stream) -> list[int]:
    """The images' own values, in order."""
    return [round(255 * value) for value in whole(loader)["input"][:, 0, 0, 0].tolist()]


def test_folders_are_classes_and_a_test_split_is_made_and_said(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write("cat", 20)
    path = write("ant", 10, first=100)
    (path / "cat" / ".DS_Store").write_text("hidden")
    loaders = folder(path, validation=0)

    assert "6 of 30 images are set aside" in caplog.text
    source = ImageFolder(path=str(path), root=str(path.parent / "own"), validation=0)
    outline, spec = source.outline(), source.read(0)
    assert not outline.complete and outline.input.shape == (None, None, None)
    assert (spec.class_names, spec.target.counts) == (("ant", "cat"), (8, 16))
    assert spec.complete and spec.input.shape == (1, 4, 4)
    train, test = values(loaders["train"]), values(loaders["test"])
    assert sorted(train + test) == [*range(20), *range(100, 110)]
    assert sum(value >= 100 for value in test) == 2
    targets = whole(loaders["test"])["target"].tolist()
    assert targets == [0 if value >= 100 else 1 for value in test]
    assert values(folder(path, seed=5)["test"]) == test


def test_given_splits_are_used_as_they_are(write: Write) -> None:
    for number, name in enumerate(("train", "val", "test")):
        write(f"{name}/a", 3, first=10 * number)
        path = write(f"{name}/b", 2, first=100 + 10 * number)
    loaders = folder(path, validation=0.4)

    assert sorted(values(loaders["train"])) == [0, 1, 2, 100, 101]
    assert values(loaders["validation"]) == [10, 11, 12, 110, 111]
    assert values(loaders["test"]) == [20, 21, 22, 120, 121]


def test_images_are_decoded_once_until_something_changes(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Any] = []

    def counting(file: Any, shape: Shape) -> Pixels:
        decoded.append(file)
        return decode(file, shape)

    monkeypatch.setattr("dltrain.data.cache.decode", counting)
    write("a", 5)
    path = write("b", 5, first=50)
    first = values(folder(path)["test"])
    assert len(decoded) == 10
    assert values(folder(path)["test"]) == first
    assert len(decoded) == 10
    folder(path, size=2)
    assert len(decoded) == 20
    write("b", 6, first=60)
    assert len(set(values(folder(path, validation=0)["train"]))) == 8 + 1 - 0
    assert len(decoded) == 31
    assert not list((path.parent / "own" / "cache").glob("*.partial"))


def test_what_is_no_image_is_named_and_nothing_is_kept(write: Write) -> None:
    write("a", 5)
    path = write("b", 5)
    (path / "b" / "empty.png").write_bytes(b"")
    (path / "b" / "photo.HEIC").write_bytes(b"....ftypheic")
    (path / "a" / "cut.png").write_bytes((path / "a" / "000.png").read_bytes()[:44])

    with pytest.raises(UserError) as caught:
        folder(path)
    message = str(caught.value)
    assert f"{path / 'b' / 'empty.png'} is no image that can be read: it is empty" in message
    assert f"{path / 'b' / 'photo.HEIC'} is HEIC that is not read here; convert it" in message
    assert f"{path / 'a' / 'cut.png'} is no image that can be read to its end" in message
    assert "data.skip_unreadable=true" in message
    assert not list((path.parent / "own" / "cache").iterdir())


def test_what_is_no_image_is_left_out_when_asked_and_listed(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "test"):
        write(f"{split}/a", 5)
        path = write(f"{split}/b", 5, first=50)
    (path / "train" / "a" / "00.png").write_text("no image")
    for _ in range(2):  # decoded, and then from the cache
        loaders = folder(path, validation=0, skip_unreadable=True)
        error = caplog.text
        caplog.clear()
        assert "1 files of train skipped" in error and "00.png is no image" in error
        assert sorted(values(loaders["train"])) == [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]
        train = whole(loaders["train"])
        assert torch.equal(train["target"], (train["input"][:, 0, 0, 0] > 0.1).long())


def test_images_of_many_sizes_need_one(write: Write) -> None:
    write("a", 3)
    path = write("b", 3, size=6)
    several = r"b/000\.png is 6x6, and 3 of 6 images are 4x4: 2 sizes in all\. Give data\.size=SIDE"
    for skip in (False, True):  # it is of files that cannot be read, and of no others
        with pytest.raises(UserError, match=several):
            folder(path, skip_unreadable=skip)
    assert whole(folder(path, size=[3, 5])["test"])["input"].shape[1:] == (1, 3, 5)
    assert whole(folder(path, size=3, channels=3)["test"])["input"].shape[1:] == (3, 3, 3)


def test_folders_that_cannot_be_classes_are_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder"):
        folder(tmp_path / "none")
    path = write("a", 3)
    with pytest.raises(ValueError, match="has one class, 'a'"):
        folder(path)
    (path / "b").mkdir()
    with pytest.raises(UserError, match=r"1 of 2 class folders have no image: b\. Remove"):
        folder(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no folder"):
        folder(tmp_path / "empty")


def test_a_class_that_training_has_not_is_refused(write: Write) -> None:
    write("train/a", 3)
    write("train/b", 3)
    path = write("test/c", 3)
    with pytest.raises(ValueError, match="the test split has the class 'c', which train has not"):
        folder(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size"),
        ({"size": [4]}, "size"),
        ({"channels": 2}, "channels"),
        ({"test": 1.0}, "test is a fraction"),
        ({"workers": -1}, "workers"),
        ({"mean": [0.5, 0.5]}, "the images have 1 channels"),
    ],
)
def test_impossible_settings_are_refused(
    settings: dict[str, Any], message: str, write: Write
) -> None:
    write("a", 3)
    with pytest.raises(ValueError, match=message):
        folder(write("b", 3), **settings)


def test_streaming_gives_what_memory_gives(write: Write) -> None:
    write("a", 30)
    path = write("b", 30, first=100)
    memory, stream = (folder(path, memory_limit=limit, workers=1) for limit in (1.0, 0.0))

    assert isinstance(stream["train"], FileStream) and not isinstance(memory["train"], FileStream)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    for name in ("train", "validation", "test"):
        one, two = memory[name], stream[name]
        assert (one.steps_per_epoch, one.examples) == (two.steps_per_epoch, two.examples)
        for start in (0, 1):
            pairs = zip(one.batches(3, start), two.batches(3, start), strict=True)
            assert all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)
        assert torch.equal(one.rows(3, 0), two.rows(3, 0))
    assert torch.equal(torch.get_rng_state(), state)


def test_digits_as_files_are_digits(tmp_path: Path) -> None:
    for split, examples in Digits().splits().items():
        columns = examples.columns
        for row, target in enumerate(columns["target"].tolist()):
            place = tmp_path / "digits" / split / str(target)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(columns["input"][row, 0].numpy()).save(place / f"{row:04}.png")
    settings: dict[str, Any] = {"mean": [0.305], "std": [0.376], "batch_size": 32, "validation": 0}
    files = folder(tmp_path / "digits", **settings)
    bundled = opened(Digits(batch_size=32, validation=0), 0)

    def images(loader: Stream) -> list[tuple[int, bytes]]:
        split = whole(loader)
        pairs = zip(split["target"].tolist(), split["input"], strict=True)
        return sorted((target, image.numpy().tobytes()) for target, image in pairs)

    assert images(files["train"]) == images(bundled["train"])
    assert images(files["test"]) == images(bundled["test"])


def test_a_run_on_a_folder_from_memory_and_streamed_is_the_same(write: Write, train: Train) -> None:
    write("a", 30)
    path = write("b", 30, first=100)
    options = ["model=mlp", "data=image_folder", f"data.path={path}", "trainer.epochs=2"]
    options += [f"data.root={path.parent / 'own'}", "data.augment.shift=1"]
    memory, stream = (
        train(*options, f"data.memory_limit={limit}").summary["test"] for limit in (1, 0)
    )
    assert memory == stream
