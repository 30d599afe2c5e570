"""Translations: which files belong together, what is left out of them, and how it is batched."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.contracts.pieces import sentence_of
from dltrain.data.parallel.reader import SourceReader
from dltrain.data.parallel.source import ParallelText
from dltrain.data.streams.in_memory import Limits
from dltrain.data.text.pieces import FEWEST, learn_pieces
from dltrain.errors import UserError
from tests.streams import opened

GERMAN = ["ein mann schläft .", "zwei hunde rennen .", "eine frau liest ein buch ."] * 4
ENGLISH = ["a man sleeps .", "two dogs run .", "a woman reads a book ."] * 4


def write(
    folder: Path, stem: str, german: list[str] = GERMAN, english: list[str] = ENGLISH
) -> None:
    for language, lines in (("de", german), ("en", english)):
        (folder / f"{stem}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")


def source(path: Path, **settings: Any) -> ParallelText:
    given: dict[str, Any] = {"source": "de", "target": "en", "vocabulary_size": 300}
    return ParallelText(str(path), **given | settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stem in ("train", "val", "test"):
        write(tmp_path, stem)
    return tmp_path


def spelt(one: ParallelText, split: str) -> list[tuple[str, str]]:
    """All pairs of a split, in no order."""
    streams = opened(one)
    fields = one.outline().fields
    return [
        (sentence_of(fields["input"].names, a), sentence_of(fields["target"].names, b))
        for batch in streams[split].batches(0)
        for a, b in zip(batch["input"].tolist(), batch["target"].tolist(), strict=True)
    ]


def test_lines_of_two_files_belong_together(folder: Path) -> None:
    one = source(folder)

    for split in ("train", "validation", "test"):
        assert sorted(spelt(one, split)) == sorted(zip(GERMAN, ENGLISH, strict=True))
    assert one.outline().input.names != one.outline().target.names
    assert one.report()[0]["pairs"] == 12


def test_files_may_be_packed_and_several_test_sets_are_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "test.de").unlink()
    packed = gzip.compress("\n".join(GERMAN).encode())
    (folder / "train.de").unlink()
    (folder / "train.de.gz").write_bytes(packed)
    for stem in ("test_2016", "test_2017"):
        write(folder, stem, GERMAN[:3], ENGLISH[:3])

    one = source(folder)

    assert len(spelt(one, "test")) == 3
    assert len(spelt(one, "train")) == 12
    assert "test_2016 is the test split; there are also test_2017 (data.test=NAME)" in caplog.text
    assert [path.name for path in one.paths()][-1] == "test_2016.en"


def test_a_vocabulary_may_be_shared(folder: Path) -> None:
    spec = source(folder, shared=True).read(0)

    assert spec.input.names == spec.target.names
    assert sum(spec.input.counts) and spec.input.counts != spec.target.counts


def test_columns_of_a_file_are_split_by_the_source_text(tmp_path: Path) -> None:
    rows = [f"text {n // 2}\tsatz {n}\tsomebody" for n in range(200)]
    (tmp_path / "pairs.txt").write_text("\n".join(rows), encoding="utf-8")
    one = source(tmp_path / "pairs.txt", source=1, target=2, validation=0.2)
    parts = {split: spelt(one, split) for split in ("train", "validation", "test")}
    texts = [{read for read, _ in part} for part in parts.values()]

    assert [len(part) for part in parts.values()] == [144, 36, 20]
    assert len(set.union(*texts)) == sum(map(len, texts)) == 100


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("de\ten\n" + "\n".join(f"a {n}\tb {n}" for n in range(20)), encoding="utf-8")

    assert len(spelt(source(path), "train")) == 16
    with pytest.raises(ValueError, match=r"has no column 'dee'\. Did you mean 'de'"):
        source(path, source="dee").read(0)


def test_what_is_left_out_is_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = "ein " * 5000
    german, english = ["", *GERMAN, long, "x", "\u200b"], ["nothing", *ENGLISH, "one", "  ", "zero"]
    write(folder, "train", german, english)
    write(folder, "test", [*GERMAN[:2], long], [*ENGLISH[:2], "one"])

    with caplog.at_level(logging.INFO, "dltrain"):
        one = source(folder, max_length=30)
        parts = {split: spelt(one, split) for split in ("train", "test")}

    assert [len(part) for part in parts.values()] == [12, 3]
    assert "train: 3 pairs with an empty side are left out, the first of them on line 1" in (
        caplog.text
    )
    assert "1 of 13 pairs with a side of more than 30 tokens are left out, the first" in caplog.text
    assert "test: 1 source texts have more than 30 tokens: the first are read" in caplog.text


def test_a_batch_has_at_most_so_many_tokens(folder: Path) -> None:
    lengths = range(1, 41)
    write(folder, "train", ["a " * n for n in lengths], ["b " * (41 - n) for n in lengths])
    one = source(folder, tokens_per_batch=100)
    batches = list(opened(one)["train"].batches(0))

    assert sum(len(batch["input"]) for batch in batches) == 40
    for batch in batches:
        longest = max(batch["input"].shape[1], batch["target"].shape[1])
        assert len(batch["input"]) * longest <= 100
        assert torch.equal((batch["target"] != 0).sum(1), batch["target_length"])
    assert one.training_limits() == Limits(None, 100, bucket=1)


BROKEN: dict[str, tuple[bytes | None, str]] = {
    "other length": (b"one\ntwo\n", r"has 12 lines and train\.en 2: each line must be"),
    "empty": (b"", r"train\.en is empty"),
    "blank": (b" \n\n", r"train\.en is empty"),
    "no UTF-8": (b"one\ntwo \xff\n", r"train\.en, line 2 is no UTF-8 text \(byte 0xff, at byte 8"),
    "NUL": (b"one\n\0\n", r"train\.en, line 2 has a NUL byte"),
    "UTF-16": ("one\ntwo\n".encode("utf-16"), r"train\.en is UTF-16: save it as UTF-8"),
    "missing": (None, r"has no train\.de and train\.en"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_files_that_do_not_fit_are_named(folder: Path, what: str) -> None:
    content, said = BROKEN[what]
    (folder / "train.en").unlink()
    if content is not None:
        (folder / "train.en").write_bytes(content)

    with pytest.raises(ValueError, match=said):
        source(folder).read(0)


def test_a_damaged_archive_is_named(folder: Path) -> None:
    (folder / "train.en").unlink()
    (folder / "train.en.gz").write_bytes(gzip.compress(b"one\n" * 99)[:-9])

    with pytest.raises(ValueError, match=r"train\.en\.gz cannot be read"):
        source(folder).read(0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": "fr"}, r"no files NAME\.de and NAME\.fr.*it has de, en"),
        ({"test": "tset"}, r"test: .* has no tset\.de and tset\.en\. Did you mean 'test'"),
        ({"target": "de"}, "source and target are both 'de'"),
        ({"test": 1.5}, "test is a fraction"),
        ({"vocabulary_size": 100}, f"vocabulary_size is at least {FEWEST}"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"tokens_per_batch": None}, "tokens_per_batch: give it, or batch_size"),
        ({"max_length": 1}, "every pair has a side of more than 1 tokens"),
    ],
)
def test_impossible_settings_are_refused(folder: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        source(folder, **settings).read(0)


def test_a_row_with_too_few_cells_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("a\tb\nc\n", encoding="utf-8")

    with pytest.raises(ValueError, match=r"pairs\.txt, line 2 has 1 cells between tabs"):
        source(tmp_path / "pairs.txt", source="1", target="2").read(0)


def test_one_line_is_too_few_to_set_any_aside(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("a\tb\n" * 9, encoding="utf-8")

    with pytest.raises(ValueError, match="one source text alone: none is left to test on"):
        source(tmp_path / "pairs.txt", source=1, target=2).read(0)


def test_the_same_pairs_have_the_same_identity(folder: Path) -> None:
    ones = [source(folder) for _ in range(2)]
    for one in ones:
        one.read(0)
    write(folder, "train", GERMAN, [*ENGLISH[:-1], "other"])
    changed = source(folder)
    changed.read(0)

    assert ones[0].identity()["splits"] == ones[1].identity()["splits"]
    assert changed.identity()["splits"] != ones[0].identity()["splits"]
    with pytest.raises(UserError, match="translations are evaluated as the run's own data"):
        next(iter(changed.labeled("test")))


def test_a_reader_reads_as_the_source_did(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = source(folder)
    batch = next(iter(opened(one)["test"].plain()))
    reader = one.reader()
    assert isinstance(reader, SourceReader)
    names = one.outline().input.names
    texts = [sentence_of(names, row) for row in batch["input"].tolist()]

    found = reader.read(texts)

    assert torch.equal(found["input"], batch["input"])
    assert torch.equal(found["input_length"], batch["input_length"])
    reader.read(["Привет"])
    assert "1 of 1 texts are mostly of characters that training did not have" in caplog.text
    for empty in (" ", "\u3000\u200b", "\ufeff"):
        with pytest.raises(ValueError, match="example 1 is empty"):
            reader.read(["a", empty])
    with pytest.raises(ValueError, match="example 1 is no UTF-8 text: it has the byte 0xce"):
        reader.read(["a", b"\xce\xd2".decode(errors="surrogateescape")])
    long = SourceReader(learn_pieces(GERMAN, 300).text, 3).read(["ein mann ein mann ein mann"])
    assert long["input_length"].tolist() == [4]
    assert "1 of 1 texts have more than 3 tokens" in caplog.text


@pytest.mark.parametrize(
    "text", ["don't stop, 12:30!", "我爱你。", "<s> a <pad> <0xE4>", "naïve \U0001f600", "x"]
)
def test_pieces_lose_nothing(text: str) -> None:
    vocabulary = learn_pieces(GERMAN, 300)
    ids = vocabulary.encode([text])[0].tolist()

    assert sentence_of(vocabulary.words, ids) == text
    assert min(ids) >= 4


def test_lower_case_and_blanks_are_all_that_is_changed() -> None:
    vocabulary = learn_pieces(GERMAN, 300, lower=True)

    ids = vocabulary.encode(["  Zwei\tHUNDE "])[0].tolist()
    assert sentence_of(vocabulary.words, ids) == "zwei hunde"
