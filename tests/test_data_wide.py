"""Images of more than 8 bits, of colors that differ, and of several pages."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain.data.images.decode import Shape, UnreadableError, decode, open_upright, turned
from dltrain.data.images.image_folder import ImageFolder
from dltrain.data.images.survey import read_header
from dltrain.data.images.wide import find_window, to_bytes

Pixels = np.ndarray[Any, Any]
RAMP = np.arange(64).reshape(8, 8)


def png16(pixels: Pixels, color_type: int) -> bytes:
    """A PNG of 16 bits (height, width, channels), which Pillow cannot write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + end

    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def tiff16(pixels: Pixels, order: str, compressed: bool) -> bytes:
    """A TIFF file of 16-bit colors (height, width, 3), bytes in ``order`` < or >."""
    height, width, _ = pixels.shape
    content = pixels.astype(f"{order}u2").tobytes()
    content = zlib.compress(content) if compressed else content
    after = 8 + 2 + 12 * 9 + 4  # header, count, entries, end: there the three depths begin
    longs = {256: width, 257: height, 258: after, 273: after + 6, 278: height, 279: len(content)}
    shorts = {259: 8 if compressed else 1, 262: 2, 277: 3}
    file = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 9)
    for tag in sorted({**longs, **shorts}):
        if tag in shorts:
            file += struct.pack(f"{order}HHIHH", tag, 3, 1, shorts[tag], 0)
        else:
            kind, count = (3, 3) if tag == 258 else (4, 1)
            file += struct.pack(f"{order}HHII", tag, kind, count, longs[tag])
    return file + struct.pack(f"{order}I3H", 0, 16, 16, 16) + content


def source(path: Path, **settings: Any) -> ImageFolder:
    given: dict[str, Any] = {"root": str(path / "own"), "validation": 0, "test": 0.25}
    return ImageFolder(str(path / "images"), **given | settings)


def save(path: Path, images: list[Image.Image | bytes], suffix: str, **options: Any) -> Path:
    """Each image in both of two classes."""
    for name in "ab":
        place = path / "images" / name
        place.mkdir(parents=True, exist_ok=True)
        for row, image in enumerate(images):
            if isinstance(image, bytes):
                (place / f"{row}{suffix}").write_bytes(image)
            else:
                image.save(place / f"{row}{suffix}", **options)
    return path


@pytest.mark.parametrize(
    ("low", "high", "whole", "window"),
    [
        (0, 250, True, (0, 255)),
        (0, 20, True, (0, 255)),
        (3, 1000, True, (0, 1023)),
        (0, 4094, True, (0, 4095)),
        (0, 4096, True, (0, 16383)),
        (100, 65535, True, (0, 65535)),
        (32768, 33000, True, (32768, 33000)),
        (-1000, 3000, True, (-1000, 3000)),
        (0, 70000, True, (0, 70000)),
        (0.0, 0.9, False, (0, 1)),
        (0.1, 250.5, False, (0.1, 250.5)),
    ],
)
def test_the_window_is_what_the_values_need(
    low: float, high: float, whole: bool, window: tuple[float, float]
) -> None:
    assert find_window(low, high, whole) == window


def test_a_window_is_spread_over_all_levels() -> None:
    assert to_bytes(np.array([-5, 0, 257, 65535, 70000]), (0, 65535)).tolist() == [
        0,
        0,
        1,
        255,
        255,
    ]
    assert to_bytes(np.array([0.0, 0.5, 1.0, 2.0]), (0, 1)).tolist() == [0, 128, 255, 255]
    assert to_bytes(np.arange(256) / np.float32(255), (0, 1)).tolist() == list(range(256))
    assert find_window(999, 999, True) == (999, 1000)  # one value, and no division by zero


