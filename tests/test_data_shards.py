"""Examples that stay in shards: order, splits, reading, resuming, and what is refused."""

from __future__ import annotations

import io
import json
import re
import signal
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor

from dltrain import training as run
from dltrain.config.punctuation import with_quotes
from dltrain.contracts.data import Batch, DataSpec, Placement, Stream
from dltrain.data.images.decode import Shape, decode
from dltrain.data.images.plain import Plain
from dltrain.data.images.source import ImageAugment
from dltrain.data.shards.images import ImageShards
from dltrain.data.shards.order import Cut, Deal, Order
from dltrain.data.shards.packed import Packed, together
from dltrain.engine.parallel.rows import Divided
from dltrain.errors import UserError
from dltrain.runs import checkpoint
from dltrain.runs.finding import latest
from tests.conftest import Compose
from tests.interrupting import interrupt_after

SIDE = 4
IMAGES = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def png(value: int, side: int = SIDE, mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side), value).convert(mode).save(file, "png")
    return file.getvalue()


def write_parquet(path: Path, images: Sequence[Any], labels: Sequence[Any], group: int = 7) -> Path:
    cells = pa.array([{"bytes": i, "path": None} for i in images], IMAGES)
    table = pa.table({"label": labels, "more": range(len(images)), "image": cells})
    pq.write_table(table, path, row_group_size=group)
    return path


