"""Anyone's own texts: encoded once, every row accounted for, every fault with its line."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltrain.contracts.data import Batch, DataSpec, Field, Stream
from dltrain.data.text.reader import TextReader
from dltrain.data.text.text_csv import TextCsv
from dltrain.data.text.vocabulary import Vocabulary
from dltrain.errors import ConfigError, UserError
from tests.asking import assembled
from tests.conftest import Compose, Train
from tests.streams import opened

Write = Callable[..., str]
Open = Callable[..., TextCsv]
WORDS = ("awful", "good")
ROWS = "review,stars,id\n" + "".join(
    f"a {WORDS[i % 2]} film {'indeed ' * (i % 5)},{'five' if i % 2 else 'one'},{i}\n"
    for i in range(20)
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str | bytes, name: str = "reviews.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return written


@pytest.fixture
def texts(tmp_path: Path) -> Open:
    """A source of a file of ``review`` and ``stars``."""

    def opened(path: str, **settings: Any) -> TextCsv:
        given: dict[str, Any] = {"text": "review", "label": "stars", "root": str(tmp_path / "own")}
        return TextCsv(path, **given | {"validation": 0} | settings)

    return opened


def rows(stream: Stream) -> list[tuple[list[int], int]]:
    """Every example's real ids and target, in the split's order."""
    found: dict[int, tuple[list[int], int]] = {}
    for number, batch in enumerate(stream.plain()):
        both = zip(batch["input"].tolist(), batch["target"].tolist(), strict=True)
        for index, (ids, target) in zip(stream.rows(0, number).tolist(), both, strict=True):
            found[index] = ([i for i in ids if i], target)
    return [found[index] for index in range(len(found))]


def spelt(source: TextCsv, stream: Stream) -> list[tuple[str, str]]:
    """Every text and class, in words."""
    spec = source.outline()
    words, classes = spec.input.names, spec.class_names
    return [(" ".join(words[i] for i in ids), classes[target]) for ids, target in rows(stream)]


def test_texts_and_classes_come_as_the_file_has_them(write: Write, texts: Open) -> None:
    source = texts(write(ROWS))
    loaders = opened(source, 0)
    assert (loaders["train"].examples, loaders["test"].examples) == (16, 4)
    assert "validation" not in loaders
    for loader in (loaders["train"], loaders["test"]):
        for text, label in spelt(source, loader):
            assert ("good" in text, "awful" in text) == (label == "five", label == "one")
            assert text.replace(" indeed", "") in ("a good film", "a awful film")


def test_the_spec_is_that_of_the_training_split(write: Write, texts: Open) -> None:
    second = write("review,stars\nan unheard film,one\n", "second.csv")
    source = texts(write(ROWS), test=second)
    assert source.outline().fields == {
        "input": Field((None,), "tokens", "input", fill=0),
        "target": Field((), "class", "target"),
    }
    spec = source.read(0)
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.target == Field((), "class", "target", 2, ("five", "one"), (10, 10))
    assert spec.input.size == 7
    assert spec.input.names == ("<pad>", "<unk>", "indeed", "a", "film", "awful", "good")
    # 20 rows of three words, and 40 more.
    assert spec.input.counts == (0, 0, 40, 20, 20, 10, 10)
    assert spec.input.frequencies == (np.array(spec.input.counts) / 100).tolist()
    assert spelt(source, opened(source, 0)["test"]) == [("<unk> <unk> film", "one")]


def test_a_fraction_set_aside_for_the_test_is_not_in_the_vocabulary(
    write: Write, texts: Open
) -> None:
    lines = "".join(f"word{i},{i % 2}\n" for i in range(20))
    source = texts(write("review,stars\n" + lines), test=0.3)
    loaders = opened(source, 0)
    assert sorted(source.outline().input.names[2:]) == sorted(
        t for t, _ in spelt(source, loaders["train"])
    )
    assert {text for text, _ in spelt(source, loaders["test"])} == {"<unk>"}


def test_json_lines_and_tabs_hold_the_same_texts(write: Write, texts: Open) -> None:
    table = [line.split(",") for line in ROWS.splitlines()]
    tabs = write("\n".join("\t".join(cells) for cells in table), "reviews.tsv")
    objects = [dict(zip(table[0], cells, strict=True)) for cells in table[1:]]
    lines = write("\n\n".join(map(json.dumps, objects)), "reviews.jsonl")
    expected = texts(write(ROWS))
    for path in (tabs, lines):
        source = texts(path)
        assert source.read(0) == expected.read(0)
        for split in ("train", "test"):
            loaders = [opened(s)[split] for s in (source, expected)]
            assert rows(loaders[0]) == rows(loaders[1])


def test_labels_that_are_numbers_are_classes_in_order(write: Write, texts: Open) -> None:
    objects = [{"review": "a", "stars": stars} for stars in (10, 9, 2.5, 10, 9, 2.5)]
    path = write("\n".join(map(json.dumps, objects)), "reviews.jsonl")
    assert texts(path, test=0.5).read(0).class_names == ("2.5", "9", "10")


def test_validation_and_limit_are_drawn_by_the_seed(write: Write, texts: Open) -> None:
    source = texts(write(ROWS), validation=4, limit=10)
    loaders = opened(source, 0)
    assert (loaders["train"].examples, loaders["validation"].examples) == (6, 4)
    again = opened(source, 1)["validation"]
    assert rows(again) != rows(loaders["validation"])


@pytest.mark.parametrize(("keep", "expected"), [("first", "a good"), ("last", "film indeed")])
def test_long_texts_are_cut_and_counted(
    keep: str, expected: str, write: Write, texts: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write("review,stars\na good film indeed,1\nfilm,0\n")
    source = texts(path, test=path, max_length=2, keep=keep)
    assert spelt(source, opened(source, 0)["test"])[0][0] == expected
    assert f"test: 1 of 2 texts are longer than 2 tokens: the {keep} are" in caplog.text


@pytest.mark.parametrize(("limit", "tokens"), [(None, 50_000), (400, 400)])
def test_a_text_of_fifty_thousand_tokens_works(
    limit: int | None, tokens: int, write: Write, texts: Open
) -> None:
    path = write(f'review,stars\n"{"such a film, " * 12_500}",1\ngood,0\n')
    source = texts(path, test=path, max_length=limit, tokens_per_batch=500)
    shapes = [tuple(batch["input"].shape) for batch in opened(source)["train"].batches(0)]
    assert sorted(shapes) == [(1, 1), (1, tokens)]


def test_empty_and_unknown_texts_are_one_unknown_token_each_and_counted(
    write: Write, texts: Open, caplog: pytest.LogCaptureFixture
) -> None:
    path = write("review,stars\ngood film,1\ngood film,0\n,1\n<br />,0\n")
    second = write("review,stars\nnothing known,1\ngood,0\n", "second.csv")
    source = texts(path, test=second, vocabulary_size=4)
    loaders = opened(source, 0)
    assert [text for text, _ in spelt(source, loaders["train"])[2:]] == ["<unk>", "<unk>"]
    assert spelt(source, loaders["test"]) == [("<unk> <unk>", "1"), ("good", "0")]
    said = caplog.text
    assert "train: 2 of 4 texts are empty: each is one unknown token" in said
    assert "test: 1 of 2 texts have no token that the vocabulary knows" in said


def test_rows_without_a_class_are_left_out_when_asked_and_counted(
    write: Write, texts: Open, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(ROWS + "a film,,20\nanother, ,21\n")
    loaders = opened(texts(path, missing="drop"), 0)
    assert loaders["train"].examples + loaders["test"].examples == 20
    assert "2 rows without a class dropped" in caplog.text


FAULTS: list[tuple[str | bytes, dict[str, Any], str]] = [
    ("review,stars\na,1\nb,\n", {}, r"reviews.csv, line 3, column 'stars' is empty, and 1 rows"),
    ("review,stars\na,1\nb,1\n", {}, r"every training text is of one class, '1'"),
    ("review,stars\n", {}, r"reviews.csv has a header but no row"),
    ("review,star\na,1\nb,2\n", {}, r"no column 'stars'. Did you mean 'star'\? It has review, s"),
    ("text,stars\na,1\nb,2\n", {}, r"reviews.csv has no column 'review'.*It has text, stars"),
    ("review,stars\na,1\nb, so,2\n", {}, r"line 3: 3 cells, but the header names 2 columns"),
    (b"review,stars\na,1\nb\xe9,2\n", {}, r"reviews.csv, line 3, is not UTF-8 text"),
    ("review,stars\na,1\nb,2\n", {"label": "review"}, r"text and label are both the column"),
    ("review,stars\na,1\nb,2\n", {"test": 1.5}, r"test is a fraction between 0 and 1"),
    ("review,stars\na,1\nb,2\n", {"test": 0.1}, r"no text is left for the split 'test'; raise"),
    ("review,stars\na,1\nb,2\n", {"vocabulary_size": 2}, r"vocabulary_size is at least 3"),
    ("review,stars\na,1\nb,2\n", {"max_length": 0}, r"max_length must be at least 1"),
    ("review,stars\na,1\nb,2\n", {"tokens_per_batch": 0}, r"tokens_per_batch must be at least"),
    (
        "review,stars\n" + "".join(f"a,text {i}\n" for i in range(50)),
        {},
        r"column 'stars' has 50 different values in 50 rows, such as 'text 0'",
    ),
]


@pytest.mark.parametrize(("text", "settings", "message"), FAULTS)
def test_each_fault_is_one_message_with_its_place(
    text: str | bytes, settings: dict[str, Any], message: str, write: Write, texts: Open
) -> None:
    with pytest.raises(ValueError, match=message):
        texts(write(text), **{"test": 0.5} | settings).read(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"review": "a", "stars": 1}\n{"review": ', r"jsonl, line 2: not JSON"),
        ('{"review": "a", "stars": 1}\n[1]', r"jsonl, line 2: not an object"),
        (b'{"review": "a", "stars": 1}\n"\xff"', r"jsonl, line 2, is not UTF-8"),
        (
            '{"review": "a", "stars": 1}\n{"review": "b"}',
            r"line 2, column 'stars' is empty, and 1 rows",
        ),
        (
            '{"review": "a", "stars": 1}\n\n{"review": "b", "stars": null}',
            r"line 3, column 'stars' is empty, and 1 rows",
        ),
        ('{"review": "\\ud83d", "stars": 1}', r"line 1, column 'review': half of a surrogate"),
        ('{"text": "a", "stars": 1}', r"no column 'review'.*It has text, stars"),
        ("\n\n", r"jsonl has no line"),
    ],
)
def test_each_fault_of_json_lines_too(
    text: str | bytes, message: str, write: Write, texts: Open
) -> None:
    with pytest.raises(ValueError, match=message):
        texts(write(text, "reviews.jsonl"), test=0.5).read(0)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("review,stars\na,two\n", r"second.csv, line 2, column 'stars': the training split has no"),
        ("review,star\na,one\n", r"second.csv has no column 'stars'"),
        ("review,stars\na,\n", r"second.csv, line 2, column 'stars' is empty"),
    ],
)
def test_a_second_file_must_fit_the_first(
    second: str, message: str, write: Write, texts: Open
) -> None:
    with pytest.raises(ValueError, match=message):
        texts(write(ROWS), test=write(second, "second.csv")).read(0)


def test_no_file_is_said(texts: Open) -> None:
    with pytest.raises(ValueError, match=r"none\.csv cannot be read: No such file"):
        texts("none.csv").read(0)


def counted(texts: Open, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """How often reading a source reads the file."""
    reads: list[Path] = []
    original = TextCsv.corpus

    def corpus(self: TextCsv) -> Any:
        reads.append(self.path)
        return original(self)

    monkeypatch.setattr(TextCsv, "corpus", corpus)

    def read(path: str, **settings: Any) -> int:
        reads.clear()
        texts(path, **settings).read(0)
        return len(reads)

    return read


def test_ids_are_made_once_for_all_that_shapes_them(
    write: Write, texts: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(ROWS)
    reads = counted(texts, monkeypatch)
    assert reads(path) == 1
    assert reads(path) == 0
    assert reads(path, batch_size=3, limit=5, validation=2, tokens_per_batch=99) == 0
    for setting in (
        {"vocabulary_size": 9},
        {"tokens": "bpe"},
        {"min_frequency": 2},
        {"lower": False},
        {"clean_markup": False},
        {"max_length": 3},
        {"max_length": None},
        {"keep": "last"},
        {"test": 0.3},
        {"text": "id"},
    ):
        assert reads(path, **setting) == 1, setting
    write(ROWS.replace("good", "fine"))
    assert reads(path) == 1
    os.utime(path, ns=(1, 1))
    assert reads(path) == 1
    write(ROWS.replace("good", "best"))
    os.utime(path, ns=(1, 1))  # of the same size and time
    assert reads(path) == 1


def test_runs_that_start_together_make_the_ids_once(
    write: Write, texts: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(ROWS)
    reads: list[Path] = []
    original = TextCsv.corpus

    def corpus(self: TextCsv) -> Any:
        reads.append(self.path)
        time.sleep(0.2)
        return original(self)

    monkeypatch.setattr(TextCsv, "corpus", corpus)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda source: source.read(0), [texts(path), texts(path)]))
    assert len(reads) == 1
    assert found[0] == found[1]


def test_what_was_kept_is_what_was_made(
    write: Write, texts: Open, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = write(ROWS + ",one,\n")
    found: list[tuple[Any, list[Any], str, str]] = []
    for root in (str(tmp_path / "own"), str(tmp_path / "own"), None):
        source = texts(path, root=root)
        loaders = opened(source, 0)
        source.reader().node(tmp_path)
        kept = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
        said = caplog.text.partition("texts are empty")[1]
        caplog.clear()
        found.append(
            (source.outline(), [rows(loaders["train"]), rows(loaders["test"])], kept, said)
        )
    assert found[0] == found[1] == found[2]
    assert "texts are empty" in found[0][3]


def test_the_second_start_needs_neither_datasets_nor_tokenizers(
    write: Write, texts: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write(ROWS)
    expected = texts(path).read(0)
    for name in ("datasets", "tokenizers"):
        monkeypatch.setitem(sys.modules, name, None)
    source = texts(path)
    assert source.read(0) == expected
    assert list(opened(source)["train"].batches(0))
    source.reader().node(tmp_path)


def test_where_nothing_can_be_kept_it_works_and_is_said(
    write: Write, texts: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = write("no folder", "file")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = write(ROWS)
    expected = texts(path, root=None).read(0)
    elsewhere = texts(path, root=file).read(0)
    assert list((tmp_path / "home" / ".cache" / "dltrain" / "cache").iterdir())
    monkeypatch.setenv("HOME", file)
    nowhere = texts(path, root=file).read(0)
    assert expected == elsewhere == nowhere


def test_a_fault_leaves_no_cache_behind(write: Write, texts: Open, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one class"):
        texts(write("review,stars\na,1\nb,1\n"), test=0.5).read(0)
    assert not list((tmp_path / "own").rglob("*.npy"))
    assert not list((tmp_path / "own" / "cache").iterdir())


def test_a_run_keeps_what_a_prediction_needs(
    write: Write, train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    import dltrain

    path = write(ROWS)
    done = train(
        *("data=text_csv", "model=lstm", f"data.path={path}", "data.text=review"),
        *("data.label=stars", f"data.root={Path(path).parent}", "trainer.epochs=30"),
        *("data.batch_size=4", "optimizer.lr=0.01"),
    )
    Path(path).unlink()
    vocabulary = Vocabulary.load(done.folder / "tokenizer.json")
    batch: Batch = {"input": vocabulary.batch(["A GOOD film", "an awful film<br /> indeed"])}
    run = dltrain.load(done.folder)
    said = run.predict(batch)
    assert "no token" not in caplog.text
    run.predict(["", "a good film", "很好"])
    assert "2 of 3 texts have no token that the run knows" in caplog.text
    names = json.loads((done.folder / "data.json").read_text())["fields"]["target"]["names"]
    assert said["class"] == ["five", "one"]
    assert list(said.fields["class"].names) == names


def test_a_faulty_file_is_a_fault_of_the_data(
    write: Write, compose: Compose, tmp_path: Path
) -> None:
    config = compose(
        *("data=text_csv", "model=lstm", f"data.path={write(ROWS)}", "data.text=reviews"),
        *("data.label=stars", f"data.root={tmp_path}", "callbacks=none"),
    )
    with pytest.raises(ConfigError, match=r"data: .*Did you mean 'review'\?"):
        assembled(config)


def test_a_split_too_small_for_its_validation_is_said(write: Write, texts: Open) -> None:
    with pytest.raises(UserError, match="leaves none to train on"):
        texts(write(ROWS), validation=2500).read(0)


def test_labels_that_look_alike_or_are_one_number_are_one_class_and_said(
    write: Write, texts: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write("review,stars\na,caf\u00e9\nb,cafe\u0301\nc,caf\u00e9\u200b\nd,Tea\ne,tea\n")
    second = write("review,stars\nf,cafe\u0301\n", "second.csv")
    assert texts(path, test=second).read(0).class_names == ("Tea", "caf\u00e9", "tea")
    assert r"'caf\xe9\u200b', 'cafe\u0301', 'café' are one class, 'café'" in caplog.text
    assert "the labels 'Tea', 'tea' differ in case alone, and are 2 classes" in caplog.text
    path = write("review,stars\na,1\nb,1.0\nc,0\nd,2.50\ne,2.5\n")
    assert texts(path, test=path).read(0).class_names == ("0", "1", "2.5", "2.50")
    assert "the labels '1', '1.0' are one class, '1'" in caplog.text
    # Names that hold no numbers alone stay as they are.
    path = write("review,stars\na,1\nb,1.0\nc,v2\n")
    assert texts(path, test=path).read(0).class_names == ("1", "1.0", "v2")
    with pytest.raises(ValueError, match=r"line 3, column 'stars' is empty"):
        texts(write("review,stars\na,1\nb,\u200b\n")).read(0)


def test_a_text_of_several_columns_is_read_and_predicted_alike(
    write: Write, texts: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write("title,review,stars,id\nGood,a film,1,7\n,bad film,0,8\nBad,,0,9\n")
    source = texts(path, text=["title", "review"], test=path)
    texts_read = [text for text, _ in spelt(source, opened(source)["test"])]
    assert texts_read == ["good a film", "bad film", "bad"]
    assert "unused columns: id" in caplog.text
    node = source.reader().node(tmp_path)
    reader = TextReader(tmp_path, node["columns"])
    row = {"title": " Good", "review": "a film"}
    found = reader.read([row, "good a film", {"title": "", "review": "bad film"}])["input"]
    assert found[0].tolist() == found[1].tolist() and found[2].tolist()[2] == 0
    with pytest.raises(ValueError, match=r"example 1 has no column 'review'\. It needs title"):
        reader.read(["good", {"title": "good"}])
    (tmp_path / "photo").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="photo is no text: it is a JPEG image"):
        list(reader.expand([tmp_path / "photo"]))
    with pytest.raises(ValueError, match="standard input is no UTF-8 text: it has the byte 0xff"):
        list(reader.expand([io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8")]))
    with pytest.raises(ValueError, match="example 0 is no text, and no row of title, review"):
        reader.read([3])
    with pytest.raises(ValueError, match="has no column 'body'"):
        texts(path, text=["title", "body"]).read(0)


def test_a_validation_file_is_that_split_whatever_the_seed(write: Write, texts: Open) -> None:
    other = write("review,stars\nan unheard film,one\n", "other.csv")
    source = texts(write(ROWS), test=other, validation=other)
    assert spelt(source, opened(source, 3)["validation"]) == [("<unk> <unk> film", "one")]


def test_words_of_rows_that_are_not_trained_on_are_unknown(
    write: Write, texts: Open, tmp_path: Path
) -> None:
    path = write("review,stars\n" + "".join(f"film word{i},{i % 2}\n" for i in range(20)))
    for settings in ({"validation": 5}, {"limit": 10}, {"validation": 5, "min_frequency": 2}):
        source = texts(path, **settings)
        streams = opened(source, 0)
        trained = {word for text, _ in spelt(source, streams["train"]) for word in text.split()}
        assert set(source.outline().input.names) == {"<pad>", "<unk>", *trained}
        assert sum(source.outline().input.counts) == 2 * streams["train"].examples
        source.reader().node(tmp_path)
        vocabulary = Vocabulary.load(tmp_path / "tokenizer.json")
        assert vocabulary.words == list(source.outline().input.names)
        if "validation" in streams:
            assert {t for t, _ in spelt(source, streams["validation"])} == {"film <unk>"}


CHINESE = (
    "这部电影太好看了剧情精彩",
    "演员表现很差我不喜欢",
    "今天去看了觉得很无聊",
    "值得推荐给朋友",
)


@pytest.mark.parametrize(
    ("lines", "tokens"),
    [
        (CHINESE, "character"),
        (["ฉันรักภาษาไทยมากที่สุด", "หนังเรื่องนี้ไม่สนุกเลย"] * 2, "character"),
        (["ខ្ញុំ\u200bស្រឡាញ់\u200bភាពយន្ត", "រឿង\u200bនេះ\u200bអន់"] * 2, "character"),
        (["この映画はとても面白かった", "つまらない映画でした"] * 2, "character"),
        (["ACGTTTAGC" * 9, "TTGACCA" * 9] * 2, "character"),
        (["这部 电影 太 好看 了", "演员 很 差"] * 2, "word"),
        (["영화가 정말 재미있어요", "정말 별로였어요"] * 2, "word"),
        (["a good film 👍🏽 ❤️", "an awful one"] * 2, "word"),
        (["a good film, 很好看", "an awful one, 无聊"] * 2, "mixed"),
    ],
)
def test_tokens_are_characters_where_texts_leave_no_blanks(
    lines: Sequence[str], tokens: str, write: Write, texts: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write("review,stars\n" + "".join(f'"{x}",{i % 2}\n' for i, x in enumerate(lines)))
    source = texts(path, test=path)
    source.read(0)
    assert f"tokens in the vocabulary ({tokens})" in caplog.text
    assert (f"data.tokens={tokens}, unless you say word or bpe" in caplog.text) == (
        tokens != "word"
    )
    told = texts(path, test=path, tokens="word")
    told.read(0)
    assert "tokens in the vocabulary (word)" in caplog.text


def test_texts_classes_lengths_and_what_is_unknown_and_cut_are_said(
    write: Write, texts: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = write("review,stars\na good film indeed,1\nfilm,0\nfilm,0\n")
    second = write("review,stars\nthis is unheard,1\n", "second.csv")
    texts(path, test=second, max_length=3).read(0)
    assert "train: 3 texts (0 2, 1 1); 5 tokens, 0.0% unknown; length: median 1" in caplog.text
    assert "train: 1 of 3 texts are longer than 3 tokens: the first are kept, and 1 tokens" in (
        caplog.text
    )
    assert "(16.7% of all) are cut (data.max_length)" in caplog.text
    assert "all read as one: 0% (train), 100% (test). data.tokens=bpe or" in caplog.text
    caplog.clear()
    texts(path, test=path).read(0)
    assert "all read as one" not in caplog.text


def test_a_list_of_objects_is_read_with_its_lines(write: Write, texts: Open) -> None:
    good = '[\n{"review": "a film", "stars": 1},\n\n {"review": "b, [c]", "stars": 0.0}]\n'
    source = texts(write(good, "reviews.json"), test=write(good, "second.json"))
    assert source.read(0).class_names == ("0", "1")
    wrong = good.replace("0.0", "null")
    with pytest.raises(ValueError, match=r"reviews.json, line 4, column 'stars' is empty"):
        texts(write(wrong, "reviews.json")).read(0)
    with pytest.raises(ValueError, match=r"line 1, column 'review': a list, which is no text"):
        texts(write('{"review": ["a"], "stars": 1}', "reviews.jsonl")).read(0)
    with pytest.raises(ValueError, match=r"reviews.json: not JSON"):
        texts(write("[{]", "reviews.json")).read(0)


def test_a_quote_in_tab_separated_lines_is_text_unless_it_is_around_a_cell(
    write: Write, texts: Open
) -> None:
    lines = ['"good" said all', '"a bad one', 'nothing" good', '"a ""bad"" film"', '"film"', "film"]
    content = "stars\treview\r\n" + "".join(f"{i % 2}\t{x}\r\n" for i, x in enumerate(lines))
    path = write(content, "reviews.tsv")
    source = texts(path, test=path)
    found = [text for text, _ in spelt(source, opened(source)["test"])]
    assert (
        found
        == ['" good " said all', '" a bad one', 'nothing " good', 'a " bad " film'] + ["film"] * 2
    )
    # A cell of several lines is quoted as in csv.
    path = write('stars\treview\n1\t"a\nfilm"\n0\tfilm\n', "reviews.tsv")
    source = texts(path, test=path)
    assert [text for text, _ in spelt(source, opened(source)["test"])] == ["a film", "film"]


@pytest.mark.parametrize(("count", "expected"), [(20, 8), (1800, 18), (9000, 64)])
def test_batches_of_few_texts_are_small(
    count: int, expected: int, write: Write, texts: Open
) -> None:
    lines = "".join(f"film,{i % 2}\n" for i in range(count))
    path = write("review,stars\n" + lines)
    for given, size in (("auto", expected), (5, 5)):
        batch = next(opened(texts(path, test=path, batch_size=given))["train"].batches(0))
        assert len(batch["target"]) == size
