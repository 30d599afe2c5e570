"""What the course's commands name is there; both languages show the same.

``scripts/check_course.py`` composes and tries every command, ``scripts/course.py`` runs the pages,
and its last figures are scripts/course.json.
"""

from __future__ import annotations

import json
import re

import pytest

import check_course
import course

PAGES = sorted(file.name for file in course.LANGUAGES["en"].glob("[0-9]*.md"))
HEADINGS = {
    "en": ["## Run it", "## Why", "## Change it", "## For longer", "## Papers"],
    "zh": ["## 运行", "## 为什么", "## 改一改", "## 更长的运行", "## 论文"],
}


@pytest.fixture(scope="module")
def known() -> set[str]:
    return check_course.known_keys()


@pytest.mark.parametrize("name", PAGES)
def test_every_key_and_choice_of_a_page_is_there(name: str, known: set[str]) -> None:
    file = course.LANGUAGES["en"] / name
    assert len(check_course.changes(file.read_text())) == 3
    wrong = {tuple(w): check_course.looked_up(w, known) for w in check_course.commands(file)}
    assert len(wrong) > 3
    assert {words: found for words, found in wrong.items() if found} == {}


def test_a_key_that_is_not_there_is_found(known: set[str]) -> None:
    line = ["model=mlq", "optimizer.learning_rate=0.1", "regularizer=[l1,l3]", "seed=1,2"]
    assert check_course.looked_up(line, known) == [
        "model=mlq",
        "optimizer.learning_rate",
        "regularizer=l3",
    ]


@pytest.mark.parametrize("name", PAGES)
def test_both_languages_have_the_same_parts(name: str) -> None:
    def cells(rows: str, language: str) -> list[list[str]]:
        found = [line.strip("| ").split(" | ") for line in rows.splitlines()[2:]]
        return course.in_language(found, "zh") if language == "en" else found

    def parts(language: str) -> tuple[object, ...]:
        text = (course.LANGUAGES[language] / name).read_text(encoding="utf-8")
        tables = re.findall(course.TABLE.format(r"\w+"), text, re.S)
        prose = re.sub(r"^\|.*$", "", course.BLOCK.sub("", text), flags=re.M)
        return (
            re.findall(r"^##.*$", text, re.M) == HEADINGS[language],
            course.BLOCK.findall(text),
            re.findall(r"images/(\d+\.png)", text),
            [cells(rows, language) for _, rows, _ in tables],
            sorted(re.findall(r"`([^`\n]+)`", prose)),
            re.findall(r"\$\$.*?\$\$", text, re.S),
        )

    assert parts("en")[0]
    assert parts("en") == parts("zh")


def test_every_page_was_drawn_from_the_commands_that_it_has() -> None:
    record = json.loads(course.RECORD.read_text())
    assert sorted(record) == [name[:2] for name in PAGES]
    for number, known in record.items():
        text = course.page(number).read_text()
        assert course.commands_of(course.page(number)) == known["commands"], "run scripts/course.py"
        assert known["seconds"] < 60
        assert known["tables"], "a page without a table"
        assert (course.IMAGES / f"{number}.png").stat().st_size <= course.MOST_BYTES
        rows = [row for rows in known["tables"].values() for row in rows]
        assert all(f"| {' | '.join(row)} |" in text for row in rows)


@pytest.mark.parametrize("name", PAGES)
def test_figures_of_longer_runs_are_those_of_the_results(name: str) -> None:
    results = (course.ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for language, headings in HEADINGS.items():
        text = (course.LANGUAGES[language] / name).read_text(encoding="utf-8")
        longer = text.partition(headings[3])[2].partition(headings[4])[0]
        figures = re.findall(
            r"\d+\.\d+(?:e-\d+)?(?: ± \d[\d.e-]*)?", re.sub(r"`[^`]*`", "", longer)
        )
        assert [figure for figure in figures if figure not in results] == []
