"""Errors and help name the page that explains them, and each such page is there."""

from __future__ import annotations

import re
from email.message import Message
from pathlib import Path

import pytest

from dltrain import pages
from dltrain.pages import FIRST, PAGES, address
from tests.conftest import REPOSITORY, Cli

SOURCE = REPOSITORY / "src"


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and MkDocs both make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted({FIRST, *PAGES.values()}))
def test_each_page_is_there(page: str) -> None:
    name, _, anchor = page.partition("#")
    file = REPOSITORY / "docs" / name
    assert file.is_file()
    assert not anchor or anchor in anchors(file)


@pytest.mark.parametrize("name", PAGES)
def test_each_name_is_of_something(name: str) -> None:
    path = SOURCE / name.replace(".", "/")
    parent, last = path.parent.with_suffix(".py"), path.name
    of_file = path.is_dir() or path.with_suffix(".py").is_file()
    assert of_file or re.search(rf"^(class|def) {last}\b", parent.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "page"),
    [
        ("data=csv data.path=none.csv data.target=x model=tabular", "own_table.md"),
        ("data=image_folder data.path=none", "own_images.md"),
        ("data=text_csv data.path=none.csv data.text=a data.label=b model=lstm", "own_text.md"),
        ("data=voc data.path=none model=yolo", "vision.md#detection"),
        ("tune model=mlp optimizer.lr=log(1,0)", "tuning.md#dltrain-tune"),
        ("predict", "using.md#predict"),
        ("export --format=gif", "export.md"),
    ],
)
def test_a_mistake_names_the_page(line: str, page: str, typed: Cli) -> None:
    ended = typed(*line.split())
    assert ended.returncode == 2
    assert ended.stderr.endswith(f" See docs/{page}\n")


def test_a_typo_has_its_answer_already(typed: Cli) -> None:
    assert "See" not in typed("optimizer.learning_rate=1").stderr


def test_help_names_the_documentation(typed: Cli) -> None:
    assert f"Documentation: docs/{FIRST}" in typed("--help").stdout
    assert typed("export", "--help").stdout.splitlines()[-1] == "See docs/export.md"


def test_the_site_is_named_where_the_package_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = Message()
    declared["Project-URL"] = "Changes, https://site.example/changes"
    monkeypatch.setattr(pages, "metadata", lambda name: declared)
    assert address("vision.md#detection") == "docs/vision.md#detection"
    declared["Project-URL"] = "Documentation, https://site.example/"
    assert address("vision.md#detection") == "https://site.example/vision.html#detection"
