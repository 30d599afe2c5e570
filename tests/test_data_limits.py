"""A stranger's data: what would fill the memory, or has no end, is refused before it is read."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from dltrain import files
from dltrain.config.build import plan
from dltrain.contracts.data import Source
from dltrain.data.images import decode
from dltrain.data.images.cifar import BINARY, Cifar10, parse_python
from dltrain.data.images.decode import UnreadableError, open_upright
from dltrain.data.images.idx import read_idx
from dltrain.data.images.wide import to_bytes
from dltrain.data.streams.reader import ArrayReader
from dltrain.data.tables import files as tables
from dltrain.data.tables.files import read_table
from dltrain.data.tables.one_by_one import rows_of
from dltrain.data.text.json_lines import read_json_lines
from dltrain.data.text.reader import VocabularyReader
from dltrain.errors import UserError

DEEP = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}\n"


def header(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes are asked of gzip files."""
    asked = []
    read = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        found = read(self, size)
        asked.append(len(found))
        return found

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    return asked


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((4_000_000, 28, 28), "would unpack to 3,136,000,016 bytes"),
        ((2, 28, 28), "has 1,585 bytes where 1,584 belong"),
        ((2, 2**32 - 1, 2**32 - 1), "would unpack to"),
    ],
    ids=["declared", "longer", "huge"],
)
def test_a_packed_file_is_unpacked_as_far_as_its_header_says(
    tmp_path: Path, unpacked: list[int], shape: tuple[int, ...], problem: str
) -> None:
    (tmp_path / "images.gz").write_bytes(gzip.compress(header(*shape) + bytes(1 << 22)))

    with pytest.raises(UserError, match=problem):
        read_idx(tmp_path / "images.gz", (28, 28))
    assert sum(unpacked) <= 1585


def big_batch(archive: gzip.GzipFile) -> None:
    head = tarfile.TarInfo("data_batch_1.bin")
    head.size = 1 << 33
    archive.write(head.tobuf())


def big_header(archive: gzip.GzipFile) -> None:
    head = tarfile.TarInfo("pax")
    head.size, head.type = 1 << 33, tarfile.XHDTYPE
    archive.write(head.tobuf())


def many(archive: gzip.GzipFile) -> None:
    archive.write(b"".join(tarfile.TarInfo(str(number)).tobuf() for number in range(2000)))


@pytest.mark.parametrize("fill", [big_batch, big_header, many])
def test_an_archive_is_unpacked_up_to_a_limit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unpacked: list[int],
    fill: Callable[[gzip.GzipFile], None],
) -> None:
    monkeypatch.setattr("dltrain.data.images.cifar.WHOLE", 1 << 18)
    with gzip.open(tmp_path / BINARY, "wb", 1) as archive:
        fill(archive)
        archive.write(bytes(1 << 22))

    with pytest.raises(UserError, match=r"not a whole archive|lacks data_batch_1"):
        Cifar10(root=str(tmp_path)).splits()
    assert sum(unpacked) < 1 << 20


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"\x80\x02cposix\nsystem\nU\x04trueR.",
        b"\x80\x02" + b"]" * 1_100 + b".",
    ],
    ids=["remembered", "call", "lists"],
)
def test_a_pickle_of_arrays_holds_no_more(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("dltrain.tensor_files.MOST_VALUES", 1_000)
    with pytest.raises((ValueError, pickle.UnpicklingError), match=r"values|no array"):
        parse_python(content)


@pytest.mark.parametrize(("mode", "side"), [("L", 41), ("I;16", 31), ("RGBA", 31), ("L", 1000)])
def test_an_image_has_a_limit_of_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, side: int
) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (side, 40)).save(path)
    monkeypatch.setattr(decode, "MOST_PIXELS", 40 * 60)
    if side == 41:
        assert open_upright(path).image.size == (41, 40)
        return

    with pytest.raises(UnreadableError, match=f"has {side * 40:,} pixels, of .* at most"):
        open_upright(path)


def test_many_rows_of_deep_pixels_become_bytes_as_few_do() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 16, (150, 3, 3), np.uint16)

    whole = (values.astype(np.int64).clip(10, 60_000) - 10) * 255 // (60_000 - 10)
    np.testing.assert_array_equal(to_bytes(values, (10, 60_000)), whole.astype(np.uint8))


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "UNPACKED", 1 << 16)
    monkeypatch.setattr(tables, "PART", 1 << 12)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("value", [1.0, "y" * 100])
def test_a_table_of_one_value_is_no_larger_than_its_file(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"x": [value] * 50_000}), path)

    with pytest.raises(ValueError, match=r"a\.parquet would unpack to"):
        read_table(path)
    assert next(iter(rows_of(path))) == {"x": value}