@pytest.mark.parametrize(("mode", "color"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_all_16_bits_are_read_of_every_kind_of_png(mode: int, color: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (5, 4, color)).astype(np.uint16)
    if mode in (4, 6):
        pixels[..., -1] = 65535
    found = open_upright(png16(pixels, mode)).values
    assert found is not None
    expected = pixels[..., : 3 if color > 2 else 1]
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    assert (read_header(png16(pixels, mode)).gray, read_header(png16(pixels, mode)).high) == (
        *(color < 3, expected.max()),
    )
    shown = decode(png16(pixels, mode), Shape(3, 5, 4, None, (0, 4095)))
    by_hand = (expected.astype(int) * 255 // 4095).transpose(2, 0, 1)
    np.testing.assert_array_equal(shown, np.broadcast_to(by_hand, (3, 5, 4)))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
def test_all_16_bits_are_read_of_colors_in_tiff(order: str, compressed: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (5, 4, 3)).astype(np.uint16)
    content = tiff16(pixels, order, compressed)
    np.testing.assert_array_equal(open_upright(content).values, pixels)
    assert read_header(content).mode == "16-bit RGB"


def test_all_16_bits_are_read_of_colors_in_ppm() -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (5, 4, 3))
    for white, expected in ((65535, pixels), (4095, pixels * 65535 // 4095)):
        content = f"P6 4 5 {white}\n".encode() + pixels.astype(">u2").tobytes()
        np.testing.assert_array_equal(open_upright(content).values, expected)
        assert read_header(content).high == expected.max()
    with pytest.raises(UnreadableError, match="to its end"):
        open_upright(content[:-2])


@pytest.mark.parametrize(
    ("image", "window", "levels"),
    [
        (Image.fromarray((RAMP * 63).astype(np.uint16)), (0, 4095), RAMP * 63 * 255 // 4095),
        (Image.fromarray(RAMP.astype(np.uint16) * 4), (0, 255), RAMP * 4),
        (Image.fromarray((RAMP * 4).astype(np.float32) / 255), (0, 1), RAMP * 4),
        (Image.fromarray((RAMP * 4000 - 1000).astype(np.int32)), (-1000, 251000), None),
    ],
    ids=["12 of 16 bits", "8 of 16 bits", "float", "32 bits"],
)
def test_tiff_is_read_by_what_is_in_it(
    image: Image.Image,
    window: tuple[float, float],
    levels: Pixels | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = source(save(tmp_path, [image] * 4, ".tif"))
    pixels = data.splits()["train"].columns["input"]
    expected = np.floor(RAMP * 255 / 63) if levels is None else levels
    np.testing.assert_array_equal(pixels[0, 0].numpy(), expected)
    assert f"data.window=[{window[0]},{window[1]}]" in caplog.text
    node = data.reader().node(tmp_path)
    assert node["window"] == list(window)
    again = data.reader().read([tmp_path / "images" / "a" / "0.tif"])["input"]
    np.testing.assert_allclose(again[0, 0] * 0.25 + 0.5, expected / 255, atol=1e-6)
    if image.mode == "I;16":
        array = data.reader().read([np.asarray(image)])["input"]
        np.testing.assert_array_equal(array, again)


def test_values_beyond_the_window_and_few_levels_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hot = (RAMP + 100).repeat(16, 0).repeat(16, 1).astype(np.uint16)
    hot[0, 0] = 65535
    save(tmp_path, [Image.fromarray(hot)] * 4, ".tif")
    source(tmp_path).read(0)
    assert "nearly all their pixels lie in 1 of 256 levels" in caplog.text
    caplog.clear()
    source(tmp_path, window=[100, 163]).read(0)
    assert "8 images have pixels beyond data.window=[100,163]" in caplog.text
    assert "256 levels" not in caplog.text
    with pytest.raises(ValueError, match=r"window is \[low, high\]"):
        source(tmp_path, window=[3, 3])


def test_floats_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    pixels = RAMP.astype(np.float32)
    pixels[0, 0] = np.nan
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "tiff")
    with pytest.raises(UnreadableError, match="no finite numbers"):
        open_upright(file.getvalue())


def test_a_run_of_8_bits_says_how_it_reads_12(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = source(save(tmp_path, [Image.fromarray(RAMP.astype(np.uint8))] * 4, ".png"))
    data.read(0)
    Image.fromarray((RAMP * 60).astype(np.uint16)).save(tmp_path / "new.png")
    caplog.clear()
    source(tmp_path, window=[0, 9]).read(0)
    assert "data.window is for pixels of more than 8 bits, and no image has such" in caplog.text
    data.reader().read([tmp_path / "new.png"])
    assert "16-bit pixels up to 3780, read as from 0 to 65535" in caplog.text


def test_images_are_color_where_any_of_them_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gray = Image.fromarray(RAMP.astype(np.uint8))
    color = Image.fromarray(np.stack([RAMP, RAMP * 2, RAMP * 4], 2).astype(np.uint8))
    save(tmp_path, [gray, gray, color, gray], ".png")
    assert source(tmp_path).read(0).input.shape == (3, 8, 8)
    assert "which data.channels=1" not in caplog.text
    assert source(tmp_path, channels=1).read(0).input.shape == (1, 8, 8)
    assert "2 of 8 images have colors, which data.channels=1 makes gray" in caplog.text


def test_pages_and_single_colors_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flat = [Image.new("L", (8, 8), value) for value in (0, 100, 200)]
    pages: dict[str, Any] = {"save_all": True, "append_images": flat[1:]}
    for suffix, kind in ((".gif", "GIF"), (".tif", "TIFF"), (".webp", "WEBP")):
        save(tmp_path / kind, flat[:1] * 4, suffix, **pages)
        source(tmp_path / kind).read(0)
        assert f"8 files have several pages or frames ({kind} 8): only the first" in caplog.text
    assert "every image is of one color throughout" in caplog.text


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_they_say(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    narrow, wide = RAMP[:, :5].astype(np.uint8), RAMP[:, :5].astype(np.uint16)
    for name, pixels in (("narrow", narrow), ("wide", wide)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.tif", exif=exif)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", exif=exif)
    expected = turned(narrow, orientation)
    for suffix in ("tif", "png"):
        header = read_header(tmp_path / f"narrow.{suffix}")
        assert (header.height, header.width) == expected.shape
        found = open_upright(tmp_path / f"narrow.{suffix}").image
        np.testing.assert_array_equal(np.asarray(found), expected)
        np.testing.assert_array_equal(open_upright(tmp_path / f"wide.{suffix}").values, expected)
