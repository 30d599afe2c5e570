"""Published text files as they lie there: TREC's questions, and tables without a header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dltrain.data.text.text_csv import TextCsv
from dltrain.data.text.trec import Trec

LINES = b"HUM:ind Who is M\xfcller ?\nNUM:date When ?\n\nNUM:count How many ?\n"


def trec(folder: Path, train: bytes = LINES, **settings: Any) -> Trec:
    (folder / "train_5500.label").write_bytes(train)
    (folder / "TREC_10.label").write_bytes(LINES)
    return Trec(str(folder), **settings)


@pytest.mark.parametrize(
    ("classes", "names"),
    [("coarse", ["HUM", "NUM"]), ("fine", ["HUM:ind", "NUM:count", "NUM:date"])],
)
def test_questions_have_coarse_and_fine_classes(
    tmp_path: Path, classes: Any, names: list[str]
) -> None:
    found = trec(tmp_path, classes=classes).corpus()

    assert found.class_names == names
    assert found.splits["train"].texts == ["Who is Müller ?", "When ?", "How many ?"]
    assert next(names[one] for one in found.splits["test"].targets) == names[0]


@pytest.mark.parametrize("line", [b"HUM:ind", b"HUM who ?", b"HUM: who ?", b":ind who ?"])
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(ValueError, match=r"train_5500\.label, line 5 is no COARSE:fine"):
        trec(tmp_path, LINES + line + b"\n").corpus()


def test_a_missing_file_of_questions_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train_5500\.label cannot be read: No such file"):
        Trec(str(tmp_path)).corpus()


def table(path: Path, content: bytes, **settings: Any) -> TextCsv:
    path.write_bytes(content)
    given: dict[str, Any] = {"text": "text", "label": "label", "separator": "tab"}
    return TextCsv(str(path), header=["label", "text"], **given | settings)


def test_a_file_without_names_is_given_them(tmp_path: Path) -> None:
    content = b'ham\t"Hi" she said\nspam\tWIN\nham\tok\n'
    found = table(tmp_path / "sms", content).corpus()
    of_an_old_mac = table(tmp_path / "mac", content.replace(b"\n", b"\r")).corpus()

    assert of_an_old_mac.splits == found.splits
    assert found.splits["train"].texts == ['"Hi" she said', "WIN", "ok"]
    assert list(found.class_names) == ["ham", "spam"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ham\tok\nspam\tWIN\tnow\n", "line 2 has 3 cells, and header names 2: label, text"),
        (b"", "is empty"),
        (b"ham\t\xff\n", "cannot be read: it is no UTF-8 text"),
    ],
)
def test_what_does_not_fit_the_names_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        table(tmp_path / "sms", content).corpus()


CHINESE = "".join(
    f"{kind},今天的天气很好，我们去公园，第{n}次\n" for n in range(9) for kind in ("好", "坏")
)


@pytest.mark.parametrize("tabs", [True, False])
def test_texts_are_read_in_the_encoding_they_have(tmp_path: Path, tabs: bool) -> None:
    def source(name: str, written: str, **settings: Any) -> TextCsv:
        content = "label,text\n" + CHINESE
        path = tmp_path / f"{name}.{'tsv' if tabs else 'csv'}"
        path.write_bytes((content.replace(",", "\t") if tabs else content).encode(written))
        return TextCsv(str(path), text="text", label="label", **settings)

    expected = source("utf-8", "utf-8").corpus()
    with pytest.raises(ValueError, match=r"is not UTF-8 .*, data\.encoding=gb18030"):
        source("gbk", "gb18030").corpus()
    for encoding in ("gb18030", "utf-8", "utf-16"):
        found = source(encoding, encoding, encoding=encoding)
        assert found.corpus().splits == expected.splits
    assert source("marked", "utf-8-sig", encoding="utf-8").corpus().splits == expected.splits
    with pytest.raises(ValueError, match="Python knows no 'gbkk'"):
        source("gbkk", "gb18030", encoding="gbkk").corpus()


def test_an_encoding_is_of_tables_without_names_too_and_not_of_json(tmp_path: Path) -> None:
    content = CHINESE.replace(",", "\t").encode("gb18030")

    found = table(tmp_path / "a.tsv", content, encoding="gb18030").corpus()

    assert found.splits["train"].texts[0] == "今天的天气很好，我们去公园，第0次"
    for encoding, told in (None, r"data\.encoding=gb18030"), ("gbkk", "knows no encoding 'gbkk'"):
        with pytest.raises(ValueError, match=told):
            table(tmp_path / "a.tsv", content, encoding=encoding).corpus()
    (tmp_path / "a.jsonl").write_bytes(b"{}")
    with pytest.raises(ValueError, match="JSON is UTF-8"):
        TextCsv(str(tmp_path / "a.jsonl"), text="text", label="label", encoding="gbk").corpus()


def test_names_are_for_tabs_and_different(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="header is for tab-separated files"):
        table(tmp_path / "a.csv", b"ham,ok\n", separator=None).corpus()
    with pytest.raises(ValueError, match="header is a different name for each column"):
        TextCsv("x", "text", "label", header=["label", "label"])
