"""A text as one stream of tokens: its held-out end, its lanes, and what is no text."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.contracts.data import Placement
from dltrain.contracts.pieces import text_of
from dltrain.data.streams.lanes import Lanes
from dltrain.data.text.text_file import TextFile
from dltrain.errors import UserError

TEXT = (
    'The cat sat, on a mat.\n\n\tA dog  ran: "to" the cat\'s mat!\n白日依山盡，黃河入海流。\n' * 20
)
Write = Callable[..., Path]
CPU = Placement(torch.device("cpu"), 0)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def writing(content: str | bytes, name: str = "text.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return writing


def source(path: Path, **settings: Any) -> TextFile:
    small: dict[str, Any] = {"window": 16, "batch_size": 4, "evaluation_batch_size": 3}
    return TextFile(str(path), **(small | settings))


@pytest.mark.parametrize(
    "settings",
    [{}, {"tokens": "word"}, {"tokens": "bpe", "vocabulary_size": 300}],
    ids=["character", "word", "bpe"],
)
def test_from_its_tokens_a_text_can_be_told_again(write: Write, settings: dict[str, Any]) -> None:
    data = source(write(TEXT), test=0, validation=0, **settings)
    names = data.read(0).input.names
    batch = next(iter(data.open(CPU)["train"].batches(0)))

    assert not any(line["unknown"] for line in data.report())
    row = batch["input"][0].tolist()
    assert len(set(row)) > 3
    assert text_of(names, row) in TEXT
    assert data.reader().read([TEXT])["input"].shape[1] == data.report()[0]["tokens"]
    (ids,) = data.reader().read([TEXT])["input"].tolist()
    assert text_of(names, ids) == TEXT


def test_bytes_stand_for_what_pieces_have_never_met(write: Write) -> None:
    data = source(write(TEXT), tokens="bpe", vocabulary_size=300, test=0, validation=0)
    names = data.read(0).input.names
    (ids,) = data.reader().read(["a 猫 <pad> <0x41>"])["input"].tolist()

    assert text_of(names, ids) == "a 猫 <pad> <0x41>"


def test_what_is_held_out_is_the_end_and_nothing_is_learned_from_it(write: Write) -> None:
    content = "ab" * 400 + "ac" * 50 + "ad" * 50
    data = source(write(content), test=0.1, validation=100, window=4)
    spec = data.read(0)
    streams = data.open(CPU)

    assert list(streams) == ["train", "validation", "test"]
    assert sorted(spec.input.names) == sorted(["<pad>", "<unk>", "a", "b"])
    assert sum(spec.input.counts) == 800
    assert [line["characters"] for line in data.report()] == [800, 100, 100]
    assert [line["unknown"] for line in data.report()] == [0, 50, 50]


@pytest.mark.parametrize("settings", [{}, {"evaluation_window": 20, "evaluation_context": 0}])
def test_every_token_but_the_first_is_scored_once(write: Write, settings: dict[str, Any]) -> None:
    data = source(write(TEXT), test=0.3, validation=0, **settings)
    data.read(0)
    stream, line = data.open(CPU)["test"], data.report()[1]
    batches = list(stream.plain())
    assert len(batches) == stream.steps_per_epoch
    assert sum(len(batch["input"]) for batch in batches) == stream.examples

    scored, total = [], {"tokens": 0.0, "characters": 0.0, "bytes": 0.0}
    context = settings.get("evaluation_context", 8)
    for batch in batches:
        for row, target in zip(batch["input"], batch["target"], strict=True):
            assert torch.equal(row[1:][target[:-1] != 0], target[:-1][target[:-1] != 0])
            first = int((target != 0).nonzero()[0])
            assert first >= context or not scored
            scored += target[target != 0].tolist()
        for name in total:
            total[name] += float(batch[name].sum())
    whole = data.reader().read([TEXT[-line["characters"] :]])["input"][0]
    assert scored == whole[1:].tolist()
    fraction = (line["tokens"] - 1) / line["tokens"]
    assert total["tokens"] == line["tokens"] - 1
    assert total["characters"] == pytest.approx(line["characters"] * fraction)
    assert total["bytes"] == pytest.approx(line["bytes"] * fraction)


def test_lanes_read_on_from_batch_to_batch_and_begin_elsewhere_in_every_epoch(
    write: Write,
) -> None:
    data = source(write(TEXT), window=8)
    data.read(0)
    stream = data.open(CPU)["train"]
    epochs = [list(stream.batches(epoch)) for epoch in (0, 0, 1)]

    assert len(epochs[0]) == stream.steps_per_epoch > 2
    for before, after in zip(epochs[0], epochs[0][1:], strict=False):
        assert torch.equal(before["target"][:, -1], after["input"][:, 0])
        assert not after["begins"].any()
    assert epochs[0][0]["begins"].all()
    ids = torch.cat([batch["input"] for batch in epochs[0]], 1)
    assert text_of(data.read(0).input.names, ids.flatten().tolist()) in TEXT
    same, other = (torch.equal(epochs[0][0]["input"], e[0]["input"]) for e in epochs[1:])
    assert same and not other
    resumed = next(iter(stream.batches(0, 2)))
    assert torch.equal(resumed["input"], epochs[0][2]["input"]) and not resumed["begins"].any()
    rows = torch.cat([stream.rows(0, place) for place in range(len(epochs[0]))])
    assert rows.sort().values.tolist() == list(range(stream.examples or 0))


@pytest.mark.parametrize("tokens", [2, 3, 17, 100, 1000, 100_000])
def test_lanes_fit_any_text(tokens: int) -> None:
    lanes = Lanes.of(tokens, 8, 16)

    used = lanes.lanes * lanes.window * lanes.windows
    assert min(lanes.lanes, lanes.window, lanes.windows) >= 1
    assert used + lanes.slack == tokens - 1
    assert used >= 0.5 * (tokens - 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n ", "is empty: it has blanks alone"),
        (b"ab\ncd\xff\n", r"is no UTF-8: byte 0xFF at byte 5, line 2"),
        (b"\xef\xbb\xbfab\ncd\xff\n", r"is no UTF-8: byte 0xFF at byte 8, line 2"),
        (b"\x89PNG\r\n\x1a\n\0", "is no text: it is a PNG image"),
        (b"ab\0c", r"has a NUL byte at byte 2, line 1"),
        ("ab".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        (b"a", "too short: test would have 1 character,"),
        (b"abcdefgh", "too short: validation would have 1 character,"),
    ],
)
def test_what_is_no_text_is_refused_by_its_place(write: Write, content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        source(write(content)).read(0)


def test_no_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        source(tmp_path / "none.txt").read(0)
    with pytest.raises(ValueError, match="is a folder"):
        source(tmp_path).read(0)


def test_one_line_and_one_character_are_trained_on_and_said(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    line = source(write("one line of a text without an end"))
    line.read(0)
    assert "the training text is short: a batch has 1 x 16 tokens" in caplog.text
    batch = next(iter(line.open(CPU)["train"].batches(0)))
    assert batch["input"].shape == (1, 16)

    source(write("a" * 1000)).read(0)
    assert "one character, repeated" in caplog.text


def test_what_is_changed_or_unknown_is_counted(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    content = ("a b\r\n▁" * 200 + "é" * 100).encode()
    data = source(write(b"\xef\xbb\xbf" + content), test=100, validation=0)
    spec = data.read(0)

    assert "200 line ends" in caplog.text
    assert "200 times the character ▁" in caplog.text
    assert "test: 100 of 100 tokens (100.00 %) are unknown" in caplog.text
    assert set(spec.input.names) == {"<pad>", "<unk>", "a", "b", "▁", "\n"}


def test_a_chinese_text_is_told_how_to_be_read(write: Write) -> None:
    text = "白日依山盡，黃河入海流。欲穷千里目，更上一层楼。\n" * 20
    with pytest.raises(ValueError, match="if it is Chinese, by iconv -f gb18030 -t utf-8"):
        source(write(text.encode("gb18030"))).read(0)


def test_a_text_of_an_old_mac_has_lines(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    spec = source(write(b"a b\r" * 200)).read(0)
    assert set(spec.input.names) == {"<pad>", "<unk>", "a", "b", "▁", "\n"}
    assert "200 line ends \\r are read as \\n" in caplog.text
    spec = source(write(b"a b\r\n\ra b\n" * 200)).read(0)
    assert "\r" in spec.input.names
    assert "200 \\r that end no line" in caplog.text


def test_a_split_may_be_a_file_of_its_own(write: Write) -> None:
    other = write("the cat", "other.txt")
    data = source(write(TEXT), test=str(other), validation=0)
    data.read(0)

    assert [line["characters"] for line in data.report()] == [len(TEXT), 7]
    assert str(other) in data.identity()["files"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"window": 0}, "window must be at least 1"),
        ({"test": 1.0}, "test is a fraction below 1 or a whole number"),
        ({"validation": -1}, "validation must be >= 0"),
        ({"tokens": "bpe", "vocabulary_size": 100}, "vocabulary_size must be at least 259"),
        ({"evaluation_window": 4, "evaluation_context": 4}, "evaluation_context must be from 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        source(Path("text.txt"), **settings)


def test_its_examples_are_no_other_runs(write: Write) -> None:
    data = source(write(TEXT))
    with pytest.raises(UserError, match="dltrain predict RUN FILE"):
        data.labeled(None)