def write_tar(path: Path, examples: Mapping[str, Mapping[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for key, members in examples.items():
            for ending, content in members.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def parquet(folder: Path, shards: int = 4, rows: int = 25) -> str:
    """Image number n of all has the value n, and the label n % 3."""
    for shard in range(shards):
        values = range(shard * rows, (shard + 1) * rows)
        labels = [value % 3 for value in values]
        write_parquet(folder / f"{shard:02}.parquet", [png(v) for v in values], labels)
    return str(folder / f"{{00..{shards - 1:02}}}.parquet")


def tars(folder: Path, shards: int = 4, rows: int = 25) -> str:
    for shard in range(shards):
        values = range(shard * rows, (shard + 1) * rows)
        examples = {f"{v:04}": {"png": png(v), "cls": str(v % 3).encode()} for v in values}
        write_tar(folder / f"{shard:02}.tar", examples)
    return str(folder / "*.tar")


def source(path: str | Sequence[str], folder: Path, **given: Any) -> ImageShards:
    settings: dict[str, Any] = {"mean": [0.0], "std": [1.0], "batch_size": 8, "buffer": 20}
    settings |= {"side_by_side": 2, "root": str(folder / "root")}
    return ImageShards(path, **settings | given)


def streams(made: ImageShards, seed: int = 0, **place: Any) -> Mapping[str, Stream]:
    made.read(seed)
    return made.open(Placement(torch.device("cpu"), seed, **place))


def values(batch: Batch) -> list[int]:
    return [round(255 * float(value)) for value in batch["input"][:, 0, 0, 0]]


def all_values(stream: Stream, epoch: int = 0) -> list[int]:
    return [value for batch in stream.batches(epoch) for value in values(batch)]


@pytest.mark.parametrize("write", [parquet, tars])
def test_each_example_once_an_epoch_in_another_order(tmp_path: Path, write: Any) -> None:
    opened = streams(source(write(tmp_path), tmp_path, validation=0.2, test=0.3))
    parts = {name: all_values(stream) for name, stream in opened.items()}
    assert sorted(value for part in parts.values() for value in part) == list(range(100))
    assert parts["test"] == sorted(parts["test"])
    again, other = (all_values(opened["train"], epoch) for epoch in (0, 1))
    assert again == parts["train"] != other
    assert sorted(other) == sorted(again)
    for name, stream in opened.items():
        for position, batch in enumerate(stream.batches(1)):
            rows = stream.rows(1, position).tolist()
            assert values(batch) == [sorted(parts[name])[row] for row in rows]
            assert [value % 3 for value in values(batch)] == batch["target"].tolist()


def test_a_stream_goes_on_at_any_batch(tmp_path: Path) -> None:
    made = source(parquet(tmp_path), tmp_path, augment=ImageAugment(shift=1, brightness=0.5))
    stream = streams(made)["train"]
    whole = [batch["input"] for batch in stream.batches(2)]
    assert len(whole) == stream.steps_per_epoch == 8
    for start in range(len(whole)):
        rest = [batch["input"] for batch in stream.batches(2, start)]
        assert len(rest) == len(whole) - start
        assert all(map(torch.equal, rest, whole[start:]))


def test_the_test_split_is_the_same_for_every_seed_and_grows_with_the_shards(
    tmp_path: Path,
) -> None:
    path = parquet(tmp_path)
    one, other = (streams(source(path, tmp_path), seed) for seed in (1, 2))
    assert all_values(one["test"]) == all_values(other["test"])
    assert all_values(one["validation"]) != all_values(other["validation"])
    fewer = streams(source(path.replace("03", "02"), tmp_path))["test"]
    assert all_values(fewer) == [v for v in all_values(one["test"]) if v < 75]


def test_processes_share_batches_and_deal_out_evaluated_ones(tmp_path: Path) -> None:
    given = {"evaluation_batch_size": 7, "batch_size": 10}
    path = parquet(tmp_path, rows=26)
    alone = streams(source(path, tmp_path, **given))
    shared = [streams(source(path, tmp_path, **given), rank=r, world_size=3) for r in range(3)]
    whole = [values(batch) for batch in alone["train"].batches(1)]
    parts = [[values(batch) for batch in own["train"].batches(1)] for own in shared]
    for number, (batch, *own) in enumerate(zip(whole, *parts, strict=True)):
        assert sorted(value for part in own for value in part) == sorted(batch)
        assert all(own)
        assert shared[0]["train"].whole(1, number) == len(batch)
    known = all_values(alone["test"])
    for rank, own in enumerate(shared):
        assert own["train"].divided and not own["test"].divided
        for number, batch in own["test"].dealt(rank, 3):
            assert number % 3 == rank
            assert values(batch) == [known[row] for row in own["test"].rows(0, number).tolist()]
    numbers = [number for rank in range(3) for number, _ in shared[rank]["test"].dealt(rank, 3)]
    assert sorted(numbers) == list(range(alone["test"].steps_per_epoch or 0))
    with pytest.raises(UserError, match=r"data\.batch_size=10 leaves 11 processes without an ex"):
        streams(source(path, tmp_path, **given), rank=0, world_size=11)


def test_batches_are_the_same_for_few_processes_and_none_is_empty() -> None:
    for count in range(1, 80):
        cut = Cut(count, 12)
        bounds = [cut.bounds(number) for number in range(cut.batches)]
        assert [low for low, _ in bounds] == [0, *[high for _, high in bounds[:-1]]]
        assert bounds[-1][1] == count
        for world in range(1, min(8, count) + 1):
            own = [len(Deal(rank, world).own(*two)) for rank in range(world) for two in bounds]
            assert min(own) > 0


def test_a_buffer_mixes_shards_and_bounds_what_is_held() -> None:
    order = Order(np.full(20, 50), seed=3, lanes=4, buffer=25)
    rows = order.epoch(0).rows(range(0, 1000))
    assert sorted(rows.tolist()) == list(range(1000))
    assert all(len({row // 50 for row in rows[n : n + 100]}) >= 4 for n in range(0, 1000, 100))


def test_stopped_in_an_epoch_and_resumed_it_ends_with_the_same_bytes(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tars(tmp_path)
    settings = (
        *("data=shards", *with_quotes([f"data.path={path}"]), "data.buffer=30", "data.workers=2"),
        *(f"data.root={tmp_path}/root", "data.batch_size=8", "data.augment.shift=1"),
        *("data.side_by_side=3", "data.mean=[0.0]", "model=mlp", "model.hidden=[4]"),
        *("trainer.epochs=3", "device=cpu", "callbacks=[early_stopping]"),
    )
    run.train(compose(*settings, f"output_dir={tmp_path}/whole"))
    interrupt_after(monkeypatch, 13, signal.SIGTERM)
    run.train(compose(*settings, f"output_dir={tmp_path}/resumed"))
    folders = [latest(tmp_path / name) for name in ("whole", "resumed")]
    assert run.resume("latest", tmp_path / "resumed")["steps"] == 24
    for name in (checkpoint.LAST, checkpoint.BEST):
        one, other = (checkpoint.load(folder / name)["task"] for folder in folders)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert (folders[0] / "metrics.csv").read_bytes() == (folders[1] / "metrics.csv").read_bytes()


def test_other_shards_are_other_data(tmp_path: Path) -> None:
    made = source(tars(tmp_path), tmp_path)
    made.read(0)
    known = made.identity()
    made.read(0)
    assert made.identity() == known
    write_tar(tmp_path / "03.tar", {"x": {"png": png(1), "cls": b"1"}})
    made.read(0)
    assert made.identity() != known


def test_a_range_of_files_needs_no_quotes_for_the_grammar() -> None:
    typed = ["data.path=d/{00..11}.tar", "data.path=[{0..1}.tar,b]", "a=${b}", 'data.path="{0..1}"']
    assert with_quotes(typed) == [
        'data.path="d/{00..11}.tar"',
        'data.path=["{0..1}.tar",b]',
        *typed[2:],
    ]


def refused(made: ImageShards) -> str:
    with pytest.raises(UserError) as error:
        _ = [list(stream.batches(0)) for stream in streams(made).values()]
    return str(error.value)


def spoil_range(folder: Path) -> dict[str, Any]:
    parquet(folder)
    return {"path": str(folder / "{00..05}.parquet")}


def spoil_pattern(folder: Path) -> dict[str, Any]:
    parquet(folder)
    return {"path": str(folder / "*.parqet")}


def spoil_name(folder: Path) -> dict[str, Any]:
    parquet(folder)
    return {"path": str(folder / "01.parqet")}


def spoil_columns(folder: Path) -> dict[str, Any]:
    path = parquet(folder)
    pq.write_table(pa.table({"image": [{"bytes": b"", "path": None}]}), folder / "02.parquet")
    return {"path": path}


def spoil_types(folder: Path) -> dict[str, Any]:
    path = parquet(folder)
    write_parquet(folder / "02.parquet", [png(1)], ["a"])
    return {"path": path}


def spoil_parquet(folder: Path) -> dict[str, Any]:
    path = parquet(folder)
    cut = folder / "02.parquet"
    cut.write_bytes(cut.read_bytes()[:-20])
    return {"path": path}


def spoil_tar(folder: Path) -> dict[str, Any]:
    path = tars(folder)
    cut = folder / "02.tar"
    cut.write_bytes(cut.read_bytes()[:2000])
    return {"path": path}


def spoil_end(folder: Path) -> dict[str, Any]:
    path = tars(folder)
    cut = folder / "02.tar"
    cut.write_bytes(cut.read_bytes()[:2048])
    return {"path": path}


def spoil_header(folder: Path) -> dict[str, Any]:
    """One bit, in the checksum of a header amid the archive."""
    path = tars(folder)
    with tarfile.open(folder / "02.tar") as archive:
        header = archive.getmembers()[4].offset
    content = bytearray((folder / "02.tar").read_bytes())
    content[header + 148] ^= 1
    (folder / "02.tar").write_bytes(content)
    return {"path": path}


def spoil_joined(folder: Path) -> dict[str, Any]:
    path = tars(folder)
    with (folder / "02.tar").open("ab") as file:
        file.write((folder / "03.tar").read_bytes())
    return {"path": path}


def spoil_pair(folder: Path) -> dict[str, Any]:
    path = tars(folder)
    write_tar(folder / "02.tar", {"a": {"png": png(1), "cls": b"1"}, "b": {"png": png(2)}})
    return {"path": path}


def spoil_key(folder: Path) -> dict[str, Any]:
    path = tars(folder)
    member = {"png": png(1), "cls": b"1"}
    with tarfile.open(folder / "02.tar", "w") as archive:
        for name in ("a.png", "a.cls", "b.png", "b.cls", "a.png", "a.cls"):
            content = member[name.partition(".")[2]]
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return {"path": path}


def spoil_image(folder: Path) -> dict[str, Any]:
    path = parquet(folder)
    write_parquet(folder / "03.parquet", [png(1), png(2)[:40], png(3)] * 3, [0, 1, 2] * 3)
    return {"path": path, "size": SIDE}


def spoil_tar_image(folder: Path) -> dict[str, Any]:
    path = tars(folder)
    examples = {f"k{n}": {"png": png(n)[: 90 - 50 * (n == 40)], "cls": b"1"} for n in range(50)}
    write_tar(folder / "03.tar", examples)
    return {"path": path}


def spoil_size(folder: Path) -> dict[str, Any]:
    path = parquet(folder)
    write_parquet(folder / "03.parquet", [png(1)] * 40 + [png(1, 5)], [1] * 41, group=50)
    return {"path": path}


def spoil_color(folder: Path) -> dict[str, Any]:
    path = parquet(folder)
    write_parquet(folder / "03.parquet", [png(1)] * 40 + [png(1, 4, "RGB")], [1] * 41, group=50)
    return {"path": path}


def spoil_label(folder: Path) -> dict[str, Any]:
    path = parquet(folder)
    write_parquet(folder / "03.parquet", [png(1), png(2)], [1, None])
    return {"path": path}


def spoil_all(folder: Path) -> dict[str, Any]:
    return {"path": str(write_parquet(folder / "0.parquet", [png(1)][:0], pa.array([], "int64")))}


def spoil_names(folder: Path) -> dict[str, Any]:
    twice = pa.table([[png(1)], [0], [1]], ["image", "label", "label"])
    pq.write_table(twice, folder / "0.parquet")
    return {"path": str(folder / "0.parquet")}


def spoil_lists(folder: Path) -> dict[str, Any]:
    write_parquet(folder / "0.parquet", [png(1)] * 2, [[0], [0, 1]])
    return {"path": str(folder / "0.parquet")}


def spoil_overlap(folder: Path) -> dict[str, Any]:
    return {"path": parquet(folder), "test": str(folder / "01.parquet")}


def spoil_kinds(folder: Path) -> dict[str, Any]:
    parquet(folder)
    tars(folder)
    return {"path": str(folder / "*")}


def spoil_compressed(folder: Path) -> dict[str, Any]:
    (folder / "0.tar.gz").write_bytes(b"")
    return {"path": str(folder / "0.tar.gz")}


def spoil_new_label(folder: Path) -> dict[str, Any]:
    write_parquet(folder / "test.parquet", [png(1)], [7])
    return {"path": parquet(folder), "test": str(folder / "test.parquet")}


def spoil_paths(folder: Path) -> dict[str, Any]:
    cells = pa.array([{"bytes": None, "path": "/etc/passwd"}] * 2, IMAGES)
    table = pa.table({"image": cells, "label": [0, 1]})
    pq.write_table(table, folder / "0.parquet")
    return {"path": str(folder / "0.parquet"), "size": SIDE}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_range, r"data.path: 2 of the 6 shards of .*\{00..05\}.parquet are missing: 04.par"),
        (
            spoil_pattern,
            r"data.path: no file matches .*\*.parqet\. .* has 00.parquet, .* and 1 more files",
        ),
        (spoil_name, r"data.path: there is no file .*01.parqet\. .* has 01.parquet and 3 more"),
        (spoil_columns, r"02.parquet lacks the column 'label', which .*00.parquet has"),
        (spoil_types, r"column 'label' is string in .*02.parquet, and int64 in .*00.parquet"),
        (spoil_parquet, r"02.parquet is no Parquet file that can be read to its end"),
        (spoil_tar, r"02.tar is (cut off|no tar archive)"),
        (spoil_end, r"02.tar is cut off: it has no end"),
        (spoil_header, r"02.tar is damaged: at byte 4,096 there is no member's header"),
        (spoil_joined, r"02.tar goes on behind its end: .* put together by cat"),
        (spoil_pair, r"02.tar, b: has no .cls, but png\n.*data.skip_unreadable=true"),
        (spoil_key, r"02.tar: the key 'a' is there twice"),
        (spoil_image, r"03.parquet, row 2 .*read.*\n.*data.skip_unreadable=true"),
        (spoil_tar_image, r"03.tar, member k40.png .*read.*\n.*data.skip_unreadable=true"),
        (spoil_size, r"03.parquet, row 41 is 5x5 where others are 4x4; give data.size"),
        (spoil_color, r"03.parquet, row 41 has color, .* set data.channels=3"),
        (spoil_label, r"data.label: 03.parquet, row 2 has no label"),
        (spoil_all, r"data.path: no shard has a row: 0.parquet"),
        (spoil_names, r"0.parquet has two columns called 'label'"),
        (spoil_lists, r"data.label: the column 'label' of .* cannot be the labels: it holds list"),
        (spoil_overlap, r"data.test: .*01.parquet is a shard of the train split, too"),
        (spoil_kinds, r"its shards are of two kinds: .parquet, .tar"),
        (spoil_compressed, r"0.tar.gz is no .parquet and no .tar. Unpack it first: gunzip"),
        (spoil_new_label, r"the test split has the label 7, which no training example has"),
        (spoil_paths, r"0.parquet: the column 'image' has paths of images and not their bytes"),
    ],
)
def test_what_is_wrong_with_shards_is_said_in_one_message(
    tmp_path: Path, spoil: Any, said: str
) -> None:
    given = spoil(tmp_path)
    message = refused(source(given.pop("path"), tmp_path, **{"test": 0, "validation": 0} | given))
    assert re.search(said, message, re.DOTALL), message
    assert message.count("\n") <= 2


@pytest.mark.parametrize("spoil", [spoil_pair, spoil_image, spoil_tar_image])
def test_what_cannot_be_read_is_left_out_and_counted_where_that_is_allowed(
    tmp_path: Path, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    given = spoil(tmp_path)
    settings = {"test": 0, "validation": 0, "skip_unreadable": True}
    stream = streams(source(given.pop("path"), tmp_path, **settings | given))["train"]
    for epoch in (0, 1):
        for position, batch in enumerate(stream.batches(epoch)):
            assert len(stream.rows(epoch, position)) == len(batch["target"])
    lines = [record.message for record in caplog.records if "left out" in record.message]
    assert lines
    assert len(lines) == len(set(lines))


def some_unreadable(folder: Path, unreadable: Sequence[int], **given: Any) -> Mapping[str, Stream]:
    """A training split of 40 images, a test split of 9, of both those ``unreadable``."""
    for name, count in {"train": 40, "test": 9}.items():
        images = [b"nonsense" if n in unreadable else png(n) for n in range(count)]
        write_parquet(folder / f"{name}.parquet", images, [n % 3 for n in range(count)])
    settings: dict[str, Any] = {"test": str(folder / "test.parquet"), "size": SIDE}
    settings |= {"validation": 0, "skip_unreadable": True, "evaluation_batch_size": 2}
    place = {name: given.pop(name) for name in ("rank", "world_size") if name in given}
    made = source(str(folder / "train.parquet"), folder, **settings | given)
    return streams(made, **place)


def test_a_batch_to_evaluate_of_which_nothing_can_be_read_is_left_out(tmp_path: Path) -> None:
    test = some_unreadable(tmp_path, [2, 3, 5, 8])["test"]

    found = {n: (test.rows(0, n).tolist(), values(batch)) for n, batch in test.dealt(0, 1)}

    assert found == {0: ([0, 1], [0, 1]), 2: ([4], [4]), 3: ([6, 7], [6, 7])}
    assert [values(batch) for batch in test.plain()] == [[0, 1], [4], [6, 7]]
    with pytest.raises(UserError, match=r"not one of 9 examples can be read"):
        list(some_unreadable(tmp_path, range(9))["test"].plain())


def test_a_process_without_a_row_that_can_be_read_weighs_nothing(tmp_path: Path) -> None:
    noted: list[tuple[int, int]] = []
    found: list[int] = []
    for rank in range(2):
        own = some_unreadable(tmp_path, [5, 11], batch_size=2, rank=rank, world_size=2)["train"]
        divided = Divided(own, lambda *rows: noted.append(rows), lambda _: None)
        for position, batch in enumerate(divided.batches(0)):
            assert len(batch["target"]) >= 1
            found += values(batch)[: len(divided.rows(0, position))]

    assert sorted(found) == [n for n in range(40) if n not in (5, 11)]
    assert sum(rows for rows, _ in noted) == 38
    assert (0, 2) in noted
    # In an evaluation of such a split the others would wait for it.
    parts = [
        some_unreadable(tmp_path, [5, 11], batch_size=2, rank=rank, world_size=2)["train"]
        for rank in range(2)
    ]
    with pytest.raises(UserError, match=r"not one can be read, train\.parquet, row"):
        [list(own.dealt(0, 1)) for own in parts]


def test_a_batch_to_train_on_of_which_nothing_can_be_read_is_named(tmp_path: Path) -> None:
    train = some_unreadable(tmp_path, [5], batch_size=1)["train"]

    with pytest.raises(UserError, match=r"not one can be read, train\.parquet, row 6 among them"):
        list(train.batches(0))


def test_hidden_members_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tars(tmp_path)
    with tarfile.open(tmp_path / "02.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("._0050.png"))

    source(path, tmp_path).read(0)

    assert "not used, hidden or no plain files" in caplog.text
    assert "02.tar, ._0050.png" in caplog.text


def test_an_empty_shard_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = parquet(tmp_path)
    write_parquet(tmp_path / "02.parquet", [png(1)][:0], pa.array([], "int64"))
    assert sum(stream.examples or 0 for stream in streams(source(path, tmp_path)).values()) == 75
    assert "1 of 4 shards have no example: 02.parquet." in caplog.text


def test_names_of_classes_come_from_what_datasets_wrote(tmp_path: Path) -> None:
    columns = {"img": [png(n) for n in range(20)], "fine": [0, 1] * 10}
    features = {"fine": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    told = {"huggingface": json.dumps({"info": {"features": features}})}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns).replace_schema_metadata(told), path)
    made = source(str(path), tmp_path, label="fine", validation=0)
    spec: DataSpec = made.read(0)
    assert spec.class_names == ("cat", "dog")
    assert sum(spec.target.counts) == streams(made)["train"].examples
    assert made.contents().columns == ["img", "fine"]


def test_labels_of_archives_are_of_members_or_of_json(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    examples = {
        f"a/{n}": {"jpg": png(n), "json": json.dumps({"label": "ab"[n % 2], "x": n}).encode()}
        for n in range(30)
    }
    write_tar(folder / "0.tar", examples)
    path = str(folder / "0.tar")
    assert source(path, tmp_path).read(0).class_names == ("a", "b")
    message = refused(source(path, tmp_path, label="json.x", test=0, validation=0))
    assert "has 30 different values in 30 rows: these are no classes" in message


def test_examples_for_another_run_and_a_reader(tmp_path: Path) -> None:
    made = source(parquet(tmp_path), tmp_path)
    opened = streams(made)
    reader = made.reader()
    found = [part for part in made.labeled("test") if len(part.examples)]
    inputs = torch.cat([reader.read(part.examples)["input"] for part in found])
    assert torch.equal(inputs, torch.cat([b["input"] for b in opened["test"].plain()]))
    assert made.shape == Shape(1, SIDE, SIDE, None)


def test_a_limit_is_how_many_are_trained_on(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    some = streams(source(path, tmp_path, limit=20))
    assert some["train"].examples == 20
    whole = streams(source(path, tmp_path))
    assert {*all_values(some["train"])} < {*all_values(whole["train"])}
    assert all_values(some["test"]) == all_values(whole["test"])
    made = source(path, tmp_path, limit=20)
    assert sum(made.read(0).target.counts) == 20
    write_parquet(tmp_path / "one.parquet", [png(n) for n in range(30)], [0, 1] * 15, group=30)
    one = source(str(tmp_path / "one.parquet"), tmp_path, limit=12, validation=0, test=0)
    assert len(all_values(streams(one)["train"])) == 12


def test_a_limit_takes_examples_of_all_classes_of_a_sorted_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = [n // 50 for n in range(200)]
    path = write_parquet(tmp_path / "0.parquet", [png(n) for n in range(200)], labels, group=200)
    made = source(str(path), tmp_path, limit=100, validation=0, test=0)
    assert min(made.read(0).target.counts) > 10
    assert "lie in the order of their classes, and 1 pieces of 1 shards" in caplog.text
    found = all_values(streams(made)["train"])
    parts = [part for part in made.labeled("train") if len(part.examples)]
    assert sorted(found) == sorted(int(v) for part in parts for v in _first_pixels(part.examples))
    located = [made.parts["train"].located(position) for position in range(100)]
    assert located == [f"0.parquet, row {value + 1}" for value in sorted(found)]


def _first_pixels(files: Sequence[bytes]) -> list[int]:
    return [int(np.asarray(Image.open(io.BytesIO(file)))[0, 0]) for file in files]


def plainly(shape: Shape, *files: bytes) -> list[Tensor | None]:
    """What torchvision makes of the files; None of those that are left to Pillow."""
    content = torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8)
    return [pixels for _, pixels in Plain(shape).decode(content, list(map(len, files)))]


def test_plain_files_have_the_pixels_that_pillow_gives() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (37, 22, 3), np.uint8)
    jpeg = [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 40}]
    kinds = [("jpeg", options) for options in jpeg]
    for mode in ("RGB", "L"):
        shape, files = Shape(len(mode), 37, 22, None), []
        for kind, options in kinds:
            file = io.BytesIO()
            Image.fromarray(noise).convert(mode).save(file, kind, **options)
            files.append(file.getvalue())
        for found, content in zip(plainly(shape, *files), files, strict=True):
            assert np.array_equal(found, decode(content, shape))  # type: ignore[arg-type]
        other = Shape(len(mode), 22, 37, None)
        assert plainly(other, *files) == [None] * len(files)


def test_what_is_not_plain_is_left_to_pillow() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (37, 22, 3), np.uint8)
    image, shape = Image.fromarray(noise), Shape(3, 37, 22, None)

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    turned = image.getexif()
    turned[0x0112] = 6
    whole, exact = saved(image, "jpeg", exif=turned), saved(image, "png")
    clear = saved(image.convert("P"), "png", transparency=0)
    flipped = bytearray(exact)
    flipped[len(exact) // 2] ^= 1
    others = [
        *(whole, whole[:-9], whole.replace(b"Exif", b"none")[:300] + b"\xff\xd9", b"", b"none"),
        *(saved(image, "png", exif=turned), saved(image, "png", transparency=(1, 2, 3)), clear),
        *(saved(image.convert("RGBA"), "png"), exact[:-13], exact[:300] + exact[-12:]),
        *(saved(image.convert("I;16"), "png"), bytes(flipped), saved(image, "gif")),
        *(
            saved(image, "png", save_all=True, append_images=[image.rotate(180)]),
            saved(image, "bmp"),
        ),
    ]
    plain = whole.replace(b"Exif", b"none")

    found = plainly(shape, plain, *others, exact, plain)

    assert found[1:-1] == [None] * (len(others) + 1)
    for pixels in (found[0], found[-1]):
        assert np.array_equal(pixels, decode(plain, shape))  # type: ignore[arg-type]


def test_a_small_file_that_asks_for_gigabytes_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def never(content: Tensor, mode: int) -> Tensor:
        asked.append(len(content))
        raise RuntimeError

    monkeypatch.setattr("dltrain.data.images.plain._decoder", lambda: never)
    file = io.BytesIO()
    Image.new("RGB", (22, 37)).save(file, "jpeg")
    whole, size = file.getvalue(), bytes([0, 37, 0, 22])
    huge = whole.replace(size, b"\xff\xdc\xff\xdc", 1)
    hidden = b"\xff\xd8\xff\xff\xc0\x00\x11\x08" + size + b"\x03" + huge[2:]

    assert plainly(Shape(3, 37, 22, None), huge, hidden) == [None, None]
    assert not asked
    plainly(Shape(3, 37, 22, None), whole)
    assert asked == [len(whole)]


def test_damaged_files_do_not_end_the_process() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (37, 22, 3), np.uint8)
    draws, shape = np.random.default_rng(1), Shape(3, 37, 22, None)
    for kind in ("jpeg", "png"):
        file = io.BytesIO()
        Image.fromarray(noise).save(file, kind)
        for _ in range(200):
            content = bytearray(file.getvalue())
            content[draws.integers(33, len(content) - 12)] ^= 1 << int(draws.integers(8))
            plainly(shape, bytes(content))


def test_packed_files_are_what_they_were() -> None:
    files = [bytes([n]) * (100_000 * n) for n in range(5)]
    column = pa.array([None, *files], pa.binary()).slice(1)
    packed = Packed.of(column)
    chosen = together([packed[np.array([3, 0])], packed[1:2], Packed.of(column.slice(0, 0))])
    assert list(chosen) == [files[3], files[0], files[1]]
    assert chosen.nbytes == 400_000
    assert [len(packed), len(chosen)] == [5, 3]


def test_images_without_labels_are_for_who_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"picture": [png(n) for n in range(40)]}), path)
    made = source(str(path), tmp_path)
    with pytest.raises(UserError, match=r"0\.parquet has no column that may be the labels"):
        made.read(0)
    made.target_needed = False
    assert [*next(iter(streams(made)["train"].batches(0)))] == ["input"]
    assert [*made.outline().fields] == ["input"]


def test_what_divided_batches_weigh_is_told_before_each(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    made = source(parquet(tmp_path), tmp_path, batch_size=9)
    stream = streams(made, rank=1, world_size=2)["train"]
    divided = Divided(stream, lambda *two: told.append(two), lambda rows: told.append((rows, 0)))
    sizes = [len(batch["target"]) for batch in divided.batches(0, 2)]
    assert [rows for rows, _ in told] == sizes
    assert {whole for _, whole in told[:-1]} == {9}
    assert divided.rows(0, 2).tolist() == stream.rows(0, 2).tolist()
    assert (divided.steps_per_epoch, divided.examples) == (stream.steps_per_epoch, stream.examples)


def test_labels_may_be_a_dictionary_of_texts(tmp_path: Path) -> None:
    labels = pa.array(["cat", "dog"] * 20).dictionary_encode()
    path = write_parquet(tmp_path / "0.parquet", [png(n) for n in range(40)], labels)
    made = source(str(path), tmp_path)
    assert made.read(0).class_names == ("cat", "dog")
    assert streams(made)["train"].examples