@pytest.mark.usefixtures("little_memory")
def test_parquet_in_parts_is_the_same_table(tmp_path: Path) -> None:
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1] * 100), ["a", "b"])
    table = pa.table({"x": list(map(float, range(300))), "c": codes})
    pa.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=70)

    found = read_table(tmp_path / "a.parquet")
    assert {name: column.to_pylist() for name, column in found.columns.items()} == (
        table.to_pydict()
    )
    assert list(rows_of(tmp_path / "a.parquet")) == table.to_pylist()


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_json_that_is_nested_deeply_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text(DEEP)

    readers: list[Callable[[Path], Any]] = [lambda path: list(rows_of(path)), read_json_lines]
    if ending == "jsonl":
        readers.append(read_table)
    for read in readers:
        with pytest.raises(ValueError, match=r"a\.json.*nested too deeply"):
            read(path)


def sheet(path: Path, change: Callable[[bytes], bytes]) -> Path:
    openpyxl = pytest.importorskip("openpyxl", reason="pip install 'dltrain[excel]'")
    book, whole = openpyxl.Workbook(), io.BytesIO()
    for row in (["a", "b"], [1, 2], [3, None]):
        book.active.append(row)
    book.save(whole)
    with (
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for entry in source.infolist():
            content = source.read(entry)
            is_sheet = entry.filename.endswith("sheet1.xml")
            made.writestr(entry.filename, change(content) if is_sheet else content)
    return path


def test_a_sheet_is_as_large_as_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = sheet(tmp_path / "a.xlsx", lambda x: x.replace(b'ref="A1:B3"', b'ref="A1:XFD1048576"'))
    assert {name: c.to_pylist() for name, c in read_table(wide).columns.items()} == {
        "a": [1, 3],
        "b": [2, None],
    }
    far = b'<row r="9999999999"><c><v>1</v></c></row></sheetData>'
    monkeypatch.setattr(tables, "LONGEST", 100)
    long = sheet(tmp_path / "b.xlsx", lambda x: x.replace(b"</sheetData>", far))
    with pytest.raises(ValueError, match=r"b\.xlsx has more than 100 rows"):
        read_table(long)
    monkeypatch.setattr(files, "UNPACKED", 1 << 12)
    packed = sheet(tmp_path / "c.xlsx", lambda x: x + b" " * (1 << 22))
    with pytest.raises(ValueError, match=r"c\.xlsx would unpack to"):
        read_table(packed)


def test_an_array_is_neither_unpickled_nor_unpacked(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.savez_compressed(tmp_path / "packed.npz", a=np.zeros(10))
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1]))
    np.save(tmp_path / "long.npy", np.zeros(2, np.float32))
    content = (tmp_path / "long.npy").read_bytes()
    (tmp_path / "long.npy").write_bytes(content.replace(b"(2,), }          ", b"(2000000000000,)}"))

    for file in tmp_path.iterdir():
        with pytest.raises(ValueError, match=rf"{file.name} is no \.npy file") as caught:
            list(ArrayReader([1]).expand([file]))
        assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize(
    "read",
    [
        read_table,
        read_json_lines,
        open_upright,
        lambda path: read_idx(path, ()),
        lambda path: list(rows_of(path)),
        lambda path: list(ArrayReader([1]).expand([path])),
        lambda path: list(VocabularyReader("").expand([path])),
    ],
    ids=["table", "lines", "image", "idx", "rows", "array", "texts"],
)
@pytest.mark.parametrize("ending", ["csv", "txt", "gz"])
def test_nobody_waits_for_a_pipe(tmp_path: Path, read: Callable[[Path], Any], ending: str) -> None:
    os.mkfifo(tmp_path / f"pipe.{ending}")

    with pytest.raises(
        (ValueError, OSError, UnreadableError), match=r"a pipe|does not exist|which"
    ):
        read(tmp_path / f"pipe.{ending}")


@pytest.mark.parametrize(
    ("value", "kind"), [("/dev/zero", "a device"), ("/dev/null", "a device"), ("PIPE", "a pipe")]
)
def test_a_path_without_an_end_is_a_fault_of_its_key(tmp_path: Path, value: str, kind: str) -> None:
    os.mkfifo(tmp_path / "PIPE")
    value = value.replace("PIPE", str(tmp_path / "PIPE"))
    node = {"_target_": "dltrain.data.tables.csv_file.CsvTable", "path": value, "target": "y"}

    faults = plan(node, Source, "data").faults
    assert any(fault.key == "data.path" and kind in fault.problem for fault in faults)
